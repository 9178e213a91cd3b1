"""Between full-resolution pixels and those of a lower level of an image pyramid.

Prompts and masks live in full-resolution pixels in the layers; the model may look at a lower level. A pixel
of a level covers ``factors`` full-resolution pixels; centres are at integers in both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.masks import Box, Mask
from napari_sam.prompts import Point, Prompts

Factors = tuple[float, float]
"""Full-resolution pixels per pixel of the level, (y, x)."""

FULL: Factors = (1.0, 1.0)


def to_level(prompts: Prompts, factors: Factors) -> Prompts:
    """Bring prompts from full resolution to a level."""
    if factors == FULL:
        return prompts
    fy, fx = factors
    points = tuple(Point((p.y + 0.5) / fy - 0.5, (p.x + 0.5) / fx - 0.5, p.positive) for p in prompts.points)
    box = box_to_level(prompts.box, factors) if prompts.box is not None else None
    mask = mask_to_level(prompts.mask, factors) if prompts.mask is not None else None
    return replace(prompts, points=points, box=box, mask=mask)


def box_to_level(box: Box, factors: Factors) -> Box:
    """Bring a half-open box to a level."""
    fy, fx = factors
    return Box(box.y0 / fy, box.x0 / fx, box.y1 / fy, box.x1 / fx)


def mask_to_level(mask: Mask, factors: Factors) -> Mask:
    """Bring a mask to a level: a pixel is inside if its middle is."""
    if factors == FULL or not mask.pixels.size:
        return mask
    box = box_to_level(mask.box, factors)
    y0, x0, y1, x1 = (int(v) for v in (box.y0, box.x0, np.ceil(box.y1), np.ceil(box.x1)))
    rows = _indices(y0, y1, factors[0]) - mask.y0
    columns = _indices(x0, x1, factors[1]) - mask.x0
    return Mask.from_plane(_sample(mask.pixels, rows, columns), y0, x0)


def mask_to_full(mask: Mask, factors: Factors) -> Mask:
    """Bring a mask of a level to full resolution."""
    if factors == FULL or not mask.pixels.size:
        return mask
    fy, fx = factors
    if float(fy).is_integer() and float(fx).is_integer():  # as in most pyramids, and much quicker
        ny, nx = int(fy), int(fx)
        return Mask(mask.y0 * ny, mask.x0 * nx, mask.pixels.repeat(ny, axis=0).repeat(nx, axis=1))
    y0, x0 = int(np.floor(mask.y0 * fy)), int(np.floor(mask.x0 * fx))
    y1, x1 = int(np.ceil(mask.box.y1 * fy)), int(np.ceil(mask.box.x1 * fx))
    rows = _indices(y0, y1, 1 / fy) - mask.y0
    columns = _indices(x0, x1, 1 / fx) - mask.x0
    return Mask.from_plane(_sample(mask.pixels, rows, columns), y0, x0)


def labels_to_full(
    labels: NDArray[np.integer], factors: Factors, shape: tuple[int, int]
) -> NDArray[np.integer]:
    """Bring a label image of a level to full resolution, whose plane has ``shape`` (H, W)."""
    if factors == FULL:
        return labels
    rows = np.minimum(_indices(0, shape[0], 1 / factors[0]), labels.shape[0] - 1)
    columns = np.minimum(_indices(0, shape[1], 1 / factors[1]), labels.shape[1] - 1)
    return labels[np.ix_(rows, columns)]


def labels_to_grid(
    labels: NDArray[np.integer], factors: Factors, corner: tuple[float, float], box: Box, step: int
) -> NDArray[np.integer]:
    """Every ``step``-th full-resolution pixel of a box, out of a label image of a part of a level.

    Parameters
    ----------
    labels : ndarray of int, shape (h, w)
    factors : tuple of float
        Full-resolution pixels per pixel of the labels.
    corner : tuple of float
        Where the labels' first pixel is, in the level's pixels.
    box : Box
        Whole-pixel box at full resolution.
    step : int

    Returns
    -------
    ndarray of int, shape (ceil(box height / step), ceil(box width / step))
        0 beyond the labels.
    """
    places = []
    for start, stop, factor, first in zip(box[:2], box[2:], factors, corner, strict=True):
        pixels = np.arange(start, stop, step) + (step - 1) / 2
        places.append(np.floor((pixels + 0.5) / factor - first).astype(int))
    return _sample(labels, *places)


def _indices(start: int, stop: int, step: float) -> np.ndarray:
    """Pixel of the other grid in which the middle of each pixel lies."""
    return np.floor((np.arange(start, stop) + 0.5) * step).astype(int)


def _sample(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Pixels at rows and columns; 0 beyond the edges."""
    height, width = pixels.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    found = pixels.take(np.clip(rows, 0, height - 1), axis=0).take(np.clip(columns, 0, width - 1), axis=1)
    found *= inside
    return found
