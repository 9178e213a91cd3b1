"""A convolution with its batch normalisation, foldable into one step for inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .linear import has_onednn


class ConvNorm(nn.Module):
    """A convolution ``c`` without bias and its batch normalisation ``bn``."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        if self.bn is None:
            return convolve(x, self.c)
        out: Tensor = self.bn(self.c(x))
        return out

    def gelu(self, x: Tensor) -> Tensor:
        """Map x (B, inputs, H, W) to GELU of the output."""
        # GELU while the result is in the cache: alone it takes longer than the convolution.
        return convolve(x, self.c, gelu=True) if self.bn is None else F.gelu(self(x))

    def fold(self) -> None:
        """Put the normalisation into the convolution's weights; for inference from then on."""
        if self.bn is not None:
            self.c = fuse_conv_bn_eval(self.c, self.bn)
            self.bn = None


def convolve(x: Tensor, conv: nn.Conv2d, gelu: bool = False) -> Tensor:
    """Convolve x (B, C, H, W) for inference, by oneDNN where there is a choice."""
    if x.device.type != "cpu" or not has_onednn(x.dtype):
        out: Tensor = conv(x)
        return F.gelu(out) if gelu else out
    out = torch.ops.mkldnn._convolution_pointwise(
        x,
        conv.weight,
        conv.bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        "gelu" if gelu else "none",
        [],
        "none" if gelu else "",
    )
    return out
