"""Give one id to an object that is seen in several planes, by the overlap of its outlines.

Planes are taken one after the other and only the last few are held, so that memory does not grow with
the stack. Labels that lie on disk are read in blocks, so that it does not grow with the plane either.
Between two planes the pairs with the greatest total IoU are chosen (an assignment problem,
solved exactly). An object that is lost for a few planes keeps its id when it comes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.label_ids import numbered_anew, whole

Labels = NDArray[np.integer]
Lookup = NDArray[np.int32]
"""``lookup[id]`` is the new id; ``lookup[0]`` is 0."""

BLOCK = 2304
"""Pixels on a side of the blocks that are read of labels on disk."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """When two outlines in different planes are the same object.

    Parameters
    ----------
    min_iou : float
        Smallest intersection over union of the two outlines, above 0 and at most 1.
    min_inside : float
        What is left over is linked when this part of the smaller outline, or more, lies in the larger one:
        the caps of a round cell are much smaller in one plane than in the next. Above 0; more than 1 turns it
        off, as suits movies, in which objects do not taper.
    swell : float
        An object that has tapered to this part of its largest outline, or less, and grows again by as much is
        another one that begins where the first ends: cells that lie on top of each other. From 0, which
        turns it off, to 1.
    max_gap : int
        Number of planes in between in which the object may be missing.
    min_length : int
        Objects seen in fewer planes are dropped at the end.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    min_iou: float = 0.5
    min_inside: float = 0.8
    swell: float = 0.75
    max_gap: int = 1
    min_length: int = 1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 < self.min_iou <= 1:
            raise ValueError(f"Expected a smallest IoU above 0 and at most 1, found {self.min_iou}.")
        if not self.min_inside > 0:
            raise ValueError(f"Expected a smallest part inside above 0, found {self.min_inside}.")
        if not 0 <= self.swell <= 1:
            raise ValueError(f"Expected a part between 0 and 1 for tapered objects, found {self.swell}.")
        if self.max_gap < 0 or self.min_length < 1:
            raise ValueError(
                "Expected a gap of zero planes or more and a length of one plane or more, "
                f"found {self.max_gap} and {self.min_length}."
            )

    @classmethod
    def measured(cls, step: float, *, gap: float, length: float) -> LinkSettings:
        """Settings for planes that lie ``step`` apart, in the same unit: the object counts, not the planes.

        Parameters
        ----------
        step : float
            Distance between neighbouring planes.
        gap : float
            How much of an object may be missing in between.
        length : float
            Objects that are thinner, counting each plane as ``step`` thick, are dropped at the end.

        Examples
        --------
        >>> LinkSettings.measured(0.5, gap=1, length=3)
        LinkSettings(min_iou=0.5, min_inside=0.8, swell=0.75, max_gap=2, min_length=6)
        """
        if step <= 0 or gap < 0 or length < 0:
            raise ValueError(
                "Expected a distance between planes above 0, and a gap and a length of 0 or more, "
                f"found {step}, {gap} and {length}."
            )
        almost = 1e-9  # 0.3 / 0.1 is a little less than 3
        return cls(max_gap=floor(gap / step + almost), min_length=max(ceil(length / step - almost), 1))

    def over_time(self) -> LinkSettings:
        """Return the same for a movie: what moves overlaps less, and neither tapers nor is stacked."""
        return replace(self, min_iou=min(self.min_iou, MOVING), min_inside=2.0, swell=0.0)


MOVING = 0.3
"""Smallest IoU over time: of the true links between the outlines of the yeast movie, whose buds grow by half
from frame to frame, 98.7 % are found with 0.5, 99.8 % with 0.3, and all that are made are right."""
MOVIE = LinkSettings().over_time()
"""For movies."""


