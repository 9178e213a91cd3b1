"""Planes of an image as the pictures that a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.files import ImageFile
from napari_sam.image import RGB, Contrast, plane_to_rgb
from napari_sam.recipe import Recipe
from napari_sam.tiling import Read, rgb_reader


class Pictures(Sequence[RGB]):
    """The planes of an image as 8-bit RGB, read and converted when they are asked for."""

    def __init__(self, image: ImageFile, recipe: Recipe, start: int = 0, stop: int | None = None) -> None:
        self._image, self._recipe = image, recipe
        self._numbers = range(len(image))[start:stop]

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self._numbers)

    def __getitem__(self, number: Any) -> Any:
        """Read one plane."""
        plane = self._image.plane(self._numbers[number])
        return plane_to_rgb(plane, contrast=_windows(self._recipe), channels=self._recipe.channels)


class PlaneView:
    """One plane of an image as an array of shape (H, W) or (H, W, channels) of which only boxes are read."""

    def __init__(self, image: ImageFile) -> None:
        self._image = image
        extra = [n for n in image.names if n not in image.axes.names]
        sizes = [image.array.shape[image.names.index(n)] for n in extra]
        self.dtype = image.dtype
        self.shape = (*image.shape[-2:], *([int(np.prod(sizes))] if extra else []))

    def __getitem__(self, box: tuple[slice, slice]) -> NDArray[Any]:
        """Read a box, given as slices of Y and X."""
        names, axes = self._image.names, self._image.axes.names
        where: dict[str, Any] = dict.fromkeys(axes[:-2], 0) | dict(zip("YX", box, strict=True))
        pixels = np.asarray(self._image.array[tuple(where.get(n, slice(None)) for n in names)])
        left = [n for n in names if n not in axes[:-2]]
        order = [left.index(n) for n in ["Y", "X", *(n for n in left if n not in "YX")]]
        pixels = pixels.transpose(order)
        return pixels if pixels.ndim == 2 else pixels.reshape(*pixels.shape[:2], -1)


def plane_reader(image: ImageFile, recipe: Recipe) -> Read:
    """Reader of boxes of an image's only plane, with one contrast for the whole plane."""
    return rgb_reader(PlaneView(image), contrast=_windows(recipe), channels=recipe.channels)


def _windows(recipe: Recipe) -> list[Contrast] | None:
    return None if recipe.contrast is None else [Contrast(*pair) for pair in recipe.contrast]
