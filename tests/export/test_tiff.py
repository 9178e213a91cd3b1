"""TIFFs read back with tifffile, as ImageJ and as OME."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_sam.axes import METRES, Axes, unit_name
from napari_sam.export import ExportError, export, tiff
from napari_sam.export.tiff import label_colours
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


@pytest.mark.parametrize(
    ("spacing", "units", "unit"),
    [
        (1e-10, "m", "angstrom"),
        (2e10, "nm", "meter"),
        (5e9, "nm", "meter"),
        (3e-11, "inch", "angstrom"),
        ((5e10, 2e10, 3e10), "nm", "meter"),
    ],
)
def test_a_size_beyond_the_fractions_of_a_tiff_is_written_in_another_unit(
    spacing, units, unit, stack, tmp_path
):
    units = (units,) * 3
    path = export(stack, tmp_path / "cells.tif", spacing=spacing, units=units)
    assert imagej(path)[0].axes == "ZYX"
    with open_labels(path) as image:
        assert image.axes.units == (unit,) * 3
        found = [size * METRES[unit] for size in image.axes.spacing]
        np.testing.assert_allclose(found, np.broadcast_to(spacing, 3) * METRES[unit_name(units[0])])


@pytest.mark.parametrize(
    ("spacing", "unit"), [((1e-12, 1e9), "meter"), ((1, 1e30), "meter"), ((1e-10, 1), "pixel")]
)
def test_sizes_for_which_imagej_has_no_unit_become_ome_tiff(spacing, unit, odd_shapes, tmp_path):
    path = export(odd_shapes, tmp_path / "cells.tif", spacing=spacing, units=(unit, unit))
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
    with open_labels(path) as image:
        assert image.axes == Axes("YX", spacing, (unit, unit))


@pytest.mark.parametrize("spacing", [1 / 4e9, 1e-9, 1 / 3, 1e9 / 3, 4e9])
def test_a_size_that_fits_keeps_its_unit(spacing, odd_shapes, tmp_path):
    with open_labels(export(odd_shapes, tmp_path / "a.tif", spacing=spacing, units="mm")) as image:
        assert image.axes.units == ("millimeter", "millimeter")
        np.testing.assert_allclose(image.axes.spacing, spacing, rtol=1e-9)


def test_an_unknown_step_along_z_stays_unknown(stack, tmp_path):
    """ImageJ takes a step of one unit of Y and X where nothing is said."""
    units = ("pixel", "um", "um")
    path = export(stack, tmp_path / "cells.tif", spacing=(1, 0.5, 0.5), units=units)
    assert imagej(path)[1]["zunit"] == "pixel"
    with open_labels(path) as image:
        assert image.axes.of("Z") == (1, "pixel")


@pytest.mark.parametrize("top", [3, 255, 256, 511, 2000, 65535])
def test_few_ids_are_as_black_as_the_background(top):
    """ImageJ scales 16 bits to the 256 colours of the table, and 8 bits through the table itself."""
    ids = np.arange(1, top + 1)
    place = ids * 256 // top if top < 256 else (ids * (256 / (top + 1)) + 0.5).astype(int)
    shown = label_colours()[:, np.minimum(place, 255)]
    assert (shown.max(0) < 150).sum() == top // 512
    assert top > 255 or len(np.unique(place)) == top


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
