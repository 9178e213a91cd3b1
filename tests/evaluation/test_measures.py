"""AP and PQ on planes small enough to count by hand."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from napari_sam.evaluation.measures import THRESHOLDS, match, pairs_of, score_plane, without_small
from napari_sam.linking import Overlaps


def squares(*boxes, shape=(40, 40)):
    labels = np.zeros(shape, np.int32)
    for label, (y, x, h, w) in enumerate(boxes, 1):
        labels[y : y + h, x : x + w] = 3 * label  # ids need not be consecutive
    return labels


def table_of(truth, found):
    """IoUs of the pairs that share pixels, by the numbers of the true and the found object."""
    pairs = pairs_of(truth, found)
    return dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.iou, strict=True))


def test_pairs_count_pixels():
    truth = squares((0, 0, 10, 10), (20, 20, 10, 10))
    found = squares((0, 0, 10, 5), (20, 25, 10, 10))
    assert table_of(truth, found) == {(1, 1): 0.5, (2, 2): pytest.approx(50 / 150)}


def test_pairs_against_masks(rng):
    truth, found = rng.integers(0, 5, (20, 20)), rng.integers(0, 4, (20, 20))
    table = table_of(truth, found)
    for i in range(1, 5):
        for j in range(1, 4):
            a, b = truth == i, found == j
            assert table.get((i, j), 0) == pytest.approx((a & b).sum() / (a | b).sum())


def test_perfect_and_empty():
    truth = squares((0, 0, 10, 10), (20, 20, 10, 10))
    score = score_plane(truth, truth)
    assert score.ap == (1.0,) * 10
    assert score.pq == 1
    nothing = np.zeros_like(truth)
    assert score_plane(truth, nothing).ap[0] == 0
    assert score_plane(nothing, truth).pq == 0
    assert score_plane(nothing, nothing).ap[0] == 1


def test_one_hit_one_miss_one_false():
    truth = squares((0, 0, 10, 10), (20, 20, 10, 10))
    found = squares((0, 0, 10, 8), (0, 20, 10, 10))
    score = score_plane(truth, found)
    assert score.ap[THRESHOLDS.index(0.5)] == pytest.approx(1 / 3)
    assert score.ap[THRESHOLDS.index(0.8)] == pytest.approx(1 / 3)
    assert score.ap[THRESHOLDS.index(0.85)] == 0
    assert score.pq == pytest.approx(0.8 / (1 + 0.5 + 0.5))


def pairs(iou):
    i, j = np.nonzero(iou)
    return Overlaps(i + 1, j + 1, iou[i, j], iou[i, j])


def test_matches_are_as_many_as_can_be():
    """Three pairs of exactly one half in a row: the outer two match, not the one in the middle."""
    iou = np.array([[0.5, 0.0], [0.5, 0.5], [0.0, 0.9]])
    assert len(match(pairs(iou[:2]), 0.5)) == 2
    assert sorted(match(pairs(iou * [[1.0], [1.0], [0.0]]), 0.5)) == [0.5, 0.5]


def test_matches_are_those_of_one_great_assignment(rng):
    """In planes of few pixels many objects compete, and IoUs of exactly one half are common."""
    halves = 0
    for _ in range(200):
        truth, found = (np.repeat(rng.integers(0, 6, 12), 2)[None] for _ in range(2))
        found = np.where(rng.random(found.shape) < 0.6, truth, found)
        every = pairs_of(truth, found)
        iou = np.zeros((7, 7))
        iou[every.first, every.second] = every.iou
        halves += np.count_nonzero(iou == 0.5)
        for threshold in (0.5, 0.7):
            chosen = match(every, threshold)
            rows, columns = linear_sum_assignment((iou >= threshold) * (100 + iou), maximize=True)
            expected = iou[rows, columns]
            expected = expected[expected >= threshold]
            assert (len(chosen), chosen.sum()) == (len(expected), pytest.approx(expected.sum()))
    assert halves > 50


def test_thousands_of_objects_are_scored(rng):
    """As many as a slide holds: a table of all pairs would take 13 GB."""
    truth = np.kron(np.arange(1, 200 * 200 + 1).reshape(200, 200), np.ones((3, 3), int))
    found = np.where(rng.random(truth.shape) < 0.9, truth, 0)
    score = score_plane(truth, found)
    assert (score.truth, score.found) == (40_000, np.count_nonzero(np.unique(found)))
    assert 0.9 < score.ap[0] <= 1
    small, rest = without_small(truth, found, 10)
    assert not small.any()
    assert np.count_nonzero(rest) < 0.1 * np.count_nonzero(found)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="planes of one shape"):
        score_plane(np.zeros((3, 3), int), np.zeros((3, 4), int))


def test_small_objects_are_neither_missed_nor_found():
    truth = np.zeros((40, 40), int)
    truth[2:6, 2:6] = 3  # 16 pixels
    truth[20:30, 20:30] = 7
    found = np.where(truth > 0, truth + 10, 0)
    found[34:38, 34:38] = 1  # this one is nothing, however small
    kept, rest = without_small(truth, found, 20)
    assert (np.unique(kept).tolist(), np.unique(rest).tolist()) == ([0, 7], [0, 1, 17])
    missed, nothing = without_small(truth, np.zeros_like(truth), 20)
    assert score_plane(missed, nothing).truth == 1
    # A large find that lies over a small object too is judged by what it is best.
    truth[truth == 3] = 0
    truth[20:30, 30] = 4
    found = np.where(truth > 0, 1, 0)
    assert without_small(truth, found, 20)[1].any()
    assert not any(labels.any() for labels in without_small(kept * 0, found * 0, 20))
