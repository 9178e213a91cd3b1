"""Planes of an image as the pictures that a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.files import ImageFile
from napari_sam.folder.work import is_huge
from napari_sam.image import RGB, Contrast, channel_contrasts, plane_to_rgb, range_contrast
from napari_sam.recipe import Recipe
from napari_sam.tiling import Read, rgb_reader, sampled_pixels, shows_colours, whole_range

LOOKS = 9
"""Planes that are looked at for the contrast of a stack."""
SAMPLE = 250_000
"""Pixels of each of them."""


class _Planes:
    """Some of the planes of an image.

    Parameters
    ----------
    image : ImageFile
    recipe : Recipe
        With the contrast that all planes have (`settle_contrast`), unless each is to have its own.
    start, stop : int, optional
        The first plane, and the one after the last.
    """

    def __init__(self, image: ImageFile, recipe: Recipe, start: int = 0, stop: int | None = None) -> None:
        self._image, self._recipe = image, recipe
        self._numbers = range(len(image))[start:stop]
        self._separate = _are_separate(image)

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self._numbers)


class Pictures(_Planes, Sequence[RGB]):
    """The planes of an image as 8-bit RGB, read and converted when they are asked for."""

    def __getitem__(self, number: Any) -> Any:
        """Read one plane; black where one of several has no value, as at the end of a broken-off scan."""
        plane = self._image.plane(self._numbers[number])
        if len(self._image) > 1 and plane.dtype.kind == "f" and not np.isfinite(plane).any():
            return np.zeros((*plane.shape[:2], 3), np.uint8)
        return recipe_picture(plane, self._recipe, separate=self._separate)


def recipe_picture(plane: NDArray[Any], recipe: Recipe, *, separate: bool = False) -> RGB:
    """Picture of a plane as a recipe wants it.

    Parameters
    ----------
    plane : ndarray, shape (H, W) or (H, W, channels)
    recipe : Recipe
    separate : bool
        Whether three or four channels of 8 bits are channels, and no colours.
    """
    contrast = range_contrast(plane) if recipe.contrast == "range" else _windows(recipe)
    if contrast is None and separate and shows_colours(plane):
        contrast = channel_contrasts([plane[..., c] for c in range(plane.shape[2])])
    return plane_to_rgb(plane, contrast=contrast, gamma=recipe.gamma, channels=recipe.channels)


def _are_separate(image: ImageFile) -> bool:
    """Whether a file says that what its planes have several of is channels.

    TIFF has a word for colours, and these are not called so; an OME-Zarr calls both channels.
    """
    return "C" in image.names and not image.path.is_dir()


def settle_contrast(image: ImageFile, recipe: Recipe) -> Recipe:
    """Recipe in which the contrast that all planes of an image share stands as numbers.

    Planes of a stack that are stretched each by itself flicker: an object of one brightness looks different
    in each, and a plane with nothing in it becomes noise.
    """
    windows = stack_contrast(image) if recipe.contrast == "stack" and len(image) > 1 else None
    return recipe if windows is None else replace(recipe, contrast=tuple((w.low, w.high) for w in windows))


def stack_contrast(image: ImageFile) -> list[Contrast] | None:
    """Contrast window of each channel out of planes spread over an image; None for colours of 8 bits.

    Parameters
    ----------
    image : ImageFile
    """
    if shows_colours(PlaneView(image)):
        return None
    numbers = sorted({int(n) for n in np.linspace(0, len(image) - 1, min(len(image), LOOKS)).round()})
    pixels = np.concatenate([_sample(image, number) for number in numbers])
    return channel_contrasts(list(pixels.T))


def _sample(image: ImageFile, number: int) -> NDArray[Any]:
    """Some of the pixels of a plane, shape (N, channels)."""
    if is_huge(image):
        return sampled_pixels(PlaneView(image, number))
    plane = image.plane(number)
    flat = plane.reshape(plane.shape[0] * plane.shape[1], -1)
    return flat[:: max(1, len(flat) // SAMPLE)]


class PlaneView:
    """One plane of an image as an array of shape (H, W) or (H, W, channels) of which only boxes are read.

    Parameters
    ----------
    image : ImageFile
    number : int
        The plane, counted as `ImageFile.plane` does.
    """

    def __init__(self, image: ImageFile, number: int = 0) -> None:
        self._image = image
        leading = image.axes.names[:-2]
        self._where = dict(zip(leading, np.unravel_index(number, image.shape[:-2]), strict=True))
        extra = [n for n in image.names if n not in image.axes.names]
        sizes = [image.array.shape[image.names.index(n)] for n in extra]
        self.dtype = image.dtype
        self.separate = _are_separate(image)
        self.shape = (*image.shape[-2:], *([int(np.prod(sizes))] if extra else []))

    def __getitem__(self, box: tuple[slice, slice]) -> NDArray[Any]:
        """Read a box, given as slices of Y and X."""
        names, axes = self._image.names, self._image.axes.names
        where: dict[str, Any] = self._where | dict(zip("YX", box, strict=True))
        pixels = np.asarray(self._image.array[tuple(where.get(n, slice(None)) for n in names)])
        left = [n for n in names if n not in axes[:-2]]
        order = [left.index(n) for n in ["Y", "X", *(n for n in left if n not in "YX")]]
        pixels = pixels.transpose(order)
        return pixels if pixels.ndim == 2 else pixels.reshape(*pixels.shape[:2], -1)


def plane_reader(image: ImageFile, recipe: Recipe, number: int = 0) -> Read:
    """Reader of boxes of one of an image's planes, with one contrast for the whole plane."""
    view = PlaneView(image, number)
    contrast = whole_range(view) if recipe.contrast == "range" else _windows(recipe)
    return rgb_reader(view, contrast=contrast, gamma=recipe.gamma, channels=recipe.channels)


class Readers(_Planes, Sequence[Read]):
    """Readers of the planes of an image, made when they are asked for; see `plane_reader`."""

    def __getitem__(self, number: Any) -> Any:
        """Make one reader."""
        return plane_reader(self._image, self._recipe, self._numbers[number])


def _windows(recipe: Recipe) -> Contrast | list[Contrast] | None:
    """Contrast windows of the channels; None for percentiles of the plane."""
    if isinstance(recipe.contrast, str):
        return None
    windows = [Contrast(*pair) for pair in recipe.contrast]
    return windows[0] if len(windows) == 1 else windows
