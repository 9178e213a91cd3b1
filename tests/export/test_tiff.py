"""TIFFs read back with tifffile, as ImageJ and as OME."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_sam.export import ExportError, export, tiff
from napari_sam.files import open_labels


def imagej(path):
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        page = file.pages[0]
        x, y = (page.tags[name].value for name in ("XResolution", "YResolution"))
        return file.series[0], file.imagej_metadata, (x[0] / x[1], y[0] / y[1]), file.asarray()


def test_a_plane_is_calibrated(odd_shapes, tmp_path):
    path = export(odd_shapes, tmp_path / "cells.tif", spacing=(0.25, 0.5), units="µm")
    series, fields, resolution, pixels = imagej(path)
    np.testing.assert_array_equal(pixels, odd_shapes)
    assert series.axes == "YX"
    assert pixels.dtype == np.uint8
    assert fields["unit"] == "micron"
    np.testing.assert_allclose(resolution, (2, 4))
    assert (fields["min"], fields["max"]) == (0, 10)
    colours = np.reshape(fields["LUTs"], (3, 256))
    assert colours[:, 0].tolist() == [0, 0, 0]
    assert len(np.unique(colours[:, :11], axis=1).T) == 11


def test_a_stack_over_time_is_a_hyperstack(stack, tmp_path):
    movie = np.stack([stack, stack * 200])
    path = export(movie, tmp_path / "cells.tif", spacing=(90, 1500, 300, 300), units=("s", "nm", "nm", "nm"))
    series, fields, resolution, pixels = imagej(path)
    np.testing.assert_array_equal(pixels, movie)
    assert pixels.dtype == np.uint16
    assert series.axes == "TZYX"
    assert (fields["frames"], fields["slices"]) == (2, 3)
    assert (fields["unit"], fields["spacing"], fields["finterval"]) == ("nm", 1500.0, 90.0)
    np.testing.assert_allclose(resolution, (1 / 300, 1 / 300))


def test_units_are_brought_to_one_for_imagej(stack, tmp_path):
    path = export(stack, tmp_path / "cells.tif", spacing=(2, 0.5, 0.5), units=("µm", "µm", "um"))
    assert imagej(path)[1]["spacing"] == 2.0
    path = export(stack, tmp_path / "cells.tif", spacing=(2000, 0.5, 0.5), units=("nm", "µm", "µm"))
    assert imagej(path)[1]["spacing"] == pytest.approx(2.0)


def test_sizes_of_y_and_x_in_two_units_are_brought_to_one(odd_shapes, tmp_path):
    path = export(odd_shapes, tmp_path / "cells.tif", spacing=(500, 0.25), units=("nm", "µm"))
    _, fields, resolution, _ = imagej(path)
    assert fields["unit"] == "micron"
    np.testing.assert_allclose(resolution, (4, 2))


def test_without_calibration_no_unit_is_made_up(odd_shapes, tmp_path):
    _, fields, resolution, _ = imagej(export(odd_shapes, tmp_path / "cells.tif"))
    assert "unit" not in fields
    assert resolution == (1, 1)


@pytest.mark.parametrize(
    ("top", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.float32)]
)
def test_the_pixel_type_is_the_smallest_that_imagej_has_for_the_ids(top, dtype, tmp_path):
    labels = np.array([[0, top], [top - 1, 1]])
    *_, pixels = imagej(export(labels, tmp_path / "cells.tif"))
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, labels)


def test_more_ids_than_a_float_can_tell_apart_become_ome_tiff(tmp_path):
    labels = np.array([[0, 2**24 + 1], [2**24, 1]])
    path = export(labels, tmp_path / "cells.tif")
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        np.testing.assert_array_equal(file.asarray(), labels)
    with pytest.raises(ExportError, match="4,294,967,295, found 4,294,967,296"):
        export(np.array([[2**32]]), path)


def test_a_file_too_large_for_imagej_becomes_ome_tiff(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "CLASSIC_BYTES", 100)
    with tifffile.TiffFile(export(stack, tmp_path / "cells.tif")) as file:
        assert file.is_ome
        np.testing.assert_array_equal(file.asarray(), stack)


def test_ome_tiff_keeps_axes_sizes_and_units(stack, tmp_path):
    movie = np.stack([stack, stack])
    path = export(
        movie, tmp_path / "cells.ome.tif", spacing=(2.5, 2, 0.5, 0.5), units=("min", "µm", "µm", "µm")
    )
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TZYX"
        np.testing.assert_array_equal(file.asarray(), movie)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.5, "µm")
    assert (pixels["PhysicalSizeZ"], pixels["PhysicalSizeZUnit"]) == (2, "µm")
    assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (2.5, "min")


@pytest.mark.parametrize(
    ("unit", "written", "found"),
    [
        ("angstrom", r"\u00C5", "angstrom"),
        ("Å", r"\u00C5", "angstrom"),
        ("Ω", r"\u03A9", "Ω"),
        ("a\\b", r"a\u005Cb", "a\\b"),
        ("nm", "nm", "nanometer"),
    ],
)
def test_units_that_are_no_ascii_are_written_as_imagej_does(unit, written, found, odd_shapes, tmp_path):
    path = export(odd_shapes, tmp_path / "cells.tif", spacing=(1.5, 2), units=unit)
    _, fields, _, pixels = imagej(path)
    np.testing.assert_array_equal(pixels, odd_shapes)
    assert fields["unit"] == written
    with open_labels(path) as image:
        assert image.axes.units == (found, found)
        assert image.axes.spacing == pytest.approx((1.5, 2))


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize(("name", "top"), [("cells.ome.tif", 9), ("cells.tif", 9), ("cells.tif", 2**25)])
def test_a_stack_of_few_columns_is_not_taken_for_colours(columns, name, top, tmp_path, rng):
    labels = rng.integers(0, 5, (4, 20, columns))
    labels[0, 0, 0] = top
    with open_labels(export(labels, tmp_path / name)) as image:
        assert image.axes.names == "ZYX"
        np.testing.assert_array_equal(image.label_ids(), labels)


def test_angstrom_in_ome_tiff(odd_shapes, tmp_path):
    with open_labels(export(odd_shapes, tmp_path / "a.ome.tif", spacing=1.5, units="angstrom")) as image:
        assert image.axes.units == ("angstrom", "angstrom")
