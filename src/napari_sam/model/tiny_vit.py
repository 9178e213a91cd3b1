"""TinyViT, the image encoder of MobileSAM (Wu et al. 2022; Zhang et al. 2023).

A convolutional stage, then three stages of windowed attention with a depth-wise convolution
between attention and feed-forward. Parameter names follow MobileSAM's checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conv import ConvNorm
from .layers import ChannelNorm
from .linear import Linear
from .relative_attention import attend_at_once
from .vit import join_windows, split_windows


@dataclass(frozen=True)
class TinyVitConfig:
    """Sizes of a TinyViT encoder, by stage.

    Attributes
    ----------
    dims, depths, heads, windows : tuple of int
        Channels, blocks, attention heads and side of a window (in tokens) of each stage; heads
        and window of the first stage, which is convolutional, are not used.
    strides : tuple of int
        Stride of the step behind each stage but the last.
    image_size : int
        Side of the square input, in pixels.
    expand : int
        Widening inside a block of the first stage.
    hidden : int
        Width of the feed-forward layers, in multiples of the channels.
    classes : int
        Outputs of the classifier that the checkpoint carries.
    out_channels : int
        Channels of the embedding.
    """

    dims: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)
    windows: tuple[int, ...] = (7, 7, 14, 7)
    strides: tuple[int, ...] = (2, 2, 1)
    image_size: int = 1024
    expand: int = 4
    hidden: int = 4
    classes: int = 1000
    out_channels: int = 256

    @property
    def grid(self) -> int:
        """Side of the embedding, in its pixels."""
        return self.image_size // 16


class TinyVitEncoder(nn.Module):
    """Image (B, 3, S, S), normalised and padded -> embedding (B, C, S / 16, S / 16)."""

    def __init__(self, config: TinyVitConfig) -> None:
        super().__init__()
        self.config = config
        last = config.dims[-1]
        self.patch_embed = Stem(config.dims[0])
        self.layers = nn.ModuleList(Stage(config, index) for index in range(len(config.dims)))
        # The checkpoint carries its pre-training classifier; it is held so that the file
        # loads as it is, and never used.
        self.norm_head = nn.LayerNorm(last)
        self.head = nn.Linear(last, config.classes)
        self.neck = nn.Sequential(
            nn.Conv2d(last, config.out_channels, 1, bias=False),
            ChannelNorm(config.out_channels),
            nn.Conv2d(config.out_channels, config.out_channels, 3, padding=1, bias=False),
            ChannelNorm(config.out_channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Encode image (B, 3, S, S), float, normalised and zero padded, to (B, C, g, g)."""
        x = self.patch_embed(image)
        for stage in self.layers:
            x = stage(x)
        out: Tensor = self.neck(x)
        return out


class Stem(nn.Module):
    """Two strided convolutions: (B, 3, S, S) -> (B, dim, S / 4, S / 4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, dim // 2, 3, stride=2), nn.GELU(), ConvNorm(dim // 2, dim, 3, stride=2)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Reduce the image four times."""
        first, second = cast("ConvNorm", self.seq[0]), self.seq[2]
        out: Tensor = second(first.gelu(image))
        return out


class Stage(nn.Module):
    """Blocks at one resolution, and the step to the next."""

    def __init__(self, config: TinyVitConfig, index: int) -> None:
        super().__init__()
        dim = config.dims[index]
        self.blocks = nn.ModuleList(
            ConvBlock(dim, config.expand)
            if index == 0
            else AttentionBlock(dim, config.heads[index], config.windows[index], config.hidden)
            for _ in range(config.depths[index])
        )
        self.downsample = (
            Downsample(dim, config.dims[index + 1], config.strides[index])
            if index < len(config.strides)
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, dim, H, W) to the next stage's input."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class ConvBlock(nn.Module):
    """Widen, depth-wise convolution, narrow, add (an inverted residual)."""

    def __init__(self, dim: int, expand: int) -> None:
        super().__init__()
        wide = dim * expand
        self.conv1 = ConvNorm(dim, wide)
        self.conv2 = ConvNorm(wide, wide, 3, groups=wide)
        self.conv3 = ConvNorm(wide, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, dim, H, W) to the same shape."""
        return F.gelu(x + self.conv3(self.conv2.gelu(self.conv1.gelu(x))))


class Downsample(nn.Module):
    """Change the width and, with stride 2, halve the resolution."""

    def __init__(self, dim: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, out)
        self.conv2 = ConvNorm(out, out, 3, stride=stride, groups=out)
        self.conv3 = ConvNorm(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, dim, H, W) to (B, out, H / stride, W / stride)."""
        out: Tensor = self.conv3(self.conv2.gelu(self.conv1.gelu(x)))
        return out


class AttentionBlock(nn.Module):
    """Windowed attention, depth-wise convolution, feed-forward."""

    def __init__(self, dim: int, heads: int, window: int, hidden: int) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, heads, window)
        self.mlp = NormFeedForward(dim, hidden * dim)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, dim, H, W) to the same shape."""
        tokens = x.permute(0, 2, 3, 1)
        tokens = self.attn.add(tokens)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        tokens = self.mlp.add(tokens)
        return tokens.permute(0, 3, 1, 2)


class WindowAttention(nn.Module):
    """Attention within windows, with one learned bias for every absolute offset.

    ``attention_biases`` is (heads, window * window): entry ``dy * window + dx`` belongs to
    tokens that are dy rows and dx columns apart, in either direction.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.norm = nn.LayerNorm(dim)
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def add(self, x: Tensor) -> Tensor:
        """Map tokens x (B, H, W, dim) to the same shape and add them."""
        batch, height, width, dim = x.shape
        qkv = self.qkv(self.norm(x))
        # Padding comes before the normalisation, which turns a zero token into its bias.
        fill = self.qkv(self.norm.bias)
        windows = split_windows(qkv, self.window, fill)
        q, k, v = windows.reshape(-1, self.window**2, self.heads, 3, dim // self.heads).permute(3, 0, 2, 1, 4)
        mixed = attend_at_once(q, k, v, self.attention_biases[:, self.offsets()][None])
        mixed = mixed.transpose(1, 2).reshape(-1, self.window, self.window, dim)
        out: Tensor = self.proj(join_windows(mixed, batch, height, width), plus=x)
        return out

    def offsets(self) -> Tensor:
        """Index into the biases for each pair of tokens, (window ** 2, window ** 2)."""
        index = torch.arange(self.window, device=self.attention_biases.device)
        y, x = (plane.flatten() for plane in torch.meshgrid(index, index, indexing="ij"))
        dy, dx = ((axis[:, None] - axis[None, :]).abs() for axis in (y, x))
        return dy * self.window + dx


class NormFeedForward(nn.Module):
    """Layer normalisation and two linear layers."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def add(self, x: Tensor) -> Tensor:
        """Map tokens x (..., dim) to the same shape and add them."""
        out: Tensor = self.fc2(self.fc1(self.norm(x), gelu=True), plus=x)
        return out
