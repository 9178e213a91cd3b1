"""Put tiles together: which objects of neighbouring tiles are one, and which tile draws it.

Neighbouring tiles see a common strip, twice the halo wide. Objects that agree there (IoU in the strip) are
the same one. It is drawn as the tile saw it that had most room around it; if every tile saw it cut off, the
parts are joined. Objects that contradict each other without being the same (one tile saw two cells where the
other saw one) compete, and the better one stays. Everything depends on the tiles alone and not on the order
in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam.linking import best_pairs, overlaps
from napari_sam.masks import Box
from napari_sam.progress import Progress
from napari_sam.tile_grid import TileGrid
from napari_sam.units import Unit

Load = Callable[[int], Unit]

SAME = 0.5
"""IoU in the common strip above which two objects are one."""
CONTRADICTION = 0.5
"""Part of the smaller object in the larger one above which only one of two can be right."""
CUT = 4
"""An object that comes this near, in pixels, to the edge of what a tile sees may go on beyond it."""


class _Pair(NamedTuple):
    """Two objects of different tiles by number, and how much they share."""

    first: int
    second: int
    iou: float


@dataclass(frozen=True, eq=False, slots=True)
class Seams:
    """How the objects of all tiles become those of the plane.

    An object of a tile has the number ``start[tile] + id - 1``.

    Parameters
    ----------
    start : ndarray of int64, shape (tiles + 1,)
        Number of each tile's first object.
    final : ndarray of int32, shape (objects,)
        Id in the plane; 0 where the tile does not draw it.
    rank : ndarray of int64, shape (objects,)
        Where two objects claim a pixel, the one of lower rank gets it.
    predicted_iou, stability : ndarray of float64, shape (K,)
        What is known of the id i + 1 of the plane; of the best part where it was joined.
    """

    start: NDArray[np.int64]
    final: NDArray[np.int32]
    rank: NDArray[np.int64]
    predicted_iou: NDArray[np.float64]
    stability: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of objects of the plane."""
        return len(self.predicted_iou)


def find_seams(grid: TileGrid, load: Load) -> Generator[Progress, None, Seams]:
    """Compare every two neighbouring tiles and decide which objects are the same.

    Parameters
    ----------
    grid : TileGrid
    load : callable
        Gives a tile by its number; tiles are loaded several times rather than held.
    """
    load = lru_cache(maxsize=16)(load)
    tiles: list[_Measured] = []
    for number in range(len(grid)):
        yield Progress(number, len(grid), "measuring objects")
        tiles.append(_measure(grid, number, load(number)))
    counts = [len(t.margin) for t in tiles]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    same: list[_Pair] = []
    rivals: list[_Pair] = []
    for first, second in grid.pairs():
        if second == first + 1 or second == first + grid.counts[1]:
            yield Progress(first, len(grid), "comparing neighbours")
        if not counts[first] or not counts[second]:
            continue
        found, opposed = _compare(grid, first, second, load, start)
        same += found
        rivals += opposed
    objects = _Measured(*(np.concatenate(column) for column in zip(*tiles, strict=True)))
    return _decide(objects, start, same, rivals, most_room=2 * grid.halo)


def paint_tile(grid: TileGrid, number: int, load: Load, seams: Seams) -> NDArray[np.int32]:
    """Final labels of a tile's inner box, drawn from the tile and its neighbours.

    Returns
    -------
    ndarray of int32, shape of the inner box
    """
    inner = grid.inner(number)
    out = np.zeros((int(inner.height), int(inner.width)), np.int32)
    best = np.full(out.shape, np.iinfo(np.int64).max)
    for source in sorted([number, *grid.neighbours(number)]):
        objects = slice(seams.start[source], seams.start[source + 1])
        if not seams.final[objects].any():
            continue
        outer = grid.outer(source)
        both = inner.intersect(outer)
        labels = load(source).labels[_within(both, outer).slices]
        final = np.concatenate([[0], seams.final[objects]])[labels]
        rank = np.concatenate([[0], seams.rank[objects]])[labels]
        here = _within(both, inner).slices
        wins = (final > 0) & (rank < best[here])
        out[here][wins] = final[wins]
        best[here][wins] = rank[wins]
    return out


class _Measured(NamedTuple):
    """What is known of each object of a tile."""

    predicted_iou: NDArray[np.float64]
    stability: NDArray[np.float64]
    margin: NDArray[np.float64]
    """Room between it and the edge of what the tile sees."""
    inside: NDArray[np.bool_]
    """Whether it reaches into the box for which the tile is responsible."""


def _measure(grid: TileGrid, number: int, tile: Unit) -> _Measured:
    outer, inner = grid.outer(number), grid.inner(number)
    boxes = [
        Box(s[0].start, s[1].start, s[0].stop, s[1].stop) if s else Box(0, 0, 0, 0)
        for s in ndi.find_objects(tile.labels, max_label=len(tile.table))
    ]
    margin = [
        grid.margin(number, Box(b.y0 + outer.y0, b.x0 + outer.x0, b.y1 + outer.y0, b.x1 + outer.x0))
        for b in boxes
    ]
    present = np.bincount(tile.labels[_within(inner, outer).slices].ravel(), minlength=len(tile.table) + 1)
    predicted_iou, stability = (tile.table[n].to_numpy(np.float64) for n in ("predicted_iou", "stability"))
    return _Measured(predicted_iou, stability, np.array(margin, float), present[1:] > 0)


