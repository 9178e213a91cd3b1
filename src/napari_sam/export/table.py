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
    table = region_table(labelled, labelled.image, axes=labelled.axes)
    known = pd.DataFrame([{"label": label, **row} for label, row in labelled.features.items()])
    if len(known):
        # What was measured wins over a column of the same name.
        extra = [c for c in known if c == "label" or c not in table]
        table = table.merge(known[extra], on="label", how="left")
    with replacing(path) as beside:
        table.to_csv(beside, index=False, encoding="utf-8", lineterminator="\n")
