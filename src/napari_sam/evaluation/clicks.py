"""Where a careful person clicks: in the middle of an object, and in the middle of what is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.masks import Box, Mask
from napari_sam.prompts import Point

__all__ = ["centre_click", "correcting_click"]


def _deepest(region: NDArray[np.bool_]) -> tuple[int, int, float]:
    """(y, x) of the pixel farthest from the region's edge, and how far; the border is an edge."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(y), int(x), float(depth[y, x])


def centre_click(truth: Mask) -> Point:
    """Point at the maximum of an object's distance transform, as in the SAM paper (section 7.1).

    Parameters
    ----------
    truth : Mask
        Not empty.
    """
    y, x, _ = _deepest(truth.pixels)
    return Point(truth.y0 + y, truth.x0 + x)


def correcting_click(truth: Mask, found: Mask) -> Point | None:
    """Point at the maximum of the distance transform of where a mask is wrong.

    Parameters
    ----------
    truth, found : Mask

    Returns
    -------
    Point or None
        Positive where the object was missed, negative where background was taken; None if the mask
        is right everywhere.
    """
    box = Box.union([m.box for m in (truth, found) if m.pixels.size])
    wanted = truth.crop(box)
    y, x, depth = _deepest(wanted != found.crop(box))
    if depth == 0:
        return None
    return Point(int(box.y0) + y, int(box.x0) + x, positive=bool(wanted[y, x]))
