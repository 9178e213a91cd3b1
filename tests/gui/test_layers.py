"""Twins of an image lie on it, follow it, and are told from other layers by a mark."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from napari.layers._layer_actions import _convert, _duplicate_layer
from tests.gui.geometries import POSES, show, turned

from napari_sam._napari.coordinates import plane_index, same_geometry, to_image_pixels
from napari_sam._napari.layers import (
    add_labels_layer,
    add_points_layer,
    add_preview_layer,
    add_shapes_layer,
    is_filling,
    own_layers,
    place_preview,
    realign,
    remove_layer,
    role_of,
    set_filling,
    shown_twin,
    twin,
    twin_plane,
    while_removing,
)

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
UPRIGHT = [name for name in POSES if "tilted" not in name and "deskewed" not in name]


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.mark.parametrize("name", POSES)
def test_twin_has_the_same_pixels(viewer, name):
    image = show(viewer, POSES[name])
    other = Image(np.zeros(image.data.shape), **twin(image))
    assert same_geometry(other, image)
    assert other.axis_labels == image.axis_labels


@pytest.mark.parametrize("name", [n for n in UPRIGHT if n.startswith(("3D", "4D")) and "side" not in n])
def test_twin_of_the_last_axes(viewer, name, rng):
    image = show(viewer, POSES[name])
    flat = Image(np.zeros((40, 50)), **twin(image, 2))
    points = rng.uniform(0, 40, (4, 2))
    expected = np.pad(points, ((0, 0), (image.ndim - 2, 0)), constant_values=np.nan)
    np.testing.assert_allclose(to_image_pixels(points, flat, image), expected, atol=1e-9)


def test_twin_has_no_more_axes_than_its_layer():
    with pytest.raises(ValueError, match="at most the 2 axes"):
        twin(Image(np.zeros((4, 5))), 3)


@pytest.mark.parametrize("name", POSES)
def test_labels_have_the_image_geometry_and_shape(viewer, name):
    image = show(viewer, POSES[name])
    labels = add_labels_layer(viewer, image)
    assert same_geometry(labels, image)
    assert labels.data.shape == image.data.shape
    assert labels.units == image.units


@pytest.mark.parametrize("name", UPRIGHT)
def test_layers_to_click_in_are_seen_where_the_image_is(viewer, name, rng):
    """In the viewer's units perhaps, but the same place."""
    image = show(viewer, POSES[name])
    for layer in (add_points_layer(viewer, image), add_shapes_layer(viewer, image)):
        data = rng.uniform(0, 30, (4, image.ndim))
        np.testing.assert_allclose(to_image_pixels(data, layer, image, viewer=viewer), data, atol=1e-6)
        units = viewer.dims.units
        assert units is None or layer.units == units[-image.ndim :]


@pytest.mark.parametrize("name", POSES)
def test_a_click_in_a_twin_is_in_the_plane_on_display(viewer, name, rng):
    """napari takes ``layer.world_to_data`` of the mouse position; that has to be the pixel on display."""
    image = show(viewer, POSES[name])
    points = add_points_layer(viewer, image)
    plane = plane_index(viewer, image)
    assert plane_index_of_slice(points, viewer) == [i for i in plane.index if i is not None]


def plane_index_of_slice(layer, viewer) -> list[int]:
    """Where a click anywhere on the canvas goes on the axes that are not displayed."""
    data = layer.world_to_data(viewer.dims.point)
    displayed = viewer.dims.displayed
    lead = viewer.dims.ndim - layer.ndim
    return [round(v) for axis, v in enumerate(data) if axis + lead not in displayed]


@pytest.mark.parametrize("name", POSES)
def test_preview_lies_on_the_plane_and_moves_with_it(viewer, name):
    image = show(viewer, POSES[name])
    plane = plane_index(viewer, image)
    preview = add_preview_layer(viewer, image, plane)
    assert preview.data.size == np.prod([image.data.shape[a] for a in plane.axes])
    # On the axes that are not displayed, the slider has to find the preview's only pixel.
    assert plane_index_of_slice(preview, viewer) == [0] * (image.ndim - 2)
    for axis, position in enumerate(plane.index):
        if position:
            moved = plane.moved(axis, position - 1)
            place_preview(preview, moved)
            assert any(plane_index_of_slice(preview, viewer))
            place_preview(preview, plane)
            assert not any(plane_index_of_slice(preview, viewer))


