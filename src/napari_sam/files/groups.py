"""Groups of the images in a folder, out of a table that lies beside them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from napari_sam.files.alike import composed

INDEX = "index.csv"
"""Table of a folder's images: a row each, with its name and whatever is known of it."""


def read_groups(index: Path, column: str, names: Sequence[str]) -> list[str]:
    """Group of each image.

    Parameters
    ----------
    index : Path
        CSV table with a column ``name``.
    column : str
        Column that names the groups.
    names : sequence of str
        Names of the images, without their endings.

    Raises
    ------
    ValueError
        If the table cannot be read, or has no such column or no row for an image.
    """
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{index}, whose column {column!r} groups the images, cannot be read ({why})."
        ) from error
    if missing := {"name", column} - set(rows[0] if rows else ()):
        raise ValueError(
            f"Expected the columns 'name' and {column!r} in {index}, found no {sorted(missing)}."
        )
    groups = {composed(row["name"] or ""): row[column] or "" for row in rows}
    if unknown := [name for name in names if composed(name) not in groups]:
        raise ValueError(f"{index} has no row for {unknown[0]}: add it, or do not group by {column!r}.")
    return [groups[composed(name)] for name in names]
