"""What drawn shapes say, as pure functions."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam._napari.prompt_layers import box_around, outline_mask, scribble, shape_prompts
from napari_sam.masks import Box


def test_box_along_pixel_edges():
    corners = np.array([(-0.5, 1.5), (9.5, 1.5), (9.5, 4.5), (-0.5, 4.5)])
    assert box_around(corners, (40, 50)) == Box(0, 2, 10, 5)


def test_outline_takes_the_pixels_whose_centres_it_holds():
    square = np.array([(1.5, 2.5), (1.5, 6.5), (4.5, 6.5), (4.5, 2.5)])
    mask = outline_mask(square, (40, 50))
    assert mask.box == Box(2, 3, 5, 7)
    assert mask.pixels.all()
    assert outline_mask(square + 100, (40, 50)).area == 0
    assert outline_mask(square - (3, 4), (40, 50)).box == Box(0, 0, 2, 3)


@pytest.mark.parametrize(("length", "count"), [(1, 2), (24, 3), (60, 6), (1000, 8)])
def test_scribble_is_evenly_sampled(length, count):
    points = scribble(np.array([(0.0, 0.0), (0.0, length / 2), (0.0, length)]))
    assert len(points) == count
    np.testing.assert_allclose(np.diff(points[:, 1]), length / count)
    assert points[0, 1] > 0
    assert points[-1, 1] < length


def test_scribble_that_never_moved():
    assert len(scribble(np.array([(3.0, 4.0), (3.0, 4.0)]))) == 2


def test_turned_ellipse_and_rectangle():
    turned = np.array([(20, 10), (30, 20), (20, 30), (10, 20)], float)
    box = shape_prompts(turned, "rectangle", (60, 60)).box
    assert box == Box(10.5, 10.5, 30.5, 30.5)
    circle = shape_prompts(turned, "ellipse", (60, 60)).mask
    assert circle.area == pytest.approx(np.pi * 50, rel=0.05)
