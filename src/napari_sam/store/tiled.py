"""Which planes a store holds in tiles, and how these were cut: a small file beside the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from napari_sam.masks import Box
from napari_sam.store.notes import read_notes, write_notes
from napari_sam.tile_grid import TileGrid

FILE = "tiles.json"
"""Name of the file in the folder of a store."""


class Tiles(NamedTuple):
    """Tiles of planes of one shape.

    Parameters
    ----------
    boxes : sequence of (Box, Box)
        What each is meant for, and what was encoded, in pixels of the plane.
    diameters : tuple of (float or None)
        Object diameters in pixels at which they were encoded, the last one first: each plane has its own.
        None stands for models that do not scale by it.
    """

    boxes: Sequence[tuple[Box, Box]]
    diameters: tuple[float | None, ...] = (None,)


@runtime_checkable
class InTiles(Protocol):
    """Embeddings of tiles, of planes that may be too large to be embedded whole."""

    def tiles(self, shape: tuple[int, int]) -> Tiles | None:
        """Tiles of planes of ``shape`` (H, W); None if there are none of such planes."""
        ...


@lru_cache(maxsize=4)
def boxes_of(shape: tuple[int, int], side: int, halo: int) -> tuple[tuple[Box, Box], ...]:
    """Inner and outer boxes of the tiles of a plane, in reading order.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the plane.
    side, halo : int
        See `TileGrid`.
    """
    grid = TileGrid(shape, side, halo)
    return tuple((grid.inner(number), grid.outer(number)) for number in range(len(grid)))


def read_tiles(folder: Path, shape: tuple[int, int]) -> Tiles | None:
    """Look up the tiles of planes of a shape in a store's folder."""
    note = _notes(folder).get(_name(shape))
    return None if note is None else Tiles(boxes_of(shape, note.side, note.halo), note.diameters)


def note_tiles(folder: Path, shape: tuple[int, int], side: int, halo: int, diameter: float | None) -> None:
    """Note how planes of a shape are cut, and a diameter at which one was encoded.

    Diameters are added to those of the same cut; a new cut takes the place of the one before.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    notes = _notes(folder)
    known = notes.get(_name(shape))
    before = known.diameters if known is not None and known[:2] == (side, halo) else ()
    note = _Note(side, halo, (diameter, *(d for d in before if d != diameter)))
    if known == note:
        return
    named = {name: one._asdict() for name, one in {**notes, _name(shape): note}.items()}
    write_notes(folder / FILE, named)


class _Note(NamedTuple):
    """What is known of planes of one shape; see `note_tiles`."""

    side: int
    halo: int
    diameters: tuple[float | None, ...]


def _name(shape: tuple[int, int]) -> str:
    return "x".join(str(int(n)) for n in shape)


def _notes(folder: Path) -> dict[str, _Note]:
    """All notes; none where the file is missing or damaged: then the encoder is asked again."""
    try:
        return {
            name: _Note(**{**note, "diameters": tuple(note["diameters"])})
            for name, note in read_notes(folder / FILE).items()
        }
    except (LookupError, TypeError):
        return {}
