"""Read boxes of a plane that is not in memory, as the pictures that a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.image import BLACK, RGB, Contrast, channel_contrasts, plane_to_rgb, range_contrast
from napari_sam.masks import Box
from napari_sam.tiling.tile import Read

BAND = 256
"""Rows of a plane that are read at a time."""


def sampled_pixels(plane: Any, *, blocks: int = 64, side: int = 256) -> NDArray[Any]:
    """Pixels of a plane of any size, shape (N, C), out of blocks spread over it.

    Parameters
    ----------
    plane : array, shape (H, W) or (H, W, C)
        A numpy, zarr or dask array; only the blocks are read.
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
    return np.concatenate([p.reshape(-1, channels) for p in parts])


def sampled_contrast(plane: Any) -> list[Contrast]:
    """Contrast window of each channel of a plane of any size, out of blocks spread over it.

    One window for the whole plane keeps what is dark dark: a tile of background is not stretched to noise.

    Parameters
    ----------
    plane : array, shape (H, W) or (H, W, C)
        See `sampled_pixels`.
    """
    return channel_contrasts(list(sampled_pixels(plane).T))


def whole_range(plane: Any) -> list[Contrast]:
    """`range_contrast` of a plane of any size, of which a band of rows is read at a time.

    Parameters
    ----------
    plane : array, shape (H, W) or (H, W, C)
    """
    bands = [
        range_contrast(np.asarray(plane[y : y + BAND, 0 : plane.shape[1]]))
        for y in range(0, plane.shape[0], BAND)
    ]
    channels = ([w for w in windows if w is not BLACK] or [BLACK] for windows in zip(*bands, strict=True))
    return [Contrast(min(w.low for w in ws), max(w.high for w in ws)) for ws in channels]


def plane_contrast(plane: Any) -> list[Contrast] | None:
    """Contrast for a plane that nobody chose one for: `sampled_contrast`, none for colour pictures of 8 bits.

    Parameters
    ----------
    plane : array, shape (H, W) or (H, W, C)
    """
    return None if shows_colours(plane) else sampled_contrast(plane)


def shows_colours(plane: Any) -> bool:
    """Whether a plane, of shape (H, W) or (H, W, C), is a colour picture of 8 bits.

    It is if it has as many channels as one, unless the plane says that they are ``separate``.
    """
    alike = np.dtype(plane.dtype) == np.uint8 and len(plane.shape) == 3 and plane.shape[2] in (3, 4)
    return alike and not getattr(plane, "separate", False)


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
