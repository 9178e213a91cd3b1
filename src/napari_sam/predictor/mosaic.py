"""Prompts on a plane of which the tiles were embedded: each is decoded in the tile that it lies in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_sam.candidates import Candidate
from napari_sam.geometry import Frame, Window
from napari_sam.masks import Box
from napari_sam.prompts import Point, Prompts

if TYPE_CHECKING:
    from napari_sam.embedding import TiledEmbedding
    from napari_sam.predictor.base import Batch, Predictor


def decode_in_tiles(
    predictor: Predictor,
    embedding: TiledEmbedding,
    prompts: Sequence[Prompts],
    previous: Sequence[Candidate | None],
) -> Batch:
    """Decode checked prompts; the windows of the result lie in the plane.

    Parameters
    ----------
    predictor : Predictor
    embedding : TiledEmbedding
    prompts : sequence of Prompts
        In pixels of the plane.
    previous : sequence of (Candidate or None)
        As this function gave them; those of another tile are left out.
    """
    from napari_sam.predictor.base import Batch, join

    members: dict[int, list[int]] = {}
    inside: list[Prompts] = []
    for number, one in enumerate(prompts):
        tile = tile_of(one, embedding.tiles)
        part = moved(one, embedding.tiles[tile][1])
        if not part:
            # Clicks so far apart that no tile holds them all: the last one is what the person looks at.
            clicks = (Prompts((point,)) for point in reversed(one.points) if point.positive)
            tile = tile_of(next(clicks, Prompts(box=one.box)), embedding.tiles)
            part = moved(one, embedding.tiles[tile][1])
        members.setdefault(tile, []).append(number)
        inside.append(part)
    batches = []
    for tile, rows in members.items():
        _, outer = embedding.tiles[tile]
        loaded = embedding.load(tile)
        batch = predictor.decode(
            loaded,
            [inside[i] for i in rows],
            [_taken_out(previous[i], outer, loaded.frame) for i in rows],
        )
        shape = embedding.frame.image_shape
        batches.append(Batch(batch.iou, [put_in(w, outer, shape) for w in batch.windows], batch.decoded))
    return batches[0] if len(batches) == 1 else join(batches, list(members.values()))


def tile_of(prompts: Prompts, tiles: Sequence[tuple[Box, Box]]) -> int:
    """Tile in which all of a prompt lies, its middle as far inside as may be.

    Parameters
    ----------
    prompts : Prompts
    tiles : sequence of (Box, Box)
        What each tile is meant for, and what was encoded.
    """
    extent = prompts.extent
    y, x = extent.centre

    def strays(number: int) -> tuple[bool, float]:
        inner, outer = tiles[number]
        whole = outer.y0 <= extent.y0 and outer.x0 <= extent.x0
        whole = whole and extent.y1 <= outer.y1 and extent.x1 <= outer.x1
        dy = max(inner.y0 - y, y - inner.y1, 0)
        dx = max(inner.x0 - x, x - inner.x1, 0)
        return not whole, dy + dx

    return min(range(len(tiles)), key=strays)


def moved(prompts: Prompts, tile: Box) -> Prompts:
    """Prompts in pixels of a tile, without what lies elsewhere."""
    dy, dx = tile.y0, tile.x0
    box, mask = prompts.box, prompts.mask
    # A pixel reaches half a pixel to each side of its centre.
    inside = [p for p in prompts.points if tile.y0 <= p.y + 0.5 < tile.y1 and tile.x0 <= p.x + 0.5 < tile.x1]
    return Prompts(
        tuple(Point(p.y - dy, p.x - dx, p.positive) for p in inside),
        box.shift(-dy, -dx) if box is not None and not box.intersect(tile).empty else None,
        mask.shift(-int(dy), -int(dx)) if mask is not None and not mask.box.intersect(tile).empty else None,
    )


def put_in(window: Window, tile: Box, shape: tuple[int, int]) -> Window:
    """Window of a tile's logits as a window of the plane.

    Its model pixels are the tile's, wherever on the plane they lie; their number along a side of the plane
    need not be whole.
    """
    sy, sx = window.frame.scale
    frame = Frame(shape, (shape[0] * sy, shape[1] * sx), window.frame.centred)  # type: ignore[arg-type]
    origin = (window.origin[0] + tile.y0 * sy, window.origin[1] + tile.x0 * sx)
    return replace(window, frame=frame, origin=origin)  # type: ignore[arg-type]


def _taken_out(candidate: Candidate | None, tile: Box, frame: Frame) -> Candidate | None:
    """What `put_in` did to a candidate, undone; None if it belongs to another tile."""
    if candidate is None:
        return None
    window, (sy, sx) = candidate.window, frame.scale
    y, x = window.origin[0] - tile.y0 * sy, window.origin[1] - tile.x0 * sx
    inside = replace(window, frame=frame, origin=(round(y), round(x)))
    return (
        replace(candidate, window=inside)
        if put_in(inside, tile, window.frame.image_shape) == window
        else None
    )
