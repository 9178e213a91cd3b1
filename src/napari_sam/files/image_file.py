"""An image in a file: what its axes are, and one plane of it at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import Axes
from napari_sam.label_ids import LabelError, whole

COLOURS = "S"
"""Letter of an axis of red, green and blue (and alpha), as TIFF calls it."""


class ImageFileError(ValueError):
    """An image that cannot be read; the message says what was expected, what was found, what to do."""


def _nothing() -> None:
    """Close what needs no closing."""


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An open image; use it in a ``with`` block, or close it.

    Parameters
    ----------
    path : Path
    array : array-like
        All pixels, read when they are indexed.
    names : str
        Letter of every axis of ``array``, out of T, Z, C, Y, X and S (colours), in any order.
    axes : Axes
        Axes of a label image of it: T, Z, Y, X as far as they are there, with pixel sizes and units.
    close : callable
        Closes the file.
    note : str
        What a person should know of it, such as that there is more in the file.
    ids : ndarray of uint8, shape (H, W), optional
        Of a picture with a palette: the places in it, which are the ids where it is a label image.
    origin : mapping of str to float
        Where the centre of the first pixel lies by axis, in the axis' unit; 0 where it is not known.
    """

    path: Path
    array: Any
    names: str
    axes: Axes
    close: Callable[[], None] = _nothing
    note: str = ""
    ids: NDArray[np.uint8] | None = None
    origin: Mapping[str, float] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Return the open image."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a label image of it, in the order of ``axes``."""
        return tuple(int(self.array.shape[self.names.index(n)]) for n in self.axes.names)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its pixels."""
        return np.dtype(self.array.dtype)

    def __len__(self) -> int:
        """Return the number of planes; channels and colours belong to a plane."""
        return int(np.prod(self.shape[:-2], dtype=np.int64))

    def plane(self, number: int) -> NDArray[Any]:
        """Read one plane.

        Parameters
        ----------
        number : int
            Its number, counted through T and then Z.

        Returns
        -------
        ndarray, shape (H, W) or (H, W, channels)

        Raises
        ------
        ImageFileError
            If the file is damaged, or has vanished.
        """
        where = dict(zip(self.axes.names, np.unravel_index(number, self.shape[:-2]), strict=False))
        index = tuple(int(where[n]) if n in where else slice(None) for n in self.names)
        left = [n for n in self.names if n not in where]
        try:
            pixels = np.asarray(self.array[index])
        # A damaged or foreign file fails in as many ways as there are codecs.
        except Exception as error:
            raise unreadable(f"Plane {number + 1} of {in_its_folder(self.path)}", error) from error
        extra = [n for n in left if n not in "YX"]
        pixels = pixels.transpose([left.index(n) for n in ["Y", "X", *extra]])
        return pixels if pixels.ndim == 2 else pixels.reshape(*pixels.shape[:2], -1)

    def label_plane(self, number: int) -> NDArray[np.integer]:
        """Read one plane of a label image.

        Parameters
        ----------
        number : int
            As of `plane`.

        Returns
        -------
        ndarray of int, shape (H, W)

        Raises
        ------
        ImageFileError
            If it has colours or several channels, or its numbers are no ids.
        """
        plane = self.ids if self.ids is not None else self.plane(number)
        if plane.ndim > 2 and plane.shape[2] > 1:
            raise self._is_an_image()
        return self._whole(plane.reshape(plane.shape[:2]))

    def planes(self) -> Iterator[NDArray[Any]]:
        """Read one plane after the other."""
        return (self.plane(number) for number in range(len(self)))

    def intensities(self) -> Any:
        """Return all pixels in the order of ``axes``, channels and colours last, read when indexed."""
        return _Intensities(self)

    def labels(self) -> Any:
        """Return the array where it can be a label image, still unread if its axes are those of labels.

        Raises
        ------
        ImageFileError
            If it has colours or several channels; a single channel is left out.
        """
        if self.ids is not None:
            return self.ids
        extra = [i for i, n in enumerate(self.names) if n not in self.axes.names]
        if any(self.array.shape[i] > 1 for i in extra):
            raise self._is_an_image()
        if self.names == self.axes.names:
            return self.array
        pixels = np.asarray(self.array).transpose([self.names.index(n) for n in self.axes.names] + extra)
        return pixels.reshape(self.shape)

    def label_ids(self) -> NDArray[np.integer]:
        """Read a whole label image, in the order of ``axes``.

        Raises
        ------
        ImageFileError
            If the file is damaged, it has colours or several channels, or its numbers are no ids.
        """
        try:
            pixels = np.asarray(self.labels())
        except ImageFileError:
            raise
        # As in `plane`.
        except Exception as error:
            raise unreadable(in_its_folder(self.path), error) from error
        return self._whole(pixels)

    def _whole(self, pixels: NDArray[Any]) -> NDArray[np.integer]:
        """Labels as whole numbers, or an error that names the file."""
        try:
            return whole(pixels)
        except LabelError as error:
            raise ImageFileError(f"{self.path} is no label image. {error}") from error

    def _is_an_image(self) -> ImageFileError:
        return ImageFileError(
            f"{in_its_folder(self.path)} has channels or colours: it is an image, and a label image was "
            "expected."
        )


class _Intensities:
    """An image's pixels by the index of a plane, or all of them."""

    def __init__(self, image: ImageFile) -> None:
        self._image = image
        channels = [image.array.shape[i] for i, n in enumerate(image.names) if n not in image.axes.names]
        self.shape = (*image.shape, *([int(np.prod(channels))] if channels else []))
        self.dtype = image.dtype

    def __getitem__(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Read one plane."""
        return self._image.plane(int(np.ravel_multi_index(index, self._image.shape[:-2])) if index else 0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        pixels = np.stack(list(self._image.planes())).reshape(self.shape)
        return pixels if dtype is None else pixels.astype(dtype)


def in_its_folder(path: Path) -> str:
    """Name of a file with that of its folder, as an image and its labels often have the same name.

    Examples
    --------
    >>> in_its_folder(Path("data", "labels", "b.tif")) == str(Path("labels", "b.tif"))
    True
    """
    return str(Path(*path.parts[-2:]))


def unreadable(what: str, error: Exception) -> ImageFileError:
    """Return the error of a file whose bytes are not what they should be."""
    return ImageFileError(
        f"{what} cannot be read ({in_words(error)}). "
        "Is the file complete? Open and save it again with the program that made it."
    )


def in_words(error: Exception) -> str:
    """First line of an error's text, or its kind where it says nothing."""
    text = str(error).strip().splitlines()
    # All that it says, as a rule, is the name or number of what was looked for.
    if isinstance(error, LookupError) and text and " " not in text[0]:
        return f"the entry {text[0]} is missing"
    return text[0] if text else type(error).__name__
