"""Where automatic masks are prompted: grids of points, crops of the plane, regions."""

from __future__ import annotations

from itertools import product
from math import ceil

import numpy as np
from numpy.typing import NDArray

from napari_sam.masks import Box, Mask

Points = NDArray[np.float64]

EDGE = 20
"""A mask this near, in pixels, to the edge of a crop is taken for cut off by it."""


def point_grid(per_side: int, box: Box) -> Points:
    """Evenly spaced points in a box.

    Parameters
    ----------
    per_side : int
        Points along each side: point k lies at ``(k + 1/2) / per_side`` of it.
    box : Box

    Returns
    -------
    ndarray, shape (per_side**2, 2)
        Positions (y, x) in reading order.
    """
    half = 1 / (2 * per_side)
    steps = np.linspace(half, 1 - half, per_side)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([y.ravel(), x.ravel()], -1) * (box.height, box.width) + (box.y0, box.x0)


def coarse_to_fine(per_side: int) -> NDArray[np.intp]:
    """Order in which an adaptive run walks through a grid: every fourth point, every second, all."""
    steps = np.arange(per_side)
    rank = np.where(steps % 4 == 1, 0, np.where(steps % 2 == 1, 1, 2))
    return np.argsort(np.maximum(rank[:, None], rank).ravel(), kind="stable")


def crop_boxes(shape: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[Box, int]]:
    """Crops in which the plane is seen: all of it, then layers of ever smaller overlapping parts.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the plane.
    layers : int
        Layer i, from 1, has ``2**i`` crops along each side. Layers with more crops along a side than the
        plane has pixels on its shorter one are left out.
    overlap_ratio : float
        Overlap in layer 1 as part of the plane's shorter side; it halves with each layer.

    Returns
    -------
    list of (Box, int)
        Whole-pixel boxes and their layers; layer 0 is the plane.
    """
    crops = [(Box(0, 0, *shape), 0)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        if per_side > min(shape):
            break
        overlap = int(overlap_ratio * min(shape) * (2 / per_side))
        height, width = (ceil((overlap * (per_side - 1) + n) / per_side) for n in shape)
        for i, j in product(range(per_side), repeat=2):  # column by column
            x0, y0 = (width - overlap) * i, (height - overlap) * j
            box = Box(y0, x0, min(y0 + height, shape[0]), min(x0 + width, shape[1]))
            crops.append((box, layer))
    return crops


def is_cut_by_crop(box: Box, crop: Box, shape: tuple[int, int]) -> bool:
    """Whether a mask's half-open ``box`` comes near an edge of its crop that is no edge of the plane."""
    last = (box.y0, box.x0, box.y1 - 1, box.x1 - 1)
    edges = zip(last, crop, (0, 0, *shape), strict=True)
    return any(abs(side - cut) <= EDGE < abs(side - end) for side, cut, end in edges)


def points_inside(points: Points, region: Mask | Box | None) -> NDArray[np.bool_]:
    """Which points (N, 2) lie in a region; all of them if there is none."""
    if region is None:
        return np.ones(len(points), bool)
    box = region.box if isinstance(region, Mask) else region
    nearest = np.floor(points + 0.5).astype(np.int64)
    y, x = nearest.T
    inside = (y >= box.y0) & (y < box.y1) & (x >= box.x0) & (x < box.x1)
    if isinstance(region, Mask):
        inside[inside] = region.pixels[y[inside] - region.y0, x[inside] - region.x0]
    return inside
