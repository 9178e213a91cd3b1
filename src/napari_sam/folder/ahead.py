"""Embed the planes of an image ahead of time, and find the embeddings again."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.diameter import typical_diameter
from napari_sam.folder.pictures import Pictures, Readers, settle_contrast
from napari_sam.folder.work import is_huge, linked_along
from napari_sam.store import EmbeddingStore, embed_stack
from napari_sam.store.diameters import note_diameter, read_diameter
from napari_sam.tiling.ahead import embed_tiles

if TYPE_CHECKING:
    from napari_sam.files import ImageFile
    from napari_sam.image import RGB
    from napari_sam.predictor import Predictor
    from napari_sam.progress import Steps
    from napari_sam.recipe import Recipe
    from napari_sam.store import EmbedResult


def embed_image(
    predictor: Predictor, image: ImageFile, recipe: Recipe, store: EmbeddingStore
) -> Steps[EmbedResult]:
    """Put the embedding of every plane of an image into a store; of large planes, that of every tile.

    Where the model scales by the objects' diameter and none is given, the planes of a stack are embedded
    twice: at their own diameter, which prompts on a plane look for, and at that of their stack, with which it
    is segmented.

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
    if is_huge(image):
        steps = embed_tiles(predictor, Readers(image, recipe), shape, store, diameter=recipe.diameter)
    else:
        _, depth = linked_along(image)

        @cache
        def stack_diameter(volume: int) -> float | None:
            if len(image) == 1 or recipe.diameter is not None:
                return None
            planes = Pictures(image, recipe, volume * depth, (volume + 1) * depth)
            return typical_diameter(
                predictor, planes.__getitem__, depth, partial(_estimate, predictor, store)
            )

        steps = embed_stack(
            predictor,
            Pictures(image, recipe),
            store,
            diameter=recipe.diameter,
            also=lambda number: stack_diameter(number // depth),
        )
    return (yield from steps)


def _estimate(predictor: Predictor, store: EmbeddingStore, picture: RGB) -> float | None:
    """Diameter of a picture's objects; kept, for an estimate takes as long as some embeddings."""
    key = predictor.pixels_key(picture), predictor.model_id
    diameter = read_diameter(store.path, key)
    if diameter is None:
        diameter = predictor.estimate_diameter(picture)
        if diameter is not None:
            note_diameter(store.path, key, diameter)
    return diameter


def embedded(store: Path | None) -> tuple[EmbeddingStore, ...]:
    """Open a store of embeddings that were made ahead of time, to be read only; none if there is none.

    Raises
    ------
    StoreError
        If there is no store at this path.
    """
    return () if store is None else (EmbeddingStore(store, read_only=True),)
