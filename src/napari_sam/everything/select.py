"""Which of the masks that were found are shown: thresholds, duplicates, clean-up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.everything.found import REASONS, Cleaned, Found, Reason, last_pixel_boxes
from napari_sam.everything.settings import AutomaticSettings
from napari_sam.masks import Mask, PackedMask, Painted
from napari_sam.overlap import best_first, box_nms, suppress

Index = NDArray[np.intp]

KEPT = len(REASONS)


class Selection(NamedTuple):
    """Masks that passed.

    ``kept`` holds their indices, the first on top; ``cleaned`` those whose pixels were changed;
    ``removed`` says how many each filter took away; ``painted`` is there if they were chosen to lie side by
    side, all of them in the order of ``kept``.
    """

    kept: Index
    cleaned: dict[int, PackedMask]
    removed: dict[Reason, int]
    painted: Painted | None


def select(found: Found, settings: AutomaticSettings, *, one_per_prompt: bool) -> Selection:
    """Filter the masks of a plane.

    Parameters
    ----------
    found : Found
    settings : AutomaticSettings
    one_per_prompt : bool
        Whether every prompt stands for one object (seeds) or may find a part, an object and a group of them
        (grid).
    """
    stage = _stages(found, settings)
    passed = np.flatnonzero(stage == KEPT)
    cleaned: dict[int, PackedMask] = {}
    painted = None
    if one_per_prompt:
        fit = passed
        if settings.min_mask_region_area > 0:
            fit, cleaned = _clean(found, passed, settings)
        kept, painted = pack(found, fit, cleaned, settings.min_area)
    else:
        kept = _suppress_boxes(found, passed, settings)
        if settings.min_mask_region_area > 0:
            kept, cleaned = _clean_and_suppress(found, kept, settings)
    stage[passed] = REASONS.index("duplicates")
    stage[kept] = KEPT
    return Selection(kept, cleaned, _count(found, stage, one_per_prompt=one_per_prompt), painted)


def _stages(found: Found, settings: AutomaticSettings) -> NDArray[np.int64]:
    """Index of the first filter that each mask fails; `KEPT` if it passes all."""
    stage = np.full(len(found), KEPT)
    fails = {
        "largest area": found.area > settings.max_area,
        "smallest area": found.area < settings.min_area,
    }
    if settings.stability_score_thresh > 0:
        fails["stability"] = ~(found.stability >= np.float32(settings.stability_score_thresh))
    if settings.pred_iou_thresh > 0:
        fails["predicted IoU"] = ~(found.predicted_iou > np.float32(settings.pred_iou_thresh))
    for index in reversed(range(len(REASONS))):
        if REASONS[index] in fails:
            stage[fails[REASONS[index]]] = index
    return stage


def _suppress_boxes(found: Found, passed: Index, settings: AutomaticSettings) -> Index:
    """Drop the worse of two masks with nearly the same box, in each crop and then between crops."""
    parts = []
    for crop in range(len(found.crops)):
        members = passed[found.crop[passed] == crop]
        order = members[best_first(found.predicted_iou[members])]
        parts.append(suppress(order, found.near(crop, settings.box_nms_thresh)))
    kept = np.concatenate(parts)
    if len(found.crops) == 1:
        return kept
    sizes = np.array([crop.height * crop.width for crop in found.crops])
    order = kept[best_first(1 / sizes[found.crop[kept]])]
    return suppress(order, found.near(None, settings.crop_nms_thresh))


def _clean_and_suppress(
    found: Found, kept: Index, settings: AutomaticSettings
) -> tuple[Index, dict[int, PackedMask]]:
    """Clean masks, then drop those that became duplicates; masks that needed no cleaning win."""
    cleaned = [found.cleaned(i, settings.min_mask_region_area) for i in kept.tolist()]
    boxes = last_pixel_boxes([c.mask for c in cleaned])
    untouched = np.array([not c.changed for c in cleaned], np.float64)
    threshold = max(settings.box_nms_thresh, settings.crop_nms_thresh)
    left = [i for i in box_nms(boxes, untouched, threshold).tolist() if _fits(cleaned[i], settings)]
    changed = {int(kept[i]): cleaned[i].mask for i in left if cleaned[i].changed}
    return kept[left], changed


def _clean(found: Found, passed: Index, settings: AutomaticSettings) -> tuple[Index, dict[int, PackedMask]]:
    """Clean masks; return those that still have a size that was asked for, and what cleaning changed."""
    cleaned = {i: found.cleaned(i, settings.min_mask_region_area) for i in passed.tolist()}
    left = [i for i, c in cleaned.items() if _fits(c, settings)]
    return np.array(left, np.intp), {i: cleaned[i].mask for i in left if cleaned[i].changed}


def _fits(cleaned: Cleaned, settings: AutomaticSettings) -> bool:
    """Whether a cleaned mask is none too small or too large: filled holes make it grow, islands shrink."""
    return cleaned.area > 0 and settings.min_area <= cleaned.area <= settings.max_area


HIDDEN = 0.5
"""A mask of which more than this part belongs to better ones shows nothing new."""
SWALLOWED = 0.5
"""A mask that takes more than this part of a better one's pixels is a group, not another object."""


def pack(
    found: Found, passed: Index, cleaned: dict[int, PackedMask], min_area: float = 0
) -> tuple[Index, Painted]:
    """Choose at most one mask a prompt, so that the best masks lie side by side.

    Masks are laid down from the best to the worst, by predicted IoU times stability. One is passed over if
    its prompt has its object already, if it lies largely below better masks (a duplicate or a part), if it
    covers one of them (a group), or if less than ``min_area`` pixels of it are seen. The next best mask of
    the same prompt gets its chance in its turn.
    """
    labels = np.zeros(found.shape, np.int32)
    area = [0]
    served: set[int] = set()
    kept: list[int] = []
    seen: list[Mask] = []
    score = found.predicted_iou[passed] * found.stability[passed]
    for index in passed[best_first(score)].tolist():
        proposal = found.proposals[index]
        if proposal.prompt in served:
            continue
        mask = cleaned.get(index, proposal.mask).unpack()
        view = labels[mask.box.slices]
        below = view[mask.pixels]
        if not below.size:
            continue
        visible = mask
        if below.any():
            covered = np.bincount(below)[1:]
            if covered.sum() > HIDDEN * below.size:
                continue
            met = np.flatnonzero(covered)
            if any(covered[i] > SWALLOWED * area[i + 1] for i in met.tolist()):
                continue
            if below.size - covered.sum() < min_area:
                continue
            visible = Mask.from_plane(mask.pixels & (view == 0), mask.y0, mask.x0)
        labels[visible.box.slices][visible.pixels] = len(area)
        area.append(below.size)
        served.add(proposal.prompt)
        kept.append(index)
        seen.append(visible)
    return np.array(kept, np.intp), Painted(labels, list(range(len(kept))), seen)


def _count(found: Found, stage: NDArray[np.int64], *, one_per_prompt: bool) -> dict[Reason, int]:
    """How many masks, or prompts that are left without one, each filter removed."""
    reached = np.concatenate([found.lost[:, 1], stage])
    if one_per_prompt:
        prompt = np.concatenate([found.lost[:, 0], found.prompt])
        furthest = np.zeros(found.prompts, np.int64)
        np.maximum.at(furthest, prompt, reached)
        reached = furthest
    counts = np.bincount(reached, minlength=KEPT)
    return {reason: int(counts[k]) for k, reason in enumerate(REASONS)}
