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
from napari_sam.files.no_labels import Parts, parts_of, refuse_masks
from napari_sam.files.pairs import labelled_pairs, open_pair
from napari_sam.folder.pictures import Pictures, settle_contrast
from napari_sam.image import RGB
from napari_sam.label_ids import numbered_anew
from napari_sam.recipe import Recipe

__all__ = ["LabelledPlane", "Source", "load_folder", "load_stack"]

MOST_EMPTY = 0.15
"""Greatest share of the draws from a folder that show no object."""
LARGEST = 220.0
"""Median diameter, in pixels, above which a plane is shrunk: crops are at a fifth of its scale at least."""


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


def _plane(rgb: RGB, labels: NDArray[np.integer]) -> LabelledPlane:
    grey = (rgb[..., :1] == rgb).all()
    return LabelledPlane(
        image=np.ascontiguousarray(rgb[..., :1]) if grey else rgb,
        labels=numbered_anew([labels])[0][None],
    )


def _shrunk(plane: LabelledPlane) -> LabelledPlane:
    """Shrink a plane whose objects are very large, to half the largest diameter or somewhat more.

    The model, too, is to look at them from far away when it is used.
    """
    if plane.diameter <= LARGEST:
        return plane
    step = min(int(plane.diameter // (LARGEST / 2)), *plane.labels.shape[1:])
    height, width = (n // step for n in plane.labels.shape[1:])
    blocks = plane.image[: height * step, : width * step].reshape(height, step, width, step, -1)
    middles = slice(step // 2, None, step)
    return LabelledPlane(
        image=blocks.mean((1, 3), dtype=np.float32).round().astype(np.uint8),
        labels=np.ascontiguousarray(plane.labels[:, middles, middles][:, :height, :width]),
        typical=plane.typical / step,
    )


def load_folder(
    name: str,
    folder: Path,
    balance: str | None = None,
    crowding: float = 0.5,
    *,
    axes: str | None = None,
) -> Source:
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
    axes : str, optional
        See `napari_sam.files.pairs.open_pair`.

    Raises
    ------
    ValueError
        If a file is missing, an image and its labels do not fit, no label image holds an object, or all
        are masks.
    """
    planes, names = [], []
    parts: dict[Path, Parts] = {}
    for image, label in sorted(labelled_pairs(folder)):  # what is drawn depends on this order
        with open_pair(image, label, axes, single=True) as (file, truth):
            parts[label] = parts_of(truth)
            planes.append(_plane(Pictures(file, Recipe())[0], truth[0]))
        names.append(without_suffix(image))
    refuse_masks(parts)
    diameters = [plane.diameter for plane in planes if plane.count]
    if not diameters:
        raise ValueError(_nothing_in(folder / "labels"))
    typical = float(np.median(diameters))
    planes = [_shrunk(plane if plane.count else replace(plane, typical=typical)) for plane in planes]
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


def load_stack(name: str, image: Path, labels: Path, every: int = 1, *, axes: str | None = None) -> Source:
    """Read each ``every``-th plane of a stack (planes, H, W) and its labels, with one contrast for all.

    Planes without labels are left out: in a stack they often wait to be labelled.

    Raises
    ------
    ValueError
        If the two do not fit, or the labels hold no object or are a mask.
    """
    with open_pair(image, labels, axes) as (file, known):
        refuse_masks({labels: parts_of(known)})
        pictures = Pictures(file, settle_contrast(file, Recipe()))
        numbers = [n for n in range(0, len(known), every) if known[n].any()]
        planes = [_shrunk(_plane(pictures[n], known[n])) for n in numbers]
    if not planes:
        raise ValueError(_nothing_in(labels, every))
    return Source(name, planes, np.full(len(planes), 1 / len(planes)))


def _nothing_in(labels: Path, every: int = 1) -> str:
    """Say that there is nothing to learn from."""
    planes = f"the planes 1, {1 + every}, {1 + 2 * every} ... (every = {every}) of " if every > 1 else ""
    return (
        f"Expected label images in which each object has a number from 1 on, found no object in {planes}"
        f"{labels}. Label some objects, or leave these data out."
    )
