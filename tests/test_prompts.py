"""Prompts: what is accepted, what is refused, how parts are joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_sam.masks import Box, Mask
from napari_sam.prompts import Point, PromptError, Prompts, points_from_array

MASK = Mask(5, 6, np.ones((3, 4), bool))


@pytest.mark.parametrize("place", [(np.nan, 1), (1, np.inf)])
def test_points_need_finite_coordinates(place):
    with pytest.raises(PromptError, match="finite coordinates"):
        Point(*place)


@pytest.mark.parametrize(
    "corners",
    [(8, 2, 4, 6), (4, 6, 8, 2), (4, 2, 4, 6), (np.nan, 2, 8, 6), (4, 2, np.inf, 6), (-np.inf, 2, 8, 6)],
)
def test_boxes_need_finite_corners_in_order(corners):
    with pytest.raises(PromptError, match="finite corners"):
        Prompts(box=Box(*corners))
    with pytest.raises(PromptError, match="finite corners"):
        replace(Prompts((Point(1, 2),)), box=Box(*corners))


def test_what_asks_for_an_object():
    assert not Prompts()
    assert not Prompts((Point(1, 2, positive=False),))
    assert Prompts((Point(1, 2),))
    assert Prompts(box=Box(0, 0, 2, 2))
    assert Prompts(mask=MASK)


def test_only_a_single_point_is_ambiguous():
    one = Prompts((Point(1, 2),))
    assert one.ambiguous
    assert not one.with_point(3, 4).ambiguous
    assert not Prompts((Point(1, 2),), box=Box(0, 0, 5, 5)).ambiguous
    assert not Prompts((Point(1, 2),), mask=MASK).ambiguous
    assert not Prompts(box=Box(0, 0, 5, 5)).ambiguous


def test_extent_holds_all_that_is_asked_for():
    prompts = Prompts((Point(2, 30), Point(90, 90, positive=False)), box=Box(4, 5, 8, 9), mask=MASK)
    assert prompts.extent == (2, 5, 8, 31)
    with pytest.raises(PromptError, match="nothing says which object"):
        _ = Prompts((Point(1, 1, positive=False),)).extent


def test_with_point_leaves_the_original():
    first = Prompts((Point(1, 2),))
    second = first.with_point(3, 4, positive=False)
    assert len(first.points) == 1
    assert second.points == (Point(1, 2), Point(3, 4, positive=False))


def test_merge_joins_points_boxes_and_masks():
    other = Mask(0, 0, np.ones((2, 2), bool))
    merged = Prompts.merge(
        [
            Prompts((Point(1, 2),), Box(0, 0, 2, 2)),
            Prompts((Point(3, 4),), Box(5, 5, 6, 9), MASK),
            Prompts(mask=other),
        ]
    )
    assert merged.points == (Point(1, 2), Point(3, 4))
    assert merged.box == (0, 0, 6, 9)
    assert merged.mask.area == MASK.area + other.area
    assert Prompts.merge([]) == Prompts()


def test_points_from_array():
    assert points_from_array(np.array([[1, 2], [3, 4]]), np.array([True, False])) == (
        Point(1.0, 2.0),
        Point(3.0, 4.0, positive=False),
    )
    assert points_from_array(np.empty((0, 2))) == ()
    with pytest.raises(PromptError, match="one sign for each of 2 points, found 3"):
        points_from_array(np.zeros((2, 2)), np.ones(3))
    for wrong in (np.array([[5, 10, 20], [6, 30, 40]]), np.array([1, 2]), np.zeros((2, 2, 2))):
        with pytest.raises(PromptError, match=r"shape \(N, 2\)"):
            points_from_array(wrong)


def test_an_empty_mask_says_nothing():
    empty = Mask.from_plane(np.zeros((20, 30), bool))
    assert not Prompts(mask=empty)
    click = Prompts((Point(12, 14),), mask=empty)
    assert click.mask is None
    assert click.extent == Prompts((Point(12, 14),)).extent
    assert click.ambiguous
    drawn = Prompts(mask=Mask.from_plane(np.ones((2, 2), bool), 4, 5))
    assert Prompts.merge([drawn, Prompts(mask=empty)]).mask.box == drawn.mask.box


def test_a_box_may_be_given_as_four_numbers():
    for corners in ((1, 2, 3, 5), np.array([1, 2, 3, 5])):
        assert Prompts(box=corners).box.width == 3


@pytest.mark.parametrize(
    "stray",
    [
        {"points": (Point(5, 5), Point(-5, 5))},
        {"points": (Point(5, 5), Point(5, 20))},
        {"points": (Point(5, 5),), "box": Box(10, 0, 12, 5)},
        {"box": Box(2, 2, 5, 5), "mask": Mask(3, 30, np.ones((2, 2), bool))},
    ],
)
def test_one_part_of_a_prompt_outside_of_the_plane_is_refused(stray):
    with pytest.raises(PromptError, match=r"outside the image.*10 rows and 20 columns"):
        Prompts(**stray).require_inside((10, 20))


def test_what_reaches_out_of_the_plane_and_what_is_outside_of_the_object_are_taken():
    Prompts((Point(5, 5), Point(-50, 5, positive=False)), Box(-5, -5, 3, 3)).require_inside((10, 20))
    with pytest.raises(PromptError, match="nothing says"):
        Prompts((Point(5, 5, positive=False),)).require_inside((10, 20))
