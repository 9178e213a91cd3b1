"""An image that a person labels, read whole: its channels, how it is shown, what is known of its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import Axes
from napari_sam.files import ImageFile, ImageFileError, open_image
from napari_sam.files.image_file import COLOURS
from napari_sam.folder.pictures import stack_contrast
from napari_sam.image import RGB, Contrast, plane_to_rgb, range_contrast

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Opened", "read_whole"]

LARGEST = 4 * 2**30
"""Bytes of an image above which it is not read whole."""


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """An image that was read, with its labels.

    Parameters
    ----------
    channels : tuple of ndarray
        One array for each channel, in the order of ``axes``; of a colour picture one, with colours last.
    rgb : bool
        Whether it is a colour picture.
    axes : Axes
    contrast : tuple of Contrast
        What is black and white, for each channel; of a colour picture nothing.
    labels : ndarray of int, optional
        In the order of ``axes``; None where nothing is saved yet.
    features : DataFrame, optional
        What is stored about the objects, with their ids in ``index``.
    note : str
        What a person should know of it (`ImageFile.note`).
    """

    channels: tuple[NDArray[Any], ...]
    rgb: bool
    axes: Axes
    contrast: tuple[Contrast, ...]
    labels: NDArray[np.integer] | None
    features: DataFrame | None
    note: str = ""

    @property
    def objects(self) -> int:
        """Number of objects that are saved."""
        return 0 if self.labels is None else int(np.count_nonzero(np.unique(self.labels)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a label image."""
        return tuple(int(n) for n in self.channels[0].shape[: len(self.axes.names)])

    @property
    def middle(self) -> tuple[int, ...]:
        """The plane in the middle: a position on each axis but Y and X."""
        return tuple(n // 2 for n in self.shape[:-2])

    def picture(self, plane: Sequence[int], picks: Sequence[int | None] | None, rule: str) -> RGB:
        """Picture of a plane as the dock gives it to the model.

        Parameters
        ----------
        plane : sequence of int
            A position on each axis but Y and X.
        picks : sequence of (int or None), optional
            Channels that are red, green and blue; the first one for all if not given.
        rule : {"displayed", "percentiles", "range", "tiles"}
            Contrast of the dock. The plane is read whole, as one tile.
        """
        rule = "range" if rule == "tiles" else rule
        where = tuple(plane)
        if self.rgb:
            colours = self.channels[0][where][..., :3]
            whole = colours.dtype == np.uint8 and rule != "range"
            limits = Contrast(0, 255) if whole else _colour_window(colours, rule)
            return plane_to_rgb(colours, contrast=limits, channels=(0, 1, 2))
        picks = (0, 0, 0) if picks is None else picks
        picture = np.zeros((*self.shape[-2:], 3), np.uint8)
        for colour, channel in enumerate(picks):
            if channel is not None and channel < len(self.channels):
                pixels = self.channels[channel][where]
                window: Contrast | list[Contrast] | None = None
                if rule != "percentiles":
                    window = range_contrast(pixels) if rule == "range" else self.contrast[channel]
                picture[..., colour] = plane_to_rgb(pixels, contrast=window)[..., 0]
        return picture


def read_whole(source: Path) -> Opened:
    """Read all pixels of an image, its channels apart, without labels.

    Raises
    ------
    ImageFileError
        If it cannot be read, or is too large to be read whole.
    """
    with open_image(source) as image:
        return replace(_read(image), note=image.note)


def _read(image: ImageFile) -> Opened:
    nbytes = image.dtype.itemsize * int(np.prod(image.array.shape))
    if nbytes > LARGEST:
        raise ImageFileError(
            f"{image.path.name} has {nbytes / 1e9:.0f} GB and is not read whole. Open it by itself, with "
            "File > Open."
        )
    pixels = np.asarray(image.intensities())
    size = image.array.shape[image.names.index(COLOURS)] if COLOURS in image.names else 0
    if pixels.ndim == len(image.shape):
        channels: tuple[NDArray[Any], ...] = (pixels,)
    elif size in (3, 4) and pixels.shape[-1] == size:
        return Opened((pixels,), True, image.axes, (), None, None)
    else:
        channels = tuple(np.ascontiguousarray(pixels[..., c]) for c in range(pixels.shape[-1]))
    windows = stack_contrast(image) or [Contrast(0, 255)] * len(channels)
    return Opened(channels, False, image.axes, tuple(_open_window(w) for w in windows), None, None)


def _open_window(window: Contrast) -> Contrast:
    """Window whose ends differ, as napari wants them."""
    return window if window.low < window.high else Contrast(window.low, window.low + 1)


def _colour_window(colours: NDArray[Any], rule: str) -> Contrast | list[Contrast] | None:
    """Contrast of a colour picture that is not of 8 bits."""
    if rule != "displayed":
        return range_contrast(colours) if rule == "range" else None
    return Contrast(0, 1) if colours.dtype.kind == "f" else Contrast(0, float(np.iinfo(colours.dtype).max))
