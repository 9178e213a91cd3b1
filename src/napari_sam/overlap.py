"""Overlapping boxes: intersection over union, and suppression of the worse one of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
"""Boxes that are compared with all their neighbours at once."""


def box_iou(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes.

    Parameters
    ----------
    boxes : ndarray, shape (N, 4)
        Boxes ``(y0, x0, y1, x1)``; the measure of a box is ``(y1 - y0) * (x1 - x0)``.
    others : ndarray, shape (M, 4)
        The boxes to compare with.

    Returns
    -------
    ndarray, shape (N, M)
        0 where both boxes are empty.
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    height = np.minimum(boxes[:, None, 2], others[:, 2]) - np.maximum(boxes[:, None, 0], others[:, 0])
    width = np.minimum(boxes[:, None, 3], others[:, 3]) - np.maximum(boxes[:, None, 1], others[:, 1])
    common = np.clip(height, 0, None) * np.clip(width, 0, None)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    other_area = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    union = area[:, None] + other_area - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


@dataclass(frozen=True, eq=False, slots=True)
class Neighbours:
    """Which boxes are too close to which: those of ``i`` are ``ids[start[i] : start[i + 1]]``."""

    start: NDArray[np.intp]
    ids: NDArray[np.intp]


def close_pairs(boxes: NDArray[np.floating], threshold: float) -> Neighbours:
    """Pairs of boxes whose IoU is greater than ``threshold``.

    Parameters
    ----------
    boxes : ndarray, shape (N, 4)
        Boxes ``(y0, x0, y1, x1)``.
    threshold : float
        0 or more: boxes that do not meet are never close.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.argsort(boxes[:, 0], kind="stable")  # from top to bottom: only boxes that begin above the
    ordered = boxes[order]  # end of a block can meet it
    first: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
    second: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
    for begin in range(0, len(boxes), BLOCK):
        block = ordered[begin : begin + BLOCK]
        reach = int(np.searchsorted(ordered[:, 0], block[:, 2].max(), side="right"))
        a, b = np.nonzero(box_iou(block, ordered[begin:reach]) > threshold)
        once = b > a
        first.append(order[begin + a[once]])
        second.append(order[begin + b[once]])
    one, two = np.concatenate(first), np.concatenate(second)
    ids = np.concatenate([one, two])
    by_box = np.argsort(ids, kind="stable")
    start = np.zeros(len(boxes) + 1, np.intp)
    np.cumsum(np.bincount(ids, minlength=len(boxes)), out=start[1:])
    return Neighbours(start, np.concatenate([two, one])[by_box])


def suppress(order: NDArray[np.intp], neighbours: Neighbours) -> NDArray[np.intp]:
    """Walk through boxes from the best to the worst and drop those that are close to a kept one.

    Parameters
    ----------
    order : ndarray of int
        Boxes to choose from, best first; those left out take no part.
    neighbours : Neighbours

    Returns
    -------
    ndarray of int
        The kept boxes, best first.
    """
    alive = np.ones(len(neighbours.start) - 1, bool)
    keep = []
    for index in order.tolist():
        if alive[index]:
            keep.append(index)
            alive[neighbours.ids[neighbours.start[index] : neighbours.start[index + 1]]] = False
    return np.array(keep, dtype=np.intp)


def best_first(scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Indices from the highest score to the lowest; among equal scores the earlier comes first."""
    return np.argsort(-np.asarray(scores), kind="stable")


def box_nms(boxes: NDArray[np.floating], scores: NDArray[np.floating], threshold: float) -> NDArray[np.intp]:
    """Non-maximum suppression: walk from the best score down, drop what overlaps a kept box.

    Parameters
    ----------
    boxes : ndarray, shape (N, 4)
        Boxes ``(y0, x0, y1, x1)``.
    scores : ndarray, shape (N,)
        Higher is better; among equal scores the earlier box wins.
    threshold : float
        A box is dropped when its IoU with a kept one is greater than this.

    Returns
    -------
    ndarray of int, shape (K,)
        Indices of the kept boxes, best first.
    """
    return suppress(best_first(scores), close_pairs(boxes, threshold))
