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
    for part, loop in _loops(inside, parts):
        for ring in _simple_rings(loop):
            placed = ring + np.array([mask.y0 - 1, mask.x0 - 1])
            if signed_area(ring) > 0:
                outer[part] = placed
            else:
                holes[part].append(placed)
    return [Polygon(outer[i], tuple(holes[i])) for i in range(1, count + 1)]


def signed_area(ring: Ring) -> float:
    """Area within a ring, positive where it runs clockwise in the image."""
    y, x = ring[:, 0].astype(float), ring[:, 1].astype(float)
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _loops(
    inside: NDArray[np.bool_], parts: NDArray[np.integer]
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Follow the edges between inside and outside; the inside lies on the right of every edge.

    Yields the part that a loop belongs to and the vertices where it turns.
    """
    height, width = inside.shape
    # leaves[heading, y, x]: whether an edge leaves the vertex (y, x) with this heading.
    leaves = np.zeros((4, height + 1, width + 1), bool)
    leaves[0, 1:-1, :-1] = inside[1:] & ~inside[:-1]
    leaves[1, :-1, 1:-1] = inside[:, :-1] & ~inside[:, 1:]
    leaves[2, 1:-1, 1:] = inside[:-1] & ~inside[1:]
    leaves[3, 1:, 1:-1] = inside[:, 1:] & ~inside[:, :-1]
    stride = np.array([width + 1, 1])
    ahead = [int(s) for s in _STEPS @ stride]
    flat = [row.tolist() for row in leaves.reshape(4, -1)]
    for first in np.flatnonzero(leaves[0]).tolist():
        if not flat[0][first]:
            continue
        loop: list[tuple[int, int]] = []
        vertex, heading = first, 0
        while flat[heading][vertex]:
            flat[heading][vertex] = False
            vertex += ahead[heading]
            # Turning right first keeps to the part whose edge this is where two touch at a corner.
            turned = next(
                h for h in ((heading + 1) % 4, heading, (heading + 3) % 4) if _free(flat, h, vertex, first)
            )
            if turned != heading:
                loop.append(divmod(vertex, width + 1))
            heading = turned
        y, x = divmod(first, width + 1)
        yield int(parts[y, x]), loop


def _free(flat: list[list[bool]], heading: int, vertex: int, first: int) -> bool:
    """Whether an edge that was not followed yet leaves here, or the loop closes here."""
    return flat[heading][vertex] or (heading == 0 and vertex == first)


def _simple_rings(loop: list[tuple[int, int]]) -> Iterator[Ring]:
    """Cut a loop at the vertices that it meets twice."""
    path: list[tuple[int, int]] = []
    at: dict[tuple[int, int], int] = {}
    for vertex in loop:
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