def test_channels_that_come_first_are_left_out(viewer):
    image = viewer.add_image(np.zeros((3, 5, 20, 30)), scale=(1, 4, 0.5, 0.5))
    labels = add_labels_layer(viewer, image, channel_axis=0)
    assert labels.data.shape == (5, 20, 30)
    assert add_points_layer(viewer, image, channel_axis=0).ndim == 3
    assert add_labels_layer(viewer, image, channel_axis=1).data.shape == (3, 5, 20, 30)
    viewer.dims.set_current_step(1, 3)
    assert twin_plane(plane_index(viewer, image), 3).index == (3, None, None)


def test_plane_that_a_twin_does_not_hold(viewer):
    image = viewer.add_image(np.zeros((5, 20, 30)))
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(ValueError, match="does not hold the plane"):
        twin_plane(plane_index(viewer, image), 2)


def test_layers_follow_their_image(viewer):
    image = viewer.add_image(np.zeros((5, 20, 30)))
    plane = plane_index(viewer, image)
    layers = [
        add_points_layer(viewer, image),
        add_shapes_layer(viewer, image),
        add_labels_layer(viewer, image),
        add_preview_layer(viewer, image, plane),
    ]
    image.scale = (4, 0.5, 0.25)
    image.rotate = turned(3, 10)
    image.translate = (7, 8, 9)
    image.units = ("um", "um", "um")
    realign(viewer, image)
    for layer in layers:
        assert layer.units == image.units
        corner = np.array([plane.index[0] if layer is not layers[3] else 0, 3, 4])
        expected = image.data_to_world((plane.index[0], 3, 4))
        np.testing.assert_allclose(layer.data_to_world(corner), expected)


def test_own_layers_are_known_by_their_mark(viewer):
    image, other = viewer.add_image(np.zeros((20, 30))), viewer.add_image(np.zeros((20, 30)))
    points = add_points_layer(viewer, image)
    labels = add_labels_layer(viewer, image)
    viewer.add_points(np.zeros((1, 2)), name=points.name)
    points.name = "renamed"
    image.name = "renamed too"
    assert own_layers(viewer, image) == [points, labels]
    assert own_layers(viewer, image, "labels") == [labels]
    assert own_layers(viewer, other) == []


def test_what_is_said_of_a_layer_is_not_meant_for_its_copies(viewer):
    """napari's copies share the values of the metadata with the original."""
    image = viewer.add_image(np.zeros((20, 30)))
    labels = add_labels_layer(viewer, image)
    viewer.layers.selection = {labels}
    _duplicate_layer(viewer.layers)
    (copy,) = set(viewer.layers) - {image, labels}
    assert copy.metadata == labels.metadata
    set_filling(labels, True)
    assert (is_filling(labels), is_filling(copy)) == (True, False)
    assert own_layers(viewer, image) == [labels]
    assert (role_of(labels), role_of(copy)) == ("labels", None)
    # Nor for the image of the ids that napari puts in the layer's place.
    viewer.layers.selection = {labels}
    _convert(viewer.layers, "image")
    assert own_layers(viewer, image) == []


def test_removal_is_safe_twice(viewer):
    image = viewer.add_image(np.zeros((20, 30)))
    points = add_points_layer(viewer, image)
    viewer.layers.selection.active = image
    remove_layer(viewer, points)
    remove_layer(viewer, points)
    remove_layer(viewer, None)
    assert list(viewer.layers) == [image]


def test_layers_that_are_removed_together_may_take_others_with_them(viewer, qtbot):
    """napari removes those that are selected one by one, in any order."""
    image = viewer.add_image(np.zeros((20, 30)))
    twins = [add_points_layer(viewer, image), add_labels_layer(viewer, image)]

    def follow(event):
        with while_removing(viewer):
            for layer in twins:
                remove_layer(viewer, layer)

    viewer.layers.events.removed.connect(follow)
    viewer.layers.select_all()
    viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: not len(viewer.layers))


def test_new_labels_and_preview_leave_the_active_layer(viewer):
    image = viewer.add_image(np.zeros((20, 30)))
    points = add_points_layer(viewer, image)
    assert viewer.layers.selection.active is points
    add_labels_layer(viewer, image)
    add_preview_layer(viewer, image, plane_index(viewer, image))
    assert viewer.layers.selection.active is points


def test_upright_image_without_foreign_units_gets_a_plain_twin(viewer):
    image = viewer.add_image(np.zeros((5, 20, 30)), scale=(4, 0.5, 0.5), units=("um", "um", "um"))
    plain, shown = twin(image), shown_twin(viewer, image)
    for key, value in plain.items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(shown[key]))
