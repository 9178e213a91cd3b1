"""What is counted of every object while the planes of a volume go by.

A plane is counted in strips of rows, so that it takes no more memory beside the labels than a number of four
bytes for each pixel, of a volume for those of the planes before and after too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.measure.shape import directions

Float = NDArray[np.float64]
Index = NDArray[np.intp]
Numbers = NDArray[np.int32]
Planes = Callable[[], Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]]
"""Gives, each time it is called, the planes in order: labels (H, W) of whole numbers of 0 and above, and the
channels of the image."""
STRIP = 2**20
"""Pixels that are counted at once."""


class MeasureError(ValueError):
    """Something that cannot be measured; the message says what was expected and what was found."""


@dataclass(eq=False, slots=True)
class Sums:
    """Counts of N objects in a plane (2 axes) or a volume (3 axes).

    Parameters
    ----------
    ids : ndarray of int, shape (N,)
        In rising order.
    area : ndarray, shape (N,)
        Pixels.
    anchor : ndarray, shape (N, axes)
        A pixel of each object; sums are taken from there, so that they lose no digits.
    first, second : ndarray, shapes (N, axes), (N, axes, axes)
        Sums of the distances from the anchor along each axis, and of their products.
    low, high : ndarray of int, shape (N, axes)
        First and one past the last pixel.
    crossings : ndarray, shape (N, directions)
        How often lines in each direction enter or leave the object (`shape.directions`).
    values : list of ndarray, shape (N, 5)
        For each channel: value at the anchor, sum and sum of squares from there, least, greatest.
    """

    ids: NDArray[Any]
    area: Float
    anchor: Float
    first: Float
    second: Float
    low: Index
    high: Index
    crossings: Float
    values: list[Float]

    @property
    def centre(self) -> Float:
        """Mean position, shape (N, axes)."""
        return self.anchor + self.first / self.area[:, None]

    @property
    def spread(self) -> Float:
        """Covariance of the positions, shape (N, axes, axes)."""
        mean = self.first / self.area[:, None]
        return self.second / self.area[:, None, None] - mean[:, :, None] * mean[:, None, :]


def count(planes: Planes, axes: int) -> Sums:
    """Go through the planes twice: for the ids, and for the sums.

    Parameters
    ----------
    planes : callable
    axes : int
        2 for one plane, 3 for a volume.
    """
    ids = _ids(planes)
    number = len(ids)
    sums = Sums(
        ids,
        np.zeros(number),
        np.zeros((number, axes)),
        np.zeros((number, axes)),
        np.zeros((number, axes, axes)),
        np.full((number, axes), np.iinfo(np.intp).max),
        np.zeros((number, axes), np.intp),
        np.zeros((number, len(directions(axes)))),
        [],
    )
    before: Numbers | None = None
    number_of = _numbering(ids)
    for z, (labels, channels) in enumerate(planes()):
        if not sums.values:
            sums.values = [np.tile([0.0, 0, 0, np.inf, -np.inf], (number, 1)) for _ in channels]
        padded = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), np.int32)
        for rows in _strips(labels.shape):
            numbered = number_of(labels[rows])
            _add(sums, numbered, [channel[rows] for channel in channels], z, rows.start)
            padded[1:-1, 1:-1][rows] = numbered
        if axes == 3:
            _cross(sums, np.zeros_like(padded) if before is None else before, padded)
        _cross_within(sums, padded)
        before = padded if axes == 3 else None
    if axes == 3 and before is not None:
        _cross(sums, before, np.zeros_like(before))
    return sums


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a plane that are counted at once."""
    height, width = shape
    step = max(STRIP // max(width, 1), 1)
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


def _ids(planes: Planes) -> NDArray[Any]:
    """Ids of all planes in rising order, without 0."""
    found: set[int] = set()
    for labels, _ in planes():
        for rows in _strips(labels.shape):
            strip = labels[rows]
            # A table of all ids is much quicker than sorting the pixels, where it is not too long.
            few = strip.max(initial=0) <= 4 * strip.size + 1024
            here = np.flatnonzero(np.bincount(strip.ravel())) if few else np.unique(strip)
            found.update(here.tolist())
    ids = sorted(found - {0})
    return np.array(ids, np.int64 if not ids or ids[-1] < 2**63 else np.uint64)


def _numbering(ids: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[np.integer]]:
    """What replaces each id by its place in ``ids``, counted from 1."""
    top = int(ids[-1]) if len(ids) else 0
    if top <= 4 * len(ids) + STRIP:
        lookup = np.zeros(top + 1, np.int32)
        lookup[ids] = np.arange(1, len(ids) + 1)
        return lambda labels: lookup[labels.astype(np.intp, copy=False)]
    # Types that differ would meet as floats, in which ids above 2 ** 53 run together.
    return lambda labels: np.where(
        labels > 0, np.searchsorted(ids, labels.astype(ids.dtype, copy=False)) + 1, 0
    )


def _add(sums: Sums, labels: NDArray[np.integer], channels: list[NDArray[Any]], z: int, top: int) -> None:
    """Add the pixels of a strip, whose first row is ``top``, to the sums of position and intensity."""
    number, axes = sums.first.shape
    y, x = np.nonzero(labels)
    which = labels[y, x].astype(np.intp) - 1
    places = [y + top, x] if axes == 2 else [np.full(len(y), z), y + top, x]
    new = np.zeros(number, bool)
    new[which] = sums.area[which] == 0
    # Of all that write to one place the first one stays when they come in backward order.
    pixel = np.zeros(number, np.intp)
    pixel[which[::-1]] = np.arange(len(which))[::-1]
    at = pixel[new]
    sums.area += np.bincount(which, minlength=number)
    away = []
    for axis, place in enumerate(places):
        sums.anchor[new, axis] = place[at]
        away.append(place - sums.anchor[which, axis])
        sums.first[:, axis] += np.bincount(which, away[axis], number)
        np.minimum.at(sums.low[:, axis], which, place)
        np.maximum.at(sums.high[:, axis], which, place + 1)
    for i in range(axes):
        for j in range(i, axes):
            product = np.bincount(which, away[i] * away[j], number)
            sums.second[:, i, j] += product
            if i != j:
                sums.second[:, j, i] += product
    for table, channel in zip(sums.values, channels, strict=True):
        values = channel[y, x].astype(np.float64)
        # Pixels that are no numbers, or infinite, make an object's intensities so: no reason to warn.
        with np.errstate(invalid="ignore"):
            # Of infinite values nothing can be taken away.
            table[new, 0] = np.where(np.isfinite(values[at]), values[at], 0)
            beyond = values - table[which, 0]
            table[:, 1] += np.bincount(which, beyond, number)
            table[:, 2] += np.bincount(which, beyond**2, number)
            np.minimum.at(table[:, 3], which, values)
            np.maximum.at(table[:, 4], which, values)


def _cross_within(sums: Sums, padded: Numbers) -> None:
    """Count the crossings along the directions within a plane."""
    for k, step in enumerate(directions(sums.first.shape[1])):
        if len(step) == 2 or step[0] == 0:
            _compare(sums, k, padded, padded, int(step[-2]), int(step[-1]))


def _cross(sums: Sums, below: Numbers, above: Numbers) -> None:
    """Count the crossings along the directions from one plane to the next."""
    for k, step in enumerate(directions(3)):
        if step[0] == 1:
            _compare(sums, k, below, above, int(step[1]), int(step[2]))


def _compare(sums: Sums, k: int, here: Numbers, there: Numbers, dy: int, dx: int) -> None:
    """Count where a step from one padded plane to another (or the same) leaves or enters an object."""
    height, width = here.shape
    starts = here[max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
    ends = there[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
    for rows in _strips(starts.shape):
        start, end = starts[rows], ends[rows]
        differ = start != end
        for side in (start, end):
            sums.crossings[:, k] += np.bincount(side[differ], minlength=len(sums.ids) + 1)[1:]