class Overlaps(NamedTuple):
    """Pairs of objects of two planes that share pixels, arrays of the same length."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    iou: NDArray[np.float64]
    inside: NDArray[np.float64]
    """Part of the smaller object that lies in the larger one."""

    def take(self, which: NDArray[Any]) -> Overlaps:
        """Keep some pairs, by a boolean mask or by their numbers."""
        return Overlaps(self.first[which], self.second[which], self.iou[which], self.inside[which])


def blocks(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Walk through labels of a shape in parts of at most `BLOCK` pixels on a side.

    Examples
    --------
    >>> list(blocks((3000, 2000)))
    [(slice(0, 2304, None), slice(0, 2000, None)), (slice(2304, 3000, None), slice(0, 2000, None))]
    """
    yield from product(*([slice(a, min(a + BLOCK, n)) for a in range(0, n, BLOCK)] for n in shape))


def areas(labels: Labels) -> NDArray[np.int64]:
    """Pixels of each id, from 0 to the largest."""
    total = np.zeros(1, np.int64)
    for where in blocks(labels.shape):
        part = np.bincount(np.asarray(labels[where]).ravel())
        total, part = (part, total) if len(part) > len(total) else (total, part)
        total[: len(part)] += part
    return total


def overlaps(first: Labels, second: Labels) -> Overlaps:
    """Intersection over union of all objects of two label planes that share pixels.

    Parameters
    ----------
    first, second : array of int, shape (H, W)
        A numpy or zarr array; 0 is background. Best with small ids: memory grows with the largest.
    """
    if first.shape != second.shape:
        raise ValueError(f"Expected planes of one shape, found {first.shape} and {second.shape}.")
    all_first, all_second = areas(first), areas(second)
    base = len(all_second)
    codes, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for where in blocks(first.shape):
        one, other = np.asarray(first[where]), np.asarray(second[where])
        both = (one > 0) & (other > 0)
        found, times = np.unique(one[both].astype(np.int64) * base + other[both], return_counts=True)
        codes.append(found)
        counts.append(times)
    code, place = np.unique(np.concatenate(codes), return_inverse=True)
    common = np.zeros(len(code), np.int64)
    np.add.at(common, place, np.concatenate(counts))
    i, j = np.divmod(code, base)
    area, others = all_first[i], all_second[j]
    return Overlaps(i, j, common / (area + others - common), common / np.minimum(area, others))


