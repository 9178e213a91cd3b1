"""Objects pasted into a crop from elsewhere in their plane: neighbours and crowds that nobody has labelled.

After G. Ghiasi et al. 2021, "Simple copy-paste is a strong data augmentation method for instance
segmentation" (arXiv:2012.07177), within one plane, so that what is pasted looks like what is there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Crop", "paste_objects"]

MARGIN = 2
"""Pixels of the labels around an object that come with it, fading."""
MOST_HIDDEN = 0.25
"""Greatest share of an object that a pasted one may hide."""
BESIDE = 0.6
"""Share of the pasted objects that are put next to another."""


class Crop(NamedTuple):
    """A square of a plane."""

    image: Tensor
    """(3, side, side) float32 in [0, 255]."""
    outside: Tensor
    """(side, side) bool: past the edge of the plane."""
    labels: NDArray[np.int32]
    """(levels, side / 2, side / 2): labels at every second model pixel."""
    areas: NDArray[np.floating]
    """Whole areas (model pixels) of the objects of level 0, by label."""


def paste_objects(crop: Crop, donor: Crop, rng: np.random.Generator) -> Crop:
    """Paste some of the objects of another crop.

    Parameters
    ----------
    crop, donor : Crop
        Of one plane, at the same scale; crops of several levels are returned as they are.
    rng : Generator

    Returns
    -------
    Crop
        With further labels, after those that it had. What lies under a pasted object is hidden, never more
        than `MOST_HIDDEN` of an object.
    """
    if len(crop.labels) > 1:
        return crop
    image, labels, areas = crop.image.clone(), crop.labels.copy(), [crop.areas]
    inside = ~crop.outside[::2, ::2].numpy()
    new = len(crop.areas)
    for label in _some(donor.labels[0], rng):
        rows, columns = np.nonzero(donor.labels[0] == label)
        top, left = rows.min() - MARGIN, columns.min() - MARGIN
        bottom, right = rows.max() + MARGIN + 1, columns.max() + MARGIN + 1
        height, width = labels.shape[1:]
        if top < 0 or left < 0 or bottom > height or right > width:
            continue
        mask = donor.labels[0, top:bottom, left:right] == label
        y, x = _place(labels[0], mask, rng)
        if not (0 <= y <= height - mask.shape[0] and 0 <= x <= width - mask.shape[1]):
            continue
        under = labels[0, y : y + mask.shape[0], x : x + mask.shape[1]]
        if not inside[y : y + mask.shape[0], x : x + mask.shape[1]].all() or _hides(labels[0], under, mask):
            continue
        under[mask] = new
        areas.append(donor.areas[label : label + 1])
        new += 1
        alpha = _alpha(mask)
        there = image[:, 2 * y : 2 * (y + mask.shape[0]), 2 * x : 2 * (x + mask.shape[1])]
        there.lerp_(donor.image[:, 2 * top : 2 * bottom, 2 * left : 2 * right], alpha)
    return Crop(image, crop.outside, labels, np.concatenate(areas))


def _some(labels: NDArray[np.int32], rng: np.random.Generator) -> list[int]:
    """Some of the labels in an image, in any order."""
    ids = np.flatnonzero(np.bincount(labels.ravel())[1:]) + 1
    count = math.ceil(0.6 * len(ids) * rng.random())
    return [int(k) for k in rng.permutation(ids)[:count]]


def _place(labels: NDArray[np.int32], mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """(y, x) at which to put the first corner of a mask; perhaps outside."""
    ids = np.flatnonzero(np.bincount(labels.ravel())[1:]) + 1
    if not len(ids) or rng.random() >= BESIDE:
        y, x = (int(rng.integers(max(1, n - m + 1))) for n, m in zip(labels.shape, mask.shape, strict=True))
        return y, x
    rows, columns = np.nonzero(labels == rng.choice(ids))
    reach = math.sqrt(len(rows) / math.pi) + math.sqrt(np.count_nonzero(mask) / math.pi)
    angle, reach = rng.uniform(-math.pi, math.pi), reach * rng.uniform(0.85, 1.2)
    return (
        round(rows.mean() + reach * math.sin(angle) - mask.shape[0] / 2),
        round(columns.mean() + reach * math.cos(angle) - mask.shape[1] / 2),
    )


def _hides(labels: NDArray[np.int32], under: NDArray[np.int32], mask: NDArray[np.bool_]) -> bool:
    """Whether a mask hides too much of an object."""
    hidden = np.bincount(under[mask])
    return any(hidden[k] > MOST_HIDDEN * np.count_nonzero(labels == k) for k in np.flatnonzero(hidden) if k)


def _alpha(mask: NDArray[np.bool_]) -> Tensor:
    """(2h, 2w) share of the pasted picture: 1 in the object, fading over the margin."""
    fine = torch.from_numpy(mask).float()[None, None].repeat_interleave(2, 2).repeat_interleave(2, 3)
    return (2 * F.avg_pool2d(fine, 5, 1, 2, count_include_pad=False)).clamp(0, 1)[0, 0]
