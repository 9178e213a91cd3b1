"""Embed the planes of an image ahead of time."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from napari_sam.folder.pictures import Pictures, Readers, settle_contrast
from napari_sam.store import embed_stack
from napari_sam.tiling.ahead import embed_tiles
from napari_sam.tiling.large_plane import LARGE

if TYPE_CHECKING:
    from napari_sam.files import ImageFile
    from napari_sam.predictor import Predictor
    from napari_sam.progress import Steps
    from napari_sam.recipe import Recipe
    from napari_sam.store import EmbeddingStore, EmbedResult


def embed_image(
    predictor: Predictor, image: ImageFile, recipe: Recipe, store: EmbeddingStore
) -> Steps[EmbedResult]:
    """Put the embedding of every plane of an image into a store; of large planes, that of every tile.

    Parameters
    ----------
    predictor : Predictor
    image : ImageFile
    recipe : Recipe
    store : EmbeddingStore

    Yields
    ------
    Progress
        After each plane or tile. Closing the generator keeps what is finished.
    """
    recipe = settle_contrast(image, recipe)
    shape = (image.shape[-2], image.shape[-1])
    if prod(shape) > LARGE:
        steps = embed_tiles(predictor, Readers(image, recipe), shape, store, diameter=recipe.diameter)
    else:
        steps = embed_stack(predictor, Pictures(image, recipe), store, diameter=recipe.diameter)
    return (yield from steps)
