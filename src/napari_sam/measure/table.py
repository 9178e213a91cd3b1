"""A row for each object, in pixels and in physical units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import Axes, AxesError, make_axes, unit_symbol
from napari_sam.label_ids import LabelError, whole
from napari_sam.measure.shape import axis_lengths, border, equivalent_diameter
from napari_sam.measure.sums import MeasureError, Sums, count

if TYPE_CHECKING:
    import pandas as pd

Float = NDArray[np.float64]


class _Unit(NamedTuple):
    """Pixel size and the ending of the columns that are given in it."""

    spacing: Float
    suffix: str


def region_table(
    labels: Any,
    image: Any = None,
    *,
    spacing: float | Iterable[float] | None = None,
    units: Any = None,
    axes: str | Axes | None = None,
    by_plane: bool = False,
) -> pd.DataFrame:
    """Measure every object of a label image.

    Parameters
    ----------
    labels : array of int, shape (H, W), (D, H, W) or with T and C in front
        0 is background; whole numbers may be floats, as ImageJ keeps many ids. Objects are measured in each
        time point on its own. A lazy array (dask, zarr, memmap) is read plane by plane.
    image : array, same shape as ``labels`` or with one more axis of channels at the end, optional
        Its intensities are measured within the objects.
    spacing : float or iterable of float, optional
        Pixel size, one for all axes of space or one for each axis.
    units : str or sequence of str, optional
        Unit of ``spacing``.
    axes : str or Axes, optional
        Letters of the axes, YX, ZYX, TZYX by default; or all three at once.
    by_plane : bool
        Measure each plane of a stack on its own, where the same id is another object in another plane. So is
        a stack of one plane in any case: it has no volumes.

    Returns
    -------
    DataFrame
        A row for each object (and time point): ``label``; ``t`` and ``c`` where these axes exist, and ``z``
        where each plane is measured on its own; ``area``
        or ``volume``, ``centroid_*``, ``equivalent_diameter``, ``perimeter`` or ``surface``,
        ``major_axis``, ``minor_axis`` with the ending ``_px`` and, where all axes of space are calibrated,
        with the unit's (``_um``, ``_um2``, ``_um3``); the box ``y0, x0, y1, x1`` (half-open, pixels),
        ``touches_edge`` (in the plane), the shapes without unit ``eccentricity`` and ``circularity`` (2D) or
        ``sphericity`` (3D), and ``intensity_mean, _min, _max, _std, _sum`` of the image.

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

    labels = _readable(labels)
    if isinstance(axes, Axes):
        known = axes
        if len(known.names) != len(labels.shape):
            raise AxesError(
                f"Expected a letter for each of the {len(labels.shape)} axes of the labels, "
                f"found {known.names}."
            )
    else:
        given = tuple(spacing) if isinstance(spacing, Iterable) else spacing
        known = make_axes(len(labels.shape), axes, given, units)
    image = None if image is None else _readable(image)
    if image is not None and labels.shape not in (image.shape, image.shape[:-1]):
        raise MeasureError(
            f"Expected an image of the labels' shape {labels.shape}, with or without an axis of channels "
            f"at the end, found {image.shape}."
        )
    thin = "Z" in known.names and labels.shape[known.names.index("Z")] == 1
    measured = known.pick("YX") if by_plane or thin else known
    front = [n for n in known.names if n not in measured.space]
    lengths = [labels.shape[known.names.index(n)] for n in front]
    tables = []
    for index in np.ndindex(*lengths):
        place = dict(zip(front, (int(i) for i in index), strict=True))
        sums = count(partial(_planes, labels, image, known, place), len(measured.space))
        table = pd.DataFrame(_columns(sums, labels.shape[-2:], measured))
        for at, (name, value) in enumerate(place.items(), start=1):
            table.insert(at, name.lower(), value)
        tables.append(table)
    filled = [t for t in tables if len(t)] or tables[:1]
    return pd.concat(filled, ignore_index=True)


def _readable(array: Any) -> Any:
    """Return an array that can be read plane by plane."""
    lazy = hasattr(array, "shape") and hasattr(array, "__getitem__")
    return array if lazy else np.asarray(array)


