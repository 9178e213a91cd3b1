"""Masks: boxes, crops, overlap, clean-up, run lengths, packing, label images."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco
from scipy import ndimage as ndi

from napari_sam.masks import (
    Box,
    Mask,
    clean_mask,
    mask_from_rle,
    mask_iou,
    masks_of_labels,
    masks_to_labels,
    paint,
    rle_counts,
)


def speckled(rng, shape=(30, 40), density=0.5, smooth=1.0):
    """A mask with holes and islands of all sizes, also along the edges of the plane."""
    noise = ndi.gaussian_filter(rng.normal(size=shape), smooth)
    return noise > np.quantile(noise, 1 - density)


# --- boxes -------------------------------------------------------------------------------------------------


def test_box_measures_and_slices():
    box = Box(2, 3, 6, 10)
    assert (box.height, box.width) == (4, 7)
    assert box.centre == (3.5, 6.0)
    assert np.zeros((20, 20))[box.slices].shape == (4, 7)
    assert Box.around(5, 6).centre == (5, 6)
    assert box.shift(1, -1) == (3, 2, 7, 9)


def test_box_clip_covers_and_stays_inside():
    assert Box(-3.2, 1.5, 4.1, 99).clip((10, 20)) == (0, 1, 5, 20)
    assert Box(30, 30, 40, 40).clip((10, 20)) == (10, 20, 10, 20)


def test_box_union_and_intersection():
    a, b = Box(0, 0, 5, 5), Box(3, 4, 9, 6)
    assert Box.union([a, b]) == (0, 0, 9, 6)
    assert a.intersect(b) == (3, 4, 5, 5)
    assert a.intersect(Box(7, 0, 9, 2)).height <= 0


# --- masks -------------------------------------------------------------------------------------------------


def test_mask_is_tight_and_returns_to_its_plane(rng):
    plane = np.zeros((40, 50), bool)
    plane[10:20, 30:45] = rng.random((10, 15)) > 0.5
    mask = Mask.from_plane(plane)
    assert mask.pixels.any(0)[[0, -1]].all()
    assert mask.pixels.any(1)[[0, -1]].all()
    assert (mask.to_plane((40, 50)) == plane).all()
    assert mask.area == plane.sum()
    assert (mask.shift(-10, 5).to_plane((40, 50))[:10, 35:] == plane[10:20, 30:45]).all()


def test_empty_mask():
    mask = Mask.from_plane(np.zeros((5, 6)))
    assert mask.area == 0
    assert mask.pixels.shape == (0, 0)
    assert not mask.to_plane((5, 6)).any()
    assert mask_iou(mask, mask) == 0


def test_crop_may_reach_outside_the_mask_and_the_plane(rng):
    plane = rng.random((12, 14)) > 0.4
    mask = Mask.from_plane(plane)
    padded = np.pad(plane, 5)
    assert (mask.crop(Box(-5, -5, 17, 19)) == padded).all()
    assert (mask.crop(Box(2, 3, 7, 9)) == plane[2:7, 3:9]).all()
    assert not mask.crop(Box(50, 50, 53, 54)).any()


def test_union_of_masks(rng):
    planes = [rng.random((20, 30)) > 0.9 for _ in range(4)]
    masks = [Mask.from_plane(p) for p in planes] + [Mask.from_plane(np.zeros((20, 30)))]
    assert (Mask.union(masks).to_plane((20, 30)) == np.any(planes, axis=0)).all()


def test_mask_iou_against_whole_planes(rng):
    planes = [speckled(rng, density=d) for d in (0.02, 0.2, 0.5, 0.9)]
    for a in planes:
        for b in planes:
            expected = np.sum(a & b) / np.sum(a | b)
            assert mask_iou(Mask.from_plane(a), Mask.from_plane(b)) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (30, 40), (300, 300)])
def test_packed_masks_come_back(rng, shape):
    for density in (0.0, 0.3, 1.0):
        mask = Mask.from_plane(rng.random(shape) < density, 3, 4)
        packed = mask.pack()
        back = packed.unpack()
        assert (back.y0, back.x0) == (mask.y0, mask.x0)
        assert back.pixels.dtype == bool
        assert (back.pixels == mask.pixels).all()
        assert back.pixels.shape == mask.pixels.shape


def test_packed_masks_are_small():
    y, x = np.ogrid[:1000, :1000]
    mask = Mask.from_plane(np.hypot(y - 500, x - 500) < 490)
    assert mask.pack().ends.nbytes < mask.pixels.nbytes / 100


# --- clean-up ----------------------------------------------------------------------------------------------


def brute_force_clean(plane, min_area, endless):
    """The same by flooding every region of the whole plane, one at a time."""
    out = plane.copy()
    pad = 1 if endless else 0
    holes, count = ndi.label(~np.pad(plane, pad), structure=np.ones((3, 3)))
    changed = False
    for k in range(1, count + 1):
        region = holes == k
        touches = region[[0, -1]].any() or region[:, [0, -1]].any()
        if region.sum() < min_area and not (endless and touches):
            out |= region[pad : region.shape[0] - pad, pad : region.shape[1] - pad]
            changed = True
    islands, count = ndi.label(out, structure=np.ones((3, 3)))
    sizes = [(islands == k).sum() for k in range(1, count + 1)]
    if any(s < min_area for s in sizes):
        changed = True
        keep = [k + 1 for k, s in enumerate(sizes) if s >= min_area] or [int(np.argmax(sizes)) + 1]
        out = np.isin(islands, keep)
    return out, changed


@pytest.mark.parametrize("min_area", [1, 2, 5, 20, 200])
@pytest.mark.parametrize("endless", [True, False])
def test_clean_mask_against_flooding_the_plane(rng, min_area, endless):
    shape = (30, 40)
    for density in (0.05, 0.3, 0.5, 0.8, 0.97):
        for smooth in (0.6, 1.5):
            plane = speckled(rng, shape, density, smooth)
            expected, changed = brute_force_clean(plane, min_area, endless)
            mask, was_changed = clean_mask(Mask.from_plane(plane), min_area, None if endless else shape)
            assert (mask.to_plane(shape) == expected).all()
            assert was_changed == changed


def test_clean_mask_fills_a_strip_between_the_mask_and_the_edge_of_the_plane():
    plane = np.ones((20, 30), bool)
    plane[:2] = False  # 60 pixels above the mask
    assert clean_mask(Mask.from_plane(plane), 61, (20, 30))[0].area == 600
    assert clean_mask(Mask.from_plane(plane), 60, (20, 30))[0].area == 540
    assert clean_mask(Mask.from_plane(plane), 61)[0].area == 540


def test_clean_mask_leaves_good_and_empty_masks_alone():
    mask = Mask.from_plane(np.ones((9, 9)), 4, 4)
    assert clean_mask(mask, 50) == (mask, False)
    empty = Mask.from_plane(np.zeros((9, 9)))
    assert clean_mask(empty, 50) == (empty, False)


def test_the_largest_island_stays_even_if_small():
    plane = np.zeros((10, 20), bool)
    plane[1:3, 1:3] = plane[5:8, 10:13] = True
    cleaned, changed = clean_mask(Mask.from_plane(plane), 100)
    assert changed
    assert cleaned.area == 9


# --- run lengths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (1, 8), (23, 31)])
def test_rle_against_pycocotools(rng, density, shape):
    for _ in range(5):
        plane = rng.random(shape) < density
        counts = rle_counts(Mask.from_plane(plane), shape)
        theirs = coco.frPyObjects({"size": list(shape), "counts": counts}, *shape)
        assert theirs["counts"] == coco.encode(np.asfortranarray(plane, np.uint8))["counts"]
        assert sum(counts) == plane.size
        assert all(c > 0 for c in counts[1:])
        assert (mask_from_rle(counts, shape).to_plane(shape) == plane).all()


def test_rle_joins_runs_over_the_foot_of_a_column():
    assert rle_counts(Mask.from_plane(np.ones((3, 4))), (3, 4)) == [0, 12]
    assert rle_counts(Mask.from_plane(np.ones((3, 2)), 0, 1), (3, 4)) == [3, 6, 3]


def test_rle_drops_what_lies_outside_the_plane():
    mask = Mask(-2, -1, np.ones((5, 4), bool))
    assert (mask_from_rle(rle_counts(mask, (4, 6)), (4, 6)).to_plane((4, 6)) == mask.to_plane((4, 6))).all()


def test_rle_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="cover 5 pixels, the plane has 12"):
        mask_from_rle([2, 3], (3, 4))


# --- label images ------------------------------------------------------------------------------------------


def test_paint_keeps_or_replaces_neighbours():
    labels = np.zeros((6, 6), np.uint16)
    labels[2:4, 2:4] = 7
    mask = Mask(1, 1, np.ones((3, 3), bool))
    kept, replaced = labels.copy(), labels.copy()
    written = paint(kept, mask, 9)
    assert written.sum() == 9 - 4
    assert (kept[2:4, 2:4] == 7).all()
    assert (kept == 9).sum() == 5
    assert paint(replaced, mask, 9, "replace").all()
    assert (replaced == 9).sum() == 9


def test_paint_stays_in_the_plane():
    labels = np.zeros((4, 4), np.uint8)
    written = paint(labels, Mask(-1, 2, np.ones((3, 4), bool)), 1)
    assert written.shape == (2, 2)
    assert labels.sum() == 4


def test_masks_to_labels_gives_pixels_to_the_first():
    masks = [Mask(0, 0, np.ones((4, 4), bool)), Mask(2, 2, np.ones((4, 4), bool))]
    labels, order, seen = masks_to_labels(masks, (8, 8))
    assert order == [0, 1]
    assert (labels == 1).sum() == 16
    assert (labels == 2).sum() == 12
    assert [mask.area for mask in seen] == [16, 12]
    labels, order, seen = masks_to_labels(masks, (8, 8), order=[1, 0])
    assert order == [1, 0]
    assert (labels == 1).sum() == 16
    for number, mask in enumerate(seen, start=1):
        assert (mask.to_plane((8, 8)) == (labels == number)).all()
    assert labels[5, 5] == 1


def test_masks_to_labels_drops_what_is_hidden():
    masks = [Mask(0, 0, np.ones((4, 4), bool)), Mask(1, 0, np.ones((4, 4), bool))]
    assert masks_to_labels(masks, (8, 8), min_visible=0.2)[1] == [0, 1]
    assert masks_to_labels(masks, (8, 8), min_visible=0.3)[1] == [0]
    assert masks_to_labels(masks, (8, 8), order=[0, 0])[1] == [0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64])
def test_masks_of_labels_and_back(rng, dtype):
    labels = (ndi.label(speckled(rng))[0] * 3).astype(dtype)
    masks = masks_of_labels(labels)
    assert sorted(masks) == [int(v) for v in np.unique(labels) if v]
    back = np.zeros_like(labels)
    for value, mask in masks.items():
        paint(back, mask, value)
    assert (back == labels).all()


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint64])
def test_high_ids_need_no_memory(dtype):
    high = 2_000_000_000 if dtype is not np.uint64 else 2**63 + 2**11
    labels = np.zeros((6, 8), dtype)
    labels[1:3, 2:5], labels[4, 1:3] = high, 7
    masks = masks_of_labels(labels)
    assert list(masks) == [7, high]
    assert (masks[high].y0, masks[high].x0, masks[high].area, masks[7].area) == (1, 2, 6, 2)
