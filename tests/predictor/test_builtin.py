"""The predictor for the built-in model: scales, windows, tiles. Weights are random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam.everything import AutomaticSettings, generate
from napari_sam.geometry import Window
from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.model.builtin import BuiltIn, Features
from napari_sam.predictor import builtin, tiled
from napari_sam.predictor.builtin import WINDOW, BuiltInPredictor
from napari_sam.progress import finish
from napari_sam.prompts import Point, PromptError, Prompts


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    model = BuiltIn((8, 8, 16, 16, 16), (1, 1, 1, 1), 32).eval()
    # The means and spreads of an untrained batch norm say nothing: give every path a part.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
    return BuiltInPredictor(model, "random", "random-weights", torch.device("cpu"))


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 255, (300, 420, 3)).astype(np.uint8)


def test_a_plane_is_brought_to_the_objects_scale(predictor, picture):
    small, large = (predictor.embed(picture, diameter=d) for d in (22.0, 88.0))
    assert small.frame.model_shape == (600, 840)
    assert large.frame.model_shape == (150, 210)
    assert small.key != large.key
    assert small.features["dense"].shape[-2:] == (608 // 4, 864 // 4)


def test_read_only_and_reversed_arrays_are_taken(predictor, picture):
    view = picture[::-1]
    view.flags.writeable = False
    assert predictor.embed(view, diameter=44.0).key == predictor.embed(view.copy(), diameter=44.0).key


def test_an_embedding_does_not_change_with_the_array_that_it_was_made_of(predictor, picture):
    array = np.ascontiguousarray(picture)
    embedding = predictor.embed(array, diameter=44.0)
    assert not np.shares_memory(embedding.features["plane"].numpy(), array)


def test_clicks_land_on_pixel_centres(predictor, picture):
    frame = predictor.embed(picture, diameter=22.0).frame
    np.testing.assert_allclose(frame.to_model([[0.0, 0.0]]), [[0.5, 0.5]])
    np.testing.assert_allclose(frame.to_image(frame.to_model([[12.25, 7.5]])), [[12.25, 7.5]])


def test_the_window_holds_the_prompt_in_its_middle(predictor, picture):
    embedding = predictor.embed(picture, diameter=44.0)
    found = predictor.decode(embedding, [Prompts((Point(150, 200),)), Prompts((Point(2, 418),))])
    for window, (y, x) in zip(found.windows, ((150, 200), (2, 418)), strict=True):
        middle = np.array(window.origin) + WINDOW / 2
        assert np.abs(embedding.frame.to_model([[y, x]])[0] + 0.5 - middle).max() <= 8


def test_large_objects_are_seen_from_further_away(predictor, picture):
    embedding = predictor.embed(picture, diameter=22.0)
    boxes = [Prompts(box=Box(100, 100, 130, 130)), Prompts(box=Box(10, 10, 290, 400))]
    near, far = predictor.decode(embedding, boxes).windows
    assert near.frame == embedding.frame
    assert far.frame.scale[0] < near.frame.scale[0] / 3
    covered = far.image_box
    assert (covered.y0, covered.y1) == (0, 300)


def test_what_a_click_does_not_see_does_not_matter(predictor, picture):
    """Cropped maps give the same answer as whole ones, also for windows that leave the plane."""
    embedding = predictor.embed(picture, diameter=30.0)
    whole = Features(**{n: embedding.features[n] for n in Features._fields})
    origins = torch.tensor([[-8, -9], [6, 20]])
    points = torch.tensor([[[5.0, 9.0]], [[430.0, 220.0]]])
    labels = torch.ones(2, 1, dtype=torch.int64)
    planes = torch.zeros(2, dtype=torch.int64)
    cropped, starts = tiled.crop_features(whole, origins, 16)
    moved = points - 16 * (origins[0] - starts[0]).flip(0)
    with torch.inference_mode():
        expected = predictor.model.decode(whole, planes, origins, points, labels)
        found = predictor.model.decode(cropped, planes, starts, moved, labels)
        index = torch.tensor([0, 1]), torch.tensor([2, 0])
        torch.testing.assert_close(found.iou, expected.iou, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.logits(*index), expected.logits(*index), rtol=1e-3, atol=1e-4)


def test_tiles_join_into_the_maps_of_the_whole_plane(predictor, monkeypatch):
    monkeypatch.setattr(tiled, "SIDE", 256)
    picture = torch.rand(1, 3, 500, 700) * 255
    with torch.inference_mode():
        tiles = tiled.encode_plane(predictor.model, picture)
        monkeypatch.setattr(tiled, "SIDE", 1024)
        whole = tiled.encode_plane(predictor.model, picture)
    for a, b in zip(tiles, whole, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_masks_lie_inside_the_plane(predictor, picture):
    embedding = predictor.embed(picture, diameter=44.0)
    mask = Mask.from_plane(np.ones((40, 30)), 0, 380)
    prompts = [Prompts((Point(0, 0),)), Prompts(box=mask.box, mask=mask)]
    for offer in predictor.predict_each(embedding, prompts):
        assert len(offer) == 3
        for candidate in offer:
            box = candidate.mask.box
            assert box.clip((300, 420)) == box
            assert 0 <= candidate.stability <= 1


def test_a_correction_keeps_its_window(predictor, picture):
    embedding = predictor.embed(picture, diameter=44.0)
    first = predictor.predict(embedding, Prompts((Point(150, 200),)))
    prompts = Prompts((Point(150, 200), Point(160, 210, positive=False)))
    again = predictor.predict(embedding, prompts, previous=first.best)
    if first.best.window.frame == embedding.frame:
        assert again.best.window.frame == first.best.window.frame
    assert again.best.level == 0


def test_boxes_reach_to_the_edges_of_their_pixels(predictor, picture, monkeypatch):
    seen = []
    decode = predictor.model.decode

    def spy(features, index, origin, points, labels, mask):
        seen.append((points, labels))
        return decode(features, index, origin, points, labels, mask)

    monkeypatch.setattr(predictor.model, "decode", spy)
    embedding = predictor.embed(picture, diameter=22.0)
    predictor.decode(embedding, [Prompts(box=Box(100, 110, 130, 150))])
    points, labels = seen[0]
    assert labels.tolist() == [[2, 3]]
    # twice the scale: 40 x 30 pixels of the image, whole, are 80 x 60 of the model
    assert (points[0, 1] - points[0, 0]).tolist() == [80, 60]


def test_a_mask_alone_is_a_prompt(predictor, picture):
    """A drawn outline, without a click or a box, is decoded like any other prompt."""
    embedding = predictor.embed(picture, diameter=30)
    height, width = picture.shape[:2]
    drawn = np.zeros((height, width), bool)
    drawn[height // 4 : height // 2, width // 4 : width // 2] = True
    alone, clicked = predictor.predict_each(
        embedding,
        [Prompts(mask=Mask.from_plane(drawn)), Prompts((Point(height / 3, width / 3),))],
    )
    assert len(alone) == len(clicked) == 3
    assert all(np.isfinite(candidate.logits).all() for candidate in alone)


def test_small_boxes_are_seen_from_nearer(predictor, picture):
    embedding = predictor.embed(picture, diameter=44.0)
    boxes = [Prompts(box=Box(100, 100, 160, 150)), Prompts(box=Box(100, 100, 112, 118))]
    plain, near = predictor.decode(embedding, boxes).windows
    assert plain.frame == embedding.frame
    assert near.frame.scale[0] == pytest.approx(2 * embedding.frame.scale[0])


def test_a_small_object_is_clicked_again_from_nearer(predictor, picture, monkeypatch):
    embedding = predictor.embed(picture, diameter=44.0)
    prompts = Prompts((Point(150, 200),))
    monkeypatch.setattr(Window, "cuts", lambda window, mask: False)  # an untrained model fills its windows
    monkeypatch.setattr(builtin, "SMALL", 0.0)
    assert predictor.predict(embedding, prompts).best.window.frame == embedding.frame
    monkeypatch.setattr(builtin, "SMALL", 1e4)
    near = predictor.predict(embedding, prompts).best
    assert near.window.frame.scale[0] == pytest.approx(2 * embedding.frame.scale[0])
    again = predictor.predict(embedding, prompts.with_point(152, 203, positive=False), previous=near)
    assert again.best.window.frame == near.window.frame  # a correction keeps the scale
    monkeypatch.setattr(builtin, "NEAR_PIXELS", 1000)
    far = predictor.predict(embedding, prompts)
    assert far.best.window.frame == embedding.frame


def test_automatic_masks_of_small_objects_are_those_of_clicks_from_nearer(predictor, picture, monkeypatch):
    embedding = predictor.embed(picture, diameter=44.0)
    monkeypatch.setattr(Window, "cuts", lambda window, mask: False)
    monkeypatch.setattr(builtin, "SMALL", 1e4)
    everything = AutomaticSettings(
        prompts="grid", points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0
    )
    found = finish(generate(predictor, picture, everything, embedding=embedding)).found
    clicked = [predictor.predict(embedding, Prompts((Point(*p.point),))) for p in found.proposals]
    for proposal, offer in zip(found.proposals, clicked, strict=True):
        near = next(c for c in offer if c.level == proposal.level)
        assert near.window.frame.scale[0] == pytest.approx(2 * embedding.frame.scale[0])
        assert mask_iou(proposal.mask.unpack(), near.mask) > 0.98


@pytest.mark.parametrize("origins", [[[-3, -5]], [[5, 9]], [[20, 28]], [[3, 4], [17, 11]]])
def test_part_of_a_plane_is_encoded_as_in_the_whole(predictor, origins):
    picture = (torch.rand(1, 3, 500, 700) * 255).to(torch.uint8)
    origins = torch.tensor(origins)
    with torch.inference_mode():
        whole, at = tiled.crop_features(tiled.encode_plane(predictor.model, picture), origins, 16)
        part, there = tiled.encode_part(predictor.model, picture, origins, 16)
    assert part.embedding.shape[-1] < 704 // 16
    for a, b, stride in zip(whole, part, tiled.STRIDES, strict=True):
        # parts begin on every second cell: the same window may begin one cell later in them
        dy, dx = ((there - at)[0] * (16 // stride)).tolist()
        view = b[..., dy : dy + a.shape[-2], dx : dx + a.shape[-1]]
        torch.testing.assert_close(view, a, rtol=1e-3, atol=1e-3)


def test_foreground_that_no_mask_covers_is_found(predictor, picture):
    embedding = predictor.embed(picture, diameter=22.0)
    dense = torch.full_like(embedding.features["dense"], -9.0)
    rows, cols = np.ogrid[: dense.shape[-2], : dense.shape[-1]]
    for y, x in ((30, 40), (80, 150)):  # at stride 4, twice the image's scale
        dense[0, 1][torch.from_numpy((rows - y) ** 2 + (cols - x) ** 2 < 6**2)] = 9.0
    embedding = replace(embedding, features={**embedding.features, "dense": dense})
    covered = np.zeros((300, 420), bool)
    found = predictor.overlooked(embedding, covered)
    np.testing.assert_allclose(sorted(found.tolist()), [[60.5, 80.5], [160.5, 300.5]], atol=1)
    covered[140:180, 280:320] = True
    np.testing.assert_allclose(predictor.overlooked(embedding, covered), [[60.5, 80.5]], atol=1)
    covered[:] = True
    assert predictor.overlooked(embedding, covered).shape == (0, 2)


@pytest.mark.parametrize("diameter", [22.0, 44.0, 120.0])
def test_an_automatic_mask_is_judged_by_the_foreground_under_it(predictor, picture, diameter):
    embedding = predictor.embed(picture, diameter=diameter)
    dense = torch.full_like(embedding.features["dense"], -9.0)
    rows, cols = (
        embedding.frame.to_image(np.repeat(4 * np.arange(n) + 1.5, 2).reshape(n, 2))[:, axis]
        for axis, n in enumerate(dense.shape[-2:])
    )
    disc = np.hypot(rows[:, None] - 150, cols - 200) < 80
    dense[0, 1][torch.from_numpy(disc)] = 9.0
    embedding = replace(embedding, features={**embedding.features, "dense": dense})
    y, x = np.mgrid[:300, :420]
    weight = builtin.SEEN_WEIGHT
    for mask, chance in (
        (np.hypot(y - 150, x - 200) < 70, 1),
        (np.hypot(y - 150, x - 200) > 90, 0),
        ((np.hypot(y - 150, x - 200) < 75) & (x < 200), 1),
        ((abs(y - 150) < 30) & (abs(x - 200) < 160), 0.5),
        ((y == 150) & (x == 200), 1),
    ):
        judged = predictor.judge(embedding, Mask.from_plane(mask), 0.6)
        assert judged == pytest.approx((1 - weight) * 0.6 + weight * chance, abs=0.03)
    assert predictor.judge(embedding, Mask.from_plane(np.zeros((4, 4))), 0.6) == 0.6
    # A mask wholly on foreground is judged best.
    best = predictor.judge(embedding, Mask.from_plane(np.hypot(y - 150, x - 200) < 70), 0.6)
    assert predictor.least_iou(best) == pytest.approx(0.6, abs=0.02)


def test_a_box_that_reaches_out_of_the_plane_means_what_lies_in_it(predictor, picture):
    embedding = predictor.embed(picture, diameter=44.0)
    out, inside = (Prompts(box=box) for box in (Box(-900, -70, 60, 60), Box(0, 0, 60, 60)))
    found, expected = (predictor.predict(embedding, p).best for p in (out, inside))
    assert found.window == expected.window
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_a_click_far_outside_does_not_spoil_another_one(predictor, picture):
    embedding = predictor.embed(picture, diameter=44.0)
    with pytest.raises(PromptError, match="outside the image: rows 4000"):
        predictor.predict(embedding, Prompts((Point(100, 100), Point(4000, 100))))


def test_a_plane_is_not_enlarged_beyond_what_memory_holds(predictor, picture, monkeypatch):
    monkeypatch.setattr(builtin, "MOST_PIXELS", 4 * picture.shape[0] * picture.shape[1])
    assert predictor.embed(picture, diameter=11.0).frame.model_shape == (600, 840)
    assert predictor.embed(picture, diameter=44.0).frame.model_shape == (300, 420)


def test_a_plane_is_normalised_tile_by_tile(predictor, monkeypatch):
    monkeypatch.setattr(tiled, "SIDE", 128)
    seen = []
    normalise = predictor.model.normalise
    monkeypatch.setattr(predictor.model, "normalise", lambda part: seen.append(part.shape) or normalise(part))
    with torch.inference_mode():
        tiled.encode_plane(predictor.model, torch.rand(1, 3, 300, 420) * 255)
    assert len(seen) > 1
    assert max(max(shape[-2:]) for shape in seen) <= 128 + 2 * tiled.HALO


def test_where_no_object_is_seen_there_is_no_diameter(predictor, picture, monkeypatch):
    monkeypatch.setattr(builtin, "estimate_diameter", lambda model, plane: None)
    assert predictor.estimate_diameter(picture) is None
    assert predictor.embed(picture).frame.model_shape == picture.shape[:2], "the plane stays at its own scale"
