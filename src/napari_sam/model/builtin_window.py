"""Windows: the piece of the feature maps that a prompt of the built-in model sees.

A window covers `WINDOW_CELLS` x `WINDOW_CELLS` cells of the stride-16 embedding and lies on the cell
grid. Inside a window every finer level is kept in *nested* order: cell by cell, and in a cell its
2 x 2 children, and in a child its 2 x 2 children. In this order "go up one level" is one linear layer
and one reshape, and the features of one cell lie side by side in memory.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["CELL", "LOGIT_STRIDE", "WINDOW_CELLS", "nest", "unnest", "window_rows"]

CELL = 16
"""Side of a cell of the embedding, in model pixels."""
WINDOW_CELLS = 16
"""Side of a window, in cells."""
LOGIT_STRIDE = 2
"""Model pixels per mask logit, along each axis."""


@lru_cache(maxsize=32)
def _nested_offsets(cells: int, levels: int) -> Tensor:
    """(cells**2 * 4**levels, 2) offsets (y, x) at the level's stride, in nested order."""
    axis = torch.arange(cells)
    offsets = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    child = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    for _ in range(levels):
        offsets = (2 * offsets[:, None] + child).reshape(-1, 2)
    return offsets


def window_rows(feature: Tensor, outside: Tensor, batch_index: Tensor, origin: Tensor, levels: int) -> Tensor:
    """Cut the windows of a feature map, in nested order.

    Parameters
    ----------
    feature : Tensor
        Shape (B, C, h, w), of stride ``CELL / 2**levels``.
    outside : Tensor
        Shape (C,): what stands where a window reaches past the plane.
    batch_index : Tensor
        Shape (N,), int64: the plane of each window.
    origin : Tensor
        Shape (N, 2), int64, (y, x): first cell of each window, in cells; may lie outside.
    levels : int
        How many times finer than the embedding the map is, as a power of two.

    Returns
    -------
    Tensor
        Shape (N, WINDOW_CELLS**2 * 4**levels, C).
    """
    _, channels, height, width = feature.shape
    rows = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    offsets = _nested_offsets(WINDOW_CELLS, levels).to(feature.device)
    first = origin << levels
    size = torch.tensor([height, width], device=origin.device)
    # only the windows are touched, never the whole map: it may be that of a very large plane
    if bool(((first >= 0) & (first + (WINDOW_CELLS << levels) <= size)).all()):
        corner = (batch_index * height + first[:, 0]) * width + first[:, 1]
        flat = corner[:, None] + (offsets[:, 0] * width + offsets[:, 1])
        return rows.index_select(0, flat.flatten()).view(*flat.shape, channels)
    y, x = (first[:, None] + offsets).unbind(-1)  # (N, L) each
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    flat = (batch_index[:, None] * height + y) * width + x
    windows = rows.index_select(0, torch.where(inside, flat, 0).flatten()).view(*flat.shape, channels)
    return torch.where(inside[..., None], windows, outside.to(windows.dtype))


@lru_cache(maxsize=8)
def nested_order(cells: int, device: torch.device) -> Tensor:
    """Where each stride-2 pixel of a window stands among sub-pixels ordered as (y'', x''), then nested.

    Parameters
    ----------
    cells : int
        Cells of the window, along both sides together.

    Returns
    -------
    Tensor
        Shape (64 * cells,), int64, in reading order.
    """
    with torch.inference_mode(False):  # so that training may use it as well
        place = torch.arange(64 * cells).view(4, 16 * cells).t()
        return unnest(place.reshape(1, cells, 64, 1), 3).flatten().to(device)


def nest(image: Tensor, levels: int) -> Tensor:
    """(N, C, side, side) -> (N, cells**2, 4**levels, C), where side = cells * 2**levels."""
    n, channels, side, _ = image.shape
    cells = side >> levels
    image = image.reshape(n, channels, cells, *[2] * levels, cells, *[2] * levels)
    # axes: 0 n, 1 channels, 2 cell row, 3.. row bits, then cell column, then column bits
    column = 3 + levels
    bits = [axis for bit in range(levels) for axis in (3 + bit, column + 1 + bit)]
    return image.permute(0, 2, column, *bits, 1).reshape(n, cells * cells, 4**levels, channels)


def unnest(rows: Tensor, levels: int) -> Tensor:
    """(N, cells**2, 4**levels, C) -> (N, C, side, side): the inverse of `nest`."""
    n, cells2, _, channels = rows.shape
    cells = round(cells2**0.5)
    rows = rows.reshape(n, cells, cells, *[2] * (2 * levels), channels)
    row_bits = [3 + 2 * bit for bit in range(levels)]
    column_bits = [4 + 2 * bit for bit in range(levels)]
    order = (0, 3 + 2 * levels, 1, *row_bits, 2, *column_bits)
    side = cells << levels
    return rows.permute(order).reshape(n, channels, side, side)
