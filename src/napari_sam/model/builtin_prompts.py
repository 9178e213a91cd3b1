"""Prompt encoding of the built-in model: sparse tokens, and maps drawn into the window.

The tokens are those of the SAM paper (section 3, "Prompt encoder"): a Fourier position plus what the
prompt is. The same prompts are also drawn as small maps at stride 4, next to the previous mask, so
that the finest layer of the decoder knows where the click was to the pixel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.model.builtin_window import CELL, WINDOW_CELLS, nest

__all__ = ["BACKGROUND", "BOX_END", "BOX_START", "FOREGROUND", "PADDING", "PromptEncoder"]

PADDING, BACKGROUND, FOREGROUND, BOX_START, BOX_END = -1, 0, 1, 2, 3
"""Labels of the points of a prompt."""

WINDOW = CELL * WINDOW_CELLS
NEAR, FAR = 5.0, 24.0
"""Widths (standard deviations, model pixels) of the two bumps drawn at a point."""
MAPS = 7
"""Maps drawn: previous mask and its presence; near and far bumps of both signs; box."""


class PromptEncoder(nn.Module):
    """Points, boxes and a mask -> tokens, window maps and their embedding.

    Parameters
    ----------
    width : int
        Width E of the tokens and of the embedding.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", nn.init.normal_(torch.empty(2, width // 2), std=1.5))
        self.kinds = nn.Embedding(5, width)
        self.patches = nn.Sequential(nn.Linear(16 * MAPS, 64), nn.GELU(), nn.Linear(64, width))

    def position(self, yx: Tensor) -> Tensor:
        """(..., 2) position in the window, 0 to 1 -> (..., E) Fourier features."""
        angle = (2 * yx.float() - 1) @ self.frequencies.float() * (2 * math.pi)
        return torch.cat([angle.sin(), angle.cos()], -1)

    def grid(self) -> Tensor:
        """(cells**2, E) positions of the cells of a window."""
        device = self.frequencies.device
        axis = (torch.arange(WINDOW_CELLS, device=device) + 0.5) / WINDOW_CELLS
        return self.position(torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)).flatten(0, 1)

    def tokens(self, points: Tensor, labels: Tensor) -> Tensor:
        """(N, P, 2) points (x, y) in the window, labels (N, P) -> (N, P, E)."""
        known = (labels != PADDING)[..., None]
        position = self.position(((points + 0.5) / WINDOW).flip(-1))
        return position * known + self.kinds(labels + 1)

    def maps(self, points: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
        """Draw the prompts into the window, in nested order.

        Parameters
        ----------
        points : Tensor
            Shape (N, P, 2), (x, y) in pixels of the window.
        labels : Tensor
            Shape (N, P).
        mask : Tensor or None
            Shape (N, 1, h, w), logits of a previous mask over the window.

        Returns
        -------
        Tensor
            Shape (N, cells**2, 16, MAPS), stride 4.
        """
        if not labels.shape[1]:  # a mask alone
            points, labels = points.new_zeros(len(points), 1, 2), labels.new_full((len(labels), 1), PADDING)
        side = WINDOW // 4
        axis = torch.arange(side, device=points.device) * 4 + 1.5  # centres, in pixels
        dx2 = (points[..., 0, None] - axis) ** 2  # (N, P, side)
        dy2 = (points[..., 1, None] - axis) ** 2
        drawn = []
        for label in (FOREGROUND, BACKGROUND):
            chosen = (labels == label)[..., None, None]
            for sigma in (NEAR, FAR):
                # a Gaussian is separable: an outer product of two short vectors per point
                bump = torch.exp(dy2 / (-2 * sigma**2))[..., :, None]
                bump = bump * torch.exp(dx2 / (-2 * sigma**2))[..., None, :]
                drawn.append((bump * chosen).amax(1))
        drawn.append(self._box(points, labels, axis))
        if mask is None:
            previous = torch.zeros_like(drawn[0])
            present = previous
        else:
            resized = F.adaptive_avg_pool2d(mask.float(), (side, side))
            previous = torch.tanh(resized[:, 0] / 4)
            present = torch.ones_like(previous)
        return nest(torch.stack([previous, present, *drawn], 1), 2)

    @staticmethod
    def _box(points: Tensor, labels: Tensor, axis: Tensor) -> Tensor:
        """(N, side, side): one inside the box of a prompt, zero outside and without a box."""
        start, end = labels == BOX_START, labels == BOX_END
        has_box = (start.any(1) & end.any(1))[:, None, None]
        low = (points * start[..., None]).sum(1)  # (N, 2): at most one corner of each kind
        high = (points * end[..., None]).sum(1)
        # coverage of each stride-4 pixel, so that the edge of the box is drawn between pixels
        inside_x = ((axis + 2).minimum(high[:, :1]) - (axis - 2).maximum(low[:, :1])).clamp(0, 4)
        inside_y = ((axis + 2).minimum(high[:, 1:]) - (axis - 2).maximum(low[:, 1:])).clamp(0, 4)
        return inside_y[:, :, None] * inside_x[:, None, :] / 16 * has_box

    def forward(self, points: Tensor, labels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (N, P, E), maps (N, cells**2, 16, MAPS), embedding (N, cells**2, E)."""
        maps = self.maps(points, labels, mask)
        return self.tokens(points, labels), maps, self.patches(maps.flatten(2))
