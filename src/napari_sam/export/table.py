"""Measurements as CSV, a row for each object (and time point), in pixels and in physical units."""

from __future__ import annotations

from pathlib import Path

from napari_sam.export.atomic import replacing
from napari_sam.export.labelled import Labelled
from napari_sam.measure import region_table


def write(labelled: Labelled, path: Path) -> None:
    """Write what `napari_sam.measure.region_table` finds, with the features of the objects beside it."""
    import pandas as pd

    # Both are read plane by plane.
    table = region_table(labelled, labelled.image, axes=labelled.axes, by_plane=not labelled.linked)
    # An object of a linked stack has one row, whatever the number of planes it is known in.
    features = labelled.features.along({str(name) for name in table})
    keys = ["label", *features.axes]
    known = pd.DataFrame([{**dict(zip(keys, key, strict=True)), **row} for key, row in features.rows.items()])
    if len(known):
        # What was measured wins over a column of the same name.
        extra = [c for c in known if c not in table]
        table = table.merge(known[keys + extra], on=keys, how="left")
    with replacing(path) as beside:
        table.to_csv(beside, index=False, encoding="utf-8", lineterminator="\n")
