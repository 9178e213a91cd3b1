"""One tile: segmented by itself, and kept as one file until all tiles are put together."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from napari_sam.image import RGB
from napari_sam.masks import Box
from napari_sam.progress import Progress
from napari_sam.store import Embeddings, embed_once

if TYPE_CHECKING:
    from napari_sam.everything import AutomaticSettings
    from napari_sam.predictor import Predictor

Read = Callable[[Box], RGB]
"""Gives the picture of a whole-pixel box of the plane, of shape (box height, box width, 3)."""


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """Objects of one tile.

    Parameters
    ----------
    labels : ndarray of int32, shape of the tile's outer box
        Ids from 1 without gaps; 0 is background.
    predicted_iou, stability : ndarray of float32, shape (N,)
        What is known of object i + 1.
    """

    labels: NDArray[np.int32]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.predicted_iou)


def segment_tile(
    predictor: Predictor,
    picture: RGB,
    settings: AutomaticSettings,
    *,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
) -> Generator[Progress, None, Tile]:
    """Segment what one tile sees.

    Parameters
    ----------
    predictor : Predictor
    picture : ndarray of uint8, shape (H, W, 3)
    settings : AutomaticSettings
    diameter : float, optional
        Typical object diameter in pixels, for models that scale by it.
    kept : sequence of Embeddings
        Where embeddings are looked for and kept.
    """
    from napari_sam.everything import generate

    if picture.max() == 0 or picture.min() == 255:  # nothing to see: slides are empty for the most part
        nothing = np.empty(0, np.float32)
        return Tile(np.zeros(picture.shape[:2], np.int32), nothing, nothing)
    embedding = embed_once(predictor, picture, *kept, diameter=diameter)
    result = yield from generate(predictor, picture, settings, embedding=embedding, diameter=diameter)
    labels, table = result.labels()
    return Tile(labels, *(table[name].to_numpy(np.float32) for name in ("predicted_iou", "stability")))


class TileFolder:
    """Finished tiles on disk, one file each, there as a whole or not at all.

    Parameters
    ----------
    path : Path
        The folder; made when the first tile is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, number: int) -> Path:
        """Where a tile lies."""
        return self.path / f"{number // 1000:04d}" / f"{number:08d}.npz"

    def __contains__(self, number: int) -> bool:
        """Tell whether a tile is finished."""
        return self.file(number).is_file()

    def write(self, number: int, tile: Tile) -> None:
        """Keep a finished tile."""
        buffer = io.BytesIO()
        small = tile.labels.astype(np.uint16 if len(tile) < 2**16 else np.int32)
        np.savez_compressed(buffer, labels=small, predicted_iou=tile.predicted_iou, stability=tile.stability)
        file = self.file(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{uuid4().hex}")
        try:
            unfinished.write_bytes(buffer.getvalue())
            os.replace(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)

    def read(self, number: int) -> Tile | None:
        """Return a finished tile; None, and the file is deleted, if it is damaged or not there."""
        file = self.file(number)
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                return Tile(arrays["labels"].astype(np.int32), arrays["predicted_iou"], arrays["stability"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            file.unlink(missing_ok=True)
            return None
