"""Labelled planes for training: where they come from and how they are drawn at random.

A source is a sequence of `LabelledPlane`. Sources are mixed by weight; inside a source, groups of
like planes (a column of its ``index.csv``) may be balanced by the square root of their sizes, and planes are
drawn by a power of the number of their objects: a plane of hundreds has more to teach than one of three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.export.formats import without_suffix
from napari_sam.files.groups import INDEX, read_groups
from napari_sam.files.pairs import (
    labelled_pairs,
    naming,
    parts_of_one,
    read_pair,
    read_stack_pair,
    refuse_masks,
)
from napari_sam.image import plane_to_rgb
from napari_sam.label_ids import numbered_anew

__all__ = ["LabelledPlane", "Source", "load_folder", "load_stack"]

MOST_EMPTY = 0.15
"""Greatest share of the draws from a folder that show no object."""


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
    typical : float
        Diameter in pixels that objects would have, for a plane without any.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    typical: float = 0.0

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
        return float(np.median(np.sqrt(areas * (4 / np.pi)))) if areas.size else self.typical


@dataclass(frozen=True)
class Source:
    """Planes to draw from.

    Parameters
    ----------
    name : str
    planes : sequence of LabelledPlane
    chances : ndarray, shape (len(planes),)
        Probability of each plane; sums to one.
    pasted : float
        Share of the crops into which objects from elsewhere in their planes are pasted.
    """

    name: str
    planes: Sequence[LabelledPlane]
    chances: NDArray[np.float64]
    pasted: float = 0.0

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


def load_folder(name: str, folder: Path, balance: str | None = None, crowding: float = 0.5) -> Source:
    """Read a folder of ``images`` and ``labels`` (or of ``train`` images and labels).

    An image without objects is background: a crop of it teaches where there is nothing to be found.

    Parameters
    ----------
    name : str
    folder : Path
    balance : str or None
        Column of ``index.csv`` that groups like planes.
    crowding : float
        Power of the number of a plane's objects by which it is drawn.

    Raises
    ------
    ValueError
        If a file is missing, an image and its labels do not fit, no label image holds an object, or all
        are masks.
    """
    planes, names = [], []
    parts: dict[Path, list[int]] = {}
    for image, label in sorted(labelled_pairs(folder)):  # what is drawn depends on this order
        pixels, truth = read_pair(image, label)
        parts[label] = parts_of_one([truth])
        with naming(image):
            planes.append(_plane(pixels, truth))
        names.append(without_suffix(image))
    refuse_masks(parts)
    diameters = [plane.diameter for plane in planes if plane.count]
    if not diameters:
        raise ValueError(_nothing_in(folder / "labels"))
    typical = float(np.median(diameters))
    planes = [plane if plane.count else replace(plane, typical=typical) for plane in planes]
    chances = np.array([max(plane.count, 1) for plane in planes], float) ** crowding
    if balance:
        groups = read_groups(folder / INDEX, balance, names)
        sizes = Counter(groups)
        chances /= np.sqrt([sizes[group] for group in groups])
    return Source(name, planes, _few_empty(planes, chances / chances.sum()))


def _few_empty(planes: Sequence[LabelledPlane], chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower the chances of planes without objects where they are many: objects teach more."""
    empty = np.array([not plane.count for plane in planes])
    share = chances[empty].sum()
    if share <= MOST_EMPTY:
        return chances
    return chances * np.where(empty, MOST_EMPTY / share, (1 - MOST_EMPTY) / (1 - share))


def load_stack(name: str, image: Path, labels: Path, every: int = 1) -> Source:
    """Read each ``every``-th plane of a stack (planes, H, W) and its labels.

    Planes without labels are left out: in a stack they often wait to be labelled.

    Raises
    ------
    ValueError
        If the two do not fit, or the labels hold no object or are a mask.
    """
    stack, known, _ = read_stack_pair(image, labels)
    refuse_masks({labels: parts_of_one(known)})
    with naming(image):
        planes = [
            _plane(pixels, truth)
            for pixels, truth in zip(stack[::every], known[::every], strict=True)
            if truth.any()
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
