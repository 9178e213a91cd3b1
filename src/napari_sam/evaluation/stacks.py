"""How well the objects of a stack or movie are found as wholes: 3D scores, and links between planes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.evaluation.measures import PlaneScore, pairs_of, score_plane
from napari_sam.evaluation.report import TestPlane
from napari_sam.files.no_labels import parts_of, refuse_masks
from napari_sam.files.pairs import open_pair
from napari_sam.folder.pictures import Pictures, settle_contrast
from napari_sam.folder.work import linked_along
from napari_sam.image import RGB
from napari_sam.label_ids import numbered_anew
from napari_sam.linking import MOVIE, LinkSettings
from napari_sam.predictor import Predictor
from napari_sam.progress import Progress, Steps
from napari_sam.recipe import Recipe
from napari_sam.stack import PlaneDone, segment_stack

__all__ = ["Stack", "StackScore", "evaluate_stack", "read_stack", "score_links", "score_stack"]

Labels = NDArray[np.integer]
SAME = 0.5
"""IoU from which on an outline that was found is that of a true object."""


class Stack(NamedTuple):
    """A stack or movie to be measured, as `napari-sam segment` takes it."""

    pictures: list[RGB]
    truth: list[Labels]
    """(H, W) each: one id an object through the planes of a volume."""
    depth: int
    """Planes of a volume; a hyperstack has the volumes of its time points one after the other."""
    link: LinkSettings


@dataclass(frozen=True)
class StackScore:
    """Automatic segmentation of a stack, against its truth.

    Parameters
    ----------
    planes : float
        Mean AP50 of the planes by themselves: what linking starts from.
    volume : PlaneScore
        The same measures with whole objects, voxel by voxel.
    link_precision, link_recall : float
        A link says that two outlines in neighbouring planes are one object. Which part of the links that were
        made is right, and which part of the true links between planes was made.
    """

    planes: float
    volume: PlaneScore
    link_precision: float
    link_recall: float

    def numbers(self) -> dict[str, Any]:
        """Return all numbers, for a file."""
        return asdict(self)


def score_stack(
    truth: Sequence[Labels], found: Sequence[Labels], outlines: Sequence[Labels] | None = None
) -> StackScore:
    """Score a stack.

    Parameters
    ----------
    truth, found : sequence of ndarray of int, shape (H, W)
        Label images with one id an object through all planes; 0 is background.
    outlines : sequence of ndarray of int, shape (H, W), optional
        What was found in each plane by itself, where objects were left out of ``found`` later.
    """
    planes = [score_plane(t, f) for t, f in zip(truth, outlines or found, strict=True)]
    filled = [score.ap[0] for score in planes if score.truth or score.found]
    return StackScore(
        float(np.mean(filled)) if filled else 1.0,
        score_plane(np.stack(truth), np.stack(found)),
        *score_links(truth, found),
    )


def score_links(truth: Sequence[Labels], found: Sequence[Labels]) -> tuple[float, float]:
    """Precision and recall of the links between neighbouring planes.

    A link that was made is right if both its outlines are those of true objects (IoU of 0.5 or more) and
    these have the same id.
    """
    true_of = [_true_ids(t, f) for t, f in zip(truth, found, strict=True)]
    right = made = there = 0
    for k, (before, after) in enumerate(pairwise(found)):
        linked = _both(before, after)
        made += len(linked)
        there += len(_both(truth[k], truth[k + 1]))
        right += sum(true_of[k].get(i, -1) == true_of[k + 1].get(i, -2) for i in linked)
    return right / made if made else float(not there), right / there if there else float(not made)


def evaluate_stack(
    predictor: Predictor,
    pictures: Sequence[RGB],
    truth: Sequence[Labels],
    *,
    link: LinkSettings | None = None,
    diameter: float | None = None,
    depth: int | None = None,
) -> Steps[StackScore]:
    """Segment a stack, link it, and score it.

    Parameters
    ----------
    predictor : Predictor
    pictures : sequence of ndarray of uint8, shape (H, W, 3)
    truth : sequence of ndarray of int, shape (H, W)
        One id an object through all planes.
    link : LinkSettings, optional
    diameter : float, optional
        Typical object diameter in pixels; estimated if not given.
    depth : int, optional
        Number of planes of a volume, where there are several one after the other: each is segmented and
        linked by itself, as `napari_sam.folder.segment_image` does.
    """
    depth = depth or len(pictures)
    volumes: list[list[Labels]] = []
    outlines: list[Labels] = []
    for start in range(0, len(pictures), depth):
        volume = pictures[start : start + depth]
        steps = segment_stack(predictor, volume, link=link or LinkSettings(), diameter=diameter)
        planes: list[Labels] = []
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                relabelling = end.value.relabelling
                break
            if isinstance(step, PlaneDone):
                planes.append(step.labels)
            yield Progress(start + step.done, len(pictures), step.message)
        outlines += planes
        volumes.append([relabelling[labels] for labels in planes])
    return score_stack(truth, _numbered_on(volumes), outlines)


def _numbered_on(volumes: Iterable[Sequence[Labels]]) -> list[Labels]:
    """Planes of volumes one after the other, the objects of each with ids above those before."""
    planes: list[Labels] = []
    top = 0
    for volume in volumes:
        planes += [np.where(plane > 0, plane + top, 0) for plane in volume]
        top = max(top, *(int(plane.max(initial=0)) for plane in planes[-len(volume) :]))
    return planes


def read_stack(image: Path, labels: Path, axes: str | None = None) -> Stack:
    """Pictures and truth of a stack, with one contrast for all its planes.

    Of a hyperstack the objects of each time point get ids of their own.

    Parameters
    ----------
    image, labels, axes
        See `napari_sam.files.pairs.open_pair`.

    Raises
    ------
    ValueError
        If the two differ in shape, one cannot be read, or the labels are a mask.
    """
    with open_pair(image, labels, axes) as (file, known):
        refuse_masks({labels: parts_of(known)})
        along, depth = linked_along(file)
        truth = _numbered_on(numbered_anew(list(known[k : k + depth])) for k in range(0, len(known), depth))
        pictures = list(Pictures(file, settle_contrast(file, Recipe())))
    return Stack(pictures, truth, depth, MOVIE if along == "T" else LinkSettings())


def movie_of(planes: Iterable[TestPlane]) -> Stack:
    """Planes whose ids are those of tracks, in their order."""
    frames = list(planes)
    truth = numbered_anew([frame.labels for frame in frames])
    return Stack([frame.image for frame in frames], list(truth), len(frames), MOVIE)


def _true_ids(truth: Labels, found: Labels) -> dict[int, int]:
    """The true object of each outline that was found."""
    pairs = pairs_of(truth, found)
    good = pairs.take(pairs.iou >= SAME)
    true_ids, ids = (np.unique(labels[labels != 0]) for labels in (truth, found))
    return dict(zip(ids[good.second - 1].tolist(), true_ids[good.first - 1].tolist(), strict=True))


def _both(before: Labels, after: Labels) -> list[int]:
    """Ids that are in both planes."""
    common = np.intersect1d(before, after)
    return [int(i) for i in common if i]
