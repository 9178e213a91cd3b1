"""Measure every object of a label image, in pixels and in physical units.

All objects are measured at once by counting (`numpy.bincount`), so that ten thousand cells take no longer
than ten. Perimeters and surfaces are Crofton's: lines in a few directions are sent through the image and
their crossings with the objects' borders counted, each direction weighted by the part of all directions
that it stands for. This holds for pixels of any aspect ratio.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.axes import Axes, make_axes, unit_symbol

if TYPE_CHECKING:
    import pandas as pd

Float = NDArray[np.float64]


class MeasureError(ValueError):
    """Something that cannot be measured; the message says what was expected and what was found."""


class _Unit(NamedTuple):
    """Pixel size and the ending of the columns that are given in it."""

    spacing: Float
    suffix: str


def region_table(
    labels: ArrayLike,
    image: ArrayLike | None = None,
    *,
    spacing: float | Iterable[float] | None = None,
    units: Any = None,
    axes: str | Axes | None = None,
) -> pd.DataFrame:
    """Measure every object of a label image.

    Parameters
    ----------
    labels : array of int, shape (H, W), (D, H, W) or with T and C in front
        0 is background. Objects are measured in each time point on its own.
    image : array, same shape as ``labels`` or with one more axis of channels at the end, optional
        Its intensities are measured within the objects.
    spacing : float or iterable of float, optional
        Pixel size, one for all axes of space or one for each axis.
    units : str or sequence of str, optional
        Unit of ``spacing``.
    axes : str or Axes, optional
        Letters of the axes, YX, ZYX, TZYX by default; or all three at once.

    Returns
    -------
    DataFrame
        A row for each object (and time point): ``label``; ``t`` and ``c`` where these axes exist; ``area``
        or ``volume``, ``centroid_*``, ``equivalent_diameter``, ``perimeter`` or ``surface``,
        ``major_axis``, ``minor_axis`` with the ending ``_px`` and, where the image is calibrated, with the
        unit's (``_um``, ``_um2``, ``_um3``); the box ``y0, x0, y1, x1`` (half-open, pixels), ``touches_edge``
        (in the plane), the shapes without unit ``eccentricity`` and ``circularity`` (2D) or ``sphericity``
        (3D), and ``intensity_mean, _min, _max, _std, _sum`` of the image.

    Raises
    ------
    MeasureError, napari_sam.axes.AxesError
        If the arrays are no labels, do not fit each other, or the axes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.zeros((6, 8), int)
    >>> labels[1:4, 2:6] = 7
    >>> table = region_table(labels, spacing=0.5, units="µm")
    >>> table[["label", "area_px", "area_um2", "centroid_y_px"]].to_dict("records")
    [{'label': 7, 'area_px': 12, 'area_um2': 3.0, 'centroid_y_px': 2.0}]
    """
    import pandas as pd

    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise MeasureError(f"Expected whole numbers as labels, found dtype {labels.dtype}.")
    if isinstance(axes, Axes):
        known = axes
    else:
        given = spacing if spacing is None or isinstance(spacing, (int, float)) else tuple(spacing)
        known = make_axes(labels.ndim, axes, given, units)
    channels = _channels(labels, None if image is None else np.asarray(image))
    units_of = _units(known)
    front = [i for i, n in enumerate(known.names) if n not in known.space]
    # Only T and C are left in front once Z has been moved to the objects' own axes.
    order = [*front, *(known.names.index(n) for n in known.space)]
    labels = labels.transpose(order)
    channels = [c.transpose(order) for c in channels]
    tables = []
    for index in np.ndindex(labels.shape[: len(front)]):
        columns = _measure(labels[index], [c[index] for c in channels], known.space, units_of)
        place = {known.names[axis].lower(): i for axis, i in zip(front, index, strict=True)}
        table = pd.DataFrame(columns)
        for at, (name, value) in enumerate(place.items(), start=1):
            table.insert(at, name, value)
        tables.append(table)
    filled = [t for t in tables if len(t)] or tables[:1]
    return pd.concat(filled, ignore_index=True)


def _channels(labels: NDArray[Any], image: NDArray[Any] | None) -> list[NDArray[Any]]:
    """Split an image into channels that each have the shape of the labels."""
    if image is None:
        return []
    if image.shape == labels.shape:
        return [image]
    if image.shape[:-1] == labels.shape:
        return list(np.moveaxis(image, -1, 0))
    raise MeasureError(
        f"Expected an image of the labels' shape {labels.shape}, with or without an axis of channels at the "
        f"end, found {image.shape}."
    )


def _units(axes: Axes) -> list[_Unit]:
    """Pixels, and the physical unit where there is one."""
    found = [_Unit(np.ones(len(axes.space)), "px")]
    if axes.calibrated:
        spacing, unit = axes.pixel_size()
        suffix = "unit" if unit == "pixel" else unit_symbol(unit).replace("µ", "u")
        found.append(_Unit(np.array(spacing), suffix))
    return found


def _measure(
    labels: NDArray[Any], channels: list[NDArray[Any]], space: str, units: list[_Unit]
) -> dict[str, NDArray[Any]]:
    """Columns of the table of one plane or volume."""
    ids, compact = _compact(labels)
    count, ndim = len(ids), labels.ndim
    inside = np.nonzero(compact)
    which = compact[inside] - 1
    area = np.bincount(which, minlength=count).astype(np.float64)
    places = [p.astype(np.float64) for p in inside]
    centre = np.stack([np.bincount(which, p, count) for p in places], 1) / area[:, None]
    spread = _spread(which, places, centre, area)
    low, high = _boxes(which, inside, count)
    crossings = _crossings(compact, count)

    size, border, sizes = ("area", "perimeter", 2) if ndim == 2 else ("volume", "surface", 3)
    columns: dict[str, NDArray[Any]] = {"label": ids}
    for spacing, suffix in units:
        pixel = float(np.prod(spacing))
        as_size = area.astype(np.int64) if suffix == "px" else area * pixel
        columns[f"{size}_{suffix if suffix == 'px' else f'{suffix}{sizes}'}"] = as_size
        for axis, letter in enumerate(space.lower()):
            columns[f"centroid_{letter}_{suffix}"] = centre[:, axis] * spacing[axis]
        columns[f"equivalent_diameter_{suffix}"] = _equivalent_diameter(area * pixel, ndim)
        edge = f"{border}_{suffix}" if ndim == 2 or suffix == "px" else f"{border}_{suffix}2"
        columns[edge] = _border(crossings, spacing)
        lengths = _axis_lengths(spread, spacing)
        columns[f"major_axis_{suffix}"], columns[f"minor_axis_{suffix}"] = lengths[:, 0], lengths[:, -1]
    # Shapes without unit are those of the physical object, hence of the last unit.
    last = units[-1]
    edge_lengths, physical = _border(crossings, last.spacing), area * float(np.prod(last.spacing))
    if ndim == 2:
        ratio = np.divide(lengths[:, 1], lengths[:, 0], out=np.ones(count), where=lengths[:, 0] > 0)
        columns["eccentricity"] = np.sqrt(np.clip(1 - ratio**2, 0, 1))
        columns["circularity"] = 4 * np.pi * physical / edge_lengths**2
    else:
        columns["sphericity"] = np.cbrt(36 * np.pi * physical**2) / edge_lengths
    for axis, letter in enumerate(space.lower()):
        columns[f"{letter}0"], columns[f"{letter}1"] = low[:, axis], high[:, axis]
    plane = np.array(labels.shape)[-2:]
    columns["touches_edge"] = ((low[:, -2:] == 0) | (high[:, -2:] == plane)).any(1)
    for number, channel in enumerate(channels):
        name = "intensity" if len(channels) == 1 else f"intensity_c{number}"
        columns |= _intensities(which, channel[inside].astype(np.float64), area, name)
    return columns


def _compact(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Ids in rising order without 0, and the labels renumbered 1, 2, ... in their order."""
    if labels.size and labels.min() < 0:
        raise MeasureError(f"Expected labels of 0 and above, found {labels.min()}.")
    top = int(labels.max(initial=0))
    if top <= 4 * labels.size + 1024:
        # A table of all ids is much quicker than sorting the pixels.
        ids = np.flatnonzero(np.bincount(labels.ravel(), minlength=1))
        ids = ids[ids > 0]
        number = np.zeros(top + 1, np.intp)
        number[ids] = np.arange(1, len(ids) + 1)
        return ids, number[labels.astype(np.intp, copy=False)]
    found, place = np.unique(labels, return_inverse=True)
    shift = 0 if found[0] == 0 else 1
    return found[found > 0], (place.reshape(labels.shape) + shift).astype(np.intp)


