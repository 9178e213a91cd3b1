"""The image encoder of SAM: a vision transformer with windowed attention.

Most blocks attend within windows of 14 x 14 tokens; a few, evenly spread, attend over the
whole plane (Kirillov et al. 2023, appendix A; Li et al. 2022, "Exploring plain vision
transformer backbones for object detection"). Parameter names follow the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ChannelNorm
from .linear import Linear
from .relative_attention import relative_attention


@dataclass(frozen=True)
class VitConfig:
    """Sizes of a vision transformer encoder.

    Attributes
    ----------
    dim, depth, heads : int
        Width of a token, number of blocks, attention heads of a block.
    global_blocks : tuple of int
        Indices of the blocks that attend over the whole plane.
    image_size, patch : int
        Side of the square input and of a patch, in pixels; the plane has
        ``image_size // patch`` tokens a side.
    window : int
        Side of an attention window, in tokens.
    hidden : int
        Width of the feed-forward layer; 0 means ``4 * dim``.
    out_channels : int
        Channels of the embedding.
    """

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    image_size: int = 1024
    patch: int = 16
    window: int = 14
    hidden: int = 0
    out_channels: int = 256

    @property
    def grid(self) -> int:
        """Tokens along one side of the plane."""
        return self.image_size // self.patch


class VitEncoder(nn.Module):
    """Image (B, 3, S, S), normalised and padded -> embedding (B, C, S / patch, S / patch)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.patch, config.dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, config.dim))
        self.blocks = nn.ModuleList(
            Block(config, window=0 if i in config.global_blocks else config.window)
            for i in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.dim, config.out_channels, 1, bias=False),
            ChannelNorm(config.out_channels),
            nn.Conv2d(config.out_channels, config.out_channels, 3, padding=1, bias=False),
            ChannelNorm(config.out_channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Encode image (B, 3, S, S), float, normalised and zero padded, to (B, C, g, g)."""
        x: Tensor = self.patch_embed(image) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return out


class PatchEmbedding(nn.Module):
    """Each patch of the image becomes one token."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, 3, S, S) -> tokens (B, g, g, dim).

        Patches do not overlap, so the convolution is one matrix product over them.
        """
        batch, channels, height, width = image.shape
        patch = self.proj.kernel_size[0]
        rows, columns = height // patch, width // patch
        patches = image.reshape(batch, channels, rows, patch, columns, patch)
        flat = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows, columns, -1)
        return F.linear(flat, self.proj.weight.flatten(1), self.proj.bias)


class Block(nn.Module):
    """Attention, over windows or over the plane (``window = 0``), and feed-forward."""

    def __init__(self, config: VitConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = Attention(config.dim, config.heads, window or config.grid)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = FeedForward(config.dim, config.hidden or 4 * config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens x (B, H, W, dim) to the same shape."""
        x = self.attn.add(self.norm1(x), x, self.window)
        return self.mlp.add(self.norm2(x), x)


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = Linear(dim, hidden)
        self.lin2 = Linear(hidden, dim)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """Map x (..., dim) to the same shape and add ``residual``."""
        out: Tensor = self.lin2(self.lin1(x, gelu=True), plus=residual)
        return out


class Attention(nn.Module):
    """Multi-head attention with decomposed relative positions.

    ``rel_pos_h`` and ``rel_pos_w``, each (2 n - 1, dim / heads), hold one vector for every
    offset between two rows or two columns of a window of side n.
    """

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))

    def add(self, x: Tensor, residual: Tensor, window: int) -> Tensor:
        """Attend within windows of ``window`` tokens a side, or everywhere for 0.

        Shapes: x and ``residual``, which is added, (B, H, W, dim); so is the result.
        """
        batch, height, width, dim = x.shape
        # Padding comes after the projection: a padded token is zero, so its query, key and
        # value are the bias. Projecting the real tokens only saves a fifth of the work.
        qkv = self.qkv(x)
        if window:
            qkv = split_windows(qkv, window, self.qkv.bias)
        side_y, side_x = qkv.shape[1:3]
        q, k, v = qkv.reshape(-1, side_y * side_x, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = relative_attention(q, k, v, self.rel_pos_h, self.rel_pos_w, (side_y, side_x))
        mixed = mixed.transpose(1, 2).reshape(-1, side_y, side_x, dim)
        if window:
            mixed = join_windows(mixed, batch, height, width)
        out: Tensor = self.proj(mixed, plus=residual)
        return out


def split_windows(x: Tensor, window: int, fill: Tensor) -> Tensor:
    """Cut a plane of tokens into windows, padding bottom and right with one vector.

    Parameters
    ----------
    x : Tensor, (B, H, W, C)
    window : int
        Side of a window, in tokens.
    fill : Tensor, (C,)
        The value of padded tokens.

    Returns
    -------
    Tensor, (B * rows * columns, window, window, C), windows in reading order
    """
    batch, height, width, channels = x.shape
    rows, columns = -(-height // window), -(-width // window)
    out = x.new_empty(batch, rows, columns, window, window, channels)
    # Each number is copied once: a padded plane in between would take twice as long.
    as_plane = out.transpose(2, 3)
    for row, y, tall in _whole_and_rest(height, window):
        for column, x0, wide in _whole_and_rest(width, window):
            part = x[:, y, x0].unflatten(1, (-1, tall)).unflatten(3, (-1, wide))
            as_plane[:, row, :tall, column, :wide] = part
    if height % window:
        out[:, -1, :, height % window :] = fill
    if width % window:
        out[:, :, -1, :, width % window :] = fill
    return out.flatten(0, 2)


def _whole_and_rest(length: int, window: int) -> Iterator[tuple[slice, slice, int]]:
    """Windows that a line of tokens fills, and one that it cuts: (windows, tokens, tokens in each)."""
    whole, rest = divmod(length, window)
    if whole:
        yield slice(0, whole), slice(0, whole * window), window
    if rest:
        yield slice(whole, None), slice(whole * window, None), rest


def join_windows(x: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Put the windows of ``split_windows`` back and cut the padding: (B, height, width, C)."""
    window, channels = x.shape[1], x.shape[3]
    rows, columns = -(-height // window), -(-width // window)
    x = x.view(batch, rows, columns, window, window, channels).transpose(2, 3)
    return x.reshape(batch, rows * window, columns * window, channels)[:, :height, :width]
