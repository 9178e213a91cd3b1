"""The two-way transformer of the mask decoder (Kirillov et al. 2023, appendix A).

Prompt tokens and the image attend to each other in turn. There are a handful of tokens and
thousands of image pixels, so what is done once per pixel decides the time. Wherever a
projection of the image meets a few tokens, the product is taken in the other order: the
projection is folded into the tokens, which is exact and leaves the image untouched.
Parameter names follow the official checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ImageSide:
    """What the transformer needs of an image before any prompt is known.

    Attributes
    ----------
    keys : Tensor, (1, M, C) or (N, M, C)
        The image's M pixels; one for all prompts, or one for each when masks are prompts.
    positions : Tensor, (M, C)
        Positional encoding of the pixels.
    first_keys, first_values : Tensor or None, (heads, D, M) and (heads, M, D)
        The first layer's projections, computed once for an image that all prompts share.
    """

    keys: Tensor
    positions: Tensor
    first_keys: Tensor | None = None
    first_values: Tensor | None = None


class TwoWayTransformer(nn.Module):
    """Blocks of token and image attention, and a last look of the tokens at the image."""

    def __init__(self, depth: int, dim: int, heads: int, hidden: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, heads, hidden, inner, first=i == 0) for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, heads, inner)
        self.norm_final_attn = nn.LayerNorm(dim)

    def prepare(self, keys: Tensor, positions: Tensor) -> ImageSide:
        """Project the image, keys (M, C) and positions (M, C), for the first block."""
        attention = cast("TwoWayBlock", self.layers[0]).cross_attn_token_to_image
        k = attention.split_heads(attention.project_k(keys + positions)[None])[0]
        v = attention.split_heads(attention.v_proj(keys)[None])[0]
        return ImageSide(keys[None], positions, k.transpose(1, 2).contiguous(), v.contiguous())

    def forward(self, tokens: Tensor, image: ImageSide) -> tuple[Tensor, Tensor]:
        """Let prompts and image attend to each other.

        Parameters
        ----------
        tokens : Tensor, (N, T, C)
        image : ImageSide

        Returns
        -------
        tokens : Tensor, (N, T, C)
        keys : Tensor, (N, M, C)
            The image as each prompt sees it.
        """
        queries, keys = tokens, image.keys
        for index, block in enumerate(self.layers):
            queries, keys = block(queries, tokens, keys, image, shared=index == 0)
        look: Attention = self.final_attn_token_to_image
        queries = queries + look.read_image(queries + tokens, keys, image.positions)
        out: Tensor = self.norm_final_attn(queries)
        return out, keys


class TwoWayBlock(nn.Module):
    """Tokens to tokens, tokens to image, feed-forward, image to tokens."""

    def __init__(self, dim: int, heads: int, hidden: int, inner: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, inner)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, hidden)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, inner)

    def forward(
        self, queries: Tensor, tokens: Tensor, keys: Tensor, image: ImageSide, shared: bool
    ) -> tuple[Tensor, Tensor]:
        """One round; queries and tokens (N, T, C), keys (1 or N, M, C), both updated."""
        if self.first:
            # The prompts' own encoding is all there is yet, so it is not added again.
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + tokens
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)

        to_image: Attention = self.cross_attn_token_to_image
        q = queries + tokens
        if shared and image.first_keys is not None and image.first_values is not None:
            seen = to_image.read_projected(q, image.first_keys, image.first_values)
        else:
            seen = to_image.read_image(q, keys, image.positions)
        queries = self.norm2(queries + seen)
        queries = self.norm3(queries + self.mlp(queries))

        to_tokens: Attention = self.cross_attn_image_to_token
        change = to_tokens.write_image(keys, image.positions, queries + tokens, queries)
        return queries, self.norm4(keys + change)


class FeedForward(nn.Module):
    """Two linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., dim) to the same shape."""
        out: Tensor = self.lin2(F.relu(self.lin1(x)))
        return out


class Attention(nn.Module):
    """Multi-head attention in ``inner`` channels, with three ways to be computed."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.inner = inner
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend as written in the textbook; q (N, T, C), k and v (N, S, C) -> (N, T, C)."""
        mixed = F.scaled_dot_product_attention(
            self.split_heads(self.q_proj(q)),
            self.split_heads(self.k_proj(k)),
            self.split_heads(self.v_proj(v)),
        )
        return self.merge_heads(mixed)

    def read_projected(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Tokens attend to an image projected beforehand.

        Shapes: q (N, T, C), k (heads, D, M), v (heads, M, D) -> (N, T, C).
        """
        prompts, count, _ = q.shape
        scaled = self.q_proj(q) * self.scale
        rows = scaled.view(prompts * count, self.heads, -1).transpose(0, 1)
        mixed = torch.bmm(torch.bmm(rows, k).softmax(dim=-1), v)
        out: Tensor = self.out_proj(mixed.transpose(0, 1).reshape(prompts, count, -1))
        return out

    def read_image(self, q: Tensor, keys: Tensor, positions: Tensor) -> Tensor:
        """Tokens attend to the image: q (N, T, C), keys (N, M, C), positions (M, C).

        The key projection moves into the queries and the value projection behind the
        weighted sum. The key bias adds one number to a whole row of logits: softmax drops it.
        """
        prompts, count, dim = q.shape
        if not self.folding_pays(count):
            return self(q, keys + positions, keys)
        folded = self.fold(self.q_proj(q) * self.scale, self.k_proj.weight)
        weights = _logits(folded, keys, positions).softmax(dim=-1)
        context = torch.matmul(weights, keys)
        by_head = context.view(prompts, self.heads, count, dim).transpose(0, 1)
        values = self.v_proj.weight.view(self.heads, 1, -1, dim).transpose(2, 3)
        mixed = torch.matmul(by_head, values).permute(1, 2, 0, 3)
        out: Tensor = self.out_proj(mixed.reshape(prompts, count, -1) + self.v_proj.bias)
        return out

    def write_image(self, keys: Tensor, positions: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The image attends to tokens: keys (N or 1, M, C), k and v (N, T, C) -> (N, M, C).

        The image's query projection moves into the tokens' keys, and the output projection
        into their values.
        """
        prompts, count, _ = k.shape
        if not self.folding_pays(count):
            q = (keys + positions).expand(prompts, -1, -1)
            return self(q, k, v)
        scaled = self.k_proj(k) * self.scale
        folded = self.fold(scaled, self.q_proj.weight)
        constant = self.fold(scaled, self.q_proj.bias[:, None])
        logits = _logits(folded, keys, positions) + constant
        weights = logits.view(prompts, self.heads, count, -1).softmax(dim=2)
        weights = weights.view(prompts, self.heads * count, -1)
        values = self.fold(self.v_proj(v), self.out_proj.weight.t())
        return torch.matmul(weights.transpose(1, 2), values) + self.out_proj.bias

    @property
    def scale(self) -> float:
        """The factor that keeps logits near one: one over the root of a head's width."""
        return float((self.inner // self.heads) ** -0.5)

    def folding_pays(self, tokens: int) -> bool:
        """Whether folding into so many tokens costs less than projecting the image."""
        return tokens * self.heads <= self.inner

    def fold(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply each head's part of x (N, T, inner) with its rows of weight (inner, C).

        Returns (N, heads * T, C), heads outermost.
        """
        prompts, count, _ = x.shape
        parts = x.view(prompts, count, self.heads, -1).permute(2, 0, 1, 3)
        rows = weight.reshape(self.heads, 1, self.inner // self.heads, -1)
        folded = torch.matmul(parts, rows)
        return folded.transpose(0, 1).reshape(prompts, self.heads * count, -1)

    def project_k(self, x: Tensor) -> Tensor:
        """Keys without their bias, which softmax drops: x (M, C) -> (M, inner)."""
        return F.linear(x, self.k_proj.weight)

    def split_heads(self, x: Tensor) -> Tensor:
        """Reshape (N, T, inner) to (N, heads, T, D)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def merge_heads(self, x: Tensor) -> Tensor:
        """Reshape (N, heads, T, D) to (N, T, inner) and project to (N, T, C)."""
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))
        return out


def _logits(folded: Tensor, keys: Tensor, positions: Tensor) -> Tensor:
    """Products with keys plus positions, (N, R, M), for folded (N, R, C)."""
    return torch.matmul(folded, (keys + positions).transpose(1, 2))
