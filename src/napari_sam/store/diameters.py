"""Diameters of objects as a model has estimated them: a small file beside the embeddings of a store."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from napari_sam.store.memory import Key

FILE = "diameters.json"
"""Name of the file in the folder of a store."""


def read_diameter(folder: Path, key: Key) -> float | None:
    """Look up the diameter in pixels that a model has estimated for a picture; None if it is not there."""
    found = _notes(folder).get(_name(key))
    return float(found) if isinstance(found, (int, float)) and found > 0 else None


def note_diameter(folder: Path, key: Key, diameter: float) -> None:
    """Note an estimate. The file is replaced as a whole; one that is lost on the way is only made again."""
    notes = {**_notes(folder), _name(key): diameter}
    beside = folder / f"{FILE}.{os.getpid()}.partial"
    with suppress(OSError):
        beside.write_text(json.dumps(notes, indent=1), encoding="utf-8")
        beside.replace(folder / FILE)


def _name(key: Key) -> str:
    return " ".join(key)


def _notes(folder: Path) -> dict[str, object]:
    """All estimates; none where the file is missing or damaged."""
    try:
        notes = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}
