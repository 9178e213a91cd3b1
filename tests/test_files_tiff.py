"""TIFFs of ImageJ with units of their own for some axes, and large ones of which only a part is read."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_sam.axes import Axes
from napari_sam.files import open_image
from napari_sam.folder.pictures import PlaneView

UM = "micrometer"


@pytest.mark.parametrize(
    ("names", "fields", "size", "unit"),
    [
        ("TYX", {"finterval": 5.0, "tunit": "min"}, 5, "minute"),
        ("TYX", {"finterval": 5.0, "tunit": "sec"}, 5, "second"),
        ("TYX", {"finterval": 5.0}, 5, "second"),
        ("TYX", {"finterval": 5.0, "fps": 4.0}, 5, "second"),
        ("TYX", {"fps": 4.0}, 1, "pixel"),  # how fast it is shown, not how fast it was taken
        ("ZYX", {"spacing": 500.0, "zunit": "nm"}, 500, "nanometer"),
        ("ZYX", {"spacing": 2.0}, 2, UM),
        ("ZYX", {"spacing": -2.0}, 2, UM),
        ("ZYX", {}, 1, UM),  # ImageJ leaves a step of 1 out
        ("ZYX", {"zunit": "nm"}, 1, "nanometer"),
        ("ZYX", {"zunit": "pixel"}, 1, "pixel"),
        ("ZYX", {"zunit": "pixel", "spacing": 3.0}, 3, "pixel"),
    ],
)
def test_an_axis_of_imagej_may_have_a_unit_of_its_own(names, fields, size, unit, tmp_path):
    about = {"axes": names, "unit": "micron", **fields}
    pixels = np.zeros((3, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, resolution=(4, 2), metadata=about)
    with open_image(tmp_path / "a.tif") as image:
        assert image.axes == Axes(names, (size, 0.5, 0.25), (unit, UM, UM))


@pytest.mark.parametrize("unit", [{}, {"unit": "pixel"}, {"unit": "furlong"}])
def test_without_a_unit_of_length_nothing_is_known_of_the_step_along_z(unit, tmp_path):
    about = {"axes": "ZYX", **unit}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 8, 9), np.uint8), imagej=True, metadata=about)
    with open_image(tmp_path / "a.tif") as image:
        assert image.axes.of("Z") == (1, "pixel")


def test_imagej_may_have_another_unit_along_y(tmp_path):
    about = {"axes": "YX", "unit": "micron", "yunit": "nm"}
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((8, 9), np.uint8), imagej=True, resolution=(4, 0.002), metadata=about
    )
    with open_image(tmp_path / "a.tif") as image:
        assert image.axes.pixel_size() == (pytest.approx((0.5, 0.25)), UM)


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        (r"\u00C5", "angstrom"),
        (r"\u00c5", "angstrom"),
        ("angstrom", "angstrom"),
        (r"\u00B5m", UM),
        (r"\u03bcm", UM),
    ],
)
def test_units_that_imagej_writes_in_ascii(written, unit, tmp_path):
    pixels = np.zeros((8, 9), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, resolution=(4, 2), metadata={"axes": "YX", "unit": written}
    )
    with open_image(tmp_path / "a.tif") as image:
        assert image.axes == Axes("YX", (0.5, 0.25), (unit, unit))


@pytest.fixture
def asked(monkeypatch):
    """Numbers of bytes of the strips and tiles that tifffile reads."""
    found = []
    read = tifffile.FileCache.read

    def counting(self, file, offset, count, /, **options):
        found.append(count)
        return read(self, file, offset, count, **options)

    monkeypatch.setattr(tifffile.FileCache, "read", counting)
    return found


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{"metadata": {"axes": "TZYX"}}, {"imagej": True}, {"ome": True}])
def test_of_pixels_in_one_piece_a_tile_is_read_and_no_more(byteorder, options, asked, tmp_path, rng):
    pixels = rng.integers(0, 60_000, (2, 3, 40, 50)).astype(np.uint16)
    about = {"metadata": {"axes": "TZYX"}, "photometric": "minisblack", **options}
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=byteorder, **about)
    with open_image(tmp_path / "a.tif") as image:
        assert (image.dtype, image.names) == (np.uint16, "TZYX")
        tile = PlaneView(image, 4)[7:20, 11:30]
        assert tile.dtype.isnative
        np.testing.assert_array_equal(tile, pixels[1, 1, 7:20, 11:30])
        assert image.plane(2).dtype.isnative
        np.testing.assert_array_equal(list(image.planes()), pixels.reshape(-1, 40, 50))
        np.testing.assert_array_equal(image.label_ids(), pixels)
    assert asked == []


def test_colours_in_one_piece(asked, tmp_path, rng):
    pixels = rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(PlaneView(image)[7:20, 11:30], pixels[7:20, 11:30])
        np.testing.assert_array_equal(image.intensities(), pixels)
    assert asked == []


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"tile": (16, 16)}, {"compression": "lzw"}])
def test_pixels_in_several_pieces_are_decoded(options, asked, tmp_path, rng):
    pixels = rng.integers(0, 60_000, (40, 50)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, predictor="compression" in options, byteorder=">", **options)
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.plane(0), pixels)
    assert asked
