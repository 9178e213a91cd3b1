"""The known variants of SAM, and reading a variant off a checkpoint's keys and shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from .mask_decoder import DecoderConfig
from .sam import Sam
from .tiny_vit import TinyVitConfig
from .vit import VitConfig

VIT_KEY = "image_encoder.patch_embed.proj.weight"
TINY_VIT_KEY = "image_encoder.patch_embed.seq.0.c.weight"


@dataclass(frozen=True)
class Variant:
    """A named architecture.

    Attributes
    ----------
    name : str
        "vit_b", "vit_l", "vit_h" or "vit_t" for the published sizes, else "custom".
    encoder : VitConfig or TinyVitConfig
    decoder : DecoderConfig
    """

    name: str
    encoder: VitConfig | TinyVitConfig
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("vit_t", TinyVitConfig()),
        Variant("vit_b", VitConfig(768, 12, 12, (2, 5, 8, 11))),
        Variant("vit_l", VitConfig(1024, 24, 16, (5, 11, 17, 23))),
        Variant("vit_h", VitConfig(1280, 32, 16, (7, 15, 23, 31))),
    )
}
"""The published sizes by name: MobileSAM (vit_t) and SAM (vit_b, vit_l, vit_h)."""


def build(variant: str | Variant) -> Sam:
    """Build a model with random weights, in evaluation mode.

    Parameters
    ----------
    variant : str or Variant
        A name in ``VARIANTS``, or an architecture of one's own.

    Raises
    ------
    ValueError
        If the name is not known.
    """
    if isinstance(variant, str):
        if variant not in VARIANTS:
            raise ValueError(f"Expected one of the models {', '.join(VARIANTS)}, but found {variant!r}.")
        variant = VARIANTS[variant]
    return Sam(variant.encoder, variant.decoder).eval()


def detect_variant(state: Mapping[str, Tensor]) -> Variant:
    """Read the architecture off a state dict.

    Parameters
    ----------
    state : mapping of str to Tensor
        A whole SAM state dict: ``image_encoder.*``, ``prompt_encoder.*``, ``mask_decoder.*``.

    Returns
    -------
    Variant
        A published variant where sizes agree, else one named "custom".

    Raises
    ------
    ValueError
        If the keys are not those of a SAM.
    """
    try:
        if VIT_KEY in state:
            encoder: VitConfig | TinyVitConfig = _vit_config(state)
        elif TINY_VIT_KEY in state:
            encoder = _tiny_vit_config(state)
        else:
            raise KeyError(VIT_KEY)
        found = Variant("custom", encoder, _decoder_config(state))
    except KeyError as error:
        raise ValueError(
            "Expected the weights of a SAM (ViT-B, ViT-L, ViT-H) or a MobileSAM, but found no "
            f"tensor {error}. Choose the file of a SAM model."
        ) from None
    same = (name for name, known in VARIANTS.items() if replace(found, name=name) == known)
    return replace(found, name=next(same, "custom"))


def _vit_config(state: Mapping[str, Tensor]) -> VitConfig:
    """Sizes of a vision transformer encoder, from the shapes of its tensors."""
    prefix = "image_encoder."
    dim, _, patch, _ = state[VIT_KEY].shape
    grid = state[f"{prefix}pos_embed"].shape[1]
    depth = _count(state, f"{prefix}blocks.")
    offsets = [state[f"{prefix}blocks.{i}.attn.rel_pos_h"].shape for i in range(depth)]
    # A table of 2 n - 1 offsets belongs to a window of side n; the whole plane has side grid.
    sides = [(rows + 1) // 2 for rows, _ in offsets]
    global_blocks = tuple(i for i, side in enumerate(sides) if side == grid)
    hidden = state[f"{prefix}blocks.0.mlp.lin1.weight"].shape[0]
    return VitConfig(
        dim=dim,
        depth=depth,
        heads=dim // offsets[0][1],
        global_blocks=global_blocks,
        image_size=grid * patch,
        patch=patch,
        window=next((side for side in sides if side != grid), VitConfig.window),
        hidden=0 if hidden == 4 * dim else hidden,
        out_channels=state[f"{prefix}neck.0.weight"].shape[0],
    )


def _tiny_vit_config(state: Mapping[str, Tensor]) -> TinyVitConfig:
    """Sizes of a TinyViT encoder; strides and image size are MobileSAM's, no tensor tells."""
    prefix = "image_encoder.layers."
    stages = range(_count(state, prefix))
    biases = [state[f"{prefix}{i}.blocks.0.attn.attention_biases"].shape for i in stages[1:]]
    dims = [state[f"{prefix}0.blocks.0.conv1.c.weight"].shape[1]]
    dims += [state[f"{prefix}{i}.blocks.0.attn.norm.weight"].shape[0] for i in stages[1:]]
    default = TinyVitConfig()
    return TinyVitConfig(
        dims=tuple(dims),
        depths=tuple(_count(state, f"{prefix}{i}.blocks.") for i in stages),
        heads=(default.heads[0], *(heads for heads, _ in biases)),
        windows=(default.windows[0], *(math.isqrt(offsets) for _, offsets in biases)),
        strides=default.strides[: len(stages) - 1],
        expand=state[f"{prefix}0.blocks.0.conv1.c.weight"].shape[0] // dims[0],
        hidden=state[f"{prefix}1.blocks.0.mlp.fc1.weight"].shape[0] // dims[1],
        classes=state["image_encoder.head.weight"].shape[0],
        out_channels=state["image_encoder.neck.0.weight"].shape[0],
    )


def _decoder_config(state: Mapping[str, Tensor]) -> DecoderConfig:
    """Sizes of prompt encoder and mask decoder; the number of heads is SAM's, no tensor tells."""
    prefix = "mask_decoder."
    block = f"{prefix}transformer.layers.0."
    head = f"{prefix}iou_prediction_head.layers."
    return DecoderConfig(
        dim=state[f"{prefix}iou_token.weight"].shape[1],
        depth=_count(state, f"{prefix}transformer.layers."),
        hidden=state[f"{block}mlp.lin1.weight"].shape[0],
        inner=state[f"{block}cross_attn_token_to_image.q_proj.weight"].shape[0],
        masks=state[f"{prefix}mask_tokens.weight"].shape[0],
        iou_depth=_count(state, head),
        iou_hidden=state[f"{head}0.weight"].shape[0],
        mask_channels=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children follow a prefix."""
    numbers = {key[len(prefix) :].split(".", 1)[0] for key in state if key.startswith(prefix)}
    if not numbers:
        raise KeyError(f"{prefix}0")
    return len(numbers)
