"""The table of formats: suffix -> writer. A new format is one file and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_sam.export.labelled import Labelled


class ExportError(ValueError):
    """Labels that cannot be exported as asked; the message says why and what to do instead."""


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write labels.

    Parameters
    ----------
    name : str
        What the command line and the dock call it.
    title : str
        What it is, in a few words.
    suffixes : tuple of str
        Endings of file names, the usual one first.
    module : str
        Module of this folder with ``write(labelled, path)``.
    stacks : bool
        Whether it holds more than one plane.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    module: str
    stacks: bool = True

    def check(self, shape: Sequence[int]) -> None:
        """Refuse labels of a shape, (..., H, W), that it cannot hold; known before there are any.

        Raises
        ------
        ExportError
        """
        if not self.stacks and prod(shape[:-2]) != 1:
            raise ExportError(
                f"A {self.name.upper()} holds one plane, found an array of shape {tuple(shape)}. "
                "Export the stack to TIFF or OME-Zarr, or one plane at a time."
            )

    def writer(self) -> Callable[[Labelled, Path], None]:
        """Return the function that writes it; its libraries are imported only now."""
        write: Callable[[Labelled, Path], None] = import_module(f"{__package__}.{self.module}").write
        return write


FORMATS = (
    Format("tiff", "Label image, calibrated (ImageJ TIFF)", (".tif", ".tiff"), "tiff"),
    Format("ome-tiff", "Label image (OME-TIFF)", (".ome.tif", ".ome.tiff"), "ome_tiff"),
    Format("png", "Label image of one plane (16-bit PNG)", (".png",), "png", stacks=False),
    Format("imagej", "Outlines for the ROI Manager of ImageJ and Fiji", (".zip",), "imagej"),
    Format("geojson", "Outlines for QuPath (GeoJSON)", (".geojson",), "geojson"),
    Format("coco", "Masks with scores (COCO JSON)", (".json",), "coco"),
    Format("ome-zarr", "Label image in chunks (OME-Zarr)", (".ome.zarr", ".zarr"), "ome_zarr"),
    Format("table", "Measurements (CSV)", (".csv",), "table"),
)

_OTHERS = ".bmp .btf .czi .gif .h5 .hdf5 .jpeg .jpg .lif .lsm .nd2 .npy .npz .txt .xlsx .xml .yaml .yml"
_FILES = {*_OTHERS.split(), *(suffix[suffix.rindex(".") :] for known in FORMATS for suffix in known.suffixes)}
"""Endings that nobody gives to a folder."""


def format_of(path: str | Path, name: str | None = None) -> Format:
    """Return the format by its name, else by the ending of a file name.

    Raises
    ------
    ExportError
        If there is no such format.
    """
    if name is not None:
        for known in FORMATS:
            if known.name == name.lower():
                return known
        names = ", ".join(f.name for f in FORMATS)
        raise ExportError(f"Expected one of the formats {names}, found {name!r}.")
    file = Path(path).name.lower()
    fitting = [(len(s), f) for f in FORMATS for s in f.suffixes if file.endswith(s) and file != s]
    if not fitting:
        known_suffixes = ", ".join(s for f in FORMATS for s in f.suffixes)
        raise ExportError(
            f"Expected a file name that ends in one of {known_suffixes}, found {Path(path).name!r}."
        )
    return max(fitting, key=lambda pair: pair[0])[1]


def refuse_other_endings(path: str | Path, name: str) -> None:
    """Refuse a file name that says one format where another was chosen.

    Parameters
    ----------
    path : str or Path
    name : str
        Name of the format that was chosen.

    Raises
    ------
    ExportError
        If there is no such format, or the name ends as another one does.
    """
    wanted, file = format_of(path, name), Path(path).name.lower()
    if wanted.name.endswith("tiff") and file.endswith((".tif", ".tiff")):
        return  # one is a kind of the other, and goes by its ending too
    other = next((f for f in FORMATS if f is not wanted and file.endswith(f.suffixes)), None)
    if other is not None and not file.endswith(wanted.suffixes):
        raise ExportError(
            f"{path} ends as {other.title} does, and the format that was chosen is {wanted.title}. "
            f"Choose one or the other: {wanted.suffixes[0]} is the ending of this format."
        )


def is_file_name(path: str | Path) -> bool:
    """Whether a name ends as a file of pixels or tables does, whether or not labels are written as such."""
    return Path(path).suffix.lower() in _FILES


def without_suffix(path: str | Path) -> str:
    """File name of ``path`` less the ending of its format: ``"cells"`` of ``"out/cells.ome.tif"``."""
    file = Path(path).name
    endings = sorted((s for f in FORMATS for s in f.suffixes), key=len, reverse=True)
    ending = next((s for s in endings if file.lower().endswith(s) and len(file) > len(s)), None)
    return file[: -len(ending)] if ending else Path(file).stem
