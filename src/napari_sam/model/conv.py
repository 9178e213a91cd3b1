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


def convolve(
    x: Tensor, conv: nn.Conv2d, plus: Tensor | None = None, *, gelu: bool = False, relu: bool = False
) -> Tensor:
    """Convolve x (B, C, H, W) for inference, by oneDNN where there is a choice.

    ``plus`` is added to the result; then GELU or a rectifier is applied, where asked.
    """
    # The sum is fused in single precision only: for others it is not there on every processor.
    fused = x.device.type == "cpu" and has_onednn(x.dtype)
    if not fused or (plus is not None and x.dtype != torch.float32):
        out: Tensor = conv(x)
        out = out if plus is None else out + plus
        return F.gelu(out) if gelu else F.relu(out) if relu else out
    given = (conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups)
    call = torch.ops.mkldnn._convolution_pointwise
    if plus is not None:
        out = call.binary(x, plus, *given, "add", 1.0, "relu" if relu else None, [], None)
    elif gelu:
        out = call(x, *given, "gelu", [], "none")
    else:
        out = call(x, *given, "relu" if relu else "none", [], "")
    return out
