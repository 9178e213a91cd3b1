"""Layers of the person whose content is taken as prompts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.gui.bound import Bound

from napari_sam.masks import Box

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


def test_adopted_points_with_and_without_signs(bound):
    plain = bound.viewer.add_points([[10, 20], [30, 40]])
    signed = bound.viewer.add_points([[1, 2], [3, 4]], features={"sign": ["-", "+"]})
    bound.binding.adopt(plain)
    bound.binding.adopt(signed)
    assert bound.news() == 2
    assert bound.points() == [(10, 20, True), (30, 40, True), (1, 2, False), (3, 4, True)]
    plain.add([5, 5])
    assert (bound.news(), len(bound.points())) == (1, 5)


def test_adopted_points_in_other_units_and_places():
    bound = Bound((40, 50), scale=(0.5, 0.5), units=("um", "um"))
    theirs = bound.viewer.add_points([[5000, 10000]], units=("nm", "nm"), translate=(0, 500))
    bound.binding.adopt(theirs)
    assert bound.points() == [(10, 21, True)]
    bound.news()
    theirs.translate = (500, 500)
    assert bound.news() == 1
    assert bound.points() == [(11, 21, True)]


def test_adopted_points_that_are_hidden_one_by_one(bound):
    theirs = bound.viewer.add_points([[10, 20], [30, 40]], shown=[True, False])
    bound.binding.adopt(theirs)
    assert bound.points() == [(10, 20, True)]


def test_adopted_shapes(bound):
    theirs = bound.viewer.add_shapes(
        [[(5, 5), (5, 15), (15, 15), (15, 5)]], shape_type="rectangle", scale=(2, 2), translate=(1, 1)
    )
    bound.binding.adopt(theirs)
    assert bound.binding.read(bound.plane).box == Box(11.5, 11.5, 31.5, 31.5)


def test_adopted_points_with_more_axes_speak_where_the_sliders_are(bound):
    """Spots of a time series on one image: only those of the time on show."""
    theirs = bound.viewer.add_points([[0, 10, 20], [2, 30, 40]], scale=(5, 1, 1))
    bound.binding.adopt(theirs)
    bound.viewer.dims.set_point(0, 10)
    assert bound.points() == [(30, 40, True)]
    bound.viewer.dims.set_point(0, 0)
    assert bound.points() == [(10, 20, True)]


def test_adopted_labels(bound):
    labels = bound.viewer.add_labels(np.zeros((40, 50), int))
    labels.data[5:9, 6:12] = 1
    labels.data[20:30, 20:30] = 4
    bound.binding.adopt(labels)
    assert bound.binding.read(bound.plane).mask.area == 24
    bound.news()
    labels.selected_label = 4
    assert bound.news() == 1
    assert bound.binding.read(bound.plane).box == Box(20, 20, 30, 30)
    assert [p.mask.area for p in bound.binding.read_each(bound.plane)] == [24, 100]
    labels.data_setitem((np.array([31]), np.array([31])), 4)
    assert bound.news() == 1
    assert bound.binding.read(bound.plane).mask.area == 101


def test_an_adopted_label_that_moved_within_its_box_is_no_longer_used_up(bound):
    """Its place, its size and its number of pixels stay: only the pixels themselves tell."""
    labels = bound.viewer.add_labels(np.zeros((40, 50), int))
    labels.data[5:9, 6:12] = 1
    labels.data[6, 7] = 0
    bound.binding.adopt(labels)
    bound.binding.clear(bound.plane)
    assert not bound.binding.read(bound.plane)
    labels.data_setitem((np.array([6]), np.array([7])), 1)
    labels.data_setitem((np.array([7]), np.array([8])), 0)
    assert bound.binding.read(bound.plane).mask.area == 23
    labels.data_setitem((np.array([7]), np.array([8])), 1)
    labels.data_setitem((np.array([6]), np.array([7])), 0)
    assert not bound.binding.read(bound.plane), "it is again what was used up"


def test_adopted_labels_of_another_scale():
    bound = Bound((40, 60))
    labels = bound.viewer.add_labels(np.zeros((10, 15), int), scale=(4, 4), translate=(1.5, 1.5))
    labels.data[2:4, 5:7] = 1
    bound.binding.adopt(labels)
    assert bound.binding.read(bound.plane).box == Box(8, 20, 16, 28)
    assert bound.binding.read(bound.plane).mask.area == 64


def test_adopted_labels_of_a_stack_speak_plane_by_plane():
    bound = Bound((5, 40, 50), scale=(3, 1, 1))
    labels = bound.viewer.add_labels(np.zeros((5, 40, 50), int), scale=(3, 1, 1))
    labels.data[2, 5:9, 6:12] = 1
    bound.binding.adopt(labels)
    bound.viewer.dims.set_current_step(0, 2)
    assert bound.binding.read(bound.plane).mask.area == 24
    bound.viewer.dims.set_current_step(0, 3)
    assert not bound.binding.read(bound.plane)


def test_what_was_used_up_of_an_adopted_layer_stays_in_it(bound):
    theirs = bound.viewer.add_points([[10, 20], [30, 40]])
    labels = bound.viewer.add_labels(np.ones((40, 50), int))
    bound.binding.adopt(theirs)
    bound.binding.adopt(labels)
    bound.binding.clear(bound.plane)
    assert len(theirs.data) == 2
    assert labels.data.all()
    assert not bound.binding.read(bound.plane)
    theirs.add([5, 5])
    assert bound.points() == [(5, 5, True)]
    theirs.data = [[10, 20], [30, 41]]
    assert bound.points() == [(30, 41, True)]


def test_copies_of_the_own_layers_may_be_adopted(bound):
    bound.binding.points.add([[10, 20]])
    mine = bound.viewer.add_points([[5, 5]], name="mine")
    (copy,) = (
        bound.viewer.add_layer(type(x).create(*x.as_layer_data_tuple())) for x in [bound.binding.points]
    )
    assert bound.binding.adoptable == [mine, copy]
    bound.viewer.layers.remove(bound.binding.points)
    assert bound.points() == []
    bound.binding.adopt(copy)
    assert bound.points() == [(10, 20, True)]


def test_released_layers_are_silent(bound):
    theirs = bound.viewer.add_points([[10, 20]])
    bound.binding.adopt(theirs)
    bound.binding.adopt(theirs)
    bound.binding.release(theirs)
    bound.news()
    theirs.add([5, 5])
    assert bound.news() == 0
    assert bound.points() == []
    assert bound.binding.adopted == ()


def test_an_image_is_no_prompt(bound):
    with pytest.raises(TypeError, match="Expected a Points, Shapes or Labels layer"):
        bound.binding.adopt(bound.image)
