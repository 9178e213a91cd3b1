"""Open an image by the ending of its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import Axes, AxesError, make_axes
from napari_sam.files.find import SUFFIXES
from napari_sam.files.image_file import COLOURS, ImageFile, ImageFileError, in_its_folder, unreadable
from napari_sam.files.refused import in_plain_words

if TYPE_CHECKING:
    from PIL import Image


class Content(NamedTuple):
    """What a reader finds in a file.

    Parameters
    ----------
    array : array-like
        All pixels, read when they are indexed.
    names : str
        A letter an axis; letters that are not known stand for planes.
    sizes : dict
        Pixel size and unit by axis, as far as the file says.
    close : callable, optional
    note : str
        What a person should know of it, such as that there is more in the file.
    ids : ndarray, optional
        Places in the palette, of a picture that has one.
    origin : dict, optional
        Where the centre of the first pixel lies by axis, in the axis' unit, as far as the file says.
    """

    array: Any
    names: str
    sizes: dict[str, tuple[float, str]]
    close: Callable[[], None] | None = None
    note: str = ""
    ids: NDArray[np.uint8] | None = None
    origin: dict[str, float] | None = None


def open_image(path: str | Path, *, axes: str | None = None) -> ImageFile:
    """Open an image; its pixels are read plane by plane, when they are asked for.

    Parameters
    ----------
    path : str or Path
        TIFF (plain, ImageJ, OME), PNG, JPEG, NumPy array or OME-Zarr.
    axes : str, optional
        Letters of the file's axes out of T, Z, C, Y, X and S (colours), where the file does not say them or
        says them wrong.

    Returns
    -------
    ImageFile

    Raises
    ------
    ImageFileError
        If the file is missing, damaged, of another kind, or its axes do not fit.
    """
    path = Path(path)
    if not path.exists():
        raise ImageFileError(f"There is no file {path}.")
    read = _reader(path)
    try:
        content = read(path)
    except ImageFileError:
        raise
    except PermissionError as error:
        raise ImageFileError(in_plain_words(error)) from error
    # A damaged or foreign file fails in as many ways as there are codecs.
    except Exception as error:
        raise unreadable(in_its_folder(path), error) from error
    close = content.close
    try:
        names = _letters(path, content, axes)
        _refuse_empty(path, names, tuple(content.array.shape))
        known = _axes(names, content.sizes)
    except BaseException:
        if close is not None:
            close()
        raise
    origin = {} if content.origin is None or names != content.names else content.origin
    return ImageFile(
        path, content.array, names, known, close or (lambda: None), content.note, content.ids, origin
    )


def open_labels(path: str | Path, *, axes: str | None = None) -> ImageFile:
    """Open a label image; of the OME-Zarr of an image, the labels that lie in it.

    Parameters
    ----------
    path, axes
        See `open_image`.

    Raises
    ------
    ImageFileError
        See `open_image`; also if several label images lie in the OME-Zarr.
    """
    path = Path(path)
    if not path.is_dir():
        return open_image(path, axes=axes)
    from napari_sam.files.zarr_folder import labels_within

    found = labels_within(path)
    if len(found) > 1:
        raise ImageFileError(
            f"{in_its_folder(path)} is an image in which several label images lie. Name the one that is "
            f"meant: {', '.join(map(str, found))}."
        )
    if not found:
        return open_image(path, axes=axes)
    opened = open_image(found[0], axes=axes)
    note = f"It is an image; the labels that lie in it are taken, {found[0]}. {opened.note}".strip()
    return replace(opened, note=note)


def open_beside(image: str | Path, labels: ImageFile, *, axes: str | None = None) -> ImageFile:
    """Open the image that some labels belong to; a file that does not say its axes has those of its labels.

    Parameters
    ----------
    image : str or Path
    labels : ImageFile
    axes : str, optional
        Letters of the image's own axes, see `open_image`.

    Raises
    ------
    ImageFileError
        See `open_image`.
    """
    opened = open_image(image, axes=axes)
    if axes is None and opened.shape != labels.shape == tuple(opened.array.shape):
        opened.close()
        return open_image(image, axes=labels.axes.names)
    return opened


def _reader(path: Path) -> Callable[[Path], Content]:
    """Return the function that reads a kind of file."""
    suffix = path.suffix.lower()
    if path.is_dir():
        from napari_sam.files.zarr_folder import read_zarr

        return read_zarr
    if suffix in (".tif", ".tiff", ".btf", ".lsm"):
        from napari_sam.files.tiff import read_tiff

        return read_tiff
    if suffix in (".png", ".jpg", ".jpeg", ".bmp"):
        return _read_picture
    if suffix == ".npy":
        return _read_numpy
    raise ImageFileError(f"Expected an image that ends in {', '.join(SUFFIXES)}, found {path.name!r}.")


def _read_picture(path: Path) -> Content:
    """Read a PNG, JPEG or bitmap."""
    with path.open("rb") as file:
        start = file.read(26)
    # Pillow would keep 8 of the 16 bits of colours, which are few where a camera has 12.
    if start[:4] == b"\x89PNG" and start[24:] in (b"\x10\x02", b"\x10\x06"):
        from imagecodecs import png_decode

        return Content(png_decode(path.read_bytes()), "YXS", {})
    with _open_picture(path, start) as picture:
        # Palettes and rarer colour models become RGB; grey of 8, 16 and 32 bits stays.
        plain = picture.mode in ("L", "RGB", "RGBA", "F") or picture.mode.startswith("I")
        wanted = "L" if picture.mode == "1" else "RGB"
        pixels = np.asarray(picture if plain else picture.convert(wanted))
        ids = np.asarray(picture) if picture.mode == "P" else None
    return Content(pixels, "YX" if pixels.ndim == 2 else "YXS", {}, ids=ids)


def _open_picture(path: Path, start: bytes) -> Image.Image:
    """Open a picture, however large it is.

    `PIL.Image.open` takes large pictures for attacks, as on a web site: the scan of a slide is none. Its
    limit is one for the whole process; the formats themselves have none.
    """
    from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin

    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile(path)
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile(path)
    if start.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile(path)
    return Image.open(path)


def _read_numpy(path: Path) -> Content:
    """Map a NumPy array into memory; pickled objects are never loaded."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    colours = array.ndim > 2 and array.shape[-1] in (3, 4) and min(array.shape[-3:-1]) > 4
    space = array.ndim - colours
    names = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX"}.get(space, "?" * space)
    return Content(array, names + COLOURS * colours, {})


