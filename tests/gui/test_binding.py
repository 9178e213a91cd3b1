"""Prompts from layers: every edit is told once, on the right plane, and layers may come and go."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from tests.gui.bound import Bound
from tests.gui.geometries import POSES, show

from napari_sam._napari.binding import PromptBinding
from napari_sam._napari.coordinates import plane_index
from napari_sam.masks import Box
from napari_sam.prompts import Point

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


def test_adding_moving_and_deleting_clicks_is_told_once_each(bound):
    points = bound.binding.points
    bound.news()
    points.add([[10, 20]])
    assert (bound.news(), bound.points()) == (1, [(10, 20, True)])
    points.add([[11, 21], [12, 22]])
    assert (bound.news(), len(bound.points())) == (1, 3)
    points.selected_data = {0}
    points.remove_selected()
    assert (bound.news(), bound.points()) == (1, [(11, 21, True), (12, 22, True)])
    points.data = [[5, 6]]
    assert (bound.news(), bound.points()) == (1, [(5, 6, True)])


def test_sign_of_the_next_click(bound):
    signs = []
    bound.binding.sign_changed.connect(signs.append)
    bound.binding.points.add([10, 20])
    bound.binding.toggle_sign()
    bound.binding.points.add([11, 21])
    bound.binding.sign = "+"
    bound.binding.points.add([12, 22])
    assert signs == ["-", "+"]
    assert bound.points() == [(10, 20, True), (11, 21, False), (12, 22, True)]
    green, red, again = bound.binding.points.face_color
    assert green.tolist() == again.tolist() != red.tolist()
    with pytest.raises(ValueError, match="A sign is"):
        bound.binding.sign = "maybe"


def test_flipping_selected_clicks(bound):
    points = bound.binding.points
    points.add([[10, 20], [11, 21]])
    before = points.face_color.copy()
    points.mode = "select"
    points.selected_data = {1}
    bound.news()
    bound.binding.toggle_sign()
    assert (bound.news(), bound.points()) == (1, [(10, 20, True), (11, 21, False)])
    assert points.face_color[0].tolist() == before[0].tolist()
    assert points.face_color[1].tolist() != before[1].tolist()
    assert bound.binding.sign == "+"


def test_selecting_a_click_does_not_change_the_sign_of_the_next(bound):
    points = bound.binding.points
    points.add([10, 20])
    bound.binding.sign = "-"
    points.add([11, 21])
    bound.binding.sign = "+"
    points.mode = "select"
    points.selected_data = {1}
    points.selected_data = set()
    points.add([12, 22])
    assert bound.points()[-1] == (12, 22, True)


def test_sign_edited_in_the_features_table(bound):
    points = bound.binding.points
    points.add([[10, 20], [11, 21]])
    bound.news()
    points.features = {"sign": np.array(["+", "-"], dtype=object)}
    assert (bound.news(), bound.points()) == (1, [(10, 20, True), (11, 21, False)])


@pytest.mark.parametrize("start", [(9.5, 4.5), (19.5, 4.5), (9.5, 14.5), (19.5, 14.5)])
def test_box_in_any_direction(bound, start):
    other = (29 - start[0], 19 - start[1])
    corners = [start, (start[0], other[1]), other, (other[0], start[1])]
    bound.binding.shapes.add_rectangles([corners])
    assert bound.binding.read(bound.plane).box == Box(10, 5, 20, 15)
    assert bound.news() == 1


def test_box_over_the_border_is_cut(bound):
    bound.binding.shapes.add_rectangles([[(-20, 30), (-20, 99), (9.5, 99), (9.5, 30)]])
    assert bound.binding.read(bound.plane).box == Box(0, 30.5, 10, 50)


@pytest.mark.parametrize("corners", [((-9, -9), (-3, -3)), ((10, 10), (10.2, 30)), ((60, 10), (70, 30))])
def test_box_without_a_pixel_says_nothing(bound, corners):
    (y0, x0), (y1, x1) = corners
    bound.binding.shapes.add_rectangles([[(y0, x0), (y0, x1), (y1, x1), (y1, x0)]])
    assert not bound.binding.read(bound.plane)
    assert bound.binding.read_each(bound.plane) == []


def test_polygon_and_ellipse_are_masks_with_their_boxes(bound):
    bound.binding.shapes.add_polygons([[(5, 5), (5, 15), (15, 5)]])
    prompts = bound.binding.read(bound.plane)
    assert prompts.mask.to_plane((40, 50))[6, 6]
    assert not prompts.mask.to_plane((40, 50))[14, 14]
    assert prompts.box == prompts.mask.box
    bound.binding.shapes.data = []
    bound.binding.shapes.add_ellipses([[(10, 10), (10, 30), (20, 30), (20, 10)]])
    prompts = bound.binding.read(bound.plane)
    assert prompts.mask.area == pytest.approx(np.pi * 5 * 10, rel=0.05)
    assert prompts.box == Box(10, 10, 21, 31)


def test_scribbles_are_points_with_the_sign_of_the_moment(bound):
    bound.binding.shapes.add_paths([[(5, 5), (5, 45)]])
    bound.binding.sign = "-"
    bound.binding.shapes.add_lines([[(30, 5), (30, 45)]])
    points = bound.points()
    assert {y for y, _, positive in points if positive} == {5}
    assert {y for y, _, positive in points if not positive} == {30}
    assert bound.binding.shapes.edge_color[0].tolist() != bound.binding.shapes.edge_color[1].tolist()


def test_a_box_has_no_sign(bound):
    bound.binding.sign = "-"
    assert not len(bound.binding.shapes.data)
    bound.news()
    bound.binding.shapes.add_rectangles([[(5, 5), (5, 15), (15, 15), (15, 5)]])
    assert bound.news() == 1
    assert bound.binding.shapes.features["sign"].tolist() == ["+"]
    bound.binding.shapes.add_paths([[(5, 5), (5, 45)]])
    assert bound.binding.shapes.features["sign"].tolist() == ["+", "-"]


def test_merged_and_each(bound):
    bound.binding.points.add([[10, 20], [30, 40]])
    bound.binding.sign = "-"
    bound.binding.points.add([2, 2])
    bound.binding.shapes.add_rectangles([[(5, 5), (5, 15), (15, 15), (15, 5)]])
    one = bound.binding.read(bound.plane)
    assert len(one.points) == 3
    assert one.box is not None
    first, second, box = bound.binding.read_each(bound.plane)
    assert first.points == (Point(10, 20), Point(2, 2, False))
    assert second.points == (Point(30, 40), Point(2, 2, False))
    assert box.points == (Point(2, 2, False),)
    assert box.box == one.box


def test_only_the_plane_on_show_speaks():
    bound = Bound((5, 40, 50), scale=(3, 0.5, 0.5))
    bound.viewer.dims.set_current_step(0, 1)
    bound.binding.points.add(bound.at((10, 20)))
    bound.binding.shapes.add_rectangles([bound.at((5, 5), (5, 15), (15, 15), (15, 5))])
    assert len(bound.points()) == 1
    bound.viewer.dims.set_current_step(0, 2)
    assert not bound.binding.read(bound.plane)
    bound.binding.points.add(bound.at((11, 21)))
    bound.binding.clear(bound.plane)
    assert not bound.binding.read(bound.plane)
    bound.viewer.dims.set_current_step(0, 1)
    assert bound.points() == [(10, 20, True)]
    assert bound.binding.read(bound.plane).box is not None


def test_clicks_outside_the_image_say_nothing(bound):
    bound.binding.points.add([[-0.4, 49.4], [-0.6, 10], [10, 49.5], [100, 100]])
    assert bound.points() == [(-0.4, 49.4, True)]


def test_clear_tells_once_and_leaves_nothing(bound):
    bound.binding.points.add([[10, 20], [11, 21]])
    bound.binding.shapes.add_rectangles([[(5, 5), (5, 15), (15, 15), (15, 5)]])
    bound.news()
    bound.binding.clear(bound.plane)
    assert bound.news() == 1
    assert len(bound.binding.points.data) == len(bound.binding.shapes.data) == 0


def test_snapshot_and_restore(bound):
    bound.binding.points.add([10, 20])
    bound.binding.sign = "-"
    bound.binding.points.add([11, 21])
    bound.binding.shapes.add_ellipses([[(10, 10), (10, 30), (20, 30), (20, 10)]])
    bound.binding.shapes.add_paths([[(5, 5), (5, 45)]])
    adopted = bound.viewer.add_points([[3.0, 4.0]])
    bound.binding.adopt(adopted)
    before = bound.binding.read(bound.plane)
    noted = bound.binding.snapshot()
    bound.binding.clear(bound.plane)
    bound.news()
    bound.binding.restore(noted, [bound.plane])
    assert bound.news() == 1
    after = bound.binding.read(bound.plane)
    assert after.points == before.points
    assert after.box == before.box
    assert after.mask.area == before.mask.area
    assert bound.binding.sign == "-"
    bound.binding.points.add([12, 22])
    assert (12, 22, False) in bound.points()


def test_restore_leaves_other_planes_as_they_are():
    bound = Bound((3, 40, 50))
    bound.viewer.dims.set_current_step(0, 0)
    first = bound.plane
    bound.binding.points.add([0, 10, 20])
    bound.binding.shapes.add_rectangles([[(0, 5, 5), (0, 5, 15), (0, 15, 15), (0, 15, 5)]])
    noted = bound.binding.snapshot()
    bound.binding.clear(first)
    bound.viewer.dims.set_current_step(0, 2)
    bound.binding.sign = "-"
    bound.binding.points.add([2, 30, 30])
    bound.binding.shapes.add_rectangles([[(2, 5, 5), (2, 5, 25), (2, 25, 25), (2, 25, 5)]])
    later = bound.binding.read(bound.plane)
    bound.binding.restore(noted, [first])
    assert bound.binding.read(bound.plane) == later
    again = bound.binding.read(first)
    assert [(p.y, p.x, p.positive) for p in again.points] == [(10, 20, True)]
    assert again.box == Box(5.5, 5.5, 15.5, 15.5)


def test_restore_makes_removed_layers_again(bound):
    bound.binding.points.add([10, 20])
    noted = bound.binding.snapshot()
    bound.viewer.layers.clear()
    bound.viewer.layers.append(bound.image)
    bound.binding.restore(noted, [bound.plane])
    assert bound.points() == [(10, 20, True)]


def test_removed_layers_are_forgotten_and_made_again(bound):
    first = bound.binding.points
    first.add([10, 20])
    theirs = bound.viewer.add_points([[30, 40]])
    bound.binding.adopt(theirs)
    bound.news()
    bound.viewer.layers.remove(first)
    assert (bound.news(), bound.points()) == (1, [(30, 40, True)])
    bound.viewer.layers.remove(theirs)
    assert (bound.news(), bound.points()) == (1, [])
    first.add([1, 1])
    theirs.add([1, 1])
    assert bound.news() == 0
    bound.binding.points.add([11, 21])
    assert bound.points() == [(11, 21, True)]
    assert bound.binding.points is not first


def test_renamed_and_reordered_layers_are_still_read(bound):
    bound.binding.points.name = "something else"
    bound.binding.shapes.name = bound.image.name
    bound.viewer.layers.reverse()
    bound.news()
    bound.binding.points.add([10, 20])
    assert (bound.news(), bound.points()) == (1, [(10, 20, True)])


def test_reopening_finds_the_layers_again(bound):
    bound.binding.points.add([10, 20])
    bound.binding.disconnect()
    again = PromptBinding(bound.viewer, bound.image)
    assert again.read(bound.plane).points == (Point(10, 20),)
    assert len(bound.viewer.layers) == 2


def test_reopening_after_the_image_was_scaled(bound):
    bound.binding.points.add([10, 20])
    bound.binding.disconnect()
    bound.image.scale = (0.5, 0.5)
    bound.binding = PromptBinding(bound.viewer, bound.image)
    assert bound.binding.points.scale.tolist() == [0.5, 0.5]
    assert bound.points() == [(10, 20, True)]


def test_disconnect_is_complete(bound):
    points = bound.binding.points
    theirs = bound.viewer.add_points([[30, 40]])
    bound.binding.adopt(theirs)
    bound.binding.disconnect()
    bound.news()
    points.add([1, 1])
    theirs.add([1, 1])
    bound.image.scale = (2, 2)
    bound.viewer.layers.remove(points)
    assert bound.news() == 0


def test_nothing_holds_a_binding_that_was_disconnected(bound):
    _ = bound.binding.points, bound.binding.shapes
    gone = weakref.ref(bound.binding)
    bound.binding.disconnect()
    bound.binding = None
    gc.collect()
    assert gone() is None


def test_disconnect_may_remove_the_own_layers(bound):
    bound.binding.points.add([10, 20])
    theirs = bound.viewer.add_points([[30, 40]])
    bound.binding.adopt(theirs)
    bound.binding.disconnect(remove_layers=True)
    assert list(bound.viewer.layers) == [bound.image, theirs]


def test_clicks_stay_on_their_pixels_when_the_image_moves(bound):
    bound.binding.points.add([10, 20])
    bound.image.scale = (0.5, 2)
    bound.image.rotate = 30
    bound.image.units = ("um", "um")
    assert bound.points() == [(10, 20, True)]
    np.testing.assert_allclose(
        bound.binding.points.data_to_world((10, 20)), bound.image.data_to_world((10, 20))
    )


def test_clicks_stay_on_their_pixels_when_the_viewer_changes_its_units():
    bound = Bound((40, 50), scale=(0.5, 0.5), units=("um", "um"))
    bound.binding.points.add([10, 20])
    bound.news()
    fine = bound.viewer.add_image(np.zeros((9, 9)), units=("nm", "nm"))
    assert bound.points() == [(10, 20, True)]
    # What napari does with a click at 6 µm, 11 µm, now that it counts in nanometres.
    bound.binding.points.add(bound.binding.points.world_to_data((6000, 11000)))
    assert bound.points()[1] == pytest.approx((12, 22, True))
    bound.viewer.layers.remove(fine)
    assert bound.points()[1] == pytest.approx((12, 22, True))
    bound.binding.points.add(bound.binding.points.world_to_data((6, 11)))
    assert bound.points()[2] == pytest.approx((12, 22, True))
    assert bound.news() == 2


@pytest.mark.parametrize("name", POSES)
def test_clicks_of_every_pose_are_read_where_they_are(name):
    viewer = ViewerModel()
    image = show(viewer, POSES[name])
    binding = PromptBinding(viewer, image)
    plane = plane_index(viewer, image)
    shape = [image.data.shape[a] for a in plane.axes]
    # napari's own conversion of a mouse position over the pixel.
    binding.points.add(plane.embed([[shape[0] - 3, shape[1] - 8]]))
    binding.points.add(binding.points.world_to_data(binding.points.data_to_world(plane.embed([[3, 4]])[0])))
    found = [(p.y, p.x) for p in binding.read(plane).points]
    np.testing.assert_allclose(found, [(shape[0] - 3, shape[1] - 8), (3, 4)], atol=1e-6)


def test_channels_do_not_matter_for_prompts():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 3, 20, 30)))
    binding = PromptBinding(viewer, image, channel_axis=1)
    binding.points.add([2, 0, 5, 6])
    binding.points.add([2, 2, 7, 8])
    binding.points.add([1, 2, 9, 9])
    viewer.dims.set_current_step(0, 2)
    plane = plane_index(viewer, image)
    plane = type(plane)((2, None, None, None), 2, 3)
    assert [(p.y, p.x) for p in binding.read(plane).points] == [(5, 6), (7, 8)]


def test_tools_take_up_the_layer_they_need(bound):
    for tool, mode in {
        "point": "add",
        "box": "add_rectangle",
        "polygon": "add_polygon",
        "ellipse": "add_ellipse",
        "scribble": "add_path",
    }.items():
        bound.binding.use(tool)
        layer = bound.binding.points if tool == "point" else bound.binding.shapes
        assert bound.viewer.layers.selection.active is layer
        assert layer.mode == mode
