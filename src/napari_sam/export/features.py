"""What is known of the objects of a label image, by id and, where a table says it, by time point or plane."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.export.formats import ExportError
from napari_sam.label_ids import LabelError, whole

Row = dict[str, Any]
PLACES = {"T": ("t", "frame"), "Z": ("z",)}
"""Columns that say in which time point or plane an object is what the row says."""
OF_THE_ID = ("label", "label-value")
"""Names by which the formats themselves call the id."""


@dataclass(frozen=True, slots=True)
class Features:
    """What is known of objects.

    Parameters
    ----------
    rows : dict
        By id, followed by the place along each of ``axes``.
    axes : tuple of str
        Axes along which the same id has several rows: ``("t",)`` of a movie.
    """

    rows: dict[tuple[int, ...], Row] = field(default_factory=dict)
    axes: tuple[str, ...] = ()

    def of(self, label: int, place: Mapping[str, int]) -> Row:
        """What is known of an object in a plane, given as in `PlaneAt.place`."""
        return self.rows.get((label, *(place[axis] for axis in self.axes)), {})

    def along(self, axes: Collection[str]) -> Features:
        """What is known of each id along some of the axes, wherever it is along the others."""
        kept = [i for i, axis in enumerate(self.axes) if axis in axes]
        found: dict[tuple[int, ...], Row] = {}
        for (label, *place), row in self.rows.items():
            key = (label, *(place[i] for i in kept))
            found[key] = _agreed(found.get(key, row), row)
        return Features(found, tuple(self.axes[i] for i in kept))

    def everywhere(self) -> dict[int, Row]:
        """What is known of each id wherever it is."""
        return {label: row for (label,), row in self.along(()).rows.items()}

    def score(self, label: int, place: Mapping[str, int]) -> float | None:
        """Predicted IoU of an object, where it is known."""
        value = self.of(label, place).get("predicted_iou")
        return float(value) if isinstance(value, (int, float)) else None


def read_features(features: Any, axes: str = "YX") -> Features:
    """Return a table of features by id and place.

    Parameters
    ----------
    features : DataFrame, mapping of columns, or mapping of id to features; optional
        The ids are in the column ``index`` (as in napari) or ``label``. A row counts for the time point in
        its column ``t``; where an id has several rows, they are told apart by ``t`` or ``frame`` and ``z``.
        A column ``label`` that does not hold the ids becomes ``label_2``.
    axes : str
        Letters of the label image's axes. Of rows that differ along another one, what they agree on is taken.

    Raises
    ------
    ExportError
        If no column holds the ids, both do and differ, or they are no ids: not whole, or one twice.
    """
    if features is None:
        return Features()
    if isinstance(features, Mapping) and all(isinstance(v, Mapping) for v in features.values()):
        free = _free_names({name for row in features.values() for name in row})
        return Features({(int(i),): _row(row, free) for i, row in features.items()})
    columns = {str(name): np.asarray(features[name]) for name in features}
    if not columns:
        return Features()
    keys = [_ids(columns)]
    objects = keys[0] != 0  # napari adds a row for the background; it says nothing about an object
    several = {name for names in PLACES.values() for name in names} & columns.keys()
    along = []
    for axis, names in PLACES.items():
        name = next((n for n in names if n in columns), None)
        if axis in axes and name and (name == "t" or _twice(keys, objects) is not None):
            places = _places(columns[name], objects)
            if places is not None:
                del columns[name]
                keys.append(places)
                along.append(axis.lower())
    twice = _twice(keys, objects)
    if twice is not None and not several:
        raise ExportError(f"Expected one row for each object, found several with the id {twice}.")
    rows: dict[tuple[int, ...], Row] = {}
    free = _free_names(columns)
    for number in np.flatnonzero(objects):
        key = tuple(int(k[number]) for k in keys)
        row = _row({name: values[number] for name, values in columns.items()}, free)
        rows[key] = _agreed(rows.get(key, row), row)
    return Features(rows, tuple(along))


def _free_names(names: Collection[str]) -> dict[str, str]:
    """Names for features, by those they have: the id's own would be taken for the id."""
    return {name: _other(name, names) if name in OF_THE_ID else name for name in names}


def _other(name: str, taken: Collection[str]) -> str:
    """``"label_2"`` of ``"label"``, or the next number that is free."""
    return next(other for number in count(2) if (other := f"{name}_{number}") not in taken)


def _row(values: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    """What a row says under the names given, in values that JSON knows."""
    return {names[name]: plain(value) for name, value in values.items() if not missing(value)}


def _agreed(first: Row, second: Row) -> Row:
    """What two rows both say."""
    return {name: value for name, value in first.items() if name in second and second[name] == value}


def _twice(keys: list[NDArray[Any]], objects: NDArray[np.bool_]) -> int | None:
    """An id that has several rows at the same place."""
    # Of one type: as floats, ids above 2 ** 53 would run together.
    columns = np.column_stack([key.astype(np.uint64) for key in keys])
    known, counts = np.unique(columns[objects], axis=0, return_counts=True)
    return int(known[counts > 1][0][0]) if (counts > 1).any() else None


def _places(column: NDArray[Any], objects: NDArray[np.bool_]) -> NDArray[np.integer] | None:
    """Time points or planes of the rows; None if the column counts something else."""
    try:
        return whole(np.where(objects, column, 0))
    except LabelError:
        return None


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
        return whole(found[key] if found else columns[key])
    except LabelError as error:
        raise ExportError(f"The column {key!r} is to hold the ids of the objects: {error}") from error


def _numbers(column: NDArray[Any]) -> NDArray[Any] | None:
    """A column as numbers; None if it holds something else."""
    if column.dtype.kind in "iu":
        return column
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
    if isinstance(value, np.generic):
        value = value.item()  # None of a time that is none
    if value is None or isinstance(value, (str, int)):
        return value is None
    if isinstance(value, (float, np.floating)):
        return not np.isfinite(value)
    from pandas import isna

    # Of a list or an array it says which elements are none.
    return isna(value) is True
