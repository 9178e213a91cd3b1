"""Outlines against shapely: they are valid, and filling them gives the mask back."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import ndimage as ndi

from napari_sam.export.outlines import outline, signed_area
from napari_sam.masks import Mask


def as_shapely(mask):
    return [shapely.Polygon(p.outer[:, ::-1], [h[:, ::-1] for h in p.holes]) for p in outline(mask)]


def fill(polygons, shape):
    """Set the pixels whose centres lie in a polygon, each part by its own."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    filled = np.zeros(shape, bool)
    for polygon in polygons:
        filled |= shapely.contains_xy(polygon, x, y)
    return filled


@pytest.mark.parametrize("density", [0.3, 0.5, 0.6, 0.8])
def test_filling_the_outline_of_noise_gives_the_mask_back(rng, density):
    for _ in range(10):
        plane = rng.random((13, 17)) < density
        polygons = as_shapely(Mask.from_plane(plane))
        assert all(p.is_valid for p in polygons), [shapely.is_valid_reason(p) for p in polygons]
        assert len(polygons) == ndi.label(plane)[1]
        assert sum(p.area for p in polygons) == plane.sum()
        np.testing.assert_array_equal(fill(polygons, plane.shape), plane)


def test_odd_shapes_are_valid_and_exact(odd_shapes):
    for label in np.unique(odd_shapes)[1:]:
        plane = odd_shapes == label
        polygons = as_shapely(Mask.from_plane(plane))
        assert all(p.is_valid for p in polygons)
        np.testing.assert_array_equal(fill(polygons, plane.shape), plane)


def test_a_rectangle_has_four_vertices_at_the_corners_of_its_pixels():
    (polygon,) = outline(Mask(5, 7, np.ones((2, 3), bool)))
    assert sorted(map(tuple, polygon.outer.tolist())) == [(5, 7), (5, 10), (7, 7), (7, 10)]
    assert polygon.holes == ()


def test_outer_rings_run_clockwise_in_the_image_and_holes_the_other_way():
    pixels = np.ones((5, 5), bool)
    pixels[2, 2] = False
    (polygon,) = outline(Mask(0, 0, pixels))
    assert signed_area(polygon.outer) == 25
    assert [signed_area(h) for h in polygon.holes] == [-1]


def test_an_empty_mask_has_no_outline():
    assert outline(Mask(3, 3, np.zeros((0, 0), bool))) == []
    assert outline(Mask(3, 3, np.zeros((2, 2), bool))) == []
