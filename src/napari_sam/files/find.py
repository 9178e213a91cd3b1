"""Images of files, folders and patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path

from napari_sam.files.image_file import ImageFileError

SUFFIXES = (".tif", ".tiff", ".btf", ".lsm", ".png", ".jpg", ".jpeg", ".bmp", ".npy", ".zarr")
"""Endings of the files that can be read; ``.ome.tif`` and ``.ome.zarr`` are among them."""

OME_TIFF = re.compile(r"\.ome\.(tiff?|tf[28]|btf)$", re.IGNORECASE)
"""Ending of the files that may hold a part of an image, as their format's authors want it."""


def find_images(places: Iterable[str | Path]) -> list[Path]:
    """List the images that are meant.

    Parameters
    ----------
    places : iterable of str or Path
        Files, folders (the images in them, not those in folders below), or patterns such as
        ``data/**/*.tif``.

    Returns
    -------
    list of Path
        Without doubles; those of a folder or pattern in the order a person expects (``img2`` before
        ``img10``). Of an OME-TIFF whose planes lie in several files only the first of these, with which it
        is read whole.

    Raises
    ------
    ImageFileError
        If a place does not exist, or holds no image.
    """
    found: dict[Path, None] = {}
    for place in places:
        found.update(dict.fromkeys(_images_at(str(place))))
    return _first_parts(found)


def is_image(path: Path) -> bool:
    """Whether a path ends as an image does, and is a file (or a Zarr folder)."""
    if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
        return False
    return path.suffix.lower() == ".zarr" or path.is_file()


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr, of version 2 or 3, whatever its name."""
    return any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def natural_key(path: Path) -> list[tuple[bool, int, str]]:
    """Key that sorts numbers in names by their value."""
    parts = re.split(r"(\d+)", str(path).lower())
    # Only these are numbers to int(), and to the pattern: a raised ² is a digit, too.
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _first_parts(paths: Iterable[Path]) -> list[Path]:
    """Take each image once, of which the planes lie in several files."""
    images: list[Path] = []
    listed: dict[Path, list[Path]] = {}
    """By file: those before it that count it to their image."""
    for path in paths:
        parts = {path}
        if OME_TIFF.search(path.name):
            from napari_sam.files.tiff import files_of_image

            parts = files_of_image(path)
        # A file that was renamed lists its former name: what has that name now may be another image.
        if not parts.isdisjoint(listed.get(path, ())):
            continue
        images.append(path)
        for part in parts:
            listed.setdefault(part, []).append(path)
    return images


def _images_at(place: str) -> list[Path]:
    """Images of one place."""
    path = Path(place).expanduser()
    if path.suffix.lower() in SUFFIXES and path.exists():
        return [path]
    if path.is_dir():
        # A folder without the ending of a Zarr may still be one.
        if is_zarr(path):
            return [path]
        candidates = list(path.iterdir())
    elif path.is_file():
        return [path]
    elif has_magic(place):
        candidates = [Path(p) for p in glob(str(path), recursive=True)]
    else:
        raise ImageFileError(f"There is no file or folder {place!r}.")
    images = sorted(filter(is_image, candidates), key=natural_key)
    if not images:
        raise ImageFileError(f"Expected images ({', '.join(SUFFIXES)}) at {place!r}, found none.")
    return images


def identity(path: Path) -> tuple[int, int] | None:
    """What a file or folder is on its disk, whatever path leads to it; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
