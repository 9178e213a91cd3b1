"""Suppression of overlapping boxes against a naive loop."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.overlap import best_first, box_iou, box_nms, close_pairs, suppress


def iou(a, b):
    """IoU of two boxes, spelt out."""
    height = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    width = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - height * width
    return height * width / union if union else 0


def naive_nms(boxes, scores, threshold):
    """Take the best, drop its neighbours, again."""
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if iou(boxes[best], boxes[i]) <= threshold]
    return kept


def random_boxes(rng, count, spread=60):
    low = rng.integers(0, spread, (count, 2))
    return np.concatenate([low, low + rng.integers(0, 25, (count, 2))], 1).astype(float)


def test_box_iou_of_every_pair(rng):
    a, b = random_boxes(rng, 20), random_boxes(rng, 15)
    expected = [[iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(box_iou(a, b), expected)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("count", [0, 1, 40, 700])
def test_box_nms_against_a_naive_loop(rng, threshold, count):
    boxes = random_boxes(rng, count)
    scores = rng.integers(0, 10, count) / 10  # many ties
    assert box_nms(boxes, scores, threshold).tolist() == naive_nms(boxes, scores, threshold)


def test_close_pairs_are_mutual_and_complete(rng):
    boxes = random_boxes(rng, 600, spread=300)
    near = close_pairs(boxes, 0.2)
    found = {(i, int(j)) for i in range(600) for j in near.ids[near.start[i] : near.start[i + 1]]}
    expected = {(i, j) for i, j in zip(*np.nonzero(box_iou(boxes, boxes) > 0.2), strict=True) if i != j}
    assert found == expected


def test_suppress_ignores_boxes_that_take_no_part():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], float)
    near = close_pairs(boxes, 0.5)
    assert suppress(np.array([0, 1, 2]), near).tolist() == [0, 2]
    assert suppress(np.array([1, 2]), near).tolist() == [1, 2]


def test_best_first_keeps_the_order_of_equals():
    assert best_first(np.array([0.5, 0.9, 0.5, 0.9])).tolist() == [1, 3, 0, 2]