def _planes(
    labels: Any, image: Any, axes: Axes, place: dict[str, int]
) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
    """Read the planes of a time point (and channel), along Z where it is there and not a place itself."""
    depth = labels.shape[axes.names.index("Z")] if "Z" in axes.names and "Z" not in place else 1
    for z in range(depth):
        where = {"Z": z, **place}
        index = tuple(where[n] for n in axes.names[:-2])
        pixels = None if image is None else np.asarray(image[index])
        channels = (
            [] if pixels is None else [pixels] if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))
        )
        yield _whole(np.asarray(labels[index])), channels


def _whole(labels: NDArray[Any]) -> NDArray[np.integer]:
    try:
        return whole(labels)
    except LabelError as error:
        raise MeasureError(str(error)) from error


def _units(axes: Axes) -> list[_Unit]:
    """Pixels, and the physical unit where there is one for all axes: a volume needs Z."""
    found = [_Unit(np.ones(len(axes.space)), "px")]
    sized = axes.in_one_unit()
    if sized is not None and sized.names == axes.space:
        unit = sized.units[-1]
        suffix = "unit" if unit == "pixel" else unit_symbol(unit).replace("µ", "u")
        found.append(_Unit(np.array(sized.spacing), suffix))
    return found


def _columns(sums: Sums, plane: tuple[int, int], axes: Axes) -> dict[str, NDArray[Any]]:
    """Columns of the table of one plane or volume."""
    flat = len(axes.space) == 2
    size, edge, power = ("area", "perimeter", 2) if flat else ("volume", "surface", 3)
    columns: dict[str, NDArray[Any]] = {"label": sums.ids}
    for spacing, suffix in _units(axes):
        inside = sums.area * float(np.prod(spacing))
        around = border(sums.crossings, spacing)
        lengths = axis_lengths(sums.spread, spacing)
        if suffix == "px":
            columns[f"{size}_px"] = sums.area.astype(np.int64)
        else:
            columns[f"{size}_{suffix}{power}"] = inside
        for axis, letter in enumerate(axes.space.lower()):
            columns[f"centroid_{letter}_{suffix}"] = sums.centre[:, axis] * spacing[axis]
        columns[f"equivalent_diameter_{suffix}"] = equivalent_diameter(inside, len(spacing))
        columns[f"{edge}_{suffix}{'' if flat or suffix == 'px' else 2}"] = around
        columns[f"major_axis_{suffix}"], columns[f"minor_axis_{suffix}"] = lengths[:, 0], lengths[:, -1]
    # Shapes without unit are those of the physical object, hence of the last unit.
    if flat:
        ones = np.ones(len(lengths))
        ratio = np.divide(lengths[:, 1], lengths[:, 0], out=ones, where=lengths[:, 0] > 0)
        columns["eccentricity"] = np.sqrt(np.clip(1 - ratio**2, 0, 1))
        columns["circularity"] = 4 * np.pi * inside / around**2
    else:
        columns["sphericity"] = np.cbrt(36 * np.pi * inside**2) / around
    for axis, letter in enumerate(axes.space.lower()):
        columns[f"{letter}0"], columns[f"{letter}1"] = sums.low[:, axis], sums.high[:, axis]
    columns["touches_edge"] = ((sums.low[:, -2:] == 0) | (sums.high[:, -2:] == plane)).any(1)
    for number, values in enumerate(sums.values):
        name = "intensity" if len(sums.values) == 1 else f"intensity_c{number}"
        columns |= _intensities(values, sums.area, name)
    return columns


def _intensities(values: Float, area: Float, name: str) -> dict[str, NDArray[Any]]:
    """Mean, least, greatest, standard deviation and sum of the pixel values of every object."""
    base, total, squares, low, high = values.T
    mean = total / area
    with np.errstate(invalid="ignore"):  # infinite values have no spread
        variance = np.clip(squares / area - mean**2, 0, None)
    measured = {"mean": base + mean, "min": low, "max": high, "std": np.sqrt(variance)}
    measured["sum"] = (base + mean) * area
    return {f"{name}_{key}": value for key, value in measured.items()}
