"""Candidates: which of the decoder's four outputs are offered, and in which order."""

from __future__ import annotations

import numpy as np

from napari_sam.candidates import Candidates
from napari_sam.geometry import Frame, Window

WINDOW = Window(Frame.longest_side((64, 64), 64), (0, 0), 4, (16, 16))
IOU = np.array([0.8, 0.5, 0.9, 0.7], np.float32)


def outputs():
    y, x = np.mgrid[:16, :16]
    distance = np.hypot(y - 8, x - 8)
    return np.stack([(r - distance) * 3 for r in (4, 2, 5, 7)]).astype(np.float32)


def offered(ambiguous):
    levels = Candidates.levels(IOU, ambiguous=ambiguous)
    return Candidates.offer(outputs()[levels], IOU, levels, WINDOW)


def test_one_point_offers_the_three_ambiguity_masks_best_preferred():
    offer = offered(ambiguous=True)
    assert [c.level for c in offer] == [1, 2, 3]
    assert offer.best is offer[1]
    assert len(offer) == 3


def test_more_prompts_offer_the_single_mask_first():
    offer = offered(ambiguous=False)
    assert [c.level for c in offer] == [0, 2, 3]
    assert offer.best is offer[0]


def test_masks_stability_and_area_follow_from_the_logits():
    offer = offered(ambiguous=True)
    areas = [c.area for c in offer]
    assert areas == sorted(areas)
    np.testing.assert_allclose(areas, [np.pi * (4 * r) ** 2 for r in (2, 5, 7)], rtol=0.1)
    for c in offer:
        assert c.mask is c.mask
        full = WINDOW.upsample(c.logits)
        assert c.stability == np.sum(full > 1) / np.sum(full > -1)
