"""Simulated people: the further prompts of interactive training (SAM, appendix A, "Training algorithm")."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.model.builtin import CELL, LOGIT_STRIDE
from napari_sam.model.builtin_prompts import BOX_END, BOX_START, FOREGROUND, PADDING
from napari_sam.training.examples import Batch

__all__ = ["correcting_click", "first_prompts", "rounds_of"]


def first_prompts(batch: Batch) -> tuple[Tensor, Tensor]:
    """Points (N, 2, 2) as (x, y) and labels (N, 2): a box's corners, or a point and padding."""
    corners = batch.box.view(-1, 2, 2)
    point = torch.stack([batch.point, torch.zeros_like(batch.point)], 1)
    points = torch.where(batch.boxed[:, None, None], corners, point)
    box = torch.tensor([BOX_START, BOX_END], device=points.device)
    click = torch.tensor([FOREGROUND, PADDING], device=points.device)
    return points, torch.where(batch.boxed[:, None], box, click)


def correcting_click(
    truth: Tensor, mask: Tensor, origin: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Click into the region where a mask is wrong.

    The click is drawn at random from the error region, more often where the error is thick.

    Parameters
    ----------
    truth, mask : Tensor
        Shape (N, h, w), bool, over the windows at `LOGIT_STRIDE`.
    origin : Tensor
        Shape (N, 2), (y, x) in cells.
    generator : Generator

    Returns
    -------
    points : Tensor
        Shape (N, 2), (x, y) in model pixels of the plane.
    labels : Tensor
        Shape (N,): 1 where object was missed, 0 where background was taken, -1 without error.
    """
    error = truth != mask
    coarse = F.avg_pool2d(error[:, None].float(), 2)
    thick = F.avg_pool2d(coarse, 5, 1, 2) ** 3 * (coarse > 0)
    weight = thick.flatten(1)
    found = weight.amax(1) > 0
    # the largest of weight / Exp(1) is a draw in proportion to the weights
    noise = torch.rand(weight.shape, generator=generator).to(weight.device).clamp_min(1e-9)
    pick = (weight / -noise.log()).argmax(1)
    width = coarse.shape[-1]
    y, x = 2 * (pick // width), 2 * (pick % width)
    # of the four fine pixels of the picked one, take one that is wrong
    rows = torch.arange(len(pick), device=pick.device)[:, None]
    dy = torch.tensor([0, 0, 1, 1], device=pick.device)
    dx = torch.tensor([0, 1, 0, 1], device=pick.device)
    fine = error[rows, y[:, None] + dy, x[:, None] + dx].float().argmax(1)
    y, x = y + dy[fine], x + dx[fine]
    label = truth[rows[:, 0], y, x].long()
    half = (LOGIT_STRIDE - 1) / 2
    points = torch.stack([x, y], -1) * float(LOGIT_STRIDE) + half + CELL * origin.flip(-1)
    return points, torch.where(found, label, torch.full_like(label, PADDING))


def rounds_of(step: int, seed: int, share: float, most: int) -> tuple[int, frozenset[int]]:
    """How many decoding rounds a step takes, and which of them bring no new point.

    Early in training one or two rounds teach most; later up to `most`, the paper's 11. In a long
    sequence one round in the middle and the last one bring no new point, so that the model learns to
    improve its own mask (SAM, appendix A).

    Parameters
    ----------
    step, seed : int
    share : float
        How much of the training is over, 0 to 1.
    most : int
        Longest sequence.
    """
    rng = np.random.default_rng([seed, step, 11])
    if share < 0.06:
        count = int(rng.choice([1, 2]))
    else:
        count = int(rng.choice([1, 2, 3, 5, most], p=[0.48, 0.34, 0.13, 0.035, 0.015]))
    count = min(count, most)
    if count < 4:
        return count, frozenset()
    return count, frozenset({int(rng.integers(2, count - 1)), count - 1})
