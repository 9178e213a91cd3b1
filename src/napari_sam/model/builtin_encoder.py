"""Encoder of the built-in model: a small residual network with a top-down path and a dense head."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DENSE_CHANNELS", "Encoder", "Features"]

DENSE_CHANNELS = ("seed", "foreground", "boundary", "log_diameter")
"""What the dense head says of every stride-4 pixel.

The first three are logits; the last is log2(object diameter / 44 model pixels).
"""


class Features(NamedTuple):
    """What the encoder hands to the decoder, for B planes of H x W model pixels."""

    embedding: Tensor
    """(B, E, H/16, W/16)."""
    skip8: Tensor
    """(B, E/2, H/8, W/8), finer detail for the masks."""
    skip4: Tensor
    """(B, E/4, H/4, W/4), the finest detail for the masks."""
    dense: Tensor
    """(B, len(DENSE_CHANNELS), H/4, W/4)."""


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and rectifier."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two 3x3 convolutions around which the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)  # each block starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(self.first(x))))


def _double(x: Tensor) -> Tensor:
    """Nearest-neighbour doubling."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Encoder(nn.Module):
    """Planes -> features at strides 16, 8 and 4.

    Parameters
    ----------
    channels : tuple of int
        Widths at strides 2, 4, 8, 16 and 32.
    depths : tuple of int
        Residual blocks at strides 4, 8, 16 and 32.
    width : int
        Width E of the embedding.
    """

    def __init__(self, channels: tuple[int, ...], depths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.stem = _conv(3, channels[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(before, after, stride=2), *(_Residual(after) for _ in range(depth)))
            for before, after, depth in zip(channels, channels[1:], depths, strict=False)
        )
        _, c4, c8, c16, c32 = channels
        self.top = nn.Conv2d(c32, width, 1)
        self.lateral16 = nn.Conv2d(c16, width, 1)
        self.embed = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.down8, self.lateral8 = nn.Conv2d(width, 64, 1), nn.Conv2d(c8, 64, 1)
        self.mix8 = _conv(64, 64)
        self.down4, self.lateral4 = nn.Conv2d(64, 48, 1), nn.Conv2d(c4, 48, 1)
        self.mix4 = _conv(48, 48)
        self.skip8 = nn.Conv2d(64, width // 2, 1)
        self.skip4 = nn.Conv2d(48, width // 4, 1)
        self.dense = nn.Sequential(_conv(48, 32), nn.Conv2d(32, len(DENSE_CHANNELS), 1))

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised planes -> `Features`; H and W are multiples of 32."""
        if x.shape[-2] % 32 or x.shape[-1] % 32:
            height, width = x.shape[-2:]
            raise ValueError(
                f"The built-in model expects planes whose sides are multiples of 32 pixels, "
                f"found {height} x {width}. Pad the plane first."
            )
        x = self.stem(x)
        x4 = self.stages[0](x)
        x8 = self.stages[1](x4)
        x16 = self.stages[2](x8)
        x32 = self.stages[3](x16)
        embedding = self.embed(F.relu(self.lateral16(x16) + _double(self.top(x32))))
        fine8 = self.mix8(F.relu(_double(self.down8(embedding)) + self.lateral8(x8)))
        fine4 = self.mix4(F.relu(_double(self.down4(fine8)) + self.lateral4(x4)))
        return Features(embedding, self.skip8(fine8), self.skip4(fine4), self.dense(fine4))
