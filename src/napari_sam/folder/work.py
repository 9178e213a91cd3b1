"""Where the finished planes of an image lie until its labels are written."""

from __future__ import annotations

import glob
import hashlib
import shutil
from math import prod
from pathlib import Path

from napari_sam.files import ImageFile
from napari_sam.folder.manifest import known_as, stamp
from napari_sam.recipe import Recipe
from napari_sam.tiling.large_plane import LARGE
from napari_sam.units import UnitFolder

HUGE = LARGE
"""Pixels of a plane above which it is embedded and segmented in tiles."""


def work_folder(source: Path, output: Path, recipe: Recipe, model_id: str, axes: str | None = None) -> Path:
    """Folder beside the first output that belongs to this image, these settings and this model only.

    Parameters
    ----------
    source, output : Path
    recipe : Recipe
    model_id : str
    axes : str, optional
        Letters of the image's axes, where they were given: the same number is another plane under others.
    """
    about = (known_as(source), stamp(source), recipe.digest(), model_id, (axes or "").upper())
    code = hashlib.blake2b(repr(about).encode(), digest_size=6).hexdigest()
    return output.absolute().with_name(f".{output.name}.{code}.work")


def forget_others(work: Path) -> None:
    """Delete what runs with other settings have left beside the same output."""
    name = work.name.rsplit(".", 2)[0]
    # Brackets and stars in an image's name stand for themselves.
    for other in work.parent.glob(f"{glob.escape(name)}.*.work"):
        if other != work:
            shutil.rmtree(other, ignore_errors=True)


def units_of(work: Path, volume: int) -> UnitFolder:
    """Finished planes of one of an image's volumes, by number; a time series of planes is one volume."""
    return UnitFolder(work / f"volume{volume:06d}")


def linked_along(image: ImageFile) -> tuple[str, int]:
    """Axis along which an image's planes are linked, and how many planes lie along it.

    A Z of one plane is as good as none: the file of a movie often has one, as that of a plane has.

    Returns
    -------
    letter : str
        Z where there are several planes of it, else T; empty for a single plane.
    depth : int
        The planes of a volume; those of the next one follow.
    """
    letters, sizes = image.axes.names[:-2], image.shape[:-2]
    several = [(letter, size) for letter, size in zip(letters, sizes, strict=True) if size > 1]
    return several[-1] if several else ("", 1)


def is_huge(image: ImageFile) -> bool:
    """Whether an image's planes are embedded and segmented in tiles, and never read whole."""
    return prod(image.shape[-2:]) > HUGE


def tiled_path(work: Path, volume: int = 0) -> Path:
    """Labels of one of an image's volumes of huge planes, or of its only plane, while they are made."""
    return work / f"tiled{volume:06d}.zarr"
