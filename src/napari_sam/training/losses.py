"""Losses of the SAM paper (appendix A, "Losses and training"): focal, dice, and squared error on IoU.

Instead of dice there is the IoU itself (the Jaccard loss).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["OVERLAPS", "dense_loss", "intersection_over_union", "mask_loss"]

FOCAL_WEIGHT = 20.0
GAMMA = 2.0
OVERLAPS = ("dice", "iou")
"""What beside the focal loss measures how far a mask covers its object."""
IOU_WEIGHT = 0.75
"""Weight of the IoU where it stands for dice: near 1 it falls twice as fast, far from it more slowly."""


def mask_loss(logits: Tensor, truth: Tensor, overlap: str = "dice") -> Tensor:
    """Focal loss plus dice loss, at 20 : 1; or plus the loss in IoU.

    The two classes of the focal loss count alike (alpha = 1/2): with the usual alpha of 1/4 a pixel
    becomes foreground only when it is three times as likely as background, and masks come out
    some 5 % too small.

    Parameters
    ----------
    logits, truth : Tensor
        Shape (..., h, w); truth is bool or 0..1.
    overlap : str
        "dice", or "iou" for the measure that masks are judged by: an object that is missed counts no more
        than what it costs there, and the last pixels of good masks count more.

    Returns
    -------
    Tensor
        Shape (...): one loss per mask.
    """
    logits, truth = logits.float(), truth.to(torch.float32)
    chance = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none")
    both = (chance * truth).sum((-2, -1))
    total = chance.sum((-2, -1)) + truth.sum((-2, -1))
    focal = (0.5 * (chance - truth).abs() ** GAMMA * entropy).mean((-2, -1))
    if overlap == "iou":
        return FOCAL_WEIGHT * focal + IOU_WEIGHT * (1 - (both + 1) / (total - both + 1))
    return FOCAL_WEIGHT * focal + 1 - (2 * both + 1) / (total + 1)


def intersection_over_union(masks: Tensor, truth: Tensor) -> Tensor:
    """IoU of bool masks (..., h, w) with truth (..., h, w); 1 where both are empty."""
    both = (masks & truth).sum((-2, -1)).float()
    either = (masks | truth).sum((-2, -1)).float()
    return torch.where(either > 0, both / either.clamp_min(1), torch.ones_like(both))


def dense_loss(dense: Tensor, truth: Tensor) -> Tensor:
    """Loss of the dense head.

    Parameters
    ----------
    dense : Tensor
        Shape (B, 4, h, w): logits of seed, foreground and boundary, and octaves of the diameter.
    truth : Tensor
        Shape (B, 5, h, w): the same as values, and where the octaves count.

    Returns
    -------
    Tensor
        A scalar.
    """
    dense = dense.float()
    entropy = F.binary_cross_entropy_with_logits(dense[:, :3], truth[:, :3], reduction="none")
    # the seed is a small spot in a large plane: it counts more, the more so at its peak
    seed = (entropy[:, 0] * (1 + 6 * truth[:, 0])).mean()
    known = truth[:, 4]
    octaves = F.smooth_l1_loss(dense[:, 3], truth[:, 3], reduction="none") * known
    size = octaves.sum() / known.sum().clamp_min(1)
    return seed + 0.5 * entropy[:, 1].mean() + 0.5 * entropy[:, 2].mean() + size
