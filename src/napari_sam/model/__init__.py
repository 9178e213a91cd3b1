"""The Segment Anything Model in torch, able to hold the official weights unchanged."""

from .inference import optimise
from .mask_decoder import Decoded, DecoderConfig
from .prompt_encoder import pad_prompts
from .sam import PIXEL_MEAN, PIXEL_STD, DecoderState, Sam
from .tiny_vit import TinyVitConfig
from .variants import VARIANTS, Variant, build, detect_variant
from .vit import VitConfig

__all__ = [
    "PIXEL_MEAN",
    "PIXEL_STD",
    "VARIANTS",
    "Decoded",
    "DecoderConfig",
    "DecoderState",
    "Sam",
    "TinyVitConfig",
    "Variant",
    "VitConfig",
    "build",
    "detect_variant",
    "optimise",
    "pad_prompts",
]
