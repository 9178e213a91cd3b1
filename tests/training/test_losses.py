"""Losses and simulated clicks, against slow and obvious computations."""

import numpy as np
import pytest
import torch

from napari_sam.model.builtin import CELL
from napari_sam.training.losses import OVERLAPS, dense_loss, intersection_over_union, mask_loss
from napari_sam.training.prompts import correcting_click, rounds_of


def test_mask_loss_is_focal_and_dice_at_twenty_to_one(rng):
    logits, truth = rng.normal(size=(5, 6)), rng.random((5, 6)) < 0.3
    p = 1 / (1 + np.exp(-logits))
    right = np.where(truth, p, 1 - p)
    focal = (0.5 * (1 - right) ** 2 * -np.log(right)).mean()
    dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
    found = mask_loss(torch.tensor(logits), torch.tensor(truth))
    assert found.item() == pytest.approx(20 * focal + dice, rel=1e-5)
    both = (p * truth).sum()
    iou = (both + 1) / (p.sum() + truth.sum() - both + 1)
    found = mask_loss(torch.tensor(logits), torch.tensor(truth), "iou")
    assert found.item() == pytest.approx(20 * focal + 0.75 * (1 - iou), rel=1e-5)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_mask_loss_prefers_the_right_mask(overlap):
    truth = torch.zeros(16, 16, dtype=torch.bool)
    truth[4:9, 4:9] = True
    good, shifted = truth * 12.0 - 6, truth.roll(3, 0) * 12.0 - 6
    losses = mask_loss(torch.stack([good, shifted, -good]), truth[None], overlap)
    assert losses[0] < 0.05 < losses[1] < losses[2]


def test_intersection_over_union():
    a = torch.tensor([[1, 1, 0, 0]]).bool()
    b = torch.tensor([[0, 1, 1, 0]]).bool()
    assert intersection_over_union(a, b).item() == pytest.approx(1 / 3)
    assert intersection_over_union(a & False, b & False).item() == 1


def test_dense_loss_is_least_at_the_truth():
    truth = torch.zeros(1, 5, 8, 8)
    truth[:, :3, 2:5, 2:5] = 1
    truth[:, 3:, 2:5, 2:5] = 1
    right = torch.cat([truth[:, :3] * 20 - 10, truth[:, 3:4]], 1)
    assert dense_loss(right, truth) < 0.01
    for channel in range(4):
        wrong = right.clone()
        wrong[:, channel] *= -1
        assert dense_loss(wrong, truth) > 0.1


def test_clicks_land_where_the_mask_is_wrong():
    truth = torch.zeros(40, 32, 32, dtype=torch.bool)
    truth[:, 8:24, 8:24] = True
    mask = truth.clone()
    mask[:20, 8:24, 16:24] = False  # missed on the right
    mask[20:, 8:24, 24:30] = True  # too much on the right
    origin = torch.tensor([[2, 3]]).expand(40, 2)
    points, labels = correcting_click(truth, mask, origin, torch.Generator().manual_seed(0))
    assert labels.tolist() == [1] * 20 + [0] * 20
    x, y = ((points - CELL * origin.flip(-1) - 0.5) / 2).long().unbind(-1)
    wrong = (truth != mask)[torch.arange(40), y, x]
    assert wrong.all()
    assert len(set(x[:20].tolist())) > 3, "the clicks are drawn at random"


def test_no_click_where_nothing_is_wrong():
    truth = torch.ones(2, 32, 32, dtype=torch.bool)
    _, labels = correcting_click(truth, truth, torch.zeros(2, 2, dtype=torch.long), torch.Generator())
    assert labels.tolist() == [-1, -1]


def test_rounds_grow_with_the_training():
    early = [rounds_of(step, 0, 0.01, 11)[0] for step in range(200)]
    late = [rounds_of(step, 0, 0.9, 11) for step in range(400)]
    assert max(early) == 2
    assert max(count for count, _ in late) == 11
    for count, idle in late:
        assert not idle or (len(idle) == 2 and count - 1 in idle and min(idle) >= 2)