def _spread(which: NDArray[np.intp], places: list[Float], centre: Float, area: Float) -> Float:
    """Covariance of every object's pixel positions, shape (N, ndim, ndim)."""
    ndim, count = len(places), len(area)
    out = np.empty((count, ndim, ndim))
    away = [p - centre[which, axis] for axis, p in enumerate(places)]
    for i in range(ndim):
        for j in range(i, ndim):
            out[:, i, j] = out[:, j, i] = np.bincount(which, away[i] * away[j], count) / area
    return out


def _boxes(
    which: NDArray[np.intp], inside: tuple[NDArray[np.intp], ...], count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and one past the last pixel of every object along each axis, each of shape (N, ndim)."""
    low = np.full((count, len(inside)), np.iinfo(np.intp).max)
    high = np.zeros((count, len(inside)), np.intp)
    for axis, place in enumerate(inside):
        np.minimum.at(low[:, axis], which, place)
        np.maximum.at(high[:, axis], which, place + 1)
    return low, high


def _directions(ndim: int) -> NDArray[np.intp]:
    """One step to each neighbour over faces, edges and corners, opposite ones once: (4, 2) or (13, 3)."""
    steps = [s for s in product((-1, 0, 1), repeat=ndim) if s > (0,) * ndim]
    return np.array(steps)


def _crossings(compact: NDArray[np.intp], count: int) -> Float:
    """How often lines in each direction enter or leave every object, shape (N, directions)."""
    padded = np.pad(compact, 1)
    steps = _directions(compact.ndim)
    out = np.zeros((count, len(steps)))
    for k, step in enumerate(steps):
        here = padded[tuple(slice(max(-s, 0), padded.shape[a] - max(s, 0)) for a, s in enumerate(step))]
        there = padded[tuple(slice(max(s, 0), padded.shape[a] + min(s, 0)) for a, s in enumerate(step))]
        differ = here != there
        for side in (here, there):
            out[:, k] += np.bincount(side[differ], minlength=count + 1)[1:]
    return out


def _border(crossings: Float, spacing: Float) -> Float:
    """Perimeter (2D) or surface (3D) of every object by Crofton's formula, shape (N,).

    Lines in one direction lie as far apart (in 3D: one to an area) as a pixel's area (volume) divided by
    the step along the line. A border of length L is crossed by the lines of a mean direction 2 L / pi times
    per unit of distance between them; a surface of area S by S / 2 per unit of area.
    """
    ndim = len(spacing)
    steps = _directions(ndim) * spacing
    lengths = np.linalg.norm(steps, axis=1)
    apart = float(np.prod(spacing)) / lengths
    share = _shares(steps / lengths[:, None])
    mean = crossings @ (apart * share)
    return mean * (np.pi / 2 if ndim == 2 else 2.0)


def _shares(directions: Float) -> Float:
    """Part of all directions that is nearest to each of these, which sum to 1."""
    if directions.shape[1] == 2:
        angle = np.arctan2(directions[:, 0], directions[:, 1]) % np.pi
        order = np.argsort(angle)
        turn = np.diff(angle[order], append=angle[order[0]] + np.pi)
        share = np.empty(len(angle))
        share[order] = (turn + np.roll(turn, 1)) / (2 * np.pi)
        return share
    from scipy.spatial import SphericalVoronoi

    regions = SphericalVoronoi(np.concatenate([directions, -directions]), radius=1)
    areas = regions.calculate_areas()
    return areas[: len(directions)] * 2 / areas.sum()


def _equivalent_diameter(size: Float, ndim: int) -> Float:
    """Diameter of the disc or ball of the same area or volume."""
    return np.sqrt(4 * size / np.pi) if ndim == 2 else np.cbrt(6 * size / np.pi)


def _axis_lengths(spread: Float, spacing: Float) -> Float:
    """Axes of the ellipse or ellipsoid with the same second moments, longest first, shape (N, ndim)."""
    scaled = spread * spacing[:, None] * spacing[None, :]
    moments = np.linalg.eigvalsh(scaled)[:, ::-1]
    # A full ellipse's second moment is its semi-axis squared over 4, a full ellipsoid's over 5.
    return 2 * np.sqrt((len(spacing) + 2) * np.clip(moments, 0, None))


def _intensities(which: NDArray[np.intp], values: Float, area: Float, name: str) -> dict[str, NDArray[Any]]:
    """Mean, least, greatest, standard deviation and sum of the pixel values of every object."""
    count = len(area)
    total = np.bincount(which, values, count)
    mean = total / area
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, which, values)
    np.maximum.at(high, which, values)
    variance = np.bincount(which, (values - mean[which]) ** 2, count) / area
    measured = {"mean": mean, "min": low, "max": high, "std": np.sqrt(variance), "sum": total}
    return {f"{name}_{key}": value for key, value in measured.items()}
