"""Images and their label images: which belong together, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.export.formats import without_suffix
from napari_sam.files.find import SUFFIXES, is_image
from napari_sam.files.image_file import ImageFileError
from napari_sam.files.read import open_image

MADE_SUFFIX = "_labels"
"""What the dock and ``napari-sam segment`` put behind the name of an image."""


def labelled_pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the images in ``folder/images`` with their label images in ``folder/labels``.

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
    found = sorted(filter(is_image, images.iterdir()))
    known = sorted(filter(is_image, labels.iterdir()))
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
    with open_image(image) as picture, open_image(labels) as known:
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
    with open_image(image) as picture, open_image(labels) as known:
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
