"""Any plane becomes the 8-bit RGB picture that the person sees."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.image import Contrast, ImageError, fingerprint, percentile_contrast, plane_to_rgb


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.uint16, np.int16, np.int32, np.float16, np.float32, np.float64]
)
def test_any_dtype_uses_the_whole_range(dtype):
    ramp = np.arange(100).reshape(10, 10)
    plane = (ramp >= 50) if dtype is bool else ramp.astype(dtype)
    rgb = plane_to_rgb(plane)
    assert rgb.shape == (10, 10, 3)
    assert rgb.dtype == np.uint8
    assert (rgb.min(), rgb.max()) == (0, 255)
    assert (np.diff(rgb[..., 0].ravel().astype(int)) >= 0).all()


def test_contrast_and_gamma_are_those_on_the_screen():
    plane = np.array([[0, 100, 150, 200, 400]], np.uint16)
    rgb = plane_to_rgb(plane, contrast=Contrast(100, 200))
    assert rgb[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert plane_to_rgb(plane, contrast=Contrast(100, 200), gamma=2)[0, 2, 0] == 64


@pytest.mark.parametrize(
    ("dtype", "base", "range_"),
    [(np.float64, 1e9, 20), (np.uint32, 2**31, 150), (np.int64, -(10**12), 300), (np.float64, 1e9, 1e8)],
)
def test_narrow_windows_far_from_zero_use_the_whole_range(dtype, base, range_):
    plane = (base + np.linspace(0, range_, 101).round()).astype(dtype).reshape(1, -1)
    greys = plane_to_rgb(plane, contrast=Contrast(base, base + range_))[0, :, 0].astype(int)
    np.testing.assert_allclose(greys, 255 * (plane[0].astype(float) - base) / range_, atol=1)


def test_windows_may_be_plain_pairs(rng):
    plane = rng.integers(0, 1000, (6, 7, 2)).astype(np.uint16)
    several = plane_to_rgb(plane, contrast=[Contrast(0, 500), Contrast(100, 900)])
    assert (plane_to_rgb(plane, contrast=[(0, 500), (100, 900)]) == several).all()
    one = plane_to_rgb(plane, contrast=Contrast(0, 500))
    assert (plane_to_rgb(plane, contrast=(0, 500)) == one).all()
    assert (plane_to_rgb(plane[..., :1], contrast=[(0, 500)])[..., 0] == one[..., 0]).all()


def test_gamma_of_a_colour_picture_keeps_black_and_white():
    colours = np.zeros((1, 3, 3), np.uint8) + np.array([[[0], [128], [255]]], np.uint8)
    assert plane_to_rgb(colours, gamma=2)[0, :, 0].tolist() == [0, 64, 255]
    assert plane_to_rgb(colours[:, 1:2], gamma=2)[0, 0, 0] == 64, "whatever else is in the picture"


def test_colour_pictures_are_taken_as_they_are(rng):
    rgba = rng.integers(0, 255, (6, 7, 4)).astype(np.uint8)
    assert (plane_to_rgb(rgba) == rgba[..., :3]).all()
    assert (plane_to_rgb(rgba[..., :3]) == rgba[..., :3]).all()


def test_channels_go_where_they_are_sent(rng):
    plane = rng.integers(0, 1000, (6, 7, 5)).astype(np.uint16)
    windows = [Contrast(0, 1000)] * 5
    rgb = plane_to_rgb(plane, contrast=windows, channels=(4, None, 1))
    assert not rgb[..., 1].any()
    assert (rgb[..., 0] == plane_to_rgb(plane[..., 4], contrast=Contrast(0, 1000))[..., 0]).all()
    assert (rgb[..., 2] == plane_to_rgb(plane[..., 1], contrast=Contrast(0, 1000))[..., 0]).all()
    two = plane_to_rgb(plane[..., :2])
    assert two[..., :2].any()
    assert not two[..., 2].any()


def test_each_channel_has_its_own_percentiles():
    plane = np.stack([np.arange(100), 50 * np.arange(100)], -1).reshape(10, 10, 2).astype(np.uint16)
    rgb = plane_to_rgb(plane)
    assert (rgb[..., 0] == rgb[..., 1]).all()


def test_values_that_are_not_finite_become_black_or_white():
    plane = np.array([[0.0, 1.0, np.nan, np.inf, -np.inf]])
    assert plane_to_rgb(plane, contrast=Contrast(0, 1))[0, :, 0].tolist() == [0, 255, 0, 255, 0]
    assert percentile_contrast(plane) == pytest.approx((0.005, 0.998))


def test_percentiles_leave_outliers_out(rng):
    plane = rng.normal(100, 10, (200, 200))
    plane[0, 0] = 1e9
    low, high = percentile_contrast(plane)
    assert 60 < low < 90 < 110 < high < 150


def test_flat_planes_are_black_and_do_not_divide_by_zero():
    assert not plane_to_rgb(np.full((5, 5), 7, np.uint16)).any()
    assert plane_to_rgb(np.full((5, 5), 7.0), contrast=Contrast(0, 7)).all()
    assert not plane_to_rgb(np.full((5, 5), 1e39)).any()


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (np.zeros(5), r"one plane.*\(5,\)"),
        (np.zeros((2, 3, 4, 5)), r"one plane.*\(2, 3, 4, 5\)"),
        (np.zeros((0, 5)), "one plane"),
        (np.zeros((4, 4), complex), "real pixel values, found dtype complex128"),
        (np.full((4, 4), np.nan), "no finite pixel"),
        (np.zeros((5, 16, 20)), r"stack of planes use napari_sam.stack.segment_stack"),
        (np.zeros((2, 16, 20)), r"numpy.moveaxis"),
        (np.zeros((5, 20, 16)), r"numpy.moveaxis"),
    ],
)
def test_what_is_no_plane_is_refused(plane, message):
    with pytest.raises(ImageError, match=message):
        plane_to_rgb(plane)


def test_many_channels_are_taken_where_they_are_named():
    assert plane_to_rgb(np.zeros((5, 16, 20)), channels=(0, 7, 19)).shape == (5, 16, 3)


def test_a_channel_that_was_not_taken_in_a_plane_is_black(rng):
    plane = rng.random((8, 9, 2)).astype(np.float32)
    both = plane_to_rgb(plane)
    plane[..., 1] = np.nan
    found = plane_to_rgb(plane)
    np.testing.assert_array_equal(found[..., 0], both[..., 0])
    assert not found[..., 1:].any()
    with pytest.raises(ImageError, match="no finite pixel"):
        plane_to_rgb(plane, channels=(1, 1, 1))


@pytest.mark.parametrize("contrast", [(230, 30), (np.nan, 200), [(0, 10), (0, 10), (9, 3)]])
def test_contrast_the_wrong_way_round_is_refused(contrast):
    with pytest.raises(ImageError, match="dark end first, found"):
        plane_to_rgb(np.zeros((4, 5, 3), np.uint16), contrast=contrast)


@pytest.mark.parametrize("gamma", [0, -1, np.nan, np.inf])
def test_a_gamma_that_shows_nothing_is_refused(gamma):
    with pytest.raises(ImageError, match="gamma above 0"):
        plane_to_rgb(np.eye(4), gamma=gamma)


def test_channels_that_do_not_exist_are_refused():
    with pytest.raises(ImageError, match="three channel numbers below 2"):
        plane_to_rgb(np.zeros((4, 4, 2)), channels=(0, 1, 2))
    with pytest.raises(ImageError, match="each of 2 channels, found 3"):
        plane_to_rgb(np.zeros((4, 4, 2)), contrast=[Contrast(0, 1)] * 3)


def test_fingerprint_changes_with_the_pixels_and_the_shape_only():
    rgb = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    assert fingerprint(rgb) == fingerprint(np.asfortranarray(rgb))
    assert fingerprint(rgb) == fingerprint(np.concatenate([rgb, rgb])[:4])
    assert fingerprint(rgb) != fingerprint(rgb.reshape(6, 4, 3))
    other = rgb.copy()
    other[0, 0, 0] += 1
    assert fingerprint(rgb) != fingerprint(other)


def test_channels_that_are_no_whole_numbers_are_refused():
    for wrong in ((0.0, 0, 0), ("0", 0, 0), (np.float32(0), None, None)):
        with pytest.raises(ImageError, match=r"three channel numbers below 1 .* found"):
            plane_to_rgb(np.eye(4), channels=wrong)
    assert plane_to_rgb(np.eye(4), channels=(np.int64(0), np.uint8(0), None)).any()


@pytest.mark.parametrize("scale", [1e-300, 1e-50, 1e-42, 1e-38, 1e38, 1e39, 1e300])
def test_values_beyond_single_precision_use_the_whole_range(scale):
    ramp = np.linspace(-1, 1, 101).reshape(1, -1)
    expected = plane_to_rgb(ramp, contrast=Contrast(-1, 1))
    assert (expected.min(), expected.max(), len(np.unique(expected))) == (0, 255, 101)
    found = plane_to_rgb(ramp * scale, contrast=Contrast(-scale, scale))
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (plane_to_rgb(ramp * scale) == plane_to_rgb(ramp)).mean() > 0.9


@pytest.mark.parametrize("scale", [1e-40, 3e38])
def test_single_precision_uses_the_whole_range_to_its_ends(scale):
    ramp = (np.linspace(-1, 1, 101) * scale).astype(np.float32).reshape(1, -1)
    found = plane_to_rgb(ramp, contrast=Contrast(-scale, scale))[0, :, 0]
    np.testing.assert_allclose(found, np.linspace(0, 255, 101), atol=1)


def test_pixels_far_beyond_the_window_are_black_or_white():
    plane = np.array([[-1e300, 0.0, 0.5, 1.0, 1e300, 1e308]])
    assert plane_to_rgb(plane, contrast=Contrast(0, 1))[0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]
    narrow = Contrast(1e-320, 2e-320)
    assert plane_to_rgb(plane, contrast=narrow)[0, :, 0].tolist() == [0, 0, 255, 255, 255, 255]
