"""How far apart the pixels of a napari layer lie, wherever it was moved, turned and stretched to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLACED", "pixel_spacing"]

PLACED = ("scale", "shear", "rotate", "affine")
"""Attributes of a layer that say how large its pixels are, in the order in which napari applies them."""
SKEW = 1e-6
"""Cosine between two axes above which they count as not at right angles."""


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
    known = layer if isinstance(layer, Mapping) else {name: getattr(layer, name) for name in PLACED}
    if known.get("scale") is None:
        return None
    matrix = np.diag(np.asarray(known["scale"], float))
    for name in PLACED[1:]:
        if known.get(name) is not None:
            matrix = _matrix(known[name], len(matrix)) @ matrix
    spacing = np.linalg.norm(matrix, axis=0)
    directions = matrix / np.where(spacing > 0, spacing, 1)
    cosines = directions.T @ directions
    if np.abs(cosines - np.diag(np.diag(cosines))).max(initial=0) > SKEW:
        return None
    return [float(step) for step in spacing]


def _matrix(value: Any, ndim: int) -> NDArray[np.float64]:
    """Linear part of an affine, a rotation, or a shear, of which napari may give the upper triangle only."""
    value = np.asarray(getattr(value, "affine_matrix", value), float)
    if value.ndim == 2:
        return value[:ndim, :ndim]
    out = np.eye(ndim)
    out[np.triu_indices(ndim, 1)] = value
    return out
