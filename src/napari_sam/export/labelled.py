"""What every writer gets: a label image with its axes, its objects' features and its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import ORDER, Axes
from napari_sam.export.features import Features
from napari_sam.export.formats import ExportError
from napari_sam.label_ids import LabelError, whole


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say what could not be read: a writer takes an error of the disk for one of the place it writes to.

    Parameters
    ----------
    what : str
        What is read within this block.

    Raises
    ------
    ExportError
        In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        raise ExportError(
            f"The {what} could not be read ({error.strerror or error}{place}). Check that the disk it lies "
            "on can be reached, and try again."
        ) from error


@dataclass(frozen=True, eq=False, slots=True)
class Source:
    """An array that is read plane by plane, and that says so where it cannot be.

    Parameters
    ----------
    array : array-like
        May be lazy (dask, zarr).
    what : str
        What it is, for the message.
    """

    array: Any
    what: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Read one plane.

        Raises
        ------
        ExportError
            If it cannot be read.
        """
        with reading(self.what):
            return np.asarray(self.array[index])


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
    array : Source
        Labels, 0 is background; axes in the order T, Z, C, Y, X.
    axes : Axes
        Its axes.
    features : Features
        What is known of each object, for example its predicted IoU.
    image : Source, optional
        The image that was labelled, for intensities; with or without channels at the end.
    image_name : str
        Name of the image file.
    linked : bool
        Whether an id is the same object in all planes of a stack.
    origin : mapping of str to float
        Where the centre of the first pixel lies by axis, in the axis' unit; 0 for those that are not there.
    """

    array: Source
    axes: Axes
    features: Features = field(default_factory=Features)
    image: Source | None = None
    image_name: str = "image"
    linked: bool = True
    origin: Mapping[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return self.array.shape

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return self.shape[-2], self.shape[-1]

    def __getitem__(self, index: tuple[int, ...]) -> NDArray[np.integer]:
        """Read one plane.

        Raises
        ------
        ExportError
            If an id is negative or, in an array of floats, no whole number; if it cannot be read.
        """
        try:
            return whole(self.array[index])
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


def check_places(labelled: Labelled) -> None:
    """Refuse features of time points or planes that are not there, or that are counted from 1.

    A row of an object that is no longer there, such as one that was erased by hand, does no harm.

    Raises
    ------
    ExportError
    """
    rows, along = labelled.features.rows, labelled.features.axes
    from_one = []
    for at, axis in enumerate(along, start=1):
        places = {key[at] for key in rows}
        length = labelled.shape[labelled.axes.names.index(axis.upper())]
        if max(places, default=0) >= length:
            raise ExportError(
                f"Expected features of places from 0 to {length - 1} along {axis.upper()}, counted from 0, "
                f"found {max(places)}. Count them from 0, or choose the table of these labels."
            )
        from_one.append(int(0 not in places))
    if not any(from_one):
        return
    there = {
        (int(label), *(plane.place[axis] for axis in along))
        for plane in labelled.planes()
        for label in np.unique(plane.labels)
    }
    earlier = {tuple(n - less for n, less in zip(key, (0, *from_one), strict=True)) for key in rows}
    if len(earlier & there) > len(rows.keys() & there):
        wrong = next(key for key in rows if key not in there)
        place = " and ".join(f"{axis} = {n}" for axis, n in zip(along, wrong[1:], strict=True))
        raise ExportError(
            f"Expected features of places counted from 0, found some of the object {wrong[0]} at {place}, "
            "where it is not, and none at 0. Count them from 0, or choose the table of these labels."
        )


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
