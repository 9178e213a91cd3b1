"""Where the pixels of an OME-Zarr image lie, by its metadata."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import unit_name

UNNAMED = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
"""Letters of axes that have no names, by their number."""


class Placement(NamedTuple):
    """Where the pixels of an image's full resolution lie, by axis.

    Parameters
    ----------
    names : str
        Letter of every axis.
    scale : ndarray of float
        Distance between neighbouring pixels.
    origin : ndarray of float
        Where the centre of the first pixel lies.
    units : list of str
    """

    names: str
    scale: NDArray[np.float64]
    origin: NDArray[np.float64]
    units: list[str]


def placement(multiscale: dict[str, Any], ndim: int) -> Placement:
    """Return where the pixels of the first level lie.

    Parameters
    ----------
    multiscale : dict
        What OME's metadata say of an image.
    ndim : int
        Number of axes of its arrays.
    """
    letters, units = _axes_within(multiscale.get("axes"), ndim)
    scale, origin = np.ones(ndim), np.zeros(ndim)
    # Those of the level come first, then those of all levels.
    for transforms in (multiscale["datasets"][0], multiscale):
        for transform in transforms.get("coordinateTransformations", []):
            if transform["type"] == "scale":
                factors = np.asarray(transform["scale"], float)
                scale, origin = scale * factors, origin * factors
            elif transform["type"] == "translation":
                origin = origin + np.asarray(transform["translation"], float)
    return Placement(letters, scale, origin, units)


def _axes_within(axes: Any, ndim: int) -> tuple[str, list[str]]:
    """Letters and units of the axes; in the oldest files they are letters alone, or are not named."""
    entries = [{"name": a} if isinstance(a, str) else a for a in axes or UNNAMED.get(ndim, "?" * ndim)]
    return "".join(e["name"].upper()[:1] for e in entries), [unit_name(e.get("unit")) for e in entries]
