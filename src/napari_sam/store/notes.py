"""Small files of JSON beside the embeddings of a store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


def read_notes(path: Path) -> dict[str, Any]:
    """Read all notes of a file; none where it is missing or damaged."""
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def write_notes(path: Path, notes: Mapping[str, Any]) -> None:
    """Replace a file as a whole, so that whoever reads it meanwhile finds the old notes or the new ones.

    Raises
    ------
    OSError
        If it cannot be written; what was there stays.
    """
    # No other thread, process or machine that writes the same file gives what it writes this name.
    beside = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        beside.write_text(json.dumps(notes, indent=1), encoding="utf-8")
        beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
