"""Which plane is shown, and which pixel is meant: through every transform, unit and order of axes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from tests.gui.geometries import POSES, show

from napari_sam._napari.coordinates import (
    PlaneError,
    PlaneIndex,
    plane_index,
    to_image_pixels,
    visible_box,
    world_to_pixels,
)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("name", POSES)
def test_plane_index_is_the_plane_that_napari_slices(name):
    """Every pixel holds another value: napari's own slice says which plane it took."""
    viewer = ViewerModel()
    image = show(viewer, POSES[name])
    plane = plane_index(viewer, image)
    ours = image.data[plane.slices]
    # The thumbnail is made of the slice; its source is compared through the values under the mouse.
    for y, x in ((0, 0), (3, 7), (ours.shape[0] - 1, ours.shape[1] - 1)):
        full = plane.embed([[x, y] if plane.flipped else [y, x]])[0]
        assert image.data[tuple(full.astype(int))] == ours[y, x]
    assert _sliced(image).tolist() == (ours.T if plane.flipped else ours).tolist()


def _sliced(image) -> np.ndarray:
    """Pixels that napari sliced for the canvas (private in napari, which tests may look at)."""
    return np.asarray(image._slice.image.raw)


def test_moving_the_slider_moves_the_plane_one_by_one():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((7, 9, 10, 11)), scale=(30, 2.5, 0.1, 0.1), translate=(5, -7, 0, 0))
    for t in range(7):
        viewer.dims.set_current_step(0, t)
        for z in range(9):
            viewer.dims.set_current_step(1, z)
            assert plane_index(viewer, image).index == (t, z, None, None)


def test_planes_of_two_stacks_with_different_spacing():
    """The step of the slider is the finest of all layers: it is nobody's index."""
    viewer = ViewerModel()
    fine = viewer.add_image(np.zeros((20, 8, 8)), scale=(1, 1, 1))
    coarse = viewer.add_image(np.zeros((5, 8, 8)), scale=(4, 1, 1))
    viewer.dims.set_current_step(0, 13)
    assert plane_index(viewer, fine).index[0] == 13
    assert plane_index(viewer, coarse).index[0] == 3


def test_a_flat_image_beside_a_stack_has_one_plane():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((5, 8, 9)))
    flat = viewer.add_image(np.zeros((8, 9)))
    assert plane_index(viewer, flat) == PlaneIndex((None, None), 0, 1)


def test_volume_has_no_plane():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((5, 8, 9)))
    viewer.dims.ndisplay = 3
    with pytest.raises(PlaneError, match="2D"):
        plane_index(viewer, image)


def test_slider_outside_the_image_is_said():
    viewer = ViewerModel()
    short = viewer.add_image(np.zeros((5, 8, 9)))
    viewer.add_image(np.zeros((50, 8, 9)))
    viewer.dims.set_current_step(0, 30)
    with pytest.raises(PlaneError, match=r"stands at 30 .* planes 0 to 4"):
        plane_index(viewer, short)


def test_project_and_embed_are_inverse(rng):
    plane = PlaneIndex((3, None, 2, None), 3, 1)
    flat = rng.uniform(0, 50, (6, 2))
    full = plane.embed(flat)
    assert (full[:, 0] == 3).all()
    assert (full[:, 2] == 2).all()
    np.testing.assert_array_equal(full[:, [3, 1]], flat)
    np.testing.assert_array_equal(plane.project(full), flat)


def test_a_point_lies_on_the_nearest_plane_and_without_a_position_on_all():
    plane = PlaneIndex((3, None, None), 1, 2)
    points = [[3, 0, 0], [3.4, 0, 0], [2.6, 0, 0], [2.4, 0, 0], [np.nan, 0, 0]]
    assert plane.holds(points).tolist() == [True, True, True, False, True]


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("name", POSES)
def test_foreign_points_are_converted_through_the_world(name, rng):
    """Points in world coordinates, in micrometres or pixels, come out where the image has them."""
    viewer = ViewerModel()
    image = show(viewer, POSES[name])
    pixels = rng.uniform(0, 30, (5, image.ndim))
    world = np.array([image.data_to_world(p) for p in pixels])
    points = viewer.add_points(world, units=image.units, visible=False)
    np.testing.assert_allclose(to_image_pixels(points.data, points, image), pixels, atol=1e-6)


def test_units_are_converted_where_the_viewer_converts_them():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((40, 40)), scale=(2, 2), units=("um", "um"))
    points = viewer.add_points([[1000, 3000]], units=("nm", "nm"))
    np.testing.assert_allclose(to_image_pixels(points.data, points, image), [[0.5, 1.5]])
    np.testing.assert_allclose(to_image_pixels(points.data, points, image, viewer=viewer), [[0.5, 1.5]])


def test_units_are_ignored_where_the_viewer_ignores_them():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((40, 40)), scale=(2, 2), units=("um", "um"))
    points = viewer.add_points([[10, 30]], units=("nm", "nm"))
    viewer.add_image(np.zeros((40, 40)))
    assert viewer.dims.units is None
    np.testing.assert_allclose(to_image_pixels(points.data, points, image, viewer=viewer), [[5, 15]])


def test_points_with_fewer_axes_lie_on_all_planes():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((5, 40, 40)), scale=(3, 2, 2))
    points = viewer.add_points([[10, 30]])
    np.testing.assert_allclose(to_image_pixels(points.data, points, image), [[np.nan, 5, 15]])


def test_points_with_more_axes_lose_the_leading_ones():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((40, 40)), scale=(2, 2))
    points = viewer.add_points([[7, 10, 30]])
    np.testing.assert_allclose(to_image_pixels(points.data, points, image), [[5, 15]])


@pytest.mark.parametrize("name", [n for n in POSES if "tilted" not in n and "deskewed" not in n])
def test_canvas_position_becomes_the_pixel(name, rng):
    """An image's own transform, in the viewer's units, is undone."""
    viewer = ViewerModel()
    image = show(viewer, POSES[name])
    plane = plane_index(viewer, image)
    for y, x in rng.uniform(0, 30, (4, 2)):
        pixel = plane.embed([[y, x]])[0]
        position = np.array(viewer.dims.point)
        world = np.array(image.data_to_world(pixel))
        if viewer.dims.units is not None:
            world = [
                (w * u).to(v).magnitude
                for w, u, v in zip(world, image.units, viewer.dims.units[-image.ndim :], strict=True)
            ]
        position[-image.ndim :] = world
        np.testing.assert_allclose(world_to_pixels(viewer, image, position), pixel, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "anisotropic", "translated", "units", "3D", "beside nanometres"])
def test_view_covers_the_image_after_reset(name):
    viewer = ViewerModel()
    image = show(viewer, POSES[name])
    viewer.reset_view()
    plane = plane_index(viewer, image)
    height, width = (image.data.shape[a] for a in plane.axes)
    y0, x0, y1, x1 = visible_box(viewer, image)
    assert y0 <= 0
    assert x0 <= 0
    assert y1 >= height
    assert x1 >= width


def test_view_shrinks_with_the_zoom():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((100, 100)), scale=(0.5, 0.5))
    viewer.canvas.size = (400, 600)
    viewer.scene.camera.center = (0, 25, 20)
    viewer.scene.camera.zoom = 40
    # 400 screen pixels at 40 a world unit are 10 world units, or 20 pixels, around pixel 50.
    np.testing.assert_allclose(visible_box(viewer, image), (40.5, 25.5, 60.5, 55.5))
