"""Labelled planes for training: where they come from and how they are drawn at random.

A source is a sequence of `LabelledPlane`. Sources are mixed by weight; inside a source, groups of
like planes (a column of its ``index.csv``) are balanced by the square root of their sizes, and so are
planes by the number of their objects: a plane of hundreds has more to teach than one of three.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.image import plane_to_rgb

__all__ = ["LabelledPlane", "Source", "load_folder", "load_stack"]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


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


def _plane(image: NDArray[np.generic], labels: NDArray[np.generic]) -> LabelledPlane:
    rgb = plane_to_rgb(image)
    grey = (rgb[..., :1] == rgb).all()
    return LabelledPlane(
        image=np.ascontiguousarray(rgb[..., :1]) if grey else rgb,
        labels=labels.astype(np.int32)[None],
    )


def image_label_pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files in ``folder/images`` with their namesakes in ``folder/labels``.

    Raises
    ------
    ValueError
        If a folder is missing, or an image has no labels.
    """
    images, labels = folder / "images", folder / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise ValueError(
            f"{folder} was expected to hold two folders, 'images' and 'labels', with files of the "
            "same names. Arrange the data so, or choose another folder."
        )
    targets = {path.stem: path for path in labels.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ValueError(f"{images} holds no image ({', '.join(IMAGE_SUFFIXES)}).")
    for path in found:
        if path.stem not in targets:
            raise ValueError(f"{path} has no label image of the same name in {labels}.")
        yield path, targets[path.stem]


def read_image(path: Path) -> NDArray[np.generic]:
    """Read a TIFF, PNG or JPEG file as an array."""
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        return np.asarray(tifffile.imread(path))
    from PIL import Image

    with Image.open(path) as file:
        return np.asarray(file)


def read_labelled(image: Path, labels: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Read a plane, shape (H, W) or (H, W, C), and its labels, shape (H, W).

    Raises
    ------
    ValueError
        If the two do not fit.
    """
    from napari_sam.files import open_image

    pixels, truth = read_image(image), read_image(labels)
    if pixels.ndim == 3 and pixels.shape[:2] != truth.shape and image.suffix.lower() in (".tif", ".tiff"):
        # Channels may come first: then the file says so.
        with open_image(image) as opened:
            pixels = opened.plane(0) if len(opened) == 1 else pixels
    if truth.ndim != 2 or pixels.ndim not in (2, 3) or pixels.shape[:2] != truth.shape:
        raise ValueError(
            f"Expected one plane and one label image of the same height and width, found {pixels.shape} in "
            f"{image} and {truth.shape} in {labels}. Save the labels of exactly this image, one number a "
            "pixel, and channels behind the height and width or named as such in the file."
        )
    return pixels, truth


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
    for image, label in image_label_pairs(folder):
        plane = _plane(*read_labelled(image, label))
        if plane.diameter > 0:
            planes.append(plane)
            names.append(image.stem)
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
    stack, known = read_image(image), read_image(labels)
    if known.ndim != 3 or stack.ndim not in (3, 4) or stack.shape[:3] != known.shape:
        raise ValueError(
            f"Expected a stack and its labels of the same shape (planes, height, width), found {stack.shape} "
            f"in {image} and {known.shape} in {labels}. Save the labels of exactly this stack; channels of "
            "the image come last."
        )
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
