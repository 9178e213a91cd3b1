"""Bilinear interpolation from logit cells to image pixels, along one axis at a time.

Logits are brought to image pixels by two bilinear interpolations, first to model pixels, then to image
pixels, as the reference SAM does (half-pixel centres, borders repeated). Both are linear and separable, so
together they are one matrix for the rows and one for the columns.
"""

from __future__ import annotations

from functools import lru_cache
from math import floor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

SMALL_PRODUCT = 2**18
"""Multiplications in a matrix product up to which numpy's library computes it in the calling thread."""


class Axis(NamedTuple):
    """Rows or columns of a grid of logit cells, and of the image that it lies in."""

    image: int
    """Image pixels of the plane."""
    model: int
    """Model pixels of the plane."""
    origin: int
    """Model pixel at which the first cell begins; may be negative."""
    stride: int
    """Model pixels per cell."""
    cells: int


@lru_cache(maxsize=1024)
def covered(axis: Axis) -> tuple[int, int]:
    """First and one-past-last image pixel whose centre lies in the cells."""
    ratio = axis.image / axis.model
    start = int(np.ceil(axis.origin * ratio - 0.5))
    stop = int(np.ceil((axis.origin + axis.stride * axis.cells) * ratio - 0.5))
    return min(max(start, 0), axis.image), min(max(stop, 0), axis.image)


@lru_cache(maxsize=4096)
def reach(axis: Axis, start: int, stop: int) -> tuple[int, int]:
    """First and one-past-last cell that the image pixels ``start`` to ``stop - 1`` draw from."""
    image, model, origin, stride, cells = axis
    ratio = model / image
    first, last = (min(max((p + 0.5) * ratio - 0.5, 0), model - 1) for p in (start, stop - 1))
    ends = (floor(first), min(floor(last) + 1, model - 1))
    low, high = (min(max((e - origin + 0.5) / stride - 0.5, 0), cells - 1) for e in ends)
    return floor(low), min(floor(high) + 2, cells)


@lru_cache(maxsize=256)
def span_matrix(axis: Axis, start: int, stop: int) -> Float:
    """Matrix (stop - start, cells): its product with logits gives those at image pixels."""
    image, model, origin, stride, cells = axis
    pixel = np.arange(start, stop)
    matrix = np.zeros((len(pixel), cells))
    index = np.arange(len(pixel))
    low, high, weight = linear((pixel + 0.5) * (model / image) - 0.5, model)
    for column, share in ((low, 1 - weight), (high, weight)):
        cell_low, cell_high, part = linear((column - origin + 0.5) / stride - 0.5, cells)
        np.add.at(matrix, (index, cell_low), share * (1 - part))
        np.add.at(matrix, (index, cell_high), share * part)
    out = matrix.astype(np.float32)
    out.setflags(write=False)
    return out


def area_matrix(axis: Axis, start: int, stop: int) -> Float:
    """Matrix (cells, stop - start): the part of each cell's length that each image pixel covers."""
    ratio = axis.model / axis.image
    cell = axis.origin + axis.stride * np.arange(axis.cells)[:, None]
    low = np.arange(start, stop)[None] * ratio
    common = np.minimum(cell + axis.stride, low + ratio) - np.maximum(cell, low)
    return (np.clip(common, 0, None) / axis.stride).astype(np.float32)


def cell_matrix(source: Axis, target: Axis) -> tuple[Float, NDArray[np.bool_]]:
    """Bilinear matrix (target cells, source cells) and which target cells lie in the source."""
    centre = target.origin + target.stride * (np.arange(target.cells) + 0.5)
    centre *= (source.model / source.image) / (target.model / target.image)
    position = np.asarray((centre - source.origin) / source.stride - 0.5, np.float64)
    size = source.cells
    low, high, weight = linear(position, size)
    matrix = np.zeros((target.cells, size))
    index = np.arange(target.cells)
    np.add.at(matrix, (index, low), 1 - weight)
    np.add.at(matrix, (index, high), weight)
    return matrix.astype(np.float32), (position > -1) & (position < size)


def linear(
    position: NDArray[np.floating], size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Neighbours and weight of the upper one for half-pixel bilinear interpolation with repeated borders."""
    position = np.clip(position, 0, size - 1)
    low = np.floor(position).astype(np.intp)
    return low, np.minimum(low + 1, size - 1), position - low


def separable(rows: Float, plane: Float, columns: Float) -> Float:
    """``rows @ plane @ columns.T``."""
    return product(product(rows, plane), columns.T)


def product(a: Float, b: Float) -> Float:
    """``a @ b``, a few rows at a time, so that it is computed in the calling thread.

    The other threads of numpy's library would have to wait for those of torch, which spin for some
    milliseconds after the decoder has run: several times as long as the product takes.
    """
    (height, depth), width = a.shape, b.shape[1]
    if not height * depth * width:
        return np.zeros((height, width), np.float32)
    strip = max(1, SMALL_PRODUCT // (depth * width))
    out = np.empty((height, width), np.float32)
    whole = height - height % strip
    np.matmul(a[:whole].reshape(-1, strip, depth), b, out=out[:whole].reshape(-1, strip, width))
    np.matmul(a[whole:], b, out=out[whole:])
    return out
