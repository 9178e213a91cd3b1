"""The fake predictor keeps the contract of a real one, so that tests built on it mean something."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image, disc_mask

from napari_sam.image import plane_to_rgb
from napari_sam.masks import mask_iou
from napari_sam.prompts import Point, Prompts

DISCS = [(20, 20, 9), (22, 60, 12), (60, 40, 10)]


@pytest.fixture(scope="module")
def rgb():
    return plane_to_rgb(disc_image((80, 90), DISCS), contrast=None)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_click_gives_the_object_as_best_of_three(rgb, stride):
    predictor = DiscPredictor(stride=stride)
    embedding = predictor.embed(rgb)
    for y, x, radius in DISCS:
        offer = predictor.predict(embedding, Prompts((Point(y, x),)))
        assert [c.level for c in offer] == [1, 2, 3]
        assert offer.best.level == 2
        assert mask_iou(offer.best.mask, disc_mask(y, x, radius)) > (0.999 if stride == 1 else 0.85)
        assert offer[0].area < offer[1].area < offer[2].area
        assert offer.best.stability > 0.8


def test_boxes_masks_corrections_and_background(rgb):
    predictor = DiscPredictor()
    embedding = predictor.embed(rgb)
    disc = disc_mask(60, 40, 10)
    for prompts in (Prompts(box=disc.box), Prompts(mask=disc)):
        assert mask_iou(predictor.predict(embedding, prompts).best.mask, disc) > 0.999
    first = predictor.predict(embedding, Prompts((Point(60, 40),))).best
    cut = predictor.predict(
        embedding, Prompts((Point(60, 40), Point(52, 40, positive=False))), previous=first
    ).best
    assert 0 < cut.area < first.area
    nothing = predictor.predict(embedding, Prompts((Point(75, 85),)))
    assert nothing.best.predicted_iou < 0.5


def test_seeds_and_counters(rgb):
    predictor = DiscPredictor()
    embedding = predictor.embed(rgb)
    seeds = predictor.seeds(embedding)
    assert len(seeds.points) == len(DISCS) == len(seeds.scores)
    batch = predictor.decode_points(embedding, seeds.points)
    assert predictor.batches[-1].asked == []
    logits = batch.logits(np.array([2]), np.array([1]))
    assert logits.shape == (1, 80, 90)
    assert predictor.batches[-1].asked == [(2, 1)]
    assert (predictor.encoded, predictor.decoded) == (1, 3)
    assert DiscPredictor(seeds=False).seeds(embedding) is None
