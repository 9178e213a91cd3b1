"""Tracks as a table."""

from __future__ import annotations

from pathlib import Path

from napari_sam.export.atomic import replacing
from napari_sam.tracks.value import Tracks


def write_csv(tracks: Tracks, path: str | Path) -> None:
    """Write the tracks as a table, with the parent of each track (0 where it has none)."""
    parents = tracks.table["track"].map(dict(tracks.parents)).fillna(0).astype(int)
    with replacing(Path(path)) as beside:
        tracks.table.assign(parent=parents).to_csv(beside, index=False)
