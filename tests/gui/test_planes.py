"""The plane as a picture: any dtype, colours, channels, pyramids and lazy data, read as displayed."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from tests.gui.geometries import POSES, show

from napari_sam._napari.coordinates import PlaneError
from napari_sam._napari.large import large_plane
from napari_sam._napari.planes import Channels, Pictures, current_plane, iter_planes
from napari_sam.image import ImageError, plane_to_rgb, range_contrast
from napari_sam.masks import Box


@pytest.fixture
def viewer():
    return ViewerModel()


class Spy:
    """An array that notes how much of it is read."""

    def __init__(self, data):
        self._data = data
        self.shape, self.dtype, self.ndim, self.size = data.shape, data.dtype, data.ndim, data.size
        self.read = []

    def __getitem__(self, key):
        part = self._data[key]
        self.read.append(np.size(part))
        return part


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("name", POSES)
def test_picture_is_what_napari_shows(viewer, name, rng):
    data = rng.integers(0, 4000, POSES[name].shape).astype(np.uint16)
    image = show(viewer, POSES[name], data)
    image.contrast_limits = (500, 3000)
    image.gamma = 0.7
    plane = current_plane(viewer, image)
    picture = plane.read()
    sliced = np.asarray(image._slice.image.raw, float)
    expected = np.clip((sliced - 500) / 2500, 0, 1) ** 0.7 * 255
    assert picture.dtype == np.uint8
    assert picture.shape == (*plane.shape, 3)
    np.testing.assert_allclose(picture, np.repeat(expected[..., None], 3, -1), atol=0.51)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_any_dtype(viewer, dtype, rng):
    image = viewer.add_image((rng.random((20, 30)) > 0.3).astype(dtype), contrast_limits=(0, 1))
    picture = current_plane(viewer, image).read()
    assert set(np.unique(picture)) == {0, 255}


def test_pixels_that_are_no_real_numbers_are_refused(viewer):
    image = viewer.add_image(np.zeros((20, 30)))
    plane = current_plane(viewer, image)
    complex_plane = replace(plane, sources=(replace(plane.sources[0], data=np.zeros((20, 30), complex)),))
    with pytest.raises(ImageError, match="real pixel values"):
        complex_plane.read()


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_pictures_are_taken_as_they_are(viewer, channels, rng):
    data = rng.integers(0, 256, (2, 20, 30, channels)).astype(np.uint8)
    image = viewer.add_image(data, rgb=True)
    viewer.dims.set_current_step(0, 1)
    plane = current_plane(viewer, image)
    np.testing.assert_array_equal(plane.read(), data[1, ..., :3])
    assert plane.index.index == (1, None, None)


def test_colour_pictures_of_other_types_keep_their_range(viewer, rng):
    data = rng.random((20, 30, 3))
    np.testing.assert_allclose(
        current_plane(viewer, viewer.add_image(data, rgb=True)).read(), data * 255, atol=0.51
    )
    deep = (data * 65535).astype(np.uint16)
    np.testing.assert_allclose(
        current_plane(viewer, viewer.add_image(deep, rgb=True)).read(), data * 255, atol=0.51
    )


def test_transposed_colour_picture(viewer, rng):
    data = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    image = viewer.add_image(data, rgb=True)
    viewer.dims.order = (1, 0)
    np.testing.assert_array_equal(current_plane(viewer, image).read(), data.swapaxes(0, 1))


def test_percentiles_do_not_depend_on_the_contrast_shown(viewer, rng):
    image = viewer.add_image(rng.random((50, 60)), contrast_limits=(0, 100))
    dark = current_plane(viewer, image).read()
    stretched = current_plane(viewer, image, contrast="percentiles").read()
    assert dark.max() < 5
    assert stretched.max() == 255
    image.contrast_limits = (0, 0.5)
    np.testing.assert_array_equal(current_plane(viewer, image, contrast="percentiles").read(), stretched)


def test_contrast_is_that_of_the_moment_of_asking(viewer):
    image = viewer.add_image(np.full((20, 30), 0.5), contrast_limits=(0, 1))
    plane = current_plane(viewer, image)
    image.contrast_limits = (0, 0.5)
    assert plane.read().max() == 128
    assert current_plane(viewer, image).read().max() == 255


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_of_an_axis(viewer, axis, rng):
    stack = rng.random((3, 4, 20, 30)).astype(np.float32)  # z, c, y, x
    data = stack if axis == 1 else stack.swapaxes(0, 1)
    image = viewer.add_image(data, contrast_limits=(0, 1))
    viewer.dims.set_current_step(1 - axis, 2)
    plane = current_plane(viewer, image, Channels(3, None, 1, axis=axis))
    picture = plane.read()
    np.testing.assert_allclose(picture[..., 0], stack[2, 3] * 255, atol=0.51)
    assert picture[..., 1].max() == 0
    np.testing.assert_allclose(picture[..., 2], stack[2, 1] * 255, atol=0.51)
    assert plane.index.index[axis] is None
    assert plane.index.index[1 - axis] == 2


def test_the_channel_slider_does_not_matter(viewer, rng):
    image = viewer.add_image(rng.random((3, 20, 30)), contrast_limits=(0, 1))
    channels = Channels(0, 1, 2, axis=0)
    first = current_plane(viewer, image, channels)
    viewer.dims.set_current_step(0, 2)
    second = current_plane(viewer, image, channels)
    assert first.index == second.index
    np.testing.assert_array_equal(first.read(), second.read())


def test_channels_of_several_layers_each_with_its_contrast(viewer, rng):
    data = rng.random((2, 20, 30))
    nuclei, membrane = viewer.add_image(data, channel_axis=0, contrast_limits=[(0, 1), (0, 2)])
    picture = current_plane(viewer, nuclei, Channels(membrane, None, nuclei)).read()
    np.testing.assert_allclose(picture[..., 0], data[1] / 2 * 255, atol=0.51)
    assert picture[..., 1].max() == 0
    np.testing.assert_allclose(picture[..., 2], data[0] * 255, atol=0.51)


def test_channels_that_do_not_fit_are_refused(viewer):
    image = viewer.add_image(np.zeros((3, 20, 30)))
    small = viewer.add_image(np.zeros((10, 10)))
    with pytest.raises(PlaneError, match=r"channel numbers from 0 to 2, found 3"):
        current_plane(viewer, image, Channels(0, 1, 3, axis=0))
    with pytest.raises(PlaneError, match="Axis 1 cannot hold the channels"):
        current_plane(viewer, image, Channels(0, 1, 2, axis=1))
    with pytest.raises(PlaneError, match="channels of the same image"):
        current_plane(viewer, image, Channels(image, small, None))


def test_pyramid_is_read_at_the_level_asked_for(viewer, rng):
    levels = [rng.random((4, 2 * n, 3 * n)) for n in (64, 32, 16)]
    image = viewer.add_image(levels, multiscale=True, contrast_limits=(0, 1))
    viewer.dims.set_current_step(0, 2)
    full = current_plane(viewer, image)
    assert full.factors == (1, 1)
    np.testing.assert_allclose(full.read()[..., 0], levels[0][2] * 255, atol=0.51)
    small = current_plane(viewer, image, level=2)
    assert small.factors == (4, 4)
    assert small.shape == (32, 48)
    np.testing.assert_allclose(small.read()[..., 0], levels[2][2] * 255, atol=0.51)
    with pytest.raises(PlaneError, match="3 resolution levels: expected 0 to 2, found 3"):
        current_plane(viewer, image, level=3)


def test_pyramid_that_also_shrinks_along_the_stack(viewer, rng):
    levels = [rng.random((8, 64, 64)), rng.random((4, 32, 32))]
    image = viewer.add_image(levels, multiscale=True, contrast_limits=(0, 1))
    viewer.dims.set_current_step(0, 7)
    np.testing.assert_allclose(
        current_plane(viewer, image, level=1).read()[..., 0], levels[1][3] * 255, atol=0.51
    )


def test_only_the_plane_is_read(viewer):
    data = Spy(np.zeros((50, 3, 20, 30), np.uint8))
    image = viewer.add_image(data, rgb=False, contrast_limits=(0, 255))
    plane = current_plane(viewer, image, Channels(0, 0, 2, axis=1))
    data.read.clear()
    plane.read()
    assert data.read == [600, 600]  # channel 0 once for red and green, channel 2


def test_nothing_is_read_before_it_is_asked_for(viewer):
    data = Spy(np.zeros((50, 20, 30), np.uint8))
    image = viewer.add_image(data, rgb=False, contrast_limits=(0, 255))
    data.read.clear()
    planes = iter_planes(viewer, image, 0)
    assert data.read == []
    planes[7].read()
    assert data.read == [600]


@pytest.mark.parametrize("make", [da.from_array, zarr.array], ids=["dask", "zarr"])
def test_lazy_arrays(viewer, make, rng):
    data = rng.integers(0, 200, (6, 20, 30)).astype(np.uint8)
    image = viewer.add_image(make(data), contrast_limits=(0, 255))
    viewer.dims.set_current_step(0, 4)
    np.testing.assert_array_equal(current_plane(viewer, image).read()[..., 0], data[4])


def test_walk_along_a_stack(viewer, rng):
    data = rng.integers(0, 200, (3, 5, 20, 30)).astype(np.uint8)
    image = viewer.add_image(data, contrast_limits=(0, 255))
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 3)
    planes = iter_planes(viewer, image, 1)
    assert [p.index.index for p in planes] == [(1, z, None, None) for z in range(5)]
    pictures = Pictures(planes)
    assert len(pictures) == 5
    for z, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture[..., 0], data[1, z])
    with pytest.raises(PlaneError, match="axis to walk along"):
        iter_planes(viewer, image, 3)


def test_walk_along_a_stack_with_channels(viewer, rng):
    data = rng.integers(0, 200, (5, 2, 20, 30)).astype(np.uint8)
    image = viewer.add_image(data, contrast_limits=(0, 255))
    planes = iter_planes(viewer, image, 0, Channels(1, 1, 0, axis=1))
    for z, picture in enumerate(Pictures(planes)):
        np.testing.assert_array_equal(picture[..., 1], data[z, 1])
        np.testing.assert_array_equal(picture[..., 2], data[z, 0])
    with pytest.raises(PlaneError, match="channels"):
        iter_planes(viewer, image, 1, Channels(1, 1, 0, axis=1))


def test_walk_along_several_layers(viewer, rng):
    data = rng.integers(0, 200, (2, 5, 20, 30)).astype(np.uint8)
    red, blue = viewer.add_image(data, channel_axis=0, contrast_limits=[(0, 255), (0, 255)])
    for z, picture in enumerate(Pictures(iter_planes(viewer, red, 0, Channels(red, None, blue)))):
        np.testing.assert_array_equal(picture[..., 0], data[0, z])
        np.testing.assert_array_equal(picture[..., 2], data[1, z])


def test_darkest_to_brightest_is_that_of_the_plane_also_where_it_is_read_in_parts(viewer):
    ramp = np.tile(np.linspace(0, 1000, 512).astype(np.uint16), (300, 1))
    image = viewer.add_image(ramp)
    read = large_plane(viewer, image, None, "range", None).levels[0].read
    whole = plane_to_rgb(ramp, contrast=range_contrast(ramp))
    np.testing.assert_array_equal(read(Box(0, 0, 64, 64)), whole[:64, :64])
    np.testing.assert_array_equal(current_plane(viewer, image, contrast="range").read(), whole)
    np.testing.assert_array_equal(
        current_plane(viewer, image, contrast="range").read(Box(5, 70, 50, 90)), whole[5:50, 70:90]
    )
    tile = ramp[:64, :64]
    read = large_plane(viewer, image, None, "tiles", None).levels[0].read
    np.testing.assert_array_equal(read(Box(0, 0, 64, 64)), plane_to_rgb(tile, contrast=range_contrast(tile)))
