"""Frames are invertible; windows agree with torch's two interpolations, whole or in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage as ndi

from napari_sam import geometry, interpolation, strips
from napari_sam.geometry import Frame, Window
from napari_sam.masks import Box, Mask, mask_iou

FRAMES = [
    Frame.longest_side((128, 128), 128),
    Frame.longest_side((90, 150), 128),
    Frame.longest_side((300, 210), 128),
    Frame.longest_side((33, 20), 128),
]


def textured(rng, shape=(32, 32), smooth=1.5, gain=6.0):
    """Logits like those of a decoder: smooth, of both signs."""
    noise = ndi.gaussian_filter(rng.normal(size=shape), smooth)
    return (gain * noise / noise.std()).astype(np.float32)


def reference_upsample(logits, frame, side=128):
    """The reference SAM's post-processing: to the padded square, cut off the padding, to the image."""
    x = torch.from_numpy(logits)[None, None]
    x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    x = x[..., : frame.model_shape[0], : frame.model_shape[1]]
    return F.interpolate(x, frame.image_shape, mode="bilinear", align_corners=False)[0, 0].numpy()


def whole(frame, side=128, stride=4):
    return Window(frame, (0, 0), stride, (side // stride, side // stride))


@pytest.mark.parametrize("frame", [*FRAMES, Frame.scaled((90, 150), 0.37), Frame.scaled((90, 150), 2.5)])
def test_frames_are_invertible(frame, rng):
    points = rng.uniform(-5, 200, (20, 2))
    np.testing.assert_allclose(frame.to_image(frame.to_model(points)), points)


def test_longest_side_rounds_as_the_reference():
    for shape in ((480, 641), (1000, 333), (7, 1024), (683, 1023)):
        frame = Frame.longest_side(shape, 1024)
        scale = 1024 / max(shape)
        assert frame.model_shape == tuple(int(n * scale + 0.5) for n in shape)


def test_where_clicks_land():
    # The reference multiplies coordinates; the built-in model maps pixel centres on pixel centres.
    assert Frame.longest_side((50, 100), 200).to_model(np.array([10.0, 20.0])).tolist() == [20, 40]
    assert Frame.scaled((50, 100), 2).to_model(np.array([10.0, 20.0])).tolist() == [20.5, 40.5]
    edges = Frame.scaled((50, 100), 2).to_model(np.array([[-0.5, -0.5], [49.5, 99.5]]))
    np.testing.assert_allclose(edges, [[-0.5, -0.5], [99.5, 199.5]])


@pytest.mark.parametrize("frame", FRAMES)
def test_upsampling_equals_torchs_two_stages(frame, rng):
    logits = textured(rng)
    expected = reference_upsample(logits, frame)
    window = whole(frame)
    assert window.image_box == (0, 0, *frame.image_shape)
    np.testing.assert_allclose(window.upsample(logits), expected, atol=2e-5)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_part_equals_the_same_part_of_the_whole(frame, rng):
    logits = textured(rng)
    window = whole(frame)
    full = window.upsample(logits)
    height, width = frame.image_shape
    for _ in range(20):
        y0, x0 = rng.integers(0, height), rng.integers(0, width)
        box = Box(y0, x0, rng.integers(y0, height) + 1, rng.integers(x0, width) + 1)
        np.testing.assert_allclose(window.upsample(logits, box), full[box.slices], atol=1e-5)
        # Cells that are not named do not matter.
        other = np.full_like(logits, np.nan)
        other[window.cells(box)] = logits[window.cells(box)]
        np.testing.assert_allclose(window.upsample(other, box), full[box.slices], atol=1e-5)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 3.0, 100.0])
