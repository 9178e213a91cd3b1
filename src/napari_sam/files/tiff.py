"""TIFF of every kind: axes and pixel sizes of ImageJ, OME and LSM, pages read one at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from napari_sam.axes import METRES, unit_name
from napari_sam.files.image_file import ImageFileError
from napari_sam.files.read import Content

Sizes = dict[str, tuple[float, str]]
IMAGES = ("ome", "generic", "shaped", "mmstack")
"""Kinds of files whose series are images of their own; elsewhere they are thumbnails and the like."""
NAMED = 3
"""So many missing files are named."""


def read_tiff(path: Path) -> Content:
    """Open a TIFF; of a pyramid the full resolution is taken, of several images that lie in it the first.

    The files of an OME-TIFF may share one description: an image for each of them, or one image whose planes
    lie in several, which is then read whole, whichever of them is opened; what lies in files that are missing
    is empty.

    Raises
    ------
    ImageFileError
        If the pixels are compressed in a way that needs the package imagecodecs.
    """
    file = tifffile.TiffFile(path)
    try:
        _check_codec(file, path)
        # The description of an OME-TIFF lists the images in the files beside it, too.
        images = [s for s in file.series if any(p is not None and p.parent is file for p in s)]
        series = (images or file.series)[0]
        array: Any = _Mapped(path, file, series) if _lies_in_one_piece(file, series) else _decoded(series)
        sizes = _sizes(file)
        count = len(images) if series.kind in IMAGES else 1
        parts = _parts(_own_pixels(file)) if file.is_ome else {}
        own = ElementTree.fromstring(file.ome_metadata or "<OME/>").get("UUID")
    except BaseException:
        file.close()
        raise
    note = f"It holds {count} images, of which the first is read: save each as a file." if count > 1 else ""
    note = f"{_parts_note(parts, path, own)} {note}".strip()
    return Content(array, series.axes, sizes, file.close, note)


def files_of_image(path: Path) -> set[Path]:
    """Return the files in which the image of an OME-TIFF lies; this one alone if they cannot be read.

    Parameters
    ----------
    path : Path
    """
    try:
        with tifffile.TiffFile(path) as file:
            return {path, *(path.with_name(name) for name in _parts(_own_pixels(file)))}
    # Whatever is wrong with it is said when it is its turn to be read.
    except Exception:  # noqa: BLE001
        return {path}


class _Mapped:
    """The pixels of a series that are not compressed and lie in one piece: what is indexed is read, no more.

    Such a file may be one strip as large as a plane, of which a decoder reads everything for every tile.

    Parameters
    ----------
    path : Path
    file : tifffile.TiffFile
        The open file.
    series : tifffile.TiffPageSeries
    """

    def __init__(self, path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
        self.dtype = np.dtype(series.dtype).newbyteorder("=")
        self.shape = tuple(series.shape)
        self.ndim = len(self.shape)
        stored = self.dtype.newbyteorder(file.byteorder)
        self._pixels = np.memmap(path, stored, "r", series.dataoffset or 0, self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part, in the byte order of this computer."""
        return np.array(self._pixels[index], self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.array(self._pixels, self.dtype if dtype is None else dtype)


def _lies_in_one_piece(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    """Whether the pixels can be mapped into memory; those of a file that was cut off cannot."""
    # Of an LSM tifffile does not look whether its channels follow each other.
    offset = None if file.is_lsm else series.dataoffset
    if offset is None or not 0 < series.nbytes <= file.filehandle.size - offset:
        return False
    try:
        return all(page is not None and page.parent is file for page in series)
    except IndexError:  # the pixels are there, but not all that is said of them
        return False


def _decoded(series: tifffile.TiffPageSeries) -> Any:
    """Pixels of a series strip by strip, or tile by tile."""
    array = zarr.open(series.aszarr(level=0), mode="r")
    return array["0"] if isinstance(array, zarr.Group) else array


def _check_codec(file: tifffile.TiffFile, path: Path) -> None:
    """Refuse early what could be decoded only with a package that is not there."""
    page = file.pages.first
    try:
        _ = page.decode
    except (ImportError, ValueError) as error:
        raise ImageFileError(
            f"{path.name} cannot be decoded ({error}). Install the decoders with "
            "`pip install imagecodecs`, or save the file without compression."
        ) from error


def _sizes(file: tifffile.TiffFile) -> Sizes:
    """Pixel sizes, as the program that wrote the file keeps them."""
    if file.ome_metadata:
        return _ome_sizes(_own_pixels(file))
    return _lsm_sizes(file) if file.is_lsm else _imagej_sizes(file)


def _lsm_sizes(file: tifffile.TiffFile) -> Sizes:
    """Pixel sizes of a Zeiss LSM file, which are in metres and seconds; 0 says that there is none."""
    fields = file.lsm_metadata or {}
    sizes: Sizes = {}
    for letter in "XYZ":
        metres = float(fields.get(f"VoxelSize{letter}") or 0)
        if metres > 0:
            sizes[letter] = metres * 1e6, "micrometer"
    # The field's name is misspelt in the format itself.
    seconds = float(fields.get("TimeIntervall") or 0)
    if seconds > 0:
        sizes["T"] = seconds, "second"
    return sizes


def _imagej_sizes(file: tifffile.TiffFile) -> Sizes:
    """Pixel sizes of an ImageJ file; the resolution of other files is meant for printers, not for us."""
    fields = file.imagej_metadata
    if not fields:
        return {}
    # Those of the other axes are there only where they differ.
    units = {n: _imagej_unit(fields.get(f"{n.lower()}unit") or fields.get("unit")) for n in "XYZ"}
    sizes: Sizes = {}
    for letter, tag in (("X", "XResolution"), ("Y", "YResolution")):
        entry = file.pages.first.tags.get(tag)
        numerator, denominator = entry.value if entry is not None else (1, 1)
        if numerator and denominator:
            sizes[letter] = denominator / numerator, units[letter]
    depth = abs(float(fields.get("spacing") or 0))
    # A depth of 1 is the one that ImageJ does not write, and takes where there is none.
    if not depth and fields.get("slices", 1) > 1 and units["Z"] in METRES:
        depth = 1.0
    if depth:
        sizes["Z"] = depth, units["Z"]
    # The frames a second, "fps", are those of the animation and say nothing of when they were taken.
    if fields.get("finterval"):
        sizes["T"] = float(fields["finterval"]), _imagej_unit(fields.get("tunit") or "second")
    return sizes


def _imagej_unit(unit: Any) -> str:
    r"""Full name of a unit, in which ImageJ writes what is no ASCII as ``\u00C5``."""
    text = "" if unit is None else str(unit)
    return unit_name(re.sub(r"\\u([0-9A-Fa-f]{4})", lambda code: chr(int(code[1], 16)), text))


def _parts_note(parts: dict[str, str | None], path: Path, own: str | None) -> str:
    """Say that an image lies in several files, and which of them are not there."""
    if len(parts) < 2:
        return ""
    # This one itself may have been renamed.
    missing = sorted(n for n, uuid in parts.items() if uuid != own and not path.with_name(n).exists())
    if not missing:
        return f"It is one of the {len(parts)} files of an image, which was read whole."
    names = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")
    return f"It is one of the {len(parts)} files of an image; missing, and so empty in it: {names}."


def _own_pixels(file: tifffile.TiffFile) -> ElementTree.Element | None:
    """What an OME-XML says of the first image of which something lies in this file."""
    root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    own = root.get("UUID"), file.filename

    def lies_here(data: ElementTree.Element) -> bool:
        other = data.find("{*}UUID")
        return other is None or other.text == own[0] or other.get("FileName") == own[1]

    found = root.findall(".//{*}Pixels")
    here = (p for p in found if any(map(lies_here, p.iterfind("{*}TiffData"))))
    return next(here, found[0] if found else None)


def _parts(pixels: ElementTree.Element | None) -> dict[str, str | None]:
    """Names of the files in which an image lies, where it says them, and the UUID of each."""
    if pixels is None:
        return {}
    uuids = list(pixels.iterfind("{*}TiffData/{*}UUID"))
    return {name: uuid.text for uuid in uuids if (name := uuid.get("FileName"))}


def _ome_sizes(pixels: ElementTree.Element | None) -> Sizes:
    """Pixel sizes of an image in an OME-XML."""
    if pixels is None:
        return {}
    sizes: Sizes = {}
    for letter in "XYZ":
        size = pixels.get(f"PhysicalSize{letter}")
        if size is not None:
            sizes[letter] = float(size), unit_name(pixels.get(f"PhysicalSize{letter}Unit", "µm"))
    interval = pixels.get("TimeIncrement")
    if interval is not None:
        sizes["T"] = float(interval), unit_name(pixels.get("TimeIncrementUnit", "s"))
    return sizes
