"""Read boxes of a plane that is not in memory, as the pictures that a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_sam.image import RGB, Contrast, percentile_contrast, plane_to_rgb
from napari_sam.masks import Box
from napari_sam.tiling.tile import Read


def sampled_contrast(
    plane: Any, *, low: float = 0.5, high: float = 99.8, blocks: int = 64, side: int = 256
) -> list[Contrast]:
    """Contrast window of each channel of a plane of any size, out of blocks spread over it.

    One window for the whole plane keeps what is dark dark: a tile of background is not stretched to noise.

    Parameters
    ----------
    plane : array, shape (H, W) or (H, W, C)
        A numpy, zarr or dask array; only the blocks are read.
    low, high : float
        Percentiles in [0, 100].
    blocks, side : int
        Number of blocks, and their side in pixels.
    """
    height, width = plane.shape[:2]
    per_side = max(1, round(blocks**0.5))
    tops, lefts = (
        sorted({int(v) for v in np.linspace(0, max(n - side, 0), per_side)}) for n in (height, width)
    )
    parts = [np.asarray(plane[y : y + side, x : x + side]) for y in tops for x in lefts]
    channels = plane.shape[2] if len(plane.shape) == 3 else 1
    flat = [p.reshape(-1, channels) for p in parts]
    sample = np.concatenate(flat)
    return [percentile_contrast(sample[:, c], low, high) for c in range(channels)]


def plane_contrast(plane: Any) -> list[Contrast] | None:
    """Contrast for a plane that nobody chose one for: `sampled_contrast`, none for colour pictures of 8 bits.

    Parameters
    ----------
    plane : array, shape (H, W) or (H, W, C)
    """
    colour = np.dtype(plane.dtype) == np.uint8 and len(plane.shape) == 3 and plane.shape[2] in (3, 4)
    return None if colour else sampled_contrast(plane)


def rgb_reader(
    plane: Any,
    *,
    contrast: Contrast | Sequence[Contrast] | None = None,
    gamma: float = 1.0,
    channels: Sequence[int | None] | None = None,
) -> Read:
    """Reader of a plane's boxes as 8-bit RGB pictures with one contrast for the whole plane.

    Parameters
    ----------
    plane : array, shape (H, W) or (H, W, C)
        A numpy, zarr or dask array; only what a box covers is read.
    contrast : Contrast or one per channel, optional
        `plane_contrast` if not given.
    gamma, channels
        See `napari_sam.image.plane_to_rgb`.
    """
    if contrast is None:
        contrast = plane_contrast(plane)

    def read(box: Box) -> RGB:
        return plane_to_rgb(np.asarray(plane[box.slices]), contrast=contrast, gamma=gamma, channels=channels)

    return read
