"""Attention between a handful of tokens and thousands of pixels.

What is done once per pixel decides the time. Where a projection of the image meets a few tokens
only, the product is taken in the other order: the projection is folded into the tokens, which
is exact and leaves the image untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .linear import linear_each


@dataclass(frozen=True)
class Pixels:
    """Images as some prompts see them.

    Attributes
    ----------
    keys : Tensor, (B, M, C)
        The M pixels of each of B images.
    placed : Tensor, (B, M, C)
        The same with their positional encoding added.
    """

    keys: Tensor
    placed: Tensor

    @classmethod
    def place(cls, keys: Tensor, positions: Tensor) -> Pixels:
        """Add positions (M, C) to keys (B, M, C)."""
        return cls(keys, keys + positions)

    def expand(self, count: int) -> Pixels:
        """Repeat one image, without copying it."""
        return Pixels(self.keys.expand(count, -1, -1), self.placed.expand(count, -1, -1))

    def split(self, size: int) -> list[Pixels]:
        """Cut into groups of ``size`` images."""
        parts = zip(self.keys.split(size), self.placed.split(size), strict=True)
        return [Pixels(keys, placed) for keys, placed in parts]


class ImageAttention(nn.Module):
    """Multi-head attention in ``inner`` channels between tokens and pixels."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.inner = inner
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    @property
    def scale(self) -> float:
        """The factor that keeps logits near one: one over the root of a head's width."""
        return float((self.inner // self.heads) ** -0.5)

    def project(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        """Keys (heads, D, M) and values (heads, M, D) of one image, for ``read_projected``.

        The key bias adds one number to a whole row of logits, and softmax drops it.
        """
        k = F.linear(pixels.placed[0], self.k_proj.weight)
        v = self.v_proj(pixels.keys[0])
        k, v = (t.view(len(t), self.heads, -1) for t in (k, v))
        return k.permute(1, 2, 0).contiguous(), v.transpose(0, 1).contiguous()

    def read_projected(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Tokens attend to an image projected beforehand: q (N, T, C) -> (N, T, C)."""
        prompts, count, _ = q.shape
        scaled = self.q_proj(q) * self.scale
        rows = scaled.view(prompts * count, self.heads, -1).transpose(0, 1)
        mixed = torch.bmm(torch.bmm(rows, k).softmax(dim=-1), v)
        out: Tensor = self.out_proj(mixed.transpose(0, 1).reshape(prompts, count, -1))
        return out

    def read(self, q: Tensor, groups: Sequence[Pixels]) -> Tensor:
        """Tokens attend to pixels: q (N, T, C) -> (N, T, C)."""
        prompts, count, dim = q.shape
        if not self.folding_pays(count):
            return torch.cat([self(part, p.placed, p.keys) for part, p in _matched(groups, q)] or [q])
        # The key projection moves into the queries, the value projection behind the sum.
        folded = self.fold(self.q_proj(q) * self.scale, self.k_proj.weight)
        seen = [
            linear_each(linear_each(part, pixels.placed).softmax(dim=-1), pixels.keys.transpose(1, 2))
            for part, pixels in _matched(groups, folded)
        ]
        context = torch.cat(seen or [folded]).view(prompts, self.heads, count, dim)
        values = self.v_proj.weight.view(self.heads, 1, -1, dim).transpose(2, 3)
        mixed = torch.matmul(context.transpose(0, 1), values).permute(1, 2, 0, 3)
        out: Tensor = self.out_proj(mixed.reshape(prompts, count, -1) + self.v_proj.bias)
        return out

    def write(self, groups: Sequence[Pixels], k: Tensor, v: Tensor) -> list[Tensor]:
        """Pixels attend to tokens, k and v (N, T, C); the pixels' new keys, (B, M, C) each."""
        count = k.shape[1]
        if not self.folding_pays(count):
            return [
                pixels.keys + self(pixels.placed, part_k, part_v)
                for part_k, part_v, pixels in _matched(groups, k, v)
            ]
        # The pixels' query projection moves into the keys, the output projection into the values.
        scaled = self.k_proj(k) * self.scale
        folded = self.fold(scaled, self.q_proj.weight)
        constant = self.fold(scaled, self.q_proj.bias[:, None])
        values = self.fold(self.v_proj(v), self.out_proj.weight.t())
        # Each pixel's weights sum to one in every head, so the bias can ride on one head's values.
        values[:, :count] += self.out_proj.bias
        updated = []
        for queries, add, mix, pixels in _matched(groups, folded, constant, values):
            logits = (linear_each(queries, pixels.placed) + add).unflatten(1, (self.heads, count))
            weights = logits.softmax(dim=2).flatten(1, 2)
            updated.append(torch.baddbmm(pixels.keys, weights.transpose(1, 2), mix))
        return updated

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend as written in the textbook; q (B, T, C), k and v (B, S, C) -> (B, T, C)."""
        heads = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        mixed = F.scaled_dot_product_attention(*heads)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def folding_pays(self, tokens: int) -> bool:
        """Whether folding into so many tokens costs less than projecting the image."""
        return tokens * self.heads <= self.inner

    def fold(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply each head's part of x (N, T, inner) with its rows of weight (inner, C).

        Returns (N, heads * T, C), heads outermost.
        """
        prompts, count, _ = x.shape
        parts = x.view(prompts * count, self.heads, -1).transpose(0, 1)
        folded = torch.bmm(parts, weight.reshape(self.heads, self.inner // self.heads, -1))
        folded = folded.view(self.heads, prompts, count, -1).transpose(0, 1)
        return folded.reshape(prompts, self.heads * count, -1)


def _matched(groups: Sequence[Pixels], *tensors: Tensor) -> Iterator[tuple[Any, ...]]:
    """The rows of each tensor that belong to each group, and the group."""
    size = len(groups[0].keys) if groups else 1
    return zip(*(tensor.split(size) for tensor in tensors), groups, strict=True)
