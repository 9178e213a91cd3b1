"""Mask decoder of the built-in model: SAM's two-way transformer over a window, at small width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.model.builtin_encoder import Features
from napari_sam.model.builtin_prompts import MAPS, PromptEncoder
from napari_sam.model.builtin_window import CELL, nested_order, window_rows
from napari_sam.model.linear import linear

__all__ = ["MASKS", "Decoded", "Decoder"]

MASKS = 4
"""Mask 0 answers unambiguous prompts; masks 1 to 3 are the candidates of an ambiguous one."""


class _Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the outer one."""

    def __init__(self, width: int, inner: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, L, E), (N, M, E), (N, M, E) -> (N, L, E)."""

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        # One side is always a handful of tokens: the plain product beats the fused kernel here.
        query, key, value = split(self.query(query)), split(self.key(key)), split(self.value(value))
        query = query * query.shape[-1] ** -0.5
        if query.shape[-2] > key.shape[-2]:  # a softmax over long rows is quicker than over many short ones
            weights = (key @ query.transpose(-1, -2)).softmax(-2).transpose(-1, -2)
        else:
            weights = (query @ key.transpose(-1, -2)).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class _Norm(nn.LayerNorm):
    """Layer norm in single precision: over many rows, half-precision gradients drown in rounding."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class _TwoWay(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP, image to tokens (SAM, appendix A)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attention = _Attention(width, width)
        self.to_image = _Attention(width, width // 2)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.from_image = _Attention(width, width // 2)
        self.norms = nn.ModuleList(_Norm(width) for _ in range(4))

    def forward(
        self, tokens: Tensor, image: Tensor, token_position: Tensor, image_position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens (N, T, E) and image (N, L, E) exchange what they know."""
        query = tokens + token_position
        tokens = self.norms[0](tokens + self.self_attention(query, query, tokens))
        key = image + image_position
        tokens = self.norms[1](tokens + self.to_image(tokens + token_position, key, image))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        image = self.norms[3](image + self.from_image(key, tokens + token_position, tokens))
        return tokens, image


@dataclass(frozen=True)
class Decoded:
    """What the decoder says of N prompts: the qualities at once, the masks when asked."""

    iou: Tensor
    """(N, 4) predicted IoU of each mask with the object."""
    tokens: Tensor
    """(N, 4, E) what the mask tokens ask of each pixel."""
    image: Tensor
    """(N, cells**2, E) the window after the transformer."""
    decoder: Decoder
    features: Features
    batch_index: Tensor
    origin: Tensor
    maps: Tensor
    """(N, cells**2, 16, MAPS) the prompts as drawn into the window."""

    def logits(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Mask logits of chosen (prompt, mask) pairs, over their windows.

        Parameters
        ----------
        rows, columns : Tensor
            Shape (n,), int64, on any device: prompt (0 to N - 1) and mask (0 to 3) of each pair.

        Returns
        -------
        Tensor
            Shape (n, 128, 128): `LOGIT_STRIDE` model pixels apart, more than 0 inside.
        """
        asked, row = torch.unique(rows, return_inverse=True)
        masks, column = torch.unique(columns, return_inverse=True)
        planes = self.decoder.masks(self, asked, masks)
        place = (row * len(masks) + column).to(planes.device)
        return planes.flatten(0, 1).index_select(0, place)


class Decoder(nn.Module):
    """Prompts and features -> masks over the prompts' windows, and their predicted quality.

    Parameters
    ----------
    width : int
        Width E of tokens and embedding.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        fine8, fine4 = width // 2, width // 4
        self.prompts = PromptEncoder(width)
        self.iou_token = nn.Parameter(nn.init.normal_(torch.empty(1, width), std=0.1))
        self.mask_tokens = nn.Parameter(nn.init.normal_(torch.empty(MASKS, width), std=0.1))
        self.blocks = nn.ModuleList(_TwoWay(width) for _ in range(2))
        self.last_attention = _Attention(width, width // 2)
        self.last_norm = _Norm(width)
        self.outside16 = nn.Parameter(torch.zeros(width))
        self.outside8 = nn.Parameter(torch.zeros(fine8))
        self.outside4 = nn.Parameter(torch.zeros(fine4))
        self.up8 = nn.Linear(width, 4 * fine8)
        self.norm8 = _Norm(fine8)
        self.up4 = nn.Linear(fine8, 4 * fine4)
        self.maps4 = nn.Linear(MAPS, fine4, bias=False)
        # a mask token asks for the four stride-2 pixels of a stride-4 pixel with four vectors
        self.questions = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, width), nn.ReLU(),
                nn.Linear(width, width), nn.ReLU(),
                nn.Linear(width, 4 * fine4),
            )
            for _ in range(MASKS)
        )  # fmt: skip
        # unlike SAM's, the quality head also reads the token of the mask that it judges
        self.quality = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, MASKS),
        )  # fmt: skip

    def forward(
        self,
        features: Features,
        batch_index: Tensor,
        origin: Tensor,
        points: Tensor,
        labels: Tensor,
        mask: Tensor | None,
    ) -> Decoded:
        """Decode N prompts; see `BuiltIn.decode` for the arguments."""
        points = points.float() - CELL * origin.flip(-1)[:, None]
        sparse, maps, drawn = self.prompts(points, labels, mask)
        count = len(points)
        output = torch.cat([self.iou_token, self.mask_tokens])
        tokens = token_position = torch.cat([output.expand(count, -1, -1), sparse], 1)
        image = window_rows(features.embedding, self.outside16, batch_index, origin, 0) + drawn
        image_position = self.prompts.grid().to(image.dtype)
        for block in self.blocks:
            tokens, image = block(tokens, image, token_position, image_position)
        asked = self.last_attention(tokens + token_position, image + image_position, image)
        tokens = self.last_norm(tokens + asked)
        masks = tokens[:, 1 : 1 + MASKS]
        judge = tokens[:, :1].expand_as(masks)
        return Decoded(
            iou=self.quality(torch.cat([judge, masks], -1)).diagonal(dim1=1, dim2=2),
            tokens=masks,
            image=image,
            decoder=self,
            features=features,
            batch_index=batch_index,
            origin=origin,
            maps=maps,
        )

    def masks(self, decoded: Decoded, rows: Tensor, columns: Tensor) -> Tensor:
        """Logits (n, m, 128, 128) of the masks `columns` (m,) of the prompts `rows` (n,)."""
        index, origin = decoded.batch_index[rows], decoded.origin[rows]
        skip8 = window_rows(decoded.features.skip8, self.outside8, index, origin, 1)
        skip4 = window_rows(decoded.features.skip4, self.outside4, index, origin, 2)
        image, maps = decoded.image[rows], decoded.maps[rows]
        count, cells, _ = image.shape
        # One row of the upper level is four of the finer one, side by side.
        fine = _linear(self.up8, image, skip8.view(count, cells, -1)).view(skip8.shape)
        fine = F.gelu(self.norm8(fine))
        fine = _linear(self.up4, fine, skip4.view(count, 4 * cells, -1)).view(skip4.shape)
        fine = F.gelu(_linear(self.maps4, maps.flatten(1, 2), fine))
        asked = [self.questions[k](decoded.tokens[rows, k]) for k in columns.tolist()]
        question = torch.stack(asked, 1).view(count, 4 * len(asked), -1)
        logits = question @ fine.transpose(1, 2)  # (n, m x 4, stride-4 pixels)
        order = nested_order(cells, logits.device)
        side = round(len(order) ** 0.5)
        planes = logits.reshape(count * len(asked), -1).index_select(1, order)
        return planes.view(count, len(asked), side, side)


def _linear(layer: nn.Module, x: Tensor, plus: Tensor) -> Tensor:
    """Apply a linear layer and add ``plus`` while the result is in the cache."""
    layer = cast("nn.Linear", layer)
    if torch.is_autocast_enabled(x.device.type):
        return cast("Tensor", layer(x)) + plus
    return linear(x, layer.weight, layer.bias, plus)