def test_masks_equal_torchs(frame, threshold, rng):
    for smooth in (1, 4):
        logits = textured(rng, smooth=smooth)
        expected = reference_upsample(logits, frame) > threshold
        mask = whole(frame).mask(logits, threshold)
        assert (mask.to_plane(frame.image_shape) == expected).all()
        if expected.any():
            assert mask.pixels.any(0)[[0, -1]].all()
            assert mask.pixels.any(1)[[0, -1]].all()


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("offset", [0.3, 1.0, 4.0])
def test_stability_equals_torchs(frame, offset, rng):
    logits = textured(rng)
    full = reference_upsample(logits, frame)
    expected = (full > offset).sum() / (full > -offset).sum()
    mask, stability = whole(frame).mask_and_stability(logits, 0, offset)
    assert stability == pytest.approx(expected, abs=1e-6)
    assert stability == whole(frame).stability(logits, 0, offset)
    assert mask_iou(mask, whole(frame).mask(logits)) == 1


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("side", "apart"), [(1, 0), (5, 0), (13, 2), (13, 50), (64, 8)])
def test_large_masks_are_computed_strip_by_strip(frame, side, apart, rng, monkeypatch):
    window, noisy = whole(frame), textured(rng)
    several = [noisy, noisy + 2, noisy - 2, textured(rng, smooth=4), *islands(noisy.shape)]
    plain = [window.mask_and_stability(logits) for logits in several]
    monkeypatch.setattr(geometry, "SMALL_MASK", 0)
    monkeypatch.setattr(strips, "STRIP", side)
    monkeypatch.setattr(strips, "APART", apart)
    strips.bands.cache_clear()
    for logits, (mask, stability) in zip(several, plain, strict=True):
        in_strips, same = window.mask_and_stability(logits)
        assert stability == same
        for found in (in_strips, window.mask(logits)):
            assert (found.y0, found.x0) == (mask.y0, mask.x0)
            assert np.array_equal(found.pixels, mask.pixels)
    strips.bands.cache_clear()


def islands(shape):
    """Logits of two discs far from each other, of a ring, and of what fills the window."""
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    near, far = np.hypot(y - 0.2, x - 0.2), np.hypot(y - 0.3, x - 0.8)
    middle = np.hypot(y - 0.5, x - 0.5)
    for logits in (0.15 - np.minimum(near, far), 0.1 - abs(middle - 0.3), np.ones(shape)):
        yield (20 * logits).astype(np.float32)


def test_outlines_alone_are_interpolated(monkeypatch):
    """A disc in a large plane: of four million pixels few more are computed than lie along its rim."""
    frame = Frame.longest_side((2048, 2048), 1024)
    window = Window(frame, (0, 0), 4, (256, 256))
    y, x = np.mgrid[:256, :256]
    sizes, product = [], strips.product

    def noted(a, b):
        sizes.append(len(a) * b.shape[1])
        return product(a, b)

    monkeypatch.setattr(strips, "product", noted)
    assert window.mask((100 - np.hypot(y - 128, x - 128)).astype(np.float32)).area > 2_000_000
    assert 0 < sum(sizes) < 1_200_000


@pytest.mark.parametrize("small", [1, 500, 20_000])
def test_products_are_computed_a_few_rows_at_a_time(small, rng, monkeypatch):
    """numpy's library hands larger ones to threads, which then wait for torch's."""
    sizes, product = [], np.matmul

    def noted(a, b, out):
        sizes.append(a.shape[-2] * a.shape[-1] * b.shape[-1])
        return product(a, b, out=out)

    logits, window = textured(rng), whole(FRAMES[2])
    expected = window.upsample(logits)
    monkeypatch.setattr(interpolation, "SMALL_PRODUCT", small)
    monkeypatch.setattr(np, "matmul", noted)
    np.testing.assert_allclose(window.upsample(logits), expected, atol=1e-5)
    one_row = max(logits.shape) * max(window.frame.image_shape)
    assert max(sizes) <= max(small, one_row)


def test_empty_and_full_logits():
    window = whole(FRAMES[1])
    nothing = np.full((32, 32), -3, np.float32)
    mask, stability = window.mask_and_stability(nothing)
    assert (mask.area, stability) == (0, 0)
    mask, stability = window.mask_and_stability(-nothing)
    assert mask.to_plane((90, 150)).all()
    assert stability == 1


