"""Where the pixels of a napari layer lie, and how far apart, however it was moved, turned and stretched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLACED", "first_pixel", "pixel_spacing"]

PLACED = ("scale", "shear", "rotate", "translate", "affine")
"""Attributes of a layer that say where its pixels are, in the order in which napari applies them."""
SKEW = 0.01
"""Cosine between two axes above which they count as not at right angles. What registration leaves is less,
and areas hold to a part in ten thousand then."""


def pixel_spacing(layer: Any) -> list[float] | None:
    """Distance between neighbouring pixels along each axis of a layer.

    Parameters
    ----------
    layer : napari.layers.Layer or mapping
        A layer, or its attributes as napari hands them to a writer; those of `PLACED` count.

    Returns
    -------
    list of float or None
        Positive, in the layer's units. None where the scale is not known, or the layer is sheared: its pixels
        are no rectangles then, and no distances along the axes say how large they are.

    Examples
    --------
    >>> pixel_spacing({"scale": [2, -0.5], "affine": [[0, 1, 7], [1, 0, 8], [0, 0, 1]]})
    [2.0, 0.5]
    """
    matrix = _to_world(layer)
    if matrix is None:
        return None
    matrix = matrix[:-1, :-1]
    spacing = np.linalg.norm(matrix, axis=0)
    directions = matrix / np.where(spacing > 0, spacing, 1)
    cosines = directions.T @ directions
    if np.abs(cosines - np.diag(np.diag(cosines))).max(initial=0) > SKEW:
        return None
    return [float(step) for step in spacing]


def first_pixel(layer: Any) -> list[float] | None:
    """Where the centre of a layer's first pixel lies in the world.

    Parameters
    ----------
    layer : napari.layers.Layer or mapping
        As for `pixel_spacing`.

    Returns
    -------
    list of float or None
        By axis, in the layer's units. None where the scale is not known or the layer is turned, sheared or
        mirrored: where its pixels lie does not follow from the first one and their spacing then.
    """
    matrix = _to_world(layer)
    if matrix is None:
        return None
    linear, origin = matrix[:-1, :-1], matrix[:-1, -1]
    along = np.diag(linear)
    upright = (along > 0).all() and np.allclose(linear, np.diag(along), atol=SKEW * along.min())
    return [float(start) for start in origin] if upright else None


def _to_world(layer: Any) -> NDArray[np.float64] | None:
    """Matrix from pixels to the world, (ndim + 1, ndim + 1)."""
    known = layer if isinstance(layer, Mapping) else {name: getattr(layer, name) for name in PLACED}
    if known.get("scale") is None:
        return None
    scale = np.asarray(known["scale"], float)
    matrix = np.diag([*scale, 1.0])
    for name in PLACED[1:]:
        if known.get(name) is not None:
            matrix = _matrix(name, known[name], len(scale)) @ matrix
    return matrix


def _matrix(name: str, value: Any, ndim: int) -> NDArray[np.float64]:
    """Matrix of one attribute; of a shear napari may give the upper triangle only."""
    value = np.asarray(getattr(value, "affine_matrix", value), float)
    out = np.eye(ndim + 1)
    if name == "translate":
        out[:ndim, -1] = value
    elif value.ndim == 2:
        out[: len(value), : len(value)] = value
    else:
        out[np.triu_indices(ndim, 1)] = value
    return out
