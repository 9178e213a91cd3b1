"""Images and their label images: which belong together, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.export.formats import without_suffix
from napari_sam.files.alike import composed
from napari_sam.files.find import SUFFIXES, is_image, natural_key
from napari_sam.files.image_file import COLOURS, ImageFile, ImageFileError
from napari_sam.files.read import open_beside, open_image, open_labels
from napari_sam.image import ImageError

MADE_SUFFIX = "_labels"
"""What the dock and ``napari-sam segment`` put behind the name of an image."""
LOSSY = (".jpg", ".jpeg")
"""Endings of pictures that do not keep the numbers of their pixels."""


def labelled_pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the images in ``folder/images`` with their label images in ``folder/labels``.

    Where there is no such folder, the labels are those in ``folder/images/labels``, as the dock puts them.
    They come in the order a person expects (``t2`` before ``t10``), which is that of a movie's frames.
    A label image has the name of the image's file; else its name with another ending, or with ``_labels``
    behind it, as the plugin writes them.

    Raises
    ------
    ImageFileError
        If a folder is missing, an image has no labels, or it is not clear which are its.
    """
    if not folder.exists():
        raise ImageFileError(f"There is no folder {folder}. Check the name.")
    images = folder / "images"
    labels = next((f for f in (folder / "labels", images / "labels") if f.is_dir()), folder / "labels")
    if not images.is_dir() or not labels.is_dir():
        raise ImageFileError(
            f"{folder} was expected to hold two folders, 'images' and 'labels' (or 'images' with 'labels' in "
            "it), with files of the same names. Arrange the data so, or choose another folder."
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
    name = composed(without_suffix(image))
    exact = [p for p in known if p.name == image.name]
    same = exact or [p for p in known if composed(p.name) == composed(image.name)]
    named = same or [p for p in known if composed(without_suffix(p)) == name]
    # Beside older labels these may be the corrected ones.
    fits = named + [p for p in known if composed(without_suffix(p)) == name + MADE_SUFFIX]
    if len(fits) > 1:
        raise ImageFileError(
            f"{' and '.join(p.name for p in fits)} in {folder} may both be the labels of {image.name}. "
            "Leave one of them there."
        )
    if fits:
        return fits[0]
    wanted = [name.casefold(), (name + MADE_SUFFIX).casefold()]
    near = next((p.name for p in known if composed(without_suffix(p)).casefold() in wanted), "")
    what = f"rename {near}, which differs in capital letters" if near else "label it"
    raise ImageFileError(
        f"{image} has no label image of the same name in {folder}: expected {image.name}, or "
        f"{without_suffix(image)}{MADE_SUFFIX}.tif as the plugin writes it. Either {what}, or take the image "
        f"out of {image.parent}."
    )


@contextmanager
def open_pair(
    image: Path, labels: Path, axes: str | None = None, *, single: bool = False
) -> Iterator[tuple[ImageFile, NDArray[np.integer]]]:
    """Open an image, and read its labels; in the block, what is wrong with its pixels names its file.

    Parameters
    ----------
    image, labels : Path
    axes : str, optional
        Letters of the image's axes, where its file does not say them or says them wrong; its labels have the
        same, but for channels and colours.
    single : bool
        Whether it has to be a single plane.

    Yields
    ------
    picture : ImageFile
    truth : ndarray of int, shape (len(picture), H, W)
        Labels of its planes.

    Raises
    ------
    ImageFileError
        If one cannot be read, or the two do not fit.
    """
    if labels.suffix.lower() in LOSSY:
        raise ImageFileError(
            f"{labels} is a JPEG, which keeps no exact numbers: what it says at the edges of objects is made "
            "up. Save the labels as TIFF or PNG, out of the program in which they were made."
        )
    with ExitStack() as files:
        known = files.enter_context(open_labels(labels, axes=None if axes is None else _planar(axes)))
        if image.exists() and known.path.samefile(image):
            raise ImageFileError(
                f"{image} is given as an image and as the labels of it: expected two files. Name the label "
                "image, in which each object has a number of its own."
            )
        truth = known.label_ids()
        picture = files.enter_context(open_beside(image, known, axes=axes))
        stored = tuple(picture.array.shape)
        if axes is None and _without_ones(picture.shape) != _without_ones(truth.shape):
            # Channels that lie last, though the file does not say so.
            letters = known.axes.names
            short = "".join(n for n, size in zip(letters, truth.shape, strict=True) if size > 1 or n in "YX")
            for names, shape in ((letters, truth.shape), (short, _without_ones(truth.shape))):
                if stored[:-1] == shape:
                    picture = files.enter_context(open_image(image, axes=names + COLOURS))
                    break
        if _without_ones(picture.shape) != _without_ones(truth.shape) or (single and len(picture) > 1):
            found = f"{stored} in {image} and {truth.shape} in {labels}"
            raise ImageFileError(_no_pair(found, single, len(picture) > 1 and len(truth.shape) > 2))
        try:
            yield picture, truth.reshape(-1, *truth.shape[-2:])
        except ImageError as error:
            raise ImageFileError(f"{image}: {error}") from error


def _planar(axes: str) -> str:
    """Letters of a label image's axes out of those of its image."""
    return "".join(letter for letter in axes.upper() if letter not in "C" + COLOURS)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a stack without the axes before Y and X that have one position only."""
    return (*(n for n in shape[:-2] if n > 1), *shape[-2:])


def _no_pair(found: str, single: bool, stack: bool) -> str:
    """Say that an image and its labels do not fit."""
    if single:
        elsewhere = (
            " A stack does not go into a folder of planes: train on it with image = and labels = in the "
            "configuration, instead of folder =; evaluate it by its name, with --labels."
        )
        return (
            f"Expected one plane and one label image of the same height and width, found {found}. Save the "
            "labels of exactly this image, one number a pixel, and channels behind the height and width or "
            f"named as such in the file.{elsewhere if stack else ''}"
        )
    return (
        f"Expected a stack and its labels of the same shape (planes, height, width), found {found}. Save the "
        "labels of exactly this stack; channels of the image come last, or are named as such in the file."
    )
