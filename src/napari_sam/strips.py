"""Masks of large planes, at the cost of their outlines.

The plane is cut into strips along both axes, and so into squares. Where no logit crosses a threshold a square
lies wholly inside or outside; the others are interpolated, strip by strip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from napari_sam.interpolation import Axis, Float, covered, product, reach, span_matrix

STRIP = 64
"""Image pixels of a strip: the side of a square."""
APART = 8
"""Squares between two that are computed together: to begin anew takes as long."""


class Bands(NamedTuple):
    """Interpolation along one axis, `STRIP` image pixels at a time, from the few cells that matter."""

    weights: Float
    """(strips, STRIP, cells)."""
    first: NDArray[np.intp]
    """(strips,) first cell of each."""
    lengths: NDArray[np.intp]
    """(strips,) image pixels of each: the last one of a window may be cut short."""
    start: int
    """Image pixel at which the first strip begins."""

    @property
    def reach(self) -> int:
        """Number of cells that a strip draws from."""
        return self.weights.shape[2]

    def within(self, start: int, stop: int) -> Bands:
        """Strips that reach into a range of image pixels."""
        part = slice((start - self.start) // STRIP, (stop - 1 - self.start) // STRIP + 1)
        begin = self.start + part.start * STRIP
        return Bands(self.weights[part], self.first[part], self.lengths[part], begin)


@lru_cache(maxsize=256)
def bands(axis: Axis) -> Bands:
    """Bands of all image pixels that the cells of an axis cover."""
    start, stop = covered(axis)
    edges = np.arange(start, stop, STRIP)
    lengths = np.minimum(STRIP, stop - edges)
    spans = np.array([reach(axis, int(a), int(a + n)) for a, n in zip(edges, lengths, strict=True)])
    most = int((spans[:, 1] - spans[:, 0]).max())
    first = np.minimum(spans[:, 0], axis.cells - most)
    matrix = span_matrix(axis, start, stop)
    matrix = np.pad(matrix, ((0, len(first) * STRIP - len(matrix)), (0, 0)))
    cells = (first[:, None] + np.arange(most))[:, None]
    weights = np.take_along_axis(matrix.reshape(len(first), STRIP, -1), cells, 2)
    for array in (weights, first, lengths):
        array.setflags(write=False)
    return Bands(weights, first, lengths, start)


def mask_in_strips(
    logits: Float, rows: Bands, columns: Bands, thresholds: Sequence[float]
) -> tuple[NDArray[np.bool_], list[int]]:
    """Where the interpolated logits exceed a threshold.

    Parameters
    ----------
    logits : ndarray of float32, shape (cells, cells)
    rows, columns : Bands
    thresholds : sequence of float

    Returns
    -------
    inside : ndarray of bool, shape (image pixels of the rows, image pixels of the columns)
        Above the first threshold.
    sizes : list of int
        Number of pixels above each of the others.
    """
    low, high = (_extremes(f, logits, rows, columns) for f in (np.minimum, np.maximum))
    doubt = np.float32(1e-5) * np.maximum(abs(low), abs(high))  # more than the interpolation rounds
    low, high = low - doubt, high + doubt
    crossed = np.logical_or.reduce([(high > t) & (low <= t) for t in thresholds])
    filled = ~crossed & (low > thresholds[0])
    top = int(rows.first.min())
    across = _across(logits[top : int(rows.first.max()) + rows.reach], columns)
    inside = np.zeros((int(rows.lengths.sum()), int(columns.lengths.sum())), bool)
    sizes = [0] * len(thresholds[1:])
    for i in np.flatnonzero((crossed | filled).any(1)):
        strip = inside[i * STRIP : i * STRIP + rows.lengths[i]]
        if filled[i].any():
            strip[:] = np.repeat(filled[i], columns.lengths)
        cell = int(rows.first[i]) - top
        for start, stop in _runs(crossed[i]):
            span = slice(start * STRIP, min(stop * STRIP, inside.shape[1]))
            full = product(rows.weights[i, : len(strip)], across[cell : cell + rows.reach, span])
            np.greater(full, thresholds[0], out=strip[:, span])
            for k, threshold in enumerate(thresholds[1:]):
                sizes[k] += int(np.count_nonzero(full > threshold))
            crossed[i, start:stop] = True  # computed with the others, and counted
    areas = rows.lengths[:, None] * columns.lengths
    sizes = [n + int(areas[~crossed & (low > t)].sum()) for n, t in zip(sizes, thresholds[1:], strict=True)]
    return inside, sizes


def _extremes(extreme: Callable[[Float, Float], Float], logits: Float, rows: Bands, columns: Bands) -> Float:
    """(strips, strips) least or greatest logit that each square draws from."""
    for bands, axis in ((columns, 1), (rows, 0)):
        parts = (logits.take(bands.first + k, axis) for k in range(bands.reach))
        logits = reduce(extreme, parts)
    return logits


def _runs(wanted: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Ranges (start, stop) that hold all that is wanted, and little else."""
    at = np.flatnonzero(wanted)
    if at.size:
        far = np.flatnonzero(np.diff(at) > APART)
        yield from zip([at[0], *at[far + 1]], [*(at[far] + 1), at[-1] + 1], strict=True)


def _across(logits: Float, columns: Bands) -> Float:
    """(rows, strips * STRIP) logits of whole rows, interpolated along them."""
    out = np.empty((len(logits), len(columns.first), STRIP), np.float32)
    parts = sliding_window_view(logits, columns.reach, axis=1)[:, columns.first].transpose(1, 0, 2)
    np.matmul(parts, columns.weights.transpose(0, 2, 1), out=out.transpose(1, 0, 2))
    return out.reshape(len(logits), -1)
