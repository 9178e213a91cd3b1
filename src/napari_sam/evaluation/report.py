"""Evaluate a model on a folder of images and labels, and put the numbers together."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.evaluation.measures import THRESHOLDS, PlaneScore, score_plane, without_small
from napari_sam.evaluation.prompted import LEAST_AREA, PROMPTS, Prompted, objects_of, prompt_objects
from napari_sam.everything import generate, settings_for
from napari_sam.export.formats import without_suffix
from napari_sam.files.no_labels import Parts, parts_of, refuse_masks
from napari_sam.files.pairs import labelled_pairs, open_pair
from napari_sam.folder.pictures import Pictures
from napari_sam.image import RGB, plane_to_rgb
from napari_sam.label_ids import numbered_anew
from napari_sam.predictor import Predictor
from napari_sam.progress import finish
from napari_sam.recipe import Recipe
from napari_sam.training.drawn import KINDS, draw_plane

__all__ = [
    "PlaneResult",
    "TestPlane",
    "drawn_planes",
    "evaluate",
    "grouped",
    "read_planes",
    "summary",
    "table",
]


@dataclass(frozen=True)
class TestPlane:
    """One plane to be measured.

    Parameters
    ----------
    name : str
    image : ndarray of uint8, shape (H, W, 3)
    labels : ndarray of int, shape (H, W)
        0 is background.
    """

    __test__ = False  # the name means nothing to pytest

    name: str
    image: RGB
    labels: NDArray[np.integer]


@dataclass(frozen=True)
class PlaneResult:
    """What was measured on one plane."""

    name: str
    prompted: Prompted
    automatic: PlaneScore | None
    """None if automatic segmentation was left out, or only small objects were there to be found."""
    found: NDArray[np.int32] | None
    """Label image of the automatic segmentation."""
    seconds: float
    """Time of the automatic segmentation with the embedding, or of the embedding alone."""
    small: int = 0
    """Number of true objects that are too small to be measured."""


def read_planes(folder: Path, limit: int | None = None, axes: str | None = None) -> Iterator[TestPlane]:
    """Read ``images`` and ``labels`` of a folder, one plane at a time, as `napari-sam segment` sees them.

    Parameters
    ----------
    folder : Path
    limit : int or None
        Take at most so many planes, spread evenly over the folder.
    axes : str, optional
        See `napari_sam.files.pairs.open_pair`.

    Raises
    ------
    ValueError
        If a file is missing, an image and its labels do not fit, or the labels are masks.
    """
    pairs = list(labelled_pairs(folder))
    if limit is not None and limit < len(pairs):
        pairs = [pairs[round(k)] for k in np.linspace(0, len(pairs) - 1, limit)]
    parts: dict[Path, Parts] = {}
    for image, labels in pairs:
        with open_pair(image, labels, axes, single=True) as (file, truth):
            parts[labels] = parts_of(truth)
            plane = TestPlane(without_suffix(image), Pictures(file, Recipe())[0], truth[0])
        yield plane
    refuse_masks(parts)


def drawn_planes(count: int = 20, side: int = 384) -> Iterator[TestPlane]:
    """Drawn pictures with exact truth, of every kind in turn, that no training run has seen.

    Parameters
    ----------
    count : int
    side : int
        Side of a picture, in pixels.
    """
    for number in range(count):
        # training draws from seeds of two words, (seed, step): this first word is kept for evaluation
        rng = np.random.default_rng([2**32 - 1, number])
        kind = list(KINDS)[number % len(KINDS)]
        plane = draw_plane(rng, side, kind)
        yield TestPlane(f"{kind}{number}", plane_to_rgb(plane.image[..., 0]), plane.labels[0])


def evaluate(
    predictor: Predictor,
    planes: Iterable[TestPlane],
    *,
    diameter: float | None = None,
    automatic: bool = True,
) -> Iterator[PlaneResult]:
    """Measure a model plane by plane.

    Parameters
    ----------
    predictor : Predictor
    planes : iterable of TestPlane
    diameter : float or None
        Diameter of the objects in pixels, for a model that works at a scale of its own; estimated on
        every plane if not given.
    automatic : bool
        Whether to segment automatically as well; leave it out where labels are incomplete.

    Yields
    ------
    PlaneResult
    """
    for plane in planes:
        start = time.perf_counter()
        embedding = predictor.embed(plane.image, diameter=diameter)
        score = found = None
        (labels,) = numbered_anew([plane.labels])
        truth = objects_of(labels)
        small = int(labels.max(initial=0)) - len(truth)
        if automatic:
            steps = generate(predictor, plane.image, settings_for(predictor), embedding=embedding)
            found = np.asarray(finish(steps).labels()[0], np.int32)
            seconds = time.perf_counter() - start
            score = score_plane(*without_small(labels, found, LEAST_AREA))
            if small and not score.truth + score.found:
                score = None
        else:
            seconds = time.perf_counter() - start
        prompted = prompt_objects(predictor, embedding, truth)
        yield PlaneResult(plane.name, prompted, score, found, seconds, small)


def summary(results: Sequence[PlaneResult]) -> dict[str, Any]:
    """Numbers of a whole set.

    Mean IoU is over all objects; AP and PQ are means over the images.

    Returns
    -------
    dict
        ``n_images``, ``n_objects``, ``n_small`` (too small to be measured), ``miou``, ``automatic`` (if
        measured), ``seconds_per_image``.
    """
    if not results:
        raise ValueError("Nothing was measured: the folder holds no image.")
    miou = {
        name: _mean(np.concatenate([result.prompted.iou[name] for result in results])) for name in PROMPTS
    }
    out: dict[str, Any] = {
        "n_images": len(results),
        "n_objects": sum(len(result.prompted.iou["box"]) for result in results),
        "n_small": sum(result.small for result in results),
        "miou": miou,
    }
    if any(result.found is not None for result in results):
        scores = [result.automatic for result in results if result.automatic is not None]
        ap = np.array([score.ap for score in scores]).reshape(-1, len(THRESHOLDS))
        out["automatic"] = {
            "ap50": _mean(ap[:, THRESHOLDS.index(0.5)]),
            "ap75": _mean(ap[:, THRESHOLDS.index(0.75)]),
            "map": _mean(ap),
            "pq": _mean(np.array([score.pq for score in scores])),
        }
    out["seconds_per_image"] = _mean(np.array([result.seconds for result in results]))
    return out


def grouped(results: Sequence[PlaneResult], groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`summary` of each group of images, by the groups' names.

    Parameters
    ----------
    results : sequence of PlaneResult
    groups : sequence of str
        Group of each image; "" is none.
    """
    members: dict[str, list[PlaneResult]] = {name: [] for name in sorted(filter(None, groups))}
    for result, name in zip(results, groups, strict=True):
        if name:
            members[name].append(result)
    return {name: summary(own) for name, own in members.items()}


def _mean(values: NDArray[np.floating]) -> float | None:
    """Mean rounded for a report; None of nothing, as JSON knows no other word for it."""
    return round(float(values.mean()), 4) if values.size else None


def table(summaries: dict[str, dict[str, Any]]) -> str:
    """Markdown table of the summaries of several sets."""
    head = ["set", "images", "objects", "1 point", "oracle", "3 points", "5 points", "box",
            "AP50", "AP75", "mAP", "PQ", "s / image"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, numbers in summaries.items():
        automatic = numbers.get("automatic", {})
        values = [numbers["miou"][key] for key in PROMPTS]
        values += [automatic.get(key) for key in ("ap50", "ap75", "map", "pq")]
        cells = [name, str(numbers["n_images"]), str(numbers["n_objects"])]
        cells += ["–" if value is None else f"{value:.3f}" for value in values]
        lines.append("| " + " | ".join([*cells, f"{numbers['seconds_per_image']:.2f}"]) + " |")
    return "\n".join(lines)
