"""Prompted segmentation of every object of a plane, measured as in the SAM paper (section 7.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.candidates import Candidate
from napari_sam.embedding import Embedding
from napari_sam.evaluation.clicks import centre_click, correcting_click
from napari_sam.masks import Mask, mask_iou, masks_of_labels
from napari_sam.predictor import Predictor
from napari_sam.prompts import Prompts

__all__ = ["LEAST_AREA", "PROMPTS", "Prompted", "objects_of", "prompt_objects"]

PROMPTS = ("point1_confident", "point1_oracle", "point3", "point5", "box")
"""Ways to prompt that are measured."""
LEAST_AREA = 20
"""Smaller objects, in pixels, are neither measured nor missed."""


@dataclass(frozen=True)
class Prompted:
    """IoU with the truth, one value per object, for each of `PROMPTS`."""

    iou: dict[str, NDArray[np.float64]]
    clicked: tuple[Mask, ...]
    """Most confident mask of a single click, per object."""


def objects_of(labels: NDArray[np.integer]) -> list[Mask]:
    """Objects of a label image that are large enough to be measured, in the order of their ids."""
    return [mask for mask in masks_of_labels(labels).values() if mask.area >= LEAST_AREA]


def prompt_objects(predictor: Predictor, embedding: Embedding, truth: Sequence[Mask]) -> Prompted:
    """Prompt for each object in turn with one, three and five points, and with its box.

    The first point is at the maximum of the object's distance transform, each further one at the
    maximum of the error region's; after the first point the mask so far is given as a mask prompt.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
        Of the plane.
    truth : sequence of Mask
        Objects to ask for.
    """
    prompts = [Prompts((centre_click(mask),)) for mask in truth]
    offers = predictor.predict_each(embedding, prompts)
    chosen: list[Candidate] = [offer.best for offer in offers]
    clicked = tuple(candidate.mask for candidate in chosen)
    iou = {
        "point1_confident": _iou(truth, chosen),
        "point1_oracle": np.array(
            [max(mask_iou(t, c.mask) for c in offer) for t, offer in zip(truth, offers, strict=True)]
        ),
    }
    for count in range(2, 6):
        prompts, chosen = _correct(predictor, embedding, truth, prompts, chosen)
        if count in (3, 5):
            iou[f"point{count}"] = _iou(truth, chosen)
    boxes = [Prompts(box=mask.box) for mask in truth]
    iou["box"] = _iou(truth, [o.best for o in predictor.predict_each(embedding, boxes)])
    return Prompted(iou, clicked)


def _correct(
    predictor: Predictor,
    embedding: Embedding,
    truth: Sequence[Mask],
    prompts: Sequence[Prompts],
    chosen: Sequence[Candidate],
) -> tuple[list[Prompts], list[Candidate]]:
    """One more click for each object whose mask is not yet right everywhere."""
    prompts, chosen = list(prompts), list(chosen)
    wrong = []
    for i, mask in enumerate(truth):
        click = correcting_click(mask, chosen[i].mask)
        if click is not None:
            prompts[i] = prompts[i].with_point(click.y, click.x, positive=click.positive)
            wrong.append(i)
    if wrong:
        offers = predictor.predict_each(embedding, [prompts[i] for i in wrong], [chosen[i] for i in wrong])
        for i, offer in zip(wrong, offers, strict=True):
            chosen[i] = offer.best
    return prompts, chosen


def _iou(truth: Sequence[Mask], chosen: Sequence[Candidate]) -> NDArray[np.float64]:
    return np.array([mask_iou(t, c.mask) for t, c in zip(truth, chosen, strict=True)])
