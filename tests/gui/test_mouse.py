"""A real mouse on the real canvas: what is clicked and drawn there is a prompt on these pixels.

The truth is the screen: one pixel of the image is white, and the mouse goes where it appears.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from tests.gui.canvas import bright_spot, canvas_of, click, double_click, drag, move, picture_of
from tests.gui.geometries import POSES, show

from napari_sam._napari.binding import PromptBinding
from napari_sam._napari.commit import commit_mask
from napari_sam._napari.coordinates import plane_index, visible_box, world_to_pixels
from napari_sam._napari.layers import add_labels_layer, add_preview_layer
from napari_sam.masks import Mask

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")]

EASY = {"plain", "anisotropic", "translated", "units", "rotated", "sheared", "transposed"}
EASY |= {"3D", "3D rotated", "3D from the side", "3D beside nanometres"}
HARD = [name for name in POSES if name not in EASY]
"""Poses that hold all of the easy ones' difficulties: each costs seconds on the screen."""


@contextmanager
def posed(viewer, name):
    """Show an image in a pose with one white pixel, two thirds across; the mouse's layer on top."""
    viewer.layers.clear()
    viewer.dims.order = tuple(range(viewer.dims.ndim))
    pose = POSES[name]
    image = show(viewer, pose, np.zeros(pose.shape, np.float32))
    image.contrast_limits = (0, 1)
    plane = plane_index(viewer, image)
    view = image.data[plane.slices]
    view = view.T if plane.flipped else view
    target = (view.shape[0] // 3, view.shape[1] * 3 // 4)
    view[target] = 1
    image.refresh()
    binding = PromptBinding(viewer, image)
    binding.use("point")
    viewer.reset_view()
    try:
        yield image, plane, target, binding
    finally:
        binding.disconnect()


def at_cursor(viewer, image):
    """Position of the mouse in image pixels."""
    return world_to_pixels(viewer, image, viewer.cursor.position)


@pytest.mark.slow
def test_clicks_labels_and_preview_are_on_the_pixel_in_any_pose(make_napari_viewer):
    """One viewer for all poses: a window costs more than all that is done in it."""
    viewer = make_napari_viewer(show=True)
    pixels, places = {}, {}
    for name in HARD:
        with posed(viewer, name) as (image, plane, target, binding):
            spot = bright_spot(viewer)
            move(viewer, spot)
            pixels[name, "hover"] = plane.project(at_cursor(viewer, image))[0] - target
            click(viewer, spot)
            (point,) = binding.read(plane).points
            pixels[name, "click"] = np.array([point.y, point.x]) - target
            labels = add_labels_layer(viewer, image)
            commit_mask(labels, plane, Mask(*target, np.ones((1, 1), bool)), label=1)
            image.visible = binding.points.visible = False
            places[name, "labels"] = coloured_spot(viewer) - spot
            labels.visible = False
            preview = add_preview_layer(viewer, image, plane)
            flat = preview.data[tuple(slice(None) if a in plane.axes else 0 for a in range(plane.ndim))]
            (flat.T if plane.flipped else flat)[target] = 1
            preview.refresh()
            places[name, "preview"] = coloured_spot(viewer) - spot
    assert len(pixels) == 2 * len(HARD)
    assert not {what: off for what, off in pixels.items() if np.abs(off).max() > 0.5}
    assert not {what: off for what, off in places.items() if np.abs(off).max() > 1.5}


def coloured_spot(viewer) -> np.ndarray:
    """Centre of what has a colour on the canvas."""
    picture = picture_of(viewer).astype(int)
    where = np.argwhere(np.ptp(picture, axis=-1) > 30)
    assert len(where), "nothing on the canvas has a colour"
    return where.mean(axis=0)


@pytest.fixture
def drawing(make_napari_viewer):
    """A turned, anisotropic image, and where its pixels are on the canvas."""
    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(np.zeros((60, 80), np.float32), scale=(0.5, 0.4), rotate=20, units=("um", "um"))
    image.contrast_limits = (0, 1)
    viewer.reset_view()
    binding = PromptBinding(viewer, image)
    picture_of(viewer)
    middle = np.array([canvas_of(viewer).height(), canvas_of(viewer).width()]) / 2
    camera = viewer.scene.camera
    pixels = ((15, 20), (15, 60), (45, 60), (45, 20), (30, 40))
    spots = {
        pixel: tuple(middle + (np.array(image.data_to_world(pixel)) - camera.center[-2:]) * camera.zoom)
        for pixel in pixels
    }
    yield viewer, binding, spots
    binding.disconnect()


@pytest.mark.parametrize(
    ("start", "end"), [((15, 20), (45, 60)), ((45, 60), (15, 20)), ((15, 60), (45, 20)), ((45, 20), (15, 60))]
)
def test_box_is_dragged_in_any_direction(drawing, start, end):
    viewer, binding, spots = drawing
    plane = plane_index(viewer, binding.image_layer)
    binding.use("box")
    told = []
    binding.prompts_changed.connect(lambda: told.append(binding.read(plane).box))
    drag(viewer, [spots[start], spots[30, 40], spots[end]])
    assert len(told) == 1
    corners = np.array([start, end])
    np.testing.assert_allclose(told[0][:2], corners.min(axis=0) + 0.5, atol=0.7)
    np.testing.assert_allclose(told[0][2:], corners.max(axis=0) + 0.5, atol=0.7)


def test_polygon_is_clicked_and_finished_with_a_double_click(drawing):
    viewer, binding, spots = drawing
    plane = plane_index(viewer, binding.image_layer)
    binding.use("polygon")
    for pixel in ((15, 20), (15, 60), (45, 60)):
        click(viewer, spots[pixel])
    move(viewer, spots[45, 20])
    double_click(viewer, spots[45, 20])
    prompts = binding.read(plane)
    assert prompts.mask.area == pytest.approx(30 * 40, rel=0.1)
    assert np.allclose(prompts.box, (15, 20, 46, 61), atol=1.5)


def test_scribble_is_a_path_of_points(drawing):
    viewer, binding, spots = drawing
    plane = plane_index(viewer, binding.image_layer)
    binding.use("scribble")
    click(viewer, spots[15, 20])
    click(viewer, spots[30, 40])
    move(viewer, spots[45, 60])
    double_click(viewer, spots[45, 60])
    points = binding.read(plane).points
    assert len(points) >= 3
    for point in points:
        assert abs((point.y - 15) / 30 - (point.x - 20) / 40) < 0.05


def test_click_is_dragged_and_deleted(drawing):
    viewer, binding, spots = drawing
    plane = plane_index(viewer, binding.image_layer)
    binding.use("point")
    click(viewer, spots[15, 20])
    binding.use("select")
    told = []
    binding.prompts_changed.connect(lambda: told.append(binding.read(plane)))
    drag(viewer, [spots[15, 20], spots[30, 40], spots[45, 60]])
    assert len(told) == 1
    (point,) = told[0].points
    assert (point.y, point.x) == pytest.approx((45, 60), abs=0.6)
    binding.points.remove_selected()
    assert not binding.read(plane)
    assert len(told) == 2


def test_view_box_is_what_the_canvas_shows(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(np.zeros((300, 400)), scale=(0.5, 0.25), translate=(7, 8))
    viewer.scene.camera.zoom *= 4
    canvas = canvas_of(viewer)
    height, width = canvas.height(), canvas.width()
    picture_of(viewer)
    y0, x0, y1, x1 = visible_box(viewer, image)
    move(viewer, (1, 1))
    np.testing.assert_allclose(at_cursor(viewer, image), (y0 - 0.5, x0 - 0.5), atol=1)
    move(viewer, (height - 2, width - 2))
    np.testing.assert_allclose(at_cursor(viewer, image), (y1 - 0.5, x1 - 0.5), atol=1)
