"""Small layers shared by the encoders and the mask decoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of a feature map (B, C, H, W).

    Its parameters carry the names ``weight`` and ``bias``, each (C,).
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W) at every pixel; same shape out."""
        channels_last = self.over_last_axis(x.permute(0, 2, 3, 1))
        return channels_last.permute(0, 3, 1, 2)

    def over_last_axis(self, x: Tensor) -> Tensor:
        """Normalise x (..., C) over its last axis."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Head(nn.Module):
    """Linear layers with ReLU between them, for the IoU and the hypernetwork outputs.

    Parameters
    ----------
    widths : sequence of int
        Widths from the input to the output; n + 1 numbers make n layers.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., widths[0]) to (..., widths[-1])."""
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        out: Tensor = last(x)
        return out