def _letters(path: Path, content: Content, asked: str | None) -> str:
    """Letters of a file's axes: those asked for, else those found, with unknown ones as planes."""
    shape = tuple(content.array.shape)
    if asked is not None:
        names = asked.upper()
    else:
        names = content.names.upper()
        unknown = [n for n in names if n not in "TZCYXS"]
        # One is Z; of two the outer one is T, as everywhere else.
        free = [n for n in "ZT" if n not in names][: len(unknown)][::-1]
        for letter, known in zip_longest(unknown, free, fillvalue="?"):
            names = names.replace(letter, known, 1)
    proper = len(set(names)) == len(names) == len(shape) and set("YX") <= set(names) <= set("TZCYXS")
    if not proper:
        raise ImageFileError(
            f"{in_its_folder(path)} has the shape {shape}: expected a different axis out of T, Z, C, Y, X "
            f"and S (colours) for each number, found {names!r}. Say what the axes are, for example 'ZYX'."
        )
    return names


def _refuse_empty(path: Path, names: str, shape: tuple[int, ...]) -> None:
    """Refuse an image without pixels, from which nothing can be computed or written."""
    if 0 in shape:
        without = "planes" if {names[i] for i, n in enumerate(shape) if n == 0} <= set("TZ") else "pixels"
        raise ImageFileError(
            f"{in_its_folder(path)} has the shape {shape} with the axes {names}: expected at least one along "
            f"each, found no {without}. Save the image again with the program that made it."
        )


def _axes(names: str, sizes: dict[str, tuple[float, str]]) -> Axes:
    """Axes of a label image of the file; sizes that make no sense count as unknown."""
    letters = "".join(n for n in "TZYX" if n in names)
    known = [sizes.get(n, (1.0, "pixel")) for n in letters]
    try:
        return make_axes(len(letters), letters, [size for size, _ in known], [unit for _, unit in known])
    except AxesError:
        return make_axes(len(letters), letters)
