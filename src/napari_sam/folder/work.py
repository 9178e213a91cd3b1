"""Where the finished planes of an image lie until its labels are written."""

from __future__ import annotations

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
    for other in work.parent.glob(f"{name}.*.work"):
        if other != work:
            shutil.rmtree(other, ignore_errors=True)


def units_of(work: Path, volume: int) -> UnitFolder:
    """Finished planes of one of an image's volumes, by number; a time series of planes is one volume."""
    return UnitFolder(work / f"volume{volume:06d}")


def is_huge(image: ImageFile) -> bool:
    """Whether an image's planes are embedded and segmented in tiles, and never read whole."""
    return prod(image.shape[-2:]) > HUGE


def tiled_path(work: Path, volume: int = 0) -> Path:
    """Labels of one of an image's volumes of huge planes, or of its only plane, while they are made."""
    return work / f"tiled{volume:06d}.zarr"
