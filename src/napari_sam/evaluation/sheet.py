"""Contact sheets: the objects that a model gets most wrong, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.evaluation.prompted import objects_of
from napari_sam.evaluation.report import PlaneResult, TestPlane
from napari_sam.image import RGB
from napari_sam.masks import Box, Mask

__all__ = ["Failure", "worst_objects", "write_sheet"]

TILE = 192
"""Side of a picture of the sheet, in pixels."""
TRUTH, FOUND = (80, 220, 80), (255, 90, 60)


@dataclass(frozen=True)
class Failure:
    """One object and what a single click on it gave."""

    plane: str
    iou: float
    picture: RGB
    """The object in its surroundings: truth outlined in green, the answer in red."""


def worst_objects(
    planes: Sequence[TestPlane], results: Sequence[PlaneResult], count: int, per_plane: int = 3
) -> list[Failure]:
    """Objects with the lowest IoU after one click, the worst first.

    Parameters
    ----------
    planes, results
        The planes and what was measured on them, in the same order.
    count : int
    per_plane : int
        Largest number from one plane, so that the sheet shows more than one bad plane.
    """
    ranked = []
    for number, result in enumerate(results):
        scores = result.prompted.iou["point1_confident"]
        ranked += [(float(scores[k]), number, int(k)) for k in np.argsort(scores)[:per_plane]]
    failures = []
    for score, number, k in sorted(ranked)[:count]:
        plane, result = planes[number], results[number]
        truth = objects_of(plane.labels)[k]
        failures.append(Failure(plane.name, score, _picture(plane.image, truth, result.prompted.clicked[k])))
    return failures


def write_sheet(failures: Sequence[Failure], path: Path, columns: int = 5) -> None:
    """Write the pictures as one PNG, row by row, each under its plane's name and IoU."""
    from matplotlib.figure import Figure

    rows = max(1, -(-len(failures) // columns))
    figure = Figure(figsize=(2.2 * columns, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, failure in zip(grid, failures, strict=False):
        axes.imshow(failure.picture)
        axes.set_title(f"{failure.plane[:16]}\nIoU {failure.iou:.2f}", fontsize=8)
    figure.savefig(path, dpi=110)


def _picture(image: RGB, truth: Mask, found: Mask) -> RGB:
    """Cut the object with a margin, enlarge it, and draw both outlines."""
    y, x = truth.box.centre
    half = max(truth.box.height, truth.box.width) * 1.1 + 6
    box = Box(y - half, x - half, y + half, x + half).clip((image.shape[0], image.shape[1]))
    cut = image[box.slices]
    zoom = max(1, TILE // max(cut.shape[:2]))
    out = np.repeat(np.repeat(cut, zoom, 0), zoom, 1)
    for mask, colour in ((truth, TRUTH), (found, FOUND)):
        inside = np.repeat(np.repeat(mask.crop(box), zoom, 0), zoom, 1)
        out[_rim(inside)] = colour
    return out


def _rim(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Innermost pixels of a mask's edge."""
    return np.asarray(inside & ~ndimage.binary_erosion(inside))
