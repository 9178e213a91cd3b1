"""Automatic masks on drawn discs: what is found, filtered, labelled, cancelled."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image, disc_mask

from napari_sam.everything import AutomaticSettings, generate, segment_everything, settings_for
from napari_sam.everything.grid import coarse_to_fine, crop_boxes
from napari_sam.image import ImageError, plane_to_rgb
from napari_sam.masks import Box, Mask, mask_from_rle, mask_iou
from napari_sam.predictor.base import Seeds
from napari_sam.progress import finish

SHAPE = (120, 150)
DISCS = [(20, 22, 9), (24, 70, 12), (70, 40, 10), (72, 110, 14), (104, 20, 8)]
IMAGE = disc_image(SHAPE, DISCS)
RGB = plane_to_rgb(IMAGE)
GRID = AutomaticSettings(
    points_per_side=12, pred_iou_thresh=0.85, stability_score_thresh=0.5, prompts="grid", slack=0.5
)


def run(settings=None, predictor=None, **kwargs):
    return finish(generate(predictor or DiscPredictor(), RGB, settings, **kwargs))


def assert_discs(masks, discs=DISCS, least=0.99):
    """Each disc is found once, and nothing else is."""
    table = np.array([[mask_iou(m, disc_mask(*d)) for d in discs] for m in masks])
    assert table.shape == (len(discs), len(discs))
    assert (table.max(0) > least).all()
    assert (table.max(1) > least).all()


def test_seeds_find_every_disc_once():
    result = run()
    assert result.seeded
    assert_discs(result.filtered.masks)


class Absent(DiscPredictor):
    """Proposes two discs only; what no mask covers, it sees when it is asked again."""

    def seeds(self, embedding):
        points, scores = super().seeds(embedding)
        return Seeds(points[:2], scores[:2])

    def overlooked(self, embedding, covered):
        self.covered = covered
        points, _ = super().seeds(embedding)
        return points[[not covered[int(y), int(x)] for y, x in points]]


def test_what_no_mask_covers_is_prompted_once_more():
    predictor = Absent()
    assert_discs(run(predictor=predictor).filtered.masks)
    assert predictor.covered.sum() == sum(disc_mask(*d).area for d in DISCS[:2])
    left = Box(0, 0, 120, 45)
    inside = run(predictor=predictor, region=left).filtered.masks
    assert_discs(inside, [d for d in DISCS if d[1] < 45])


def test_a_grid_finds_every_disc_once():
    result = run(GRID)
    assert not result.seeded
    assert_discs(result.filtered.masks)


def test_seeds_are_refused_by_a_model_without_and_auto_takes_the_grid():
    predictor = DiscPredictor(seeds=False)
    assert not run(replace(GRID, prompts="auto"), predictor).seeded
    with pytest.raises(ValueError, match="proposes no seeds"):
        run(replace(GRID, prompts="seeds"), predictor)


def test_labels_and_table_speak_of_the_same_objects():
    for settings in (None, GRID):
        labels, table = run(settings).labels()
        assert labels.shape == SHAPE
        assert labels.dtype == np.int32
        assert list(table.columns) == [
            "index", "predicted_iou", "stability", "area", "point_y", "point_x", "level",
        ]  # fmt: skip
        assert table["index"].tolist() == [1, 2, 3, 4, 5]
        assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5}
        for row in table.itertuples():
            assert row.area == np.count_nonzero(labels == row.index)
            assert labels[round(row.point_y), round(row.point_x)] == row.index
            assert row.predicted_iou == pytest.approx(0.95)
            assert row.level == 2


def test_an_empty_plane_gives_an_empty_result():
    rgb = np.zeros((40, 50, 3), np.uint8)
    for settings in (None, GRID):
        result = finish(generate(DiscPredictor(), rgb, settings))
        labels, table = result.labels()
        assert len(result.filtered) == 0
        assert not labels.any()
        assert len(table) == 0
        assert result.records() == []


def test_every_mask_is_accounted_for():
    result = run(GRID)
    for change in ({}, {"pred_iou": 0.9}, {"stability": 0.97}, {"min_area": 300}, {"max_area": 300}):
        filtered = result.refilter(**change)
        assert sum(filtered.removed.values()) + len(filtered) == 3 * 12 * 12
    seeded = run()
    for change in ({}, {"pred_iou": 0.96}, {"min_area": 300}, {"max_area": 300}):
        filtered = seeded.refilter(**change)
        assert sum(filtered.removed.values()) + len(filtered) == len(DISCS)


def test_refilter_says_which_filter_removed_what():
    result = run()
    areas = [disc_mask(*d).area for d in DISCS]
    small = result.refilter(pred_iou=0.9, min_area=300)
    assert len(small) == sum(a >= 300 for a in areas)
    assert small.removed["smallest area"] == sum(a < 300 for a in areas)
    large = result.refilter(pred_iou=0.9, max_area=300)
    assert large.removed["largest area"] == sum(a > 300 for a in areas)
    none = result.refilter(pred_iou=0.96)
    assert (len(none), none.removed["predicted IoU"]) == (0, len(DISCS))
    assert result.refilter() is result.filtered


def test_lower_thresholds_show_what_was_kept_aside():
    strict = run(replace(GRID, pred_iou_thresh=0.94, slack=0.3))
    found = strict.filtered
    lower = strict.refilter(pred_iou=0.75)
    direct = run(replace(GRID, pred_iou_thresh=0.75)).filtered
    assert strict.settings.floors[0] == pytest.approx(0.64)
    assert len(found) == len(DISCS)
    assert [p.mask.ends.tolist() for p in lower.proposals] == [p.mask.ends.tolist() for p in direct.proposals]


class Judging(DiscPredictor):
    """Judges all masks better than its decoder did, by at most a tenth."""

    def judge(self, embedding, mask, predicted_iou):
        return predicted_iou + 0.1

    def least_iou(self, quality):
        return quality - 0.1


def test_what_is_kept_aside_is_decided_by_the_judged_quality():
    """The slack changes nothing of what passes, and lowered thresholds show all that pass them."""
    masks = [
        sorted(p.mask.ends.tolist() for p in result.filtered.proposals)
        for result in (
            run(replace(GRID, pred_iou_thresh=0.75, slack=slack), Judging()) for slack in (0, 0.1, 0.5)
        )
    ]
    assert masks[0]
    assert masks[0] == masks[1] == masks[2]
    strict = run(replace(GRID, pred_iou_thresh=0.95, slack=0.2), Judging())
    assert all(p.predicted_iou > 0.75 for p in strict.found.proposals)
    lower = strict.refilter(pred_iou=0.76).proposals
    assert sorted(p.mask.ends.tolist() for p in lower) == masks[0]


def test_masks_below_the_floor_are_never_computed():
    predictor = DiscPredictor()
    run(replace(GRID, pred_iou_thresh=0.94, slack=0), predictor)
    asked = [pair for batch in predictor.batches for pair in batch.asked]
    assert asked
    assert {col for _, col in asked} == {2}


def test_parts_lie_on_their_wholes_if_asked():
    result = run(replace(GRID, pred_iou_thresh=0.65, stability_score_thresh=0))
    filtered = result.refilter(box_nms=0.99)
    nested, _ = filtered.labels("small")
    best, _ = filtered.labels("best")
    y, x, _ = DISCS[0]
    # One ring a level in the nested image; the best image shows the object only, with its wide rim around.
    assert len(set(nested[y, x - 12 : x + 1])) > len(set(best[y, x - 8 : x + 1]))
    assert best[y, x] == best[y, x - 8]
    with pytest.raises(ValueError, match="nesting must be"):
        filtered.labels("large")


def test_records_are_those_of_the_reference():
    result = run(GRID)
    for record, rle in zip(result.records(), result.records("rle"), strict=True):
        mask = Mask.from_plane(record["segmentation"])
        assert record["area"] == mask.area
        assert record["bbox"] == [mask.x0, mask.y0, mask.box.width - 1, mask.box.height - 1]
        assert record["crop_box"] == [0, 0, SHAPE[1], SHAPE[0]]
        x, y = record["point_coords"][0]
        assert record["segmentation"][round(y), round(x)]
        back = mask_from_rle(rle["segmentation"]["counts"], SHAPE)
        assert mask_iou(back, mask) == 1


def test_unlabelled_area_keeps_objects_to_the_free_pixels():
    free = np.ones(SHAPE, bool)
    free[disc_mask(*DISCS[0]).box.slices] = False  # an object that is there already
    free[:, 104:] = False  # most of disc 3
    for settings in (None, GRID):
        result = run(settings, region=Mask.from_plane(free))
        labels, _ = result.labels()
        assert not labels[~free].any()
        assert not labels[disc_mask(*DISCS[0]).box.slices].any()
        assert labels[DISCS[1][:2]]
        assert len(result.filtered) == len(DISCS) - 2
    assert result.filtered.removed["outside the region"] > 0


def test_the_current_view_bounds_prompts_and_leaves_objects_whole():
    view = Box(8, 8, 60, 72)  # disc 0 inside, disc 1 cut in the middle
    result = run(region=view)
    assert_discs(result.filtered.masks, DISCS[:2])
    grid = run(replace(GRID, points_per_side=8), region=view)
    assert_discs(grid.filtered.masks, DISCS[:2])
    points = np.array([p.point for p in grid.filtered.proposals])
    assert ((points >= (8, 8)) & (points < (60, 72))).all()


@pytest.mark.parametrize("settings", [None, replace(GRID, points_per_side=8)], ids=["seeds", "grid"])
def test_a_view_that_does_not_end_at_pixels_holds_those_that_it_cuts(settings):
    assert_discs(run(settings, region=Box(8.5, 8.2, 59.3, 71.7)).filtered.masks, DISCS[:2])
    everywhere = run(settings, region=Box(-20.5, -np.inf, 1e9, np.inf))
    assert len(everywhere) == len(run(settings))


def test_a_region_away_from_a_crop_costs_nothing():
    predictor = DiscPredictor(seeds=False)
    settings = replace(GRID, crop_n_layers=1, points_per_side=8)
    result = run(settings, predictor, region=Box(0, 0, 40, 45))  # in the plane and in the first crop only
    assert predictor.encoded == 2
    assert_discs(result.filtered.masks, DISCS[:1])
    nothing = run(settings, predictor, region=Mask.from_plane(np.zeros(SHAPE)))
    assert predictor.encoded == 2
    assert len(nothing.filtered) == 0


def test_an_embedding_is_used_and_another_planes_refused():
    predictor = DiscPredictor()
    embedding = predictor.embed(RGB)
    run(None, predictor, embedding=embedding)
    assert predictor.encoded == 1
    with pytest.raises(ValueError, match="Embed the image again"):
        finish(generate(predictor, RGB[:50], embedding=embedding))


def test_crops_are_embedded_on_their_own_and_cut_masks_dropped():
    predictor = DiscPredictor(seeds=False)
    result = run(replace(GRID, crop_n_layers=1), predictor)
    assert predictor.encoded == 5
    assert len(result.found.crops) == 5
    assert_discs(result.filtered.masks)
    assert result.filtered.removed["cut off"] > 0
    # The masks of smaller crops win where there are both.
    assert {p.crop for p in result.filtered.proposals} - {0}


def test_layers_whose_crops_hold_no_pixel_are_left_out():
    """However many are asked for, the list of crops ends."""
    crops = crop_boxes((6, 9), 100, 0.3)
    assert max(layer for _, layer in crops) == 2
    assert len(crops) == 1 + 4 + 16
    assert crop_boxes((1, 1), 100, 0.3) == [(Box(0, 0, 1, 1), 0)]
    assert not any(box.empty for box, _ in crop_boxes((4, 1000), 8, 0.34))


def test_an_adaptive_grid_finds_the_same_with_fewer_prompts():
    image = disc_image((200, 200), [(50, 50, 40), (50, 150, 40), (150, 50, 40), (150, 150, 40)])
    rgb = plane_to_rgb(image)
    settings = replace(GRID, points_per_side=16, points_per_batch=8)
    full = finish(generate(DiscPredictor(), rgb, settings))
    predictor = DiscPredictor()
    quick = finish(generate(predictor, rgb, replace(settings, adaptive=True)))
    assert (quick.labels()[0] > 0).sum() == (full.labels()[0] > 0).sum()
    assert len(quick.filtered) == len(full.filtered) == 4
    assert quick.skipped > 80
    assert predictor.decoded == 256 - quick.skipped
    assert full.skipped == 0


def test_the_grid_of_an_adaptive_run_holds_every_point_once():
    for per_side in (1, 2, 5, 12):
        order = coarse_to_fine(per_side)
        assert sorted(order.tolist()) == list(range(per_side**2))
    first = coarse_to_fine(12)[:9]
    assert {(i // 12 % 4, i % 4) for i in first.tolist()} == {(1, 1)}


def test_progress_grows_and_closing_cancels():
    predictor = DiscPredictor()
    steps = generate(predictor, RGB, replace(GRID, points_per_batch=12))
    seen = [next(steps) for _ in range(6)]
    assert all(a.done <= b.done for a, b in pairwise(seen))
    steps.close()
    assert predictor.decoded < 144
    total = []
    finish(generate(DiscPredictor(), RGB, GRID), total.append)
    assert total[-1].done == total[-1].total
    assert all(p.done <= p.total for p in total)


def test_small_regions_are_cleaned():
    image = IMAGE.copy()
    y, x, _ = DISCS[3]
    image[y - 1 : y + 1, x - 1 : x + 1] = 0  # a hole of 4 pixels
    rgb = plane_to_rgb(image)
    for settings in (settings_for(DiscPredictor()), GRID):
        plain = finish(generate(DiscPredictor(), rgb, settings))
        clean = plain.refilter(min_region_area=5)
        assert not any(m.crop(m.box).all() for m in plain.filtered.masks)
        truth = disc_mask(*DISCS[3])
        assert max(mask_iou(m, truth) for m in plain.filtered.masks) < 0.999
        assert max(mask_iou(m, truth) for m in clean.masks) == 1
        assert len(clean) == len(plain.filtered)


@pytest.mark.parametrize("seeded", [True, False])
def test_a_mask_that_cleaning_makes_too_large_or_too_small_is_dropped(seeded):
    ring = disc_mask(60, 60, 20).to_plane((128, 128)) & ~disc_mask(60, 60, 5).to_plane((128, 128))
    mask = Mask.from_plane(ring)
    result = _synthetic([], None)
    (proposal,) = _synthetic([(60, 60, 20)], None).found.proposals
    proposal = proposal._replace(mask=mask.pack(), area=mask.area)
    result = replace(result, found=replace(result.found, proposals=(proposal,), prompts=1), seeded=seeded)
    hole = disc_mask(60, 60, 5).area
    assert len(result.refilter(pred_iou=0, max_area=mask.area)) == 1
    assert len(result.refilter(pred_iou=0, max_area=mask.area, min_region_area=hole)) == 1
    filtered = result.refilter(pred_iou=0, max_area=mask.area, min_region_area=hole + 1)
    assert len(filtered) == 0
    assert not filtered.paint().labels.any()
    assert sum(filtered.removed.values()) == 1
    # Of a mask of two parts, one is left that is too small by itself.
    two = Mask.union([disc_mask(30, 30, 9), disc_mask(60, 60, 5)])
    proposal = proposal._replace(mask=two.pack(), area=two.area)
    result = replace(result, found=replace(result.found, proposals=(proposal,), _cleaned={}, _near={}))
    assert len(result.refilter(pred_iou=0, min_area=two.area)) == 1
    assert len(result.refilter(pred_iou=0, min_area=two.area, min_region_area=hole + 1)) == 0


@pytest.mark.parametrize("seeded", [True, False])
@pytest.mark.parametrize("nesting", ["best", "small"])
def test_no_object_of_the_labels_is_smaller_than_the_smallest_area(seeded, nesting):
    """Also not what better masks leave of one; what lies below it is seen then."""
    result = replace(_synthetic([(20, 20, 9), (20, 34, 9), (80, 80, 9)], None), seeded=seeded)
    areas = result.refilter(pred_iou=0, min_area=0).labels(nesting)[1]["area"]
    whole = result.found.area.min()
    assert len(areas) == 3
    assert areas.min() < whole
    labels, table = result.refilter(pred_iou=0, min_area=int(areas.min())).labels(nesting)
    assert len(table) == 3
    labels, table = result.refilter(pred_iou=0, min_area=int(whole)).labels(nesting)
    assert len(table) == 2
    assert (np.bincount(labels.ravel())[1:] == table["area"]).all()
    assert (table["area"] >= whole).all()


def test_crowded_objects_are_found_once_each():
    """Two seeds in one object, and a group that covers two objects, give no extra object."""
    result = run()
    found = result.found
    # Give every seed a twin: the same masks again, a little worse.
    twins = tuple(
        p._replace(prompt=p.prompt + found.prompts, predicted_iou=p.predicted_iou - 0.01)
        for p in found.proposals
    )
    doubled = replace(
        result, found=replace(found, proposals=found.proposals + twins, prompts=2 * found.prompts, _near={})
    )
    assert_discs(doubled.filtered.masks)
    assert doubled.filtered.removed["duplicates"] == len(DISCS)


def test_segment_everything_takes_any_plane():
    for image in (IMAGE, IMAGE.astype(np.uint16) * 200, IMAGE / 3.0, np.stack([IMAGE] * 3, -1)):
        labels, table = segment_everything(image, DiscPredictor()).labels()
        assert len(table) == len(DISCS) == labels.max()
    with pytest.raises(ImageError, match="one plane"):
        segment_everything(np.zeros((2, 3, 4, 5)), DiscPredictor())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points_per_side": 0}, "points_per_side must be 1 or more"),
        ({"points_per_side": 3_000_000}, "points_per_side must be 4096 or less, found 3000000"),
        ({"crop_overlap_ratio": 1.0}, "crop_overlap_ratio must be below 1, found 1.0"),
        ({"stability_score_offset": -1.0}, "stability_score_offset must be 0 or more"),
        ({"prompts": "dense"}, "'auto', 'grid' or 'seeds'"),
        ({"min_area": 50, "max_area": 10}, "no mask could be kept"),
    ],
)
def test_settings_that_ask_for_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AutomaticSettings(**change)


def test_masks_side_by_side_are_painted_once(monkeypatch):
    """They were laid into a label image when they were chosen: nothing is painted or searched again."""
    result = run()
    filtered = result.refilter(pred_iou=0.5)
    monkeypatch.setattr("napari_sam.everything.result.masks_to_labels", None)
    labels, table = filtered.labels()
    painted = filtered.paint()
    assert (painted.labels == labels).all()
    assert painted.order == list(range(len(filtered)))
    for number, mask in enumerate(painted.masks, start=1):
        assert (mask.to_plane(SHAPE) == (labels == number)).all()
        assert mask.box == Mask.from_plane(labels == number).box
        assert table["area"][number - 1] == mask.area
    labels[:] = 0
    assert filtered.labels()[0].any()


def test_what_better_masks_leave_is_what_is_seen():
    """Of two discs that touch, the worse one loses the common pixels, in the image and in its mask."""
    result = _synthetic([(20, 20, 9), (20, 34, 9)], None)
    best, other = sorted(result.found.proposals, key=lambda p: -p.predicted_iou)
    painted = replace(result, seeded=True).refilter(pred_iou=0.1).paint()
    assert [m.area for m in painted.masks] == [best.area, other.area - _common(best, other)]
    assert _common(best, other) > 0
    for number, mask in enumerate(painted.masks, start=1):
        assert (mask.to_plane(result.shape) == (painted.labels == number)).all()


def _common(one, other):
    planes = [p.mask.unpack().to_plane((512, 512)) for p in (one, other)]
    return int(np.logical_and(*planes).sum())


def test_a_thousand_masks_are_filtered_again_in_an_instant():
    rng = np.random.default_rng(0)
    discs = [(16 * i + 8, 16 * j + 8, rng.uniform(4, 6)) for i in range(32) for j in range(32)]
    rgb = plane_to_rgb(disc_image((512, 512), discs))
    predictor = DiscPredictor()
    embedding = predictor.embed(rgb)
    seeds = predictor.seeds(embedding)
    result = _synthetic(discs, seeds)
    result.refilter(pred_iou=0.5)  # the first time, neighbours are looked up
    best = np.inf
    for pred_iou in (0.6, 0.7, 0.8):
        start = time.perf_counter()
        filtered = result.refilter(pred_iou=pred_iou)
        best = min(best, time.perf_counter() - start)
        assert len(filtered) > 100
    assert best < 0.05


def _synthetic(discs, seeds):
    """A result of 1,000 grid masks without decoding them."""
    from napari_sam.everything.found import Found, Proposal
    from napari_sam.everything.result import AutomaticResult

    rng = np.random.default_rng(1)
    proposals = []
    for number, disc in enumerate(discs[:1000]):
        mask = disc_mask(*disc)
        proposals.append(Proposal(mask.pack(), rng.uniform(0.5, 1), 0.9, mask.area, disc[:2], number, 2, 0))
    found = Found((512, 512), tuple(proposals), (Box(0, 0, 512, 512),), 1000, np.empty((0, 2), np.int64))
    return AutomaticResult(found, replace(GRID, stability_score_thresh=0.5))
