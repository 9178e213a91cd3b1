"""What every writer gets: a label image with its axes, its objects' features and its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import ORDER, Axes
from napari_sam.export.formats import ExportError
from napari_sam.label_ids import LabelError, whole

Features = dict[int, dict[str, Any]]


@dataclass(frozen=True, eq=False, slots=True)
class PlaneAt:
    """One plane of a label image, its index and the same index by axis (``{"z": 3}``)."""

    index: tuple[int, ...]
    place: dict[str, int]
    labels: NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A label image with all that is known of it.

    Parameters
    ----------
    array : array-like of int
        Labels, 0 is background; axes in the order T, Z, C, Y, X. May be lazy (dask, zarr): it is read plane
        by plane.
    axes : Axes
        Its axes.
    features : dict
        What is known of each id, for example its predicted IoU.
    image : array-like, optional
        The image that was labelled, for intensities; with or without channels at the end.
    image_name : str
        Name of the image file.
    """

    array: Any
    axes: Axes
    features: Features = field(default_factory=dict)
    image: Any = None
    image_name: str = "image"

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return tuple(self.array.shape)

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return self.shape[-2], self.shape[-1]

    def __getitem__(self, index: tuple[int, ...]) -> NDArray[np.integer]:
        """Read one plane.

        Raises
        ------
        ExportError
            If an id is negative or, in an array of floats, no whole number.
        """
        try:
            return whole(np.asarray(self.array[index]))
        except LabelError as error:
            raise ExportError(str(error)) from error

    def planes(self) -> Iterator[PlaneAt]:
        """Read the planes one after another."""
        for index in np.ndindex(self.shape[:-2]):
            yield PlaneAt(
                index,
                {name.lower(): i for name, i in zip(self.axes.names, index, strict=False)},
                self[index],
            )

    @cached_property
    def top(self) -> int:
        """Greatest id."""
        return max((int(p.labels.max(initial=0)) for p in self.planes()), default=0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest unsigned type that holds every id."""
        # By name: above 2 ** 32 the type of C's long long is found, which Zarr does not know.
        return np.dtype(np.min_scalar_type(self.top).name)


def in_order(array: Any, axes: Axes) -> tuple[Any, Axes]:
    """Bring an array's axes to the order T, Z, C, Y, X."""
    letters = "".join(n for n in ORDER if n in axes.names)
    if letters == axes.names:
        return array, axes
    order = [axes.names.index(n) for n in letters]
    if not hasattr(array, "transpose"):
        array = np.asarray(array)
    # Channels of the image, if any, stay last.
    order += range(len(letters), len(array.shape))
    return array.transpose(order), axes.pick(letters)


def features_by_id(features: Any) -> Features:
    """Return a table of features as one dictionary per id.

    Parameters
    ----------
    features : DataFrame, mapping of columns, or mapping of id to features; optional
        The ids are in the column ``index`` (as in napari) or ``label``.

    Raises
    ------
    ExportError
        If no column holds the ids, both do and differ, or they are no ids: not whole, or one twice.
    """
    if features is None:
        return {}
    if isinstance(features, Mapping) and all(isinstance(v, Mapping) for v in features.values()):
        return {int(i): dict(row) for i, row in features.items()}
    columns = {str(name): np.asarray(features[name]) for name in features}
    if not columns:
        return {}
    ids = _ids(columns)
    # napari adds a row for the background; it says nothing about an object.
    return {
        int(i): {name: plain(values[row]) for name, values in columns.items() if not missing(values[row])}
        for row, i in enumerate(ids)
        if i != 0
    }


def _ids(columns: dict[str, NDArray[Any]]) -> NDArray[np.integer]:
    """Take the column of ids out of the others."""
    there = [key for key in ("index", "label") if key in columns]
    if not there:
        raise ExportError(
            f"Expected a column 'index' or 'label' with the ids of the objects, found {sorted(columns)}."
        )
    # A column of words is something else of the objects.
    found = {key: numbers for key in there if (numbers := _numbers(columns[key])) is not None}
    if len(found) == 2:
        index, label = (np.nan_to_num(numbers) for numbers in found.values())
        if not np.array_equal(index, label):
            raise ExportError(
                "The columns 'index' and 'label' both look like the ids of the objects and differ. "
                "Leave out or rename the one that is something else."
            )
    for key in found:
        del columns[key]
    key = next(iter(found), there[0])
    try:
        ids = whole(found[key] if found else columns[key])
    except LabelError as error:
        raise ExportError(f"The column {key!r} is to hold the ids of the objects: {error}") from error
    known, counts = np.unique(ids[ids != 0], return_counts=True)
    # In a table of a movie each object has a row for each time point; the last one counts.
    if (counts > 1).any() and not {"t", "frame"} & columns.keys():
        twice = known[counts > 1][0]
        raise ExportError(f"Expected one row for each object, found several with the id {twice}.")
    return ids


def _numbers(column: NDArray[Any]) -> NDArray[np.float64] | None:
    """A column as numbers; None if it holds something else."""
    try:
        return np.asarray(column, float)
    except (TypeError, ValueError):
        return None


def plain(value: Any) -> Any:
    """Return a value that JSON knows."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def missing(value: Any) -> bool:
    """Whether a value of a table says nothing."""
    return value is None or (isinstance(value, (float, np.floating)) and not np.isfinite(value))


def score(features: Features, label: int) -> float | None:
    """Predicted IoU of an object, where it is known."""
    value = features.get(label, {}).get("predicted_iou")
    return float(value) if isinstance(value, (int, float)) else None
