"""How large the pixels of a layer are, wherever it was moved, turned and stretched to."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_sam.spacing import first_pixel, pixel_spacing

TURN = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
PLACES = {
    "plain": {"scale": (2, 0.5, 0.25)},
    "mirrored": {"scale": (2, -0.5, 0.25), "translate": (5, 6, 7)},
    "affine": {"affine": np.diag([2, 0.25, 0.25, 1])},
    "both": {"scale": (1, 2, 3), "affine": np.diag([2, 0.25, 0.5, 1])},
    "turned": {"scale": (1, 2, 3), "rotate": (10, 20, 30)},
    "turned in its plane, stretched": {"rotate": TURN, "affine": np.diag([1, 4, 4, 1])},
    "axes changed": {"scale": (1, 2, 3), "affine": np.eye(4)[[2, 0, 1, 3]]},
}


def neighbours_apart(layer: Labels) -> list[float]:
    """Distances by what napari itself makes of neighbouring pixels."""
    origin = np.array(layer.data_to_world((0, 0, 0)))
    return [float(np.linalg.norm(np.array(layer.data_to_world(unit)) - origin)) for unit in np.eye(3)]


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_spacing_is_the_distance_between_neighbours_in_the_world(place):
    layer = Labels(np.zeros((4, 5, 6), int), **place)
    np.testing.assert_allclose(pixel_spacing(layer), neighbours_apart(layer))
    np.testing.assert_allclose(pixel_spacing(layer.as_layer_data_tuple()[1]), neighbours_apart(layer))


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize(
    "place",
    [
        {"shear": (0.1, 0.2, 0.3)},
        {"affine": [[1, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
        {"rotate": TURN, "affine": np.diag([1, 4, 1, 1])},
    ],
)
def test_pixels_that_are_no_rectangles_have_no_spacing(place):
    layer = Labels(np.zeros((4, 5, 6), int), **place)
    assert pixel_spacing(layer) is None
    assert pixel_spacing(layer.as_layer_data_tuple()[1]) is None


def test_what_registration_leaves_is_no_shear():
    layer = Labels(np.zeros((5, 6), int), affine=[[0.99995, 0.0003, 4], [0.0002, 1.0001, 5], [0, 0, 1]])
    np.testing.assert_allclose(pixel_spacing(layer), [1, 1], rtol=1e-3)


def test_what_is_not_known_has_no_spacing():
    assert pixel_spacing({}) is None
    assert pixel_spacing({"scale": None}) is None


@pytest.mark.parametrize(
    "place",
    [
        {"translate": (5, 6, 7)},
        {"scale": (2, 0.5, 0.5), "translate": (5, 6, 7)},
        {"scale": (2, 0.5, 0.5), "translate": (5, 6, 7), "affine": np.diag([2, 0.25, 0.25, 1])},
    ],
)
def test_the_first_pixel_lies_where_napari_draws_it(place):
    layer = Labels(np.zeros((4, 5, 6), int), **place)
    np.testing.assert_allclose(first_pixel(layer), layer.data_to_world((0, 0, 0)))
    np.testing.assert_allclose(first_pixel(layer.as_layer_data_tuple()[1]), layer.data_to_world((0, 0, 0)))


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("place", [{"rotate": TURN}, {"scale": (1, -1, 1)}, {"shear": (0.1, 0.2, 0.3)}])
def test_a_layer_that_is_turned_or_mirrored_has_no_place_by_its_first_pixel(place):
    assert first_pixel(Labels(np.zeros((4, 5, 6), int), **place)) is None
