"""Pictures of the planes of a file: channels are stretched each by itself, colours are left alone."""

import numpy as np
import pytest
import tifffile

from napari_sam.files import open_image
from napari_sam.folder import Pictures, settle_contrast
from napari_sam.folder.opened import read_whole
from napari_sam.folder.pictures import PlaneView, plane_reader
from napari_sam.masks import Box
from napari_sam.recipe import Recipe


def pictures_of(path, recipe=None):
    recipe = recipe or Recipe()
    with open_image(path) as image:
        return [np.array(p) for p in Pictures(image, settle_contrast(image, recipe))]


@pytest.fixture
def channels(rng):
    """Three channels, two of them dim."""
    bright = rng.integers(2, 250, (40, 50))
    return np.stack([bright // 30, bright, bright[::-1] // 25])


@pytest.mark.parametrize("depth", [1, 3])
def test_dim_channels_of_8_bits_are_stretched_like_those_of_16(tmp_path, channels, depth):
    """A file whose axis is called C holds channels, however much three of 8 bits look like colours."""
    axes = "CYX" if depth == 1 else "ZCYX"
    stack = channels if depth == 1 else np.stack([channels] * depth)
    for dtype in ("u1", "u2"):
        tifffile.imwrite(tmp_path / f"{dtype}.tif", stack.astype(dtype), imagej=True, metadata={"axes": axes})
    small, large = (pictures_of(tmp_path / f"{dtype}.tif") for dtype in ("u1", "u2"))
    np.testing.assert_array_equal(small, large)
    assert all((picture.max((0, 1)) > 250).all() for picture in small)
    with open_image(tmp_path / "u1.tif") as image:
        box = Box(0, 0, 40, 50)
        np.testing.assert_allclose(plane_reader(image, Recipe())(box), small[0], atol=1)
        assert PlaneView(image).separate
    # The dock's folder shows the same.
    shown = read_whole(tmp_path / "u1.tif")
    assert [tuple(window) for window in shown.contrast] != [(0, 255)] * 3


def test_colours_of_8_bits_stay_as_they_are(tmp_path, channels):
    colours = np.moveaxis(channels, 0, -1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb")
    np.testing.assert_array_equal(pictures_of(tmp_path / "rgb.tif")[0], colours)


def test_a_channel_without_values_is_black_in_a_stack_too(tmp_path, channels):
    stack = np.stack([channels, channels]).astype(np.float32)
    stack[:, 1] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", stack, imagej=True, metadata={"axes": "TCYX"})
    for picture in pictures_of(tmp_path / "nan.tif"):
        assert not picture[..., 1].any()
        assert (picture[..., [0, 2]].max((0, 1)) > 250).all()
    with open_image(tmp_path / "nan.tif") as image:
        assert plane_reader(image, Recipe())(Box(0, 0, 40, 50))[..., 0].max() > 250


def test_the_range_of_a_large_plane_is_that_of_all_its_pixels(tmp_path, channels, monkeypatch):
    """Also of the one pixel that is brighter than all others, which no sample sees."""
    monkeypatch.setattr("napari_sam.tiling.read.BAND", 7)
    stack = channels.astype(np.float32)
    stack[1, 33, 21] = 10_000
    stack[2, :8] = np.nan
    tifffile.imwrite(tmp_path / "c.tif", stack, imagej=True, metadata={"axes": "CYX"})
    ranged = Recipe(contrast="range")
    with open_image(tmp_path / "c.tif") as image:
        read = plane_reader(image, ranged)(Box(0, 0, 40, 50))
    np.testing.assert_array_equal(read, pictures_of(tmp_path / "c.tif", ranged)[0])
    assert np.median(read[..., 1]) < 10
