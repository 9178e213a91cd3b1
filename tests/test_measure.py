"""Measurements against scikit-image, and against geometry where the truth is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from skimage.measure import perimeter_crofton, regionprops_table

from napari_sam.axes import AxesError, make_axes
from napari_sam.measure import MeasureError, region_table, sums


def ellipsoid(shape, centre, radii):
    grid = np.indices(shape)
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1


@pytest.fixture
def blobs(rng):
    labels = np.zeros((60, 80), np.int32)
    for label, centre in enumerate([(12, 15), (20, 50), (45, 20), (40, 60), (8, 70)], start=3):
        labels[ellipsoid(labels.shape, centre, rng.uniform(5, 11, 2))] = label * 2
    labels[0, 0] = 1
    return labels


def test_a_plane_agrees_with_scikit_image(blobs, rng):
    image = rng.normal(100, 20, blobs.shape)
    table = region_table(blobs, image)
    theirs = regionprops_table(
        blobs,
        image,
        properties=(
            "label",
            "area",
            "centroid",
            "bbox",
            "equivalent_diameter_area",
            "axis_major_length",
            "axis_minor_length",
            "eccentricity",
            "intensity_mean",
            "intensity_min",
            "intensity_max",
            "intensity_std",
        ),
    )
    pairs = {
        "label": "label",
        "area_px": "area",
        "centroid_y_px": "centroid-0",
        "centroid_x_px": "centroid-1",
        "y0": "bbox-0",
        "x0": "bbox-1",
        "y1": "bbox-2",
        "x1": "bbox-3",
        "equivalent_diameter_px": "equivalent_diameter_area",
        "major_axis_px": "axis_major_length",
        "minor_axis_px": "axis_minor_length",
        "intensity_mean": "intensity_mean",
        "intensity_min": "intensity_min",
        "intensity_max": "intensity_max",
        "intensity_std": "intensity_std",
    }
    for ours, name in pairs.items():
        np.testing.assert_allclose(table[ours], theirs[name], rtol=1e-9, atol=1e-9, err_msg=ours)
    round_enough = table["area_px"] > 1
    np.testing.assert_allclose(
        table["eccentricity"][round_enough], theirs["eccentricity"][round_enough], atol=1e-6
    )
    expected = [perimeter_crofton(blobs == label, 4) for label in table["label"]]
    np.testing.assert_allclose(table["perimeter_px"], expected)
    np.testing.assert_allclose(table["intensity_sum"], table["intensity_mean"] * table["area_px"])


def test_a_volume_agrees_with_scikit_image(rng):
    labels = np.zeros((20, 30, 30), np.uint8)
    labels[ellipsoid(labels.shape, (8, 10, 10), (5, 8, 6))] = 4
    labels[ellipsoid(labels.shape, (12, 22, 20), (6, 6, 7))] = 2
    spacing = (2.0, 0.5, 0.5)
    table = region_table(labels, spacing=spacing, units="um")
    theirs = regionprops_table(
        labels, spacing=spacing, properties=("label", "area", "centroid", "axis_major_length")
    )
    np.testing.assert_allclose(table["volume_um3"], theirs["area"])
    for axis, letter in enumerate("zyx"):
        np.testing.assert_allclose(table[f"centroid_{letter}_um"], theirs[f"centroid-{axis}"])
    np.testing.assert_allclose(table["major_axis_um"], theirs["axis_major_length"])


def test_strips_of_rows_change_nothing(rng, monkeypatch):
    labels, image = rng.integers(0, 9, (3, 40, 30)), rng.random((3, 40, 30))
    at_once = [region_table(labels, image), region_table(labels[0], image[0])]
    monkeypatch.setattr(sums, "STRIP", 7 * 30)
    in_strips = [region_table(labels, image), region_table(labels[0], image[0])]
    for whole, parts in zip(at_once, in_strips, strict=True):
        pd.testing.assert_frame_equal(whole, parts, rtol=1e-12)


def test_a_large_plane_takes_a_few_bytes_a_pixel():
    y, x = np.ogrid[:3000, :3000]
    labels = (y // 60 * 50 + x // 60 + 1).astype(np.uint16)
    labels[(y % 60 < 3) | (x % 60 < 3)] = 0
    region_table(labels[:100])  # loads what is loaded once
    tracemalloc.start()
    table = region_table(labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (table["area_px"] == 57**2).all()
    assert peak < 12 * labels.size


def test_one_plane_has_no_volume(blobs):
    axes = make_axes(4, "TZYX", (1, 2, 0.5, 0.5), "um")
    movie = region_table(np.stack([blobs, blobs])[:, None], axes=axes)
    flat = region_table(np.stack([blobs, blobs]), axes=axes.pick("TYX"))
    assert movie["z"].unique().tolist() == [0]
    pd.testing.assert_frame_equal(movie.drop(columns="z"), flat)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0), (1.0, 3.0)])
def test_the_perimeter_of_a_disc_is_right_whatever_the_aspect_of_the_pixels(spacing):
    radius = 60.0
    shape = tuple(int(2 * radius / s) + 5 for s in spacing)
    disc = ellipsoid(shape, [s // 2 for s in shape], [radius / s for s in spacing]).astype(int)
    (row,) = region_table(disc, spacing=spacing, units="um").to_dict("records")
    assert row["perimeter_um"] == pytest.approx(2 * np.pi * radius, rel=0.03)
    assert row["circularity"] == pytest.approx(1, abs=0.05)
    assert row["equivalent_diameter_um"] == pytest.approx(2 * radius, rel=0.01)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_the_surface_of_a_ball_is_right_whatever_the_aspect_of_the_voxels(spacing):
    radius = 21.0
    shape = tuple(int(2 * radius / s) + 5 for s in spacing)
    ball = ellipsoid(shape, [s // 2 for s in shape], [radius / s for s in spacing]).astype(int)
    (row,) = region_table(ball, spacing=spacing, units="um").to_dict("records")
    assert row["surface_um2"] == pytest.approx(4 * np.pi * radius**2, rel=0.02)
    assert row["volume_um3"] == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)
    assert row["sphericity"] == pytest.approx(1, abs=0.03)


def test_huge_ids_cost_no_memory():
    labels = np.array([[0, 2**40], [7, 2**40]])
    table = region_table(labels)
    assert table["label"].tolist() == [7, 2**40]
    assert table["area_px"].tolist() == [1, 2]
    beyond_floats = np.array([[2**53 + 1] * 3, [2**63 + 1] * 3, [2**63 + 2] * 3], np.uint64)
    for ids in (beyond_floats, beyond_floats[:1]):
        table = region_table(ids)
        assert table["label"].tolist() == np.unique(ids).tolist()
        assert (table["area_px"] == 3).all()
    without_background = np.full((2, 2), 2**40)
    assert region_table(without_background)["area_px"].tolist() == [4]


def test_objects_are_measured_in_each_time_point(blobs):
    movie = np.stack([blobs, np.zeros_like(blobs), blobs * (blobs == 6)])
    table = region_table(movie, axes="TYX", spacing=(60, 0.5, 0.5), units=("s", "um", "um"))
    assert table["t"].tolist() == [0] * 6 + [2]
    assert table.columns[:2].tolist() == ["label", "t"]
    first = region_table(blobs, spacing=0.5, units="um").set_index("label")
    assert table.iloc[-1]["area_um2"] == first.loc[6, "area_um2"]


def test_channels_at_the_end_are_measured_one_by_one(blobs):
    image = np.stack([blobs, blobs * 3], -1)
    table = region_table(blobs, image)
    np.testing.assert_array_equal(table["intensity_c0_mean"], table["label"])
    np.testing.assert_array_equal(table["intensity_c1_mean"], table["label"] * 3)


def test_columns_without_calibration_are_pixels_only(blobs):
    assert {c.rsplit("_", 1)[-1] for c in region_table(blobs) if c.startswith(("area", "centroid"))} == {"px"}
    assert "area_unit2" in region_table(blobs, spacing=2)


def test_which_objects_touch_the_edge_of_the_plane(blobs):
    table = region_table(blobs).set_index("label")
    assert table["touches_edge"].loc[1]
    assert not table["touches_edge"].loc[8]


def test_no_objects_is_an_empty_table_with_its_columns():
    table = region_table(np.zeros((5, 5), int))
    assert len(table) == 0
    assert {"label", "area_px", "perimeter_px"} <= set(table)


def test_ids_may_be_whole_floats(blobs, tmp_path):
    """As our own TIFF for ImageJ has them where there are more than 65,535 objects."""
    import tifffile
    from pandas.testing import assert_frame_equal

    from napari_sam.export import export

    high = blobs * 70_000
    export(high, tmp_path / "labels.tif")
    floats = tifffile.imread(tmp_path / "labels.tif")
    assert floats.dtype == np.float32
    assert_frame_equal(region_table(floats), region_table(high))


def test_pixels_that_are_no_numbers_spoil_their_own_object_only(blobs):
    """Whichever of its pixels comes first."""
    image = np.ones(blobs.shape)
    image[blobs == 6] = np.inf
    image[blobs == 8] = np.nan
    rows, columns = np.nonzero(blobs == 10)
    image[rows[3], columns[3]] = np.inf
    table = region_table(blobs, image).set_index("label")
    assert table.loc[[6, 10], ["intensity_mean", "intensity_max", "intensity_sum"]].to_numpy().tolist() == (
        [[np.inf] * 3] * 2
    )
    assert table.loc[8, "intensity_mean":].isna().all()
    assert (table.loc[[1, 12], "intensity_mean"] == 1).all()


def test_what_is_no_label_image_is_refused():
    with pytest.raises(MeasureError, match="whole numbers as labels, found fractions: is this an image"):
        region_table(np.full((4, 4), 0.5))
    with pytest.raises(MeasureError, match="whole numbers as labels, found dtype complex128"):
        region_table(np.zeros((4, 4), complex))
    with pytest.raises(MeasureError, match="0 and above, found -1"):
        region_table(np.array([[0, -1]]))
    with pytest.raises(MeasureError, match="image of the labels' shape"):
        region_table(np.zeros((4, 4), int), np.zeros((4, 5)))
    with pytest.raises(AxesError, match="2 to 5 axes"):
        region_table(np.zeros(4, int))


def test_memory_does_not_grow_with_the_number_of_planes(blobs):
    class Lazy:
        """The same plane again and again, with an empty one at the end."""

        def __init__(self, depth):
            self.shape, self.dtype = (depth, *blobs.shape), blobs.dtype

        def __getitem__(self, index):
            return blobs * (index[0] < self.shape[0] - 1)

    peaks = []
    for depth in (10, 10, 80):  # the first run loads what is loaded once
        tracemalloc.start()
        table = region_table(Lazy(depth))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        counts = np.bincount(blobs.ravel())[table["label"]]
        np.testing.assert_array_equal(table["volume_px"], counts * (depth - 1))
        np.testing.assert_allclose(table["centroid_z_px"], (depth - 2) / 2)
    assert peaks[2] < 1.5 * peaks[1]


@pytest.mark.parametrize("by_plane", [False, True])
def test_axes_of_another_number_are_refused(by_plane):
    with pytest.raises(AxesError, match="each of the 3 axes of the labels, found YX"):
        region_table(np.ones((2, 6, 8), int), axes=make_axes(2), by_plane=by_plane)
    with pytest.raises(AxesError, match="each of the 2 axes of the labels, found TZYX"):
        region_table(np.ones((6, 8), int), axes=make_axes(4), by_plane=by_plane)
