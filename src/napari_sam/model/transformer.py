"""The two-way transformer of the mask decoder (Kirillov et al. 2023, appendix A).

Prompt tokens and the image attend to each other in turn; ``image_attention`` holds the half
that touches the image. Parameter names follow the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from .image_attention import ImageAttention, Pixels
from .linear import Linear

AT_ONCE = 4
"""Prompts decoded together on a processor."""


@dataclass(frozen=True)
class ImageSide:
    """What the transformer needs of an image before any prompt is known.

    Attributes
    ----------
    pixels : Pixels
        The image's M pixels; one plane that all prompts share, or one for each of N prompts.
    positions : Tensor, (M, C)
        Positional encoding of the pixels.
    first : tuple of Tensor or None, (heads, D, M) and (heads, M, D)
        Keys and values of the first block, computed once for an image that all prompts share.
    """

    pixels: Pixels
    positions: Tensor
    first: tuple[Tensor, Tensor] | None = None

    def split(self, tokens: Tensor) -> list[tuple[Tensor, ImageSide]]:
        """Cut tokens (N, T, C) and image into parts that are decoded one after the other.

        What a processor computes for a few prompts stays in its cache; a GPU takes all at once.
        """
        size = AT_ONCE if tokens.device.type == "cpu" else max(len(tokens), 1)
        parts = tokens.split(size)
        if self.first is not None:
            return [(part, self) for part in parts]
        pixels = self.pixels.split(size)
        sides = (replace(self, pixels=part) for part in pixels)
        return list(zip(parts, sides, strict=True))

    def groups(self, prompts: int) -> list[Pixels]:
        """Pixels of each prompt on a processor, of all prompts together on a GPU."""
        size = 1 if self.positions.device.type == "cpu" else max(prompts, 1)
        if self.first is not None:
            return [self.pixels.expand(size)] * -(-prompts // size)
        return self.pixels.split(size)


class TwoWayTransformer(nn.Module):
    """Blocks of token and image attention, and a last look of the tokens at the image."""

    def __init__(self, depth: int, dim: int, heads: int, hidden: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, heads, hidden, inner, first=i == 0) for i in range(depth)
        )
        self.final_attn_token_to_image = ImageAttention(dim, heads, inner)
        self.norm_final_attn = nn.LayerNorm(dim)

    def prepare(self, keys: Tensor, positions: Tensor) -> ImageSide:
        """Project the image, keys (M, C) and positions (M, C), for the first block."""
        pixels = Pixels.place(keys[None], positions)
        attention = cast("TwoWayBlock", self.layers[0]).cross_attn_token_to_image
        return ImageSide(pixels, positions, attention.project(pixels))

    def forward(self, tokens: Tensor, image: ImageSide) -> tuple[Tensor, list[Tensor]]:
        """Let prompts and image attend to each other.

        Parameters
        ----------
        tokens : Tensor, (N, T, C)
        image : ImageSide

        Returns
        -------
        tokens : Tensor, (N, T, C)
        keys : list of Tensor, (B, M, C) each
            The image as each prompt sees it, B of them in a group.
        """
        queries, groups = tokens, image.groups(len(tokens))
        for index, block in enumerate(self.layers):
            projected = image.first if index == 0 else None
            queries, groups = block(queries, tokens, groups, image.positions, projected)
        look = self.final_attn_token_to_image
        out: Tensor = self.norm_final_attn(queries + look.read(queries + tokens, groups))
        return out, [group.keys for group in groups]


class TwoWayBlock(nn.Module):
    """Tokens to tokens, tokens to image, feed-forward, image to tokens."""

    def __init__(self, dim: int, heads: int, hidden: int, inner: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = TokenAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = ImageAttention(dim, heads, inner)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, hidden)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = ImageAttention(dim, heads, inner)

    def forward(
        self,
        queries: Tensor,
        tokens: Tensor,
        groups: Sequence[Pixels],
        positions: Tensor,
        projected: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, list[Pixels]]:
        """One round, updating queries (N, T, C) and pixels.

        ``tokens`` (N, T, C) are the prompts' own encodings and ``positions`` (M, C) the
        pixels', added again wherever something is compared; ``projected`` are keys and values
        of pixels that all prompts share.
        """
        if self.first:
            # The prompts' own encoding is all there is yet, so it is not added again.
            queries = self.self_attn(queries, queries)
        else:
            queries = queries + self.self_attn(queries + tokens, queries)
        queries = self.norm1(queries)

        look, write = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        q = queries + tokens
        seen = look.read(q, groups) if projected is None else look.read_projected(q, *projected)
        queries = self.norm2(queries + seen)
        queries = self.norm3(self.mlp(queries))
        updated = write.write(groups, queries + tokens, queries)
        return queries, [Pixels.place(self.norm4(keys), positions) for keys in updated]


class FeedForward(nn.Module):
    """Two linear layers with ReLU between them, and the residual."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = Linear(dim, hidden)
        self.lin2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., dim) to the same shape."""
        out: Tensor = self.lin2(F.relu(self.lin1(x)), plus=x)
        return out


class TokenAttention(nn.Module):
    """Multi-head attention among the tokens of each prompt."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(dim, dim)
        self.v_proj = Linear(dim, dim)
        self.out_proj = Linear(dim, dim)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        """Attend from x to x, mixing ``values``; all (N, T, dim)."""
        prompts, count, dim = x.shape
        projected = (self.q_proj(x), self.k_proj(x), self.v_proj(values))
        heads = (t.view(prompts, count, self.heads, -1).transpose(1, 2) for t in projected)
        mixed = F.scaled_dot_product_attention(*heads)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(prompts, count, dim))
        return out
