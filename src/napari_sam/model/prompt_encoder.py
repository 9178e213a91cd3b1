"""Prompts as tokens: points, box corners and dense masks (Kirillov et al. 2023, section 3).

Parameter names follow the official checkpoints.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from .layers import ChannelNorm

BACKGROUND, FOREGROUND, BOX_START, BOX_END, PADDING = 0, 1, 2, 3, -1
"""Labels of a prompt token: the two signs of a point, a box's two corners, and no point."""


class PromptEncoder(nn.Module):
    """Embed sparse prompts (points, box corners) and the dense prompt (a mask's logits).

    Parameters
    ----------
    dim : int
        Channels of a token and of the image embedding.
    grid, image_size : int
        Side of the image embedding and of the model's input, in pixels of each.
    mask_channels : int
        Channels before the last layer of the mask branch.
    """

    def __init__(self, dim: int, grid: int, image_size: int, mask_channels: int = 16) -> None:
        super().__init__()
        self.grid = grid
        self.image_size = image_size
        self.pe_layer = FourierPositions(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, stride=2),
            ChannelNorm(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, stride=2),
            ChannelNorm(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def sparse(self, points: Tensor, labels: Tensor) -> Tensor:
        """Embed points and box corners.

        Parameters
        ----------
        points : Tensor, (N, P, 2)
            (x, y) in pixels of the model's input; whole numbers are pixel corners, so half a
            pixel is added to reach the centre.
        labels : Tensor, (N, P), integer
            1 foreground, 0 background, 2 and 3 the first and last corner of a box, -1 padding.

        Returns
        -------
        Tensor, (N, P, dim)
        """
        # Row 0 of the table is the padding, so that a label is its row minus one.
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        table = torch.cat([cast("Tensor", kind.weight) for kind in kinds])
        positions = self.pe_layer((points.to(table.dtype) + 0.5) / self.image_size)
        is_point = (labels != PADDING).unsqueeze(-1)
        return positions * is_point + table[labels.long() + 1]

    def dense(self, mask: Tensor) -> Tensor:
        """Embed mask logits (N, 1, 4 g, 4 g) as (N, dim, g, g), g the side of the embedding."""
        out: Tensor = self.mask_downscaling(mask)
        return out

    @property
    def no_mask(self) -> Tensor:
        """The embedding, (dim,), that stands at every pixel when there is no mask prompt."""
        return self.no_mask_embed.weight[0]

    def positions(self) -> Tensor:
        """Positional encoding of the embedding's pixels, (g * g, dim), in reading order."""
        weight = self.no_mask_embed.weight
        centres = (torch.arange(self.grid, device=weight.device, dtype=torch.float32) + 0.5).div(self.grid)
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1).reshape(-1, 2))


class FourierPositions(nn.Module):
    """Sines and cosines of random projections of a position (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", nn.init.normal_(torch.empty(2, features)))

    def forward(self, xy: Tensor) -> Tensor:
        """Encode positions xy (..., 2) in [0, 1] as (..., 2 * features)."""
        # Angles reach hundreds of radians: half precision would turn them into noise.
        matrix = self.positional_encoding_gaussian_matrix.float()
        angles = 2 * math.pi * ((2 * xy.float() - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def pad_prompts(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Append one padding token, which the paper's model expects after points without a box.

    Parameters
    ----------
    points : Tensor, (N, P, 2)
    labels : Tensor, (N, P)

    Returns
    -------
    points : Tensor, (N, P + 1, 2)
    labels : Tensor, (N, P + 1), the last column -1
    """
    return (
        torch.cat([points, points.new_zeros(points.shape[0], 1, 2)], dim=1),
        torch.cat([labels, labels.new_full((labels.shape[0], 1), PADDING)], dim=1),
    )
