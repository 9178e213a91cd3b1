"""ROI zips read back with roifile, and filled as ImageJ does: a pixel is inside if its centre is."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from roifile import ROI_TYPE, roiread

from napari_sam.export import export


def fill(roi, shape):
    """Set the pixels whose centres an odd number of rings encloses (the even-odd rule of composites)."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for ring in roi.coordinates(multi=True):
        inside ^= shapely.contains_xy(shapely.Polygon(ring), x, y)
    return inside


@pytest.mark.parametrize("name", ["odd_shapes", "random_shapes"])
def test_filling_the_rois_gives_the_labels_back(name, request, tmp_path):
    labels = request.getfixturevalue(name)
    again = np.zeros_like(labels)
    for roi in roiread(export(labels, tmp_path / "cells.zip")):
        again[fill(roi, labels.shape)] = roi.properties["label"]
    np.testing.assert_array_equal(again, labels)


def test_a_whole_object_is_traced_and_one_with_a_hole_is_composite(odd_shapes, tmp_path):
    rois = {r.properties["label"]: r for r in roiread(export(odd_shapes, tmp_path / "cells.zip"))}
    assert rois[1].roitype == ROI_TYPE.TRACED
    assert not rois[1].composite
    assert (rois[1].top, rois[1].left, rois[1].bottom, rois[1].right) == (0, 0, 3, 4)
    for label in (2, 4, 5, 9, 10):
        assert rois[label].composite, label
    assert rois[7].name == "07"


def test_scores_are_properties(odd_shapes, tmp_path):
    features = {"label": [1], "predicted_iou": [0.875], "model": ["built-in"]}
    rois = roiread(export(odd_shapes, tmp_path / "cells.zip", features=features))
    (first,) = [r for r in rois if r.properties["label"] == 1]
    assert first.properties == {"label": 1, "predicted_iou": 0.875, "model": "built-in"}


def test_a_stack_gives_plain_positions(stack, tmp_path):
    rois = roiread(export(stack, tmp_path / "cells.zip"))
    again = np.zeros_like(stack)
    for roi in rois:
        assert (roi.c_position, roi.z_position, roi.t_position) == (0, 0, 0)
        again[roi.position - 1][fill(roi, stack.shape[1:])] = roi.properties["label"]
    np.testing.assert_array_equal(again, stack)
    assert sorted(r.name for r in rois) == ["z1-1", "z2-1", "z2-2", "z3-2"]


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX", "TCYX", "TZCYX"])
def test_an_axis_of_one_position_makes_no_hyperstack(axes, stack, tmp_path):
    """Such a `.tif` is a plain stack in ImageJ, which then looks at the plain position alone."""
    movie = stack.reshape(*(3 if letter == "T" else 1 for letter in axes[:-2]), *stack.shape[1:])
    rois = roiread(export(movie, tmp_path / "cells.zip", axes=axes))
    assert [r.position for r in rois] == [1, 2, 2, 3]
    assert {(r.c_position, r.z_position, r.t_position) for r in rois} == {(0, 0, 0)}


def test_a_single_plane_needs_no_position(stack, tmp_path):
    (roi,) = roiread(export(stack[:1, None], tmp_path / "cells.zip"))
    assert (roi.position, roi.c_position, roi.z_position, roi.t_position) == (0, 0, 0, 0)


def test_a_hyperstack_gives_slices_and_frames(stack, tmp_path):
    movie = np.stack([stack, stack[::-1]])
    again = np.zeros_like(movie)
    for roi in roiread(export(movie, tmp_path / "cells.zip")):
        assert roi.position == roi.c_position == 0
        plane = again[roi.t_position - 1, roi.z_position - 1]
        plane[fill(roi, plane.shape)] = roi.properties["label"]
    np.testing.assert_array_equal(again, movie)


def test_beyond_sixteen_bits_coordinates_are_exact(tmp_path):
    labels = np.zeros((3, 70_000), np.uint8)
    labels[1, 65_990:66_001] = 1
    (roi,) = roiread(export(labels, tmp_path / "cells.zip"))
    (ring,) = roi.coordinates(multi=True)
    assert (ring[:, 0].min(), ring[:, 0].max()) == (65_990, 66_001)
