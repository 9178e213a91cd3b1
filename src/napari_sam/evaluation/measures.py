"""How well objects are found: matching, average precision, panoptic quality.

The measures are those of the instance segmentation literature on cells. Two objects match at a
threshold when their IoU is at least that; above one half a match is unique, and at one half the best
assignment decides. Only pairs that share pixels are held: memory grows with the number of objects, not
with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.label_ids import numbered_anew
from napari_sam.linking import Overlaps, best_pairs, overlaps

__all__ = ["THRESHOLDS", "PlaneScore", "match", "pairs_of", "score_plane", "without_small"]

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


def pairs_of(truth: Labels, found: Labels) -> Overlaps:
    """Pairs of a true and a found object that share pixels.

    Parameters
    ----------
    truth, found : ndarray of int, any one shape
        Label images; 0 is background. The ids in a pair count from 1 on, in the order of those they have.
    """
    (truth,), (found,) = numbered_anew([truth]), numbered_anew([found])
    return overlaps(truth, found)


def match(pairs: Overlaps, threshold: float) -> NDArray[np.float64]:
    """IoUs of the best one-to-one matches that reach a threshold.

    Parameters
    ----------
    pairs : Overlaps
    threshold : float
        Least IoU of a match, one half or more: then only pairs of exactly one half compete with each other,
        and the greatest sum is the greatest number.
    """
    return best_pairs(pairs.take(pairs.iou >= threshold)).iou


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
    if not small.any():
        return truth, found
    pairs = pairs_of(truth, found)
    of_small = small[pairs.first - 1]
    theirs, others = (np.zeros(len(found_ids)) for _ in range(2))
    for best, which in ((theirs, of_small), (others, ~of_small)):
        np.maximum.at(best, pairs.second[which] - 1, pairs.iou[which])
    ignored = (theirs >= THRESHOLDS[0]) & (theirs > others)
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
    pairs = pairs_of(truth, found)
    counts = [int(np.count_nonzero(np.unique(labels))) for labels in (truth, found)]
    total = sum(counts)
    if not total:
        return PlaneScore(0, 0, (1.0,) * len(THRESHOLDS), 1.0)
    hits = [len(match(pairs, t)) for t in THRESHOLDS]
    matched = match(pairs, THRESHOLDS[0])
    matched = matched[matched > 0.5]
    return PlaneScore(
        truth=counts[0],
        found=counts[1],
        ap=tuple(hit / (total - hit) for hit in hits),
        pq=float(matched.sum() / (len(matched) + (total - 2 * len(matched)) / 2)),
    )
