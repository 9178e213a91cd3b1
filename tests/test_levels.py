"""Prompts and masks between full resolution and a level of a pyramid."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.levels import labels_to_full, mask_to_full, mask_to_level, to_level
from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.prompts import Point, Prompts

FACTORS = [(2.0, 2.0), (4.0, 2.0), (2.5, 3.0)]


@pytest.fixture
def mask(rng):
    return Mask.from_plane(rng.random((9, 13)) > 0.4, 5, 7)


@pytest.mark.parametrize("factors", FACTORS)
def test_a_mask_survives_the_way_up_and_down(mask, factors):
    full = mask_to_full(mask, factors)
    assert full.area == pytest.approx(mask.area * factors[0] * factors[1], rel=0.1)
    back = mask_to_level(full, factors)
    assert back.box == mask.box
    assert np.array_equal(back.pixels, mask.pixels)


def test_whole_factors_repeat_pixels(mask):
    plane = mask.to_plane((20, 30))
    expected = Mask.from_plane(np.kron(plane, np.ones((2, 2))))
    assert mask_iou(mask_to_full(mask, (2.0, 2.0)), expected) == 1


def test_full_resolution_is_left_alone(mask):
    prompts = Prompts((Point(3, 4),), Box(1, 2, 5, 6), mask)
    assert to_level(prompts, (1.0, 1.0)) is prompts
    assert mask_to_full(mask, (1.0, 1.0)) is mask


def test_prompts_stay_on_the_same_spot():
    # The edges of the plane stay edges: pixel 0 begins at -1/2 in both.
    prompts = to_level(Prompts((Point(-0.5, 3.5, False),), Box(0, 4, 8, 12)), (4.0, 2.0))
    assert prompts.points == (Point(-0.5, 1.5, False),)
    assert prompts.box == (0, 2, 2, 6)


def test_nothing_stays_nothing():
    empty = Mask(0, 0, np.zeros((0, 0), bool))
    assert mask_to_full(empty, (2.0, 2.0)).area == mask_to_level(empty, (2.0, 2.0)).area == 0


def test_label_images_lie_where_their_masks_do(mask):
    labels = mask.to_plane((20, 30)).astype(np.int32) * 7
    full = labels_to_full(labels, (2.5, 3.0), (50, 90))
    assert np.array_equal(full == 7, mask_to_full(mask, (2.5, 3.0)).to_plane((50, 90)))
    assert labels_to_full(labels, (1.0, 1.0), (20, 30)) is labels
