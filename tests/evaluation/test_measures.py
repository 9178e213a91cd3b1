"""AP and PQ on planes small enough to count by hand."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from napari_sam.evaluation.measures import THRESHOLDS, iou_table, match, score_plane, without_small


def squares(*boxes, shape=(40, 40)):
    labels = np.zeros(shape, np.int32)
    for label, (y, x, h, w) in enumerate(boxes, 1):
        labels[y : y + h, x : x + w] = 3 * label  # ids need not be consecutive
    return labels


def test_iou_table_counts_pixels():
    truth = squares((0, 0, 10, 10), (20, 20, 10, 10))
    found = squares((0, 0, 10, 5), (20, 25, 10, 10))
    np.testing.assert_allclose(iou_table(truth, found), [[0.5, 0], [0, 50 / 150]])


def test_iou_table_against_masks(rng):
    truth, found = rng.integers(0, 5, (20, 20)), rng.integers(0, 4, (20, 20))
    table = iou_table(truth, found)
    for i in range(1, 5):
        for j in range(1, 4):
            a, b = truth == i, found == j
            assert table[i - 1, j - 1] == pytest.approx((a & b).sum() / (a | b).sum())


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


def test_more_matches_win_over_better_ones():
    iou = np.array([[0.9, 0.6], [0.6, 0.0]])
    assert len(match(iou, 0.5)) == 2


def test_matches_are_those_of_one_great_assignment(rng):
    """Pairs that stand alone are taken without it; there are ties, and chains of pairs."""
    for threshold in (0.2, 0.5, 0.7):
        for _ in range(40):
            iou = np.round(rng.random(rng.integers(0, 9, 2)) ** 3, 1)
            found = match(iou, threshold)
            rows, columns = linear_sum_assignment((iou >= threshold) * (100 + iou), maximize=True)
            expected = iou[rows, columns]
            expected = expected[expected >= threshold]
            assert (len(found), found.sum()) == (len(expected), pytest.approx(expected.sum()))


def test_what_is_sure_is_not_assigned(monkeypatch):
    """To assign thousands of objects to each other would take minutes, and above one half nothing is open."""
    sizes = []

    def assign(costs):
        sizes.append(costs.shape)
        return linear_sum_assignment(costs)

    monkeypatch.setattr("napari_sam.evaluation.measures.linear_sum_assignment", assign)
    iou = np.diag(np.full(50, 0.8))
    iou[3, 4] = iou[4, 3] = 0.3
    iou[7, 7:9] = 0.5
    iou[8, 8] = 0.5
    assert len(match(iou, 0.5)) == 50
    assert sizes == [(2, 2)]


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
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
