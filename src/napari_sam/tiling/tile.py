"""One tile, segmented by itself."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.image import RGB
from napari_sam.masks import Box
from napari_sam.progress import Progress
from napari_sam.store import Embeddings, embed_once
from napari_sam.units import Unit

if TYPE_CHECKING:
    from napari_sam.everything import AutomaticSettings
    from napari_sam.predictor import Predictor

Read = Callable[[Box], RGB]
"""Gives the picture of a whole-pixel box of the plane, of shape (box height, box width, 3)."""

BLOCKS, BLOCK = 6, 128
"""A plane is known again by so many blocks down and to the right, of this side in pixels."""


def is_blank(picture: RGB) -> bool:
    """Whether there is nothing to see, all black or all white: slides are empty for the most part."""
    return bool(picture.max() == 0 or picture.min() == 255)


def fingerprint(read: Read, shape: tuple[int, int], about: str = "", *, most: int = BLOCK) -> str:
    """Digest of what blocks spread over a plane look like: tells planes and contrasts apart.

    Parameters
    ----------
    read : callable
        Gives the picture of a box of the plane; only the blocks are read.
    shape : tuple of int
        (H, W) of the plane.
    about : str
        What else tells it from others.
    most : int
        Side of the largest box that may be read.
    """
    block = min(BLOCK, most)
    digest = blake2b(about.encode(), digest_size=16)
    height, width = shape
    tops, lefts = (np.linspace(0, max(n - block, 0), BLOCKS).astype(int) for n in (height, width))
    for y in tops.tolist():
        for x in lefts.tolist():
            digest.update(read(Box(y, x, y + block, x + block).clip(shape)).tobytes())
    return digest.hexdigest()


def segment_tile(
    predictor: Predictor,
    picture: RGB,
    settings: AutomaticSettings,
    *,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
) -> Generator[Progress, None, Unit]:
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

    Returns
    -------
    Unit
        Ids from 1 without gaps, row i of the table is id i + 1.
    """
    import pandas as pd

    from napari_sam.everything import generate

    if is_blank(picture):
        nothing = {"index": np.empty(0, int), "predicted_iou": np.empty(0), "stability": np.empty(0)}
        return Unit(np.zeros(picture.shape[:2], np.int32), pd.DataFrame(nothing))
    embedding = embed_once(predictor, picture, *kept, diameter=diameter)
    result = yield from generate(predictor, picture, settings, embedding=embedding, diameter=diameter)
    return Unit(*result.labels())
