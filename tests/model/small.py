"""Small models, random weights and prompts for the tests of the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.model import DecoderConfig, Sam, TinyVitConfig, VitConfig

DECODER = DecoderConfig(dim=128, hidden=256, inner=64, iou_hidden=128)
VIT = VitConfig(dim=48, depth=3, heads=3, global_blocks=(1,), image_size=128, window=3, out_channels=128)
TINY = TinyVitConfig(
    dims=(16, 32, 48, 64),
    depths=(1, 1, 2, 1),
    heads=(2, 2, 3, 4),
    windows=(3, 3, 4, 3),
    image_size=128,
    classes=10,
    out_channels=128,
)


def small_sam(encoder: VitConfig | TinyVitConfig = VIT, seed: int = 0) -> Sam:
    return randomise(Sam(encoder, DECODER), seed).eval().requires_grad_(False)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every tensor of a model values at which each of its paths matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith(("running_var",)):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point():
                spread = 0.5 if value.ndim < 2 else (2.0 / value.shape[-1]) ** 0.5
                noise = torch.randn(value.shape, generator=generator) * min(spread, 0.5)
                is_norm_weight = value.ndim == 1 and name.endswith("weight")
                value.copy_(noise * 0.3 + 1 if is_norm_weight else noise)
    return module


def image(size: int, seed: int = 1, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())
