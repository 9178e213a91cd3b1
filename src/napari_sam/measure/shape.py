"""Perimeters, surfaces and axes out of counts.

Perimeters and surfaces are Crofton's: lines in a few directions are sent through the image and their
crossings with an object's border counted, each direction weighted by the part of all directions that it
stands for. This holds for pixels of any aspect ratio.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@cache
def directions(axes: int) -> NDArray[np.intp]:
    """One step to each neighbour over faces, edges and corners, opposite ones once: (4, 2) or (13, 3)."""
    return np.array([s for s in product((-1, 0, 1), repeat=axes) if s > (0,) * axes])


def border(crossings: Float, spacing: Float) -> Float:
    """Perimeter (2D) or surface (3D) of every object by Crofton's formula.

    Lines in one direction lie as far apart (in 3D: one to an area) as a pixel's area (volume) divided by
    the step along the line. A border of length L is crossed by the lines of a mean direction 2 L / pi times
    per unit of distance between them; a surface of area S by S / 2 per unit of area.

    Parameters
    ----------
    crossings : ndarray, shape (N, directions)
    spacing : ndarray, shape (2,) or (3,)
        Pixel size.

    Returns
    -------
    ndarray, shape (N,)
    """
    steps = directions(len(spacing)) * spacing
    lengths = np.linalg.norm(steps, axis=1)
    apart = float(np.prod(spacing)) / lengths
    mean = crossings @ (apart * _shares(steps / lengths[:, None]))
    return mean * (np.pi / 2 if len(spacing) == 2 else 2.0)


def _shares(units: Float) -> Float:
    """Part of all directions that is nearest to each of these, which sum to 1."""
    if units.shape[1] == 2:
        angle = np.arctan2(units[:, 0], units[:, 1]) % np.pi
        order = np.argsort(angle)
        turn = np.diff(angle[order], append=angle[order[0]] + np.pi)
        share = np.empty(len(angle))
        share[order] = (turn + np.roll(turn, 1)) / (2 * np.pi)
        return share
    from scipy.spatial import SphericalVoronoi

    areas = SphericalVoronoi(np.concatenate([units, -units]), radius=1).calculate_areas()
    return areas[: len(units)] * 2 / areas.sum()


def equivalent_diameter(size: Float, axes: int) -> Float:
    """Diameter of the disc or ball of the same area or volume."""
    return np.sqrt(4 * size / np.pi) if axes == 2 else np.cbrt(6 * size / np.pi)


def axis_lengths(spread: Float, spacing: Float) -> Float:
    """Axes of the ellipse or ellipsoid with the same second moments, longest first, shape (N, axes).

    Parameters
    ----------
    spread : ndarray, shape (N, axes, axes)
        Covariance of the pixels' positions.
    spacing : ndarray, shape (axes,)
    """
    scaled = spread * spacing[:, None] * spacing[None, :]
    moments = np.linalg.eigvalsh(scaled)[:, ::-1]
    # A full ellipse's second moment is its semi-axis squared over 4, a full ellipsoid's over 5.
    return 2 * np.sqrt((len(spacing) + 2) * np.clip(moments, 0, None))
