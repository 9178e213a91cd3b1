"""How well objects are found: matching, average precision, panoptic quality.

The measures are those of the instance segmentation literature on cells. Two objects match at a
threshold when their IoU is at least that; above one half a match is unique, and at one half the best
assignment decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["THRESHOLDS", "PlaneScore", "iou_table", "match", "score_plane", "without_small"]

THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""IoU thresholds of the mean average precision: 0.5, 0.55, ... 0.95."""

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class PlaneScore:
    """Automatic segmentation of one plane, against its truth.

    Parameters
    ----------
    truth, found : int
        Number of true and of found objects.
    ap : tuple of float
        Average precision TP / (TP + FP + FN) at each of `THRESHOLDS`.
    pq : float
        Panoptic quality: sum of the IoUs of the matches above 0.5 over TP + FP / 2 + FN / 2
        (Kirillov et al. 2019).
    """

    truth: int
    found: int
    ap: tuple[float, ...]
    pq: float


def iou_table(truth: Labels, found: Labels) -> NDArray[np.float64]:
    """IoU of each true with each found object.

    Parameters
    ----------
    truth, found : ndarray of int, shape (H, W)
        Label images; 0 is background. Ids need not be consecutive.

    Returns
    -------
    ndarray, shape (number of true objects, number of found objects)
        In the order of their ids.
    """
    if truth.shape != found.shape:
        raise ValueError(f"Label images of one plane differ in shape: {truth.shape} and {found.shape}.")
    true_ids, rows = np.unique(truth, return_inverse=True)
    found_ids, columns = np.unique(found, return_inverse=True)
    pairs = rows.ravel() * len(found_ids) + columns.ravel()
    table = np.bincount(pairs, minlength=len(true_ids) * len(found_ids))
    table = table.reshape(len(true_ids), len(found_ids)).astype(float)
    either = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    iou = table / np.maximum(either, 1)
    return iou[np.ix_(true_ids != 0, found_ids != 0)]


def match(iou: NDArray[np.floating], threshold: float) -> NDArray[np.float64]:
    """IoUs of the best one-to-one matches that reach a threshold.

    Parameters
    ----------
    iou : ndarray, shape (true, found)
    threshold : float
        Least IoU of a match, above 0.
    """
    reached = iou >= threshold
    # A pair of which neither could match another is a match. Above one half there are no other pairs, and
    # to assign thousands of objects to each other takes minutes.
    sole = reached & (reached.sum(1, keepdims=True) == 1) & (reached.sum(0, keepdims=True) == 1)
    open_ = reached & ~sole
    part = np.ix_(open_.any(1), open_.any(0))
    rest = np.where(open_[part], iou[part], 0)
    # Count matches first and let their IoU decide between equal counts.
    rows, columns = linear_sum_assignment(-((rest > 0) + rest / (2 * max(1, min(rest.shape)))))
    matched = rest[rows, columns]
    return np.concatenate([iou[sole], matched[matched > 0]]).astype(np.float64)


def without_small(truth: Labels, found: Labels, least: int) -> tuple[Labels, Labels]:
    """Take away the small true objects, and what was found of them, as the COCO evaluation ignores objects.

    Whoever misses them is not to blame, nor is whoever finds them.

    Parameters
    ----------
    truth, found : ndarray of int, shape (H, W)
        Label images; 0 is background.
    least : int
        Area in pixels from which on an object is not small.

    Returns
    -------
    truth, found : ndarray
        Without the small true objects, and without the found objects whose best match with an IoU of at
        least one half is one of them.
    """
    true_ids, areas = np.unique(truth[truth != 0], return_counts=True)
    found_ids = np.unique(found[found != 0])
    small = areas < least
    iou = iou_table(truth, found)
    theirs = iou[small].max(0, initial=0)
    ignored = (theirs >= THRESHOLDS[0]) & (theirs > iou[~small].max(0, initial=0))
    return (
        np.where(np.isin(truth, true_ids[small]), 0, truth),
        np.where(np.isin(found, found_ids[ignored]), 0, found),
    )


def score_plane(truth: Labels, found: Labels) -> PlaneScore:
    """Score the automatic segmentation of a plane.

    A plane without any object, true or found, scores 1.

    Parameters
    ----------
    truth, found : ndarray of int, shape (H, W)
        Label images; 0 is background.
    """
    iou = iou_table(truth, found)
    total = sum(iou.shape)
    if not total:
        return PlaneScore(0, 0, (1.0,) * len(THRESHOLDS), 1.0)
    hits = [len(match(iou, t)) for t in THRESHOLDS]
    matched = match(iou, THRESHOLDS[0])
    matched = matched[matched > 0.5]
    return PlaneScore(
        truth=iou.shape[0],
        found=iou.shape[1],
        ap=tuple(hit / (total - hit) for hit in hits),
        pq=float(matched.sum() / (len(matched) + (total - 2 * len(matched)) / 2)),
    )
