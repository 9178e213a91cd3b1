"""Outlines of masks that follow the edges of the pixels exactly.

A vertex is a corner of a pixel: pixel ``(i, j)`` has the corners ``(i, j)`` to ``(i + 1, j + 1)``, so that
filling an outline gives the mask back, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam.masks import Mask

Ring = NDArray[np.int64]
"""Vertices (y, x) of a closed line, shape (N, 2); the first one is not repeated."""

# Steps to the right, down, left, up: an edge's heading is its row here, and + 1 turns to the right.
_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])


class Polygon(NamedTuple):
    """One connected part of a mask.

    Parameters
    ----------
    outer : ndarray of int, shape (N, 2)
        Its outline, clockwise as seen in an image (y points down).
    holes : tuple of ndarray
        Outlines of its holes, anticlockwise.
    """

    outer: Ring
    holes: tuple[Ring, ...]


def outline(mask: Mask) -> list[Polygon]:
    """Outline a mask.

    Pixels that touch at a corner only belong to different parts, so that every ring is simple (it meets no
    vertex twice) and every polygon is valid in the sense of OGC's Simple Features.

    Parameters
    ----------
    mask : Mask
        Any mask, also one with holes, of several parts, or empty.

    Returns
    -------
    list of Polygon
        One for each part (pixels connected over edges); vertices are corners (y, x) of pixels of the plane.
    """
    if not mask.pixels.any():
        return []
    inside = np.pad(mask.pixels, 1)
    parts, count = ndi.label(inside)
    outer: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {i: [] for i in range(1, count + 1)}
    shift = np.array([mask.y0 - 1, mask.x0 - 1])
    for part, loop in _loops(inside, parts):
        for ring in _simple_rings(loop):
            if signed_area(ring) > 0:
                outer[part] = ring + shift
            else:
                holes[part].append(ring + shift)
    return [Polygon(outer[i], tuple(holes[i])) for i in range(1, count + 1)]


def signed_area(ring: Ring) -> float:
    """Area within a ring, positive where it runs clockwise in the image."""
    y, x = ring.T
    twice = x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]
    return float(twice) / 2


def _loops(inside: NDArray[np.bool_], parts: NDArray[np.integer]) -> Iterator[tuple[int, Ring]]:
    """Follow the edges between inside and outside; the inside lies on the right of every edge.

    Yields the part that a loop belongs to and the vertices where it turns.
    """
    height, width = inside.shape
    columns = width + 1
    # leaves[heading, y, x]: whether an edge leaves the vertex (y, x) with this heading.
    leaves = np.zeros((4, height + 1, columns), bool)
    leaves[0, 1:-1, :-1] = inside[1:] & ~inside[:-1]
    leaves[1, :-1, 1:-1] = inside[:, :-1] & ~inside[:, 1:]
    leaves[2, 1:-1, 1:] = inside[:-1] & ~inside[1:]
    leaves[3, 1:, 1:-1] = inside[:, 1:] & ~inside[:, :-1]
    leaves = leaves.reshape(4, -1)
    heading, vertex = np.nonzero(leaves)
    end = vertex + (_STEPS @ np.array([columns, 1]))[heading]
    # Turning right first keeps to the part whose edge this is where two touch at a corner.
    right, left = (heading + 1) % 4, (heading + 3) % 4
    after = np.where(leaves[right, end], right, np.where(leaves[heading, end], heading, left))
    number = np.cumsum(leaves.ravel()).reshape(leaves.shape) - 1
    follower = number[after, end].tolist()
    turns = after != heading
    seen = bytearray(len(follower))
    # Every loop has an edge that runs to the right, and those come first.
    for first in range(int(np.count_nonzero(leaves[0]))):
        if seen[first]:
            continue
        edge, loop = first, []
        while not seen[edge]:
            seen[edge] = 1
            loop.append(edge)
            edge = follower[edge]
        y, x = divmod(int(vertex[first]), columns)
        edges = np.array(loop)
        yield int(parts[y, x]), np.column_stack(np.divmod(end[edges[turns[edges]]], columns))


def _simple_rings(loop: Ring) -> Iterator[Ring]:
    """Cut a loop at the vertices that it meets twice."""
    if len(np.unique(loop @ np.array([1 << 32, 1]))) == len(loop):
        yield loop
        return
    path: list[tuple[int, int]] = []
    at: dict[tuple[int, int], int] = {}
    for y, x in loop.tolist():
        vertex = (y, x)
        if vertex in at:
            begin = at[vertex]
            yield np.array(path[begin:], np.int64)
            for dropped in path[begin + 1 :]:
                del at[dropped]
            del path[begin + 1 :]
        else:
            at[vertex] = len(path)
            path.append(vertex)
    yield np.array(path, np.int64)
