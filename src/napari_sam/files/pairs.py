"""Images and their label images: which belong together, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.export.formats import without_suffix
from napari_sam.files.find import SUFFIXES, is_image, natural_key
from napari_sam.files.image_file import ImageFileError
from napari_sam.files.read import open_beside, open_labels
from napari_sam.image import ImageError

MADE_SUFFIX = "_labels"
"""What the dock and ``napari-sam segment`` put behind the name of an image."""
LEAST_PARTS = 3
"""From so many separate parts on, in plane after plane, one id is hardly one object."""
FEW_PLANES = 3
"""In less planes that hold something, chance has a say: a vessel may well lie in three pieces."""
MANY_PARTS = 10
"""From so many separate parts on, one id is not one object, be it in a single plane."""


def labelled_pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the images in ``folder/images`` with their label images in ``folder/labels``.

    They come in the order a person expects (``t2`` before ``t10``), which is that of a movie's frames.
    A label image has the name of the image's file; else its name with another ending, or with ``_labels``
    behind it, as the plugin writes them.

    Raises
    ------
    ImageFileError
        If a folder is missing, an image has no labels, or it is not clear which are its.
    """
    images, labels = folder / "images", folder / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise ImageFileError(
            f"{folder} was expected to hold two folders, 'images' and 'labels', with files of the "
            "same names. Arrange the data so, or choose another folder."
        )
    found = sorted(filter(is_image, images.iterdir()), key=natural_key)
    known = sorted(filter(is_image, labels.iterdir()), key=natural_key)
    if not found:
        raise ImageFileError(f"{images} holds no image ({', '.join(SUFFIXES)}).")
    taken: dict[Path, Path] = {}
    for image in found:
        pair = _labels_of(image, known, labels)
        if pair in taken:
            raise ImageFileError(
                f"{taken[pair].name} and {image.name} in {images} would both have the labels {pair.name}. "
                "Give each its own, of the name of its file."
            )
        taken[pair] = image
        yield image, pair


def _labels_of(image: Path, known: list[Path], folder: Path) -> Path:
    """The label image of an image."""
    name = without_suffix(image)
    for fits in (
        [p for p in known if p.name == image.name],
        [p for p in known if without_suffix(p) == name],
        [p for p in known if without_suffix(p) == name + MADE_SUFFIX],
    ):
        if len(fits) > 1:
            raise ImageFileError(
                f"{' and '.join(p.name for p in fits)} in {folder} may both be the labels of {image.name}. "
                "Leave one of them there."
            )
        if fits:
            return fits[0]
    raise ImageFileError(
        f"{image} has no label image of the same name in {folder}: expected {image.name}, or "
        f"{name}{MADE_SUFFIX}.tif as the plugin writes it."
    )


def read_pair(image: Path, labels: Path) -> tuple[NDArray[Any], NDArray[np.integer]]:
    """Read a plane, shape (H, W) or (H, W, C), and its labels, shape (H, W).

    Raises
    ------
    ImageFileError
        If one cannot be read, or the two do not fit.
    """
    with open_labels(labels) as known, open_beside(image, known) as picture:
        truth = known.label_ids()
        truth = truth.reshape(truth.shape[-2:]) if truth.size == np.prod(truth.shape[-2:]) else truth
        stored = tuple(picture.array.shape)
        if len(picture) == 1 and picture.shape[-2:] == truth.shape:
            return picture.plane(0), truth
        # Channels that lie behind height and width, though the file does not say so.
        if truth.ndim == 2 and len(stored) == 3 and stored[:2] == truth.shape:
            return np.asarray(picture.array), truth
    raise ImageFileError(
        f"Expected one plane and one label image of the same height and width, found {stored} in {image} and "
        f"{truth.shape} in {labels}. Save the labels of exactly this image, one number a pixel, and channels "
        "behind the height and width or named as such in the file."
    )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a stack without the axes before Y and X that have one position only."""
    return (*(n for n in shape[:-2] if n > 1), *shape[-2:])


def read_stack_pair(image: Path, labels: Path) -> tuple[list[NDArray[Any]], list[NDArray[np.integer]], int]:
    """Read the planes of a stack or movie, each of shape (H, W) or (H, W, C), and their labels.

    Returns
    -------
    planes, labels : list of ndarray
    depth : int
        Number of planes of a volume; a hyperstack has the volumes of its time points one after the other.

    Raises
    ------
    ImageFileError
        If one cannot be read, or the two do not fit.
    """
    with open_labels(labels) as known, open_beside(image, known) as picture:
        truth = known.label_ids()
        stored = tuple(picture.array.shape)
        flat = list(truth.reshape(-1, *truth.shape[-2:]))
        depth = (1, *_without_ones(truth.shape))[-3]
        if _without_ones(picture.shape) == _without_ones(truth.shape):
            return list(picture.planes()), flat, depth
        # Channels that lie last, though the file does not say so.
        if len(stored) == truth.ndim + 1 and stored[:-1] == truth.shape:
            return list(np.asarray(picture.array).reshape(-1, *stored[-3:])), flat, depth
    raise ImageFileError(
        f"Expected a stack and its labels of the same shape (planes, height, width), found {stored} "
        f"in {image} and {truth.shape} in {labels}. Save the labels of exactly this stack; channels of "
        "the image come last, or are named as such in the file."
    )


@contextmanager
def naming(image: Path) -> Iterator[None]:
    """Put the file in front of what is wrong with an image's pixels."""
    try:
        yield
    except ImageError as error:
        raise ImageFileError(f"{image}: {error}") from error


def parts_of_one(planes: Sequence[NDArray[np.integer]]) -> list[int]:
    """Count the separate parts of the one id that a label image has, in each of its planes.

    Parameters
    ----------
    planes : sequence of ndarray of int, shape (H, W)
        0 is background.

    Returns
    -------
    list of int
        For each plane that holds an object; a single 0 if there are several ids.
    """
    top = max((plane.max(initial=0) for plane in planes), default=0)
    if any(((plane != 0) & (plane != top)).any() for plane in planes):
        return [0]
    return [int(ndimage.label(plane, np.ones((3, 3)))[1]) for plane in planes if plane.any()]


def refuse_masks(parts: Mapping[Path, Sequence[int]]) -> None:
    """Refuse labels that only tell objects from background: they would count as one object an image.

    Parameters
    ----------
    parts : mapping of Path to sequence of int
        `parts_of_one` of each label image. Now and then a single object lies in pieces, and a mask holds a
        single object: the middle of all planes decides.

    Raises
    ------
    ImageFileError
    """
    counts = [count for of_image in parts.values() for count in of_image]
    if not counts or not all(counts):
        return
    typical = min(counts) if len(counts) < FEW_PLANES else np.median(counts)
    if typical < (MANY_PARTS if len(counts) < FEW_PLANES else LEAST_PARTS):
        return
    path = max(parts, key=lambda image: max(parts[image], default=0))
    filled = sum(map(bool, parts.values()))
    others = f", and so in the {filled - 1} other label images" if filled > 1 else ""
    raise ImageFileError(
        f"Expected a number of its own for each object, found a single one in {max(parts[path])} separate "
        f"places in {path}{others}: this is a mask. Give each object its own number, in Fiji with Analyze "
        "Particles (Count Masks) or MorphoLibJ's Connected Components Labeling, in Python with "
        "skimage.measure.label."
    )
