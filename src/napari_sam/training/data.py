"""Labelled planes for training: where they come from and how they are drawn at random.

A source is a sequence of `LabelledPlane`. Sources are mixed by weight; inside a source, groups of
like planes (a column of its ``index.csv``) are balanced by the square root of their sizes, and so are
planes by the number of their objects: a plane of hundreds has more to teach than one of three.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.export.formats import without_suffix
from napari_sam.files.pairs import labelled_pairs, read_pair, read_stack_pair
from napari_sam.image import plane_to_rgb
from napari_sam.label_ids import numbered_anew

__all__ = ["LabelledPlane", "Source", "load_folder", "load_stack"]


@dataclass(frozen=True)
class LabelledPlane:
    """A plane and the objects in it.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 1) or (H, W, 3)
        After the contrast window.
    labels : ndarray of int32, shape (levels, H, W)
        0 is background. Level 0 holds the objects that automatic segmentation looks for; further
        levels hold other truths about the same plane, such as the parts of its objects.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Area in pixels of each label of level 0, by label."""
        return np.bincount(self.labels[0].ravel())

    @cached_property
    def boxes(self) -> list[tuple[slice, ...]]:
        """Where each label of level 0 lies, label 1 first; None for one that is not there."""
        return list(ndimage.find_objects(self.labels[0]))

    @property
    def count(self) -> int:
        """Number of objects of level 0."""
        return int(np.count_nonzero(self.areas[1:]))

    @cached_property
    def diameter(self) -> float:
        """Median diameter (of a disc of the same area) of the objects of level 0, in pixels."""
        areas = self.areas[1:]
        areas = areas[areas > 0]
        return float(np.median(np.sqrt(areas * (4 / np.pi)))) if areas.size else 0.0


@dataclass(frozen=True)
class Source:
    """Planes to draw from.

    Parameters
    ----------
    name : str
    planes : sequence of LabelledPlane
    chances : ndarray, shape (len(planes),)
        Probability of each plane; sums to one.
    """

    name: str
    planes: Sequence[LabelledPlane]
    chances: NDArray[np.float64]

    def draw(self, rng: np.random.Generator) -> LabelledPlane:
        """Draw one plane."""
        return self.planes[int(rng.choice(len(self.planes), p=self.chances))]


def _plane(image: NDArray[np.generic], labels: NDArray[np.integer]) -> LabelledPlane:
    rgb = plane_to_rgb(image)
    grey = (rgb[..., :1] == rgb).all()
    return LabelledPlane(
        image=np.ascontiguousarray(rgb[..., :1]) if grey else rgb,
        labels=numbered_anew([labels])[0][None],
    )


def load_folder(name: str, folder: Path, balance: str | None = None) -> Source:
    """Read a folder of ``images`` and ``labels`` (or of ``train`` images and labels).

    Parameters
    ----------
    name : str
    folder : Path
    balance : str or None
        Column of ``index.csv`` that groups like planes.

    Raises
    ------
    ValueError
        If a file is missing, an image and its labels do not fit, or no label image holds an object.
    """
    planes, names = [], []
    for image, label in labelled_pairs(folder):
        plane = _plane(*read_pair(image, label))
        if plane.diameter > 0:
            planes.append(plane)
            names.append(without_suffix(image))
    if not planes:
        raise ValueError(_nothing_in(folder / "labels"))
    chances = np.sqrt([plane.count for plane in planes])
    if balance:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
            groups = {row["name"]: row[balance] for row in csv.DictReader(file)}
        sizes: dict[str, int] = defaultdict(int)
        for key in names:
            sizes[groups[key]] += 1
        chances /= np.sqrt([sizes[groups[key]] for key in names])
    return Source(name, planes, chances / chances.sum())


def load_stack(name: str, image: Path, labels: Path, every: int = 1) -> Source:
    """Read each ``every``-th plane of a stack (planes, H, W) and its labels.

    Raises
    ------
    ValueError
        If the two do not fit, or the labels hold no object.
    """
    stack, known, _ = read_stack_pair(image, labels)
    planes = [
        plane
        for pixels, truth in zip(stack[::every], known[::every], strict=True)
        if (plane := _plane(pixels, truth)).diameter > 0
    ]
    if not planes:
        raise ValueError(_nothing_in(labels))
    return Source(name, planes, np.full(len(planes), 1 / len(planes)))


def _nothing_in(labels: Path) -> str:
    """Say that there is nothing to learn from."""
    return (
        f"Expected label images in which each object has a number from 1 on, found no object in {labels}. "
        "Label some objects, or leave these data out."
    )