@pytest.mark.parametrize("frame", [*FRAMES, Frame.scaled((90, 150), 0.4), Frame.scaled((90, 150), 2.0)])
def test_support_holds_all_that_is_above(frame, rng):
    logits = textured(rng, shape=(16, 16))
    for origin in ((0, 0), (-16, -24), (24, 16)):
        window = Window(frame, origin, 4, (16, 16))
        box = window.support(logits, 2.0)
        y, x = np.nonzero(window.upsample(logits) > 2.0)
        if len(y):
            y, x = y + window.image_box.y0, x + window.image_box.x0
            assert box.y0 <= y.min()
            assert y.max() < box.y1
            assert box.x0 <= x.min()
            assert x.max() < box.x1


def test_windows_cover_the_pixels_whose_centres_lie_in_them():
    frame = Frame.scaled((100, 100), 0.5)
    window = Window(frame, (8, -8), 4, (4, 4))
    # Model pixels 8 to 24 and -8 to 8 are image pixels 16 to 48 and (cut at the edge) 0 to 16.
    assert window.image_box == (16, 0, 48, 16)
    assert window.mask(np.ones((4, 4), np.float32)).box == window.image_box


def test_the_same_logits_in_another_window_give_the_same_mask(rng):
    frame = Frame.scaled((100, 100), 1.0)
    y, x = np.mgrid[:16, :16]
    logits = (9 - 2 * np.hypot(y - 8, x - 7)).astype(np.float32)
    window = Window(frame, (16, 16), 4, (16, 16))
    moved = Window(frame, (8, 4), 4, (16, 16))
    there = window.resample(logits, moved, outside=-20)
    assert there.shape == (16, 16)
    assert mask_iou(window.mask(logits), moved.mask(there)) > 0.97
    assert window.resample(logits, window, outside=-20) is logits
    away = window.resample(logits, Window(frame, (400, 400), 4, (16, 16)), outside=-20)
    assert (away == -20).all()


@pytest.mark.parametrize("factor", [0.5, 2.0, 0.7])
def test_the_same_logits_at_another_scale_give_the_same_mask(factor):
    """A correction that reaches further is decoded at a coarser scale, with the mask so far."""
    y, x = np.mgrid[:16, :16]
    logits = (9 - 2 * np.hypot(y - 8, x - 7)).astype(np.float32)
    window = Window(Frame.scaled((100, 140), 1.0), (16, 32), 4, (16, 16))
    other = Window(Frame.scaled((100, 140), factor), (-8, 8), 2, (128, 160))
    there = window.resample(logits, other, outside=-20)
    assert mask_iou(window.mask(logits), other.mask(there)) > 0.95
    # What the first window did not see is not told.
    seen = other.upsample((there > -20).astype(np.float32))
    assert seen[: 16 - 4].max() < 1


def test_windows_that_miss_the_plane_show_nothing():
    window = Window(Frame.scaled((50, 50), 1.0), (200, 200), 2, (16, 16))
    assert window.upsample(np.ones((16, 16), np.float32)).size == 0
    assert (window.sample_mask(Mask.from_plane(np.ones((5, 5), bool)), 7, -7) == -7).all()


@pytest.mark.parametrize("frame", [FRAMES[0], FRAMES[1], FRAMES[2]])
def test_a_mask_survives_the_way_into_the_window_and_back(frame):
    height, width = frame.image_shape
    y, x = np.ogrid[:height, :width]
    mask = Mask.from_plane(np.hypot((y - height / 2) / height, (x - width / 2) / width) < 0.3)
    logits = whole(frame).sample_mask(mask, 7, -7)
    assert logits.min() == -7
    assert logits.max() == pytest.approx(7)
    assert mask_iou(whole(frame).mask(logits), mask) > 0.93


def test_a_mask_that_runs_along_an_inner_edge_is_cut():
    frame = Frame.scaled((100, 100), 1.0)
    window = Window(frame, (20, 0), 4, (10, 10))  # rows 20 to 60, columns 0 to 40
    inner = Mask(20, 10, np.ones((10, 10), bool))
    assert window.cuts(inner)
    assert window.cuts(Mask(50, 10, np.ones((10, 10), bool)))
    assert not window.cuts(Mask(30, 0, np.ones((10, 10), bool)))  # the plane ends there
    assert not window.cuts(Mask(30, 15, np.ones((10, 10), bool)))
    assert not window.cuts(Mask(0, 0, np.zeros((0, 0), bool)))