def best_pairs(pairs: Overlaps) -> Overlaps:
    """Choose pairs, each object in one at most, so that the sum of their IoU is greatest."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs.iou):
        return pairs
    _, i = np.unique(pairs.first, return_inverse=True)
    _, j = np.unique(pairs.second, return_inverse=True)
    size = int(i.max() + j.max()) + 2
    graph = coo_array((np.ones(len(i), bool), (i, j + i.max() + 1)), shape=(size, size))
    # Objects that do not touch, not even through others, are matched on their own: the problems stay small.
    _, part = connected_components(graph, directed=False)
    group = part[i]
    order = np.argsort(group, kind="stable")
    chosen: list[int] = []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(members) == 1:
            chosen.append(int(members[0]))
            continue
        _, rows = np.unique(i[members], return_inverse=True)
        _, cols = np.unique(j[members], return_inverse=True)
        gain = np.zeros((rows.max() + 1, cols.max() + 1))
        gain[rows, cols] = pairs.iou[members]
        index = np.full(gain.shape, -1)
        index[rows, cols] = members
        picked = index[linear_sum_assignment(gain, maximize=True)]
        chosen += [int(k) for k in picked if k >= 0]
    return pairs.take(np.sort(np.array(chosen, np.intp)))


class _Seen(NamedTuple):
    """A plane that was linked: its own labels, and the id in the stack of each of them."""

    labels: Labels
    ids: Lookup


class Linker:
    """Link the planes of a stack as they come.

    Parameters
    ----------
    settings : LinkSettings, optional

    Examples
    --------
    >>> import numpy as np
    >>> linker = Linker()
    >>> linker.add(np.array([[1, 1, 0, 2, 2]]))
    array([0, 1, 2], dtype=int32)
    >>> linker.add(np.array([[0, 0, 0, 1, 1]]))
    array([0, 2], dtype=int32)
    """

    def __init__(self, settings: LinkSettings | None = None) -> None:
        self.settings = settings or LinkSettings()
        self._recent: deque[_Seen] = deque(maxlen=self.settings.max_gap + 1)
        self._lengths: list[int] = [0]
        self._peak: list[int] = [0]
        self._since: list[int] = [0]

    def add(self, labels: Labels) -> Lookup:
        """Link the next plane.

        Parameters
        ----------
        labels : array of int, shape (H, W)
            Objects of the plane by themselves, ids from 1, best without gaps; 0 is background. A zarr array
            has to stay as it is while the next ``max_gap + 1`` planes are linked.

        Returns
        -------
        ndarray of int32, shape (labels.max() + 1,)
            Id in the stack of each object, so that ``lookup[labels]`` is the plane with linked ids.
        """
        area = areas(labels)
        present = np.flatnonzero(area)
        present = present[present > 0]
        lookup = np.zeros(len(area), np.int32)
        continued: set[int] = set()
        for seen in reversed(self._recent):
            pairs = overlaps(seen.labels, labels)
            # An object that went on in a nearer plane is not looked for where it was before.
            pairs = pairs.take(~np.isin(seen.ids[pairs.first], list(continued)))
            pairs = pairs.take(~self._swells(seen.ids[pairs.first], area[pairs.second]))
            # Something small that comes back after a gap is no cap: only whole outlines are taken up again.
            taper = (pairs.inside >= self.settings.min_inside) & (seen is self._recent[-1])
            for good in (pairs.iou >= self.settings.min_iou, taper):
                free = (lookup[pairs.second] == 0) & ~np.isin(seen.ids[pairs.first], lookup)
                found = best_pairs(pairs.take(good & free))
                lookup[found.second] = seen.ids[found.first]
            continued.update(int(i) for i in seen.ids)
        new = present[lookup[present] == 0]
        lookup[new] = np.arange(len(self._lengths), len(self._lengths) + len(new))
        for known in (self._lengths, self._peak, self._since):
            known += [0] * len(new)
        for index, size in zip(lookup[present].tolist(), area[present].tolist(), strict=True):
            self._lengths[index] += 1
            grown = size > self._peak[index]
            self._peak[index] = size if grown else self._peak[index]
            self._since[index] = size if grown else min(self._since[index], size)
        self._recent.append(_Seen(labels, lookup))
        return lookup

    def _swells(self, ids: NDArray[np.integer], area: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether objects that have tapered would grow again with outlines of these areas."""
        peak, since = (np.array([known[i] for i in ids.tolist()]) for known in (self._peak, self._since))
        return (since < self.settings.swell * peak) & (since < self.settings.swell * area)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of planes in which each id was seen; entry 0 is 0."""
        return np.array(self._lengths, np.int64)

    def relabelling(self) -> Lookup:
        """Lookup from the ids given so far to final ids without gaps; objects that are too short get 0."""
        keep = self.lengths >= self.settings.min_length
        keep[0] = False
        return np.where(keep, np.cumsum(keep), 0).astype(np.int32)


def _small_ids(plane: Any) -> Labels:
    """Labels of a plane as numbers that can be counted by."""
    labels = whole(np.asarray(plane))
    # Memory grows with the largest id, which may be anything in a file.
    if labels.size and labels.max() > max(labels.size, 1_000_000):
        return numbered_anew([labels])[0]
    # Numbers without a sign of 64 bits are no indices for numpy.
    return labels.astype(np.int64, copy=False)


def link_labels(planes: Iterable[Labels], settings: LinkSettings | None = None) -> NDArray[np.int32]:
    """Link the planes of a stack that were segmented one by one.

    Parameters
    ----------
    planes : iterable of ndarray of int, shape (H, W)
        For example an array of shape (N, H, W). Ids of any size; 0 is background.
    settings : LinkSettings, optional

    Returns
    -------
    ndarray of int32, shape (N, H, W)
        One id an object, without gaps.

    Raises
    ------
    ValueError
        If there is no plane, the planes have different shapes, or an id is negative or no whole number.
    """
    linker = Linker(settings)
    linked = [linker.add(plane)[plane] for plane in map(_small_ids, planes)]
    if not linked:
        raise ValueError("There is no plane to link. Give at least one label plane.")
    return linker.relabelling()[np.stack(linked)]
