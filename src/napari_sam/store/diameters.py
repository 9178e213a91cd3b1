"""Diameters of objects as a model has estimated them: a small file beside the embeddings of a store."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from napari_sam.store.memory import Key
from napari_sam.store.notes import read_notes, write_notes

FILE = "diameters.json"
"""Name of the file in the folder of a store."""


def read_diameter(folder: Path, key: Key) -> float | None:
    """Look up the diameter in pixels that a model has estimated for a picture; None if it is not there."""
    found = read_notes(folder / FILE).get(_name(key))
    return float(found) if isinstance(found, (int, float)) and found > 0 else None


def note_diameter(folder: Path, key: Key, diameter: float) -> None:
    """Note an estimate; one that is lost on the way is only made again."""
    with suppress(OSError):
        write_notes(folder / FILE, {**read_notes(folder / FILE), _name(key): diameter})


def _name(key: Key) -> str:
    return " ".join(key)