def _compare(
    grid: TileGrid, first: int, second: int, load: Load, start: NDArray[np.int64]
) -> tuple[list[_Pair], list[_Pair]]:
    """Objects of two tiles that are the same, and those that contradict each other."""
    a, b = grid.outer(first), grid.outer(second)
    strip = a.intersect(b)
    pairs = overlaps(
        load(first).labels[_within(strip, a).slices], load(second).labels[_within(strip, b).slices]
    )
    same = best_pairs(pairs.take(pairs.iou >= SAME))
    taken = set(zip(same.first.tolist(), same.second.tolist(), strict=True))
    rival = pairs.take(pairs.inside >= CONTRADICTION)
    low, high = int(start[first]) - 1, int(start[second]) - 1
    return (
        [_Pair(low + i, high + j, iou) for i, j, iou in _rows(same.first, same.second, same.iou)],
        [
            _Pair(low + i, high + j, iou)
            for i, j, iou in _rows(rival.first, rival.second, rival.iou)
            if (i, j) not in taken
        ],
    )


def _rows(*columns: NDArray[np.generic]) -> zip[tuple[int, int, float]]:
    return zip(*(c.tolist() for c in columns), strict=True)


def _decide(
    objects: _Measured, start: NDArray[np.int64], same: list[_Pair], rivals: list[_Pair], most_room: int
) -> Seams:
    """Group what is the same, choose who draws each group, and drop what loses to a rival."""
    total = int(start[-1])
    tile_of = np.searchsorted(start, np.arange(total), side="right") - 1
    quality = objects.predicted_iou * objects.stability
    room = np.minimum(objects.margin, most_room)
    cut = objects.margin <= CUT
    painters: list[list[int]] = []
    responsible: list[bool] = []
    for members in _group(same, tile_of, cut):
        whole = [m for m in members if not cut[m]]
        # The one with most room saw most of the surroundings. It need not be the responsible one: where the
        # last tiles are narrow, their neighbours see as far as the plane's edge.
        painters.append([max(whole, key=lambda m: (room[m], quality[m], -m))] if whole else members)
        responsible.append(bool(objects.inside[members].any()))
    opponents: dict[int, list[int]] = {}
    for pair in rivals:
        opponents.setdefault(pair.first, []).append(pair.second)
        opponents.setdefault(pair.second, []).append(pair.first)
    order = sorted(
        range(len(painters)),
        key=lambda k: (not responsible[k], -max(quality[painters[k]]), painters[k][0]),
    )
    rank = np.zeros(total, np.int64)
    standing = np.zeros(total, bool)
    kept: list[list[int]] = []
    for place, k in enumerate(order):
        against = [o for member in painters[k] for o in opponents.get(member, ())]
        # What only the neighbour of the responsible tile saw counts where that tile's own view has lost.
        if any(standing[o] for o in against) or not (responsible[k] or against):
            continue
        standing[painters[k]] = True
        rank[painters[k]] = place
        kept.append(painters[k])
    kept.sort(key=lambda group: group[0])
    final = np.zeros(total, np.int32)
    for index, group in enumerate(kept, start=1):
        final[group] = index
    best = np.array([max(group, key=lambda m: (quality[m], -m)) for group in kept], np.int64)
    return Seams(start, final, rank, objects.predicted_iou[best], objects.stability[best])


def _group(same: list[_Pair], tile_of: NDArray[np.intp], cut: NDArray[np.bool_]) -> list[list[int]]:
    """Join pairs, the surest first, but never two whole objects of one tile."""
    group_of = list(range(len(tile_of)))
    members = {n: [n] for n in group_of}
    for pair in sorted(same, key=lambda p: (-p.iou, p.first, p.second)):
        low, high = sorted((group_of[pair.first], group_of[pair.second]))
        if low == high or _clash(members[low], members[high], tile_of, cut):
            continue
        for m in members[high]:
            group_of[m] = low
        members[low] += members.pop(high)
    return [sorted(group) for _, group in sorted(members.items())]


def _clash(group: list[int], other: list[int], tile_of: NDArray[np.intp], cut: NDArray[np.bool_]) -> bool:
    """Whether a tile saw two objects side by side where one is claimed.

    Two arms of one large object may enter a tile, but then its edge cuts both.
    """
    seen = {tile_of[m]: m for m in group}
    return any(tile_of[m] in seen and not (cut[m] and cut[seen[tile_of[m]]]) for m in other)


def _within(box: Box, frame: Box) -> Box:
    """A box of the plane counted from the corner of another."""
    return Box(box.y0 - frame.y0, box.x0 - frame.x0, box.y1 - frame.y0, box.x1 - frame.x0)
