"""Embed large planes ahead of time, in the tiles in which they are segmented and prompts are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_sam.image import RGB
from napari_sam.progress import Progress, Steps
from napari_sam.store import Embeddings, EmbedResult, embed_stack
from napari_sam.tile_grid import TileGrid
from napari_sam.tiling.run import tile_diameter
from napari_sam.tiling.tile import Read, is_blank

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor
    from napari_sam.store import EmbeddingStore


class TilePictures:
    """Tiles of planes, one plane after the other, each read when it is asked for.

    Parameters
    ----------
    planes : sequence of callable
        Each gives the picture of a box of its plane.
    grid : TileGrid
        Of each plane.
    """

    def __init__(self, planes: Sequence[Read], grid: TileGrid) -> None:
        self._planes, self._grid = planes, grid
        self._last: tuple[int, Read] | None = None

    def __len__(self) -> int:
        """Return the number of tiles of all planes."""
        return len(self._planes) * len(self._grid)

    def __getitem__(self, index: int, /) -> RGB:
        """Read what one tile sees."""
        plane, tile = divmod(index, len(self._grid))
        if self._last is None or self._last[0] != plane:  # a reader may look for its contrast first
            self._last = plane, self._planes[plane]
        return self._last[1](self._grid.outer(tile))


def embed_tiles(
    predictor: Predictor,
    planes: Sequence[Read],
    shape: tuple[int, int],
    store: EmbeddingStore,
    *,
    first: Callable[[], int] = lambda: 0,
    diameter: float | None = None,
    known: Embeddings | None = None,
    side: int = 768,
    halo: int = 128,
) -> Steps[EmbedResult]:
    """Put the embedding of every tile of large planes into a store.

    A tile at a time is in memory. Tiles that are in the store are not computed again, so that a run that was
    interrupted, in whatever way, goes on where it stopped. Tiles in which there is nothing to see are left
    out, as they are in segmenting.

    Parameters
    ----------
    predictor : Predictor
    planes : sequence of callable
        Each gives the picture of a box of its plane (see `napari_sam.tiling.rgb_reader`).
    shape : tuple of int
        (H, W) of a plane.
    store : EmbeddingStore
    first : callable
        Gives the plane to go on with, such as the one on show; its neighbours follow.
    diameter : float, optional
        Typical object diameter in pixels, for models that scale by it; estimated in the middle plane if not
        given, as segmenting does.
    known : Embeddings, optional
        Where embeddings may be found that were computed before.
    side, halo : int
        See `TileGrid`.

    Yields
    ------
    Progress
        After each tile. Closing the generator cancels and keeps what is finished.

    Returns
    -------
    EmbedResult

    Raises
    ------
    StoreError
        If the store is read-only, takes no more, or is too small for the tiles.
    """
    store.require_writable()
    grid = TileGrid(shape, side, halo)
    total = len(planes) * len(grid)
    if diameter is None and predictor.uses_diameter and planes:
        yield Progress(0, total, "looking how large the objects are")
        diameter = tile_diameter(predictor, planes[len(planes) // 2], grid)
    store.note_tiles(shape, side, halo, diameter)
    return (
        yield from embed_stack(
            predictor,
            TilePictures(planes, grid),
            store,
            first=lambda: first() * len(grid) + len(grid) // 2,
            diameter=diameter,
            known=known,
            blank=is_blank,
            unit="tile",
        )
    )
