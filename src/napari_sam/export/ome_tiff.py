"""Label images as OME-TIFF, for Bio-Formats, QuPath and Python; any size, up to 4,294,967,295 ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_sam.axes import METRES, SECONDS, unit_symbol
from napari_sam.export.atomic import replacing
from napari_sam.export.formats import ExportError
from napari_sam.export.labelled import Labelled


def write(labelled: Labelled, path: Path) -> None:
    """Write an OME-TIFF with the smallest unsigned pixels that hold every id."""
    dtype = labelled.dtype
    if dtype.itemsize > 4:
        raise ExportError(
            f"OME-TIFF holds ids up to {2**32 - 1:,}, found {labelled.top:,}. "
            "Renumber the objects, or export to OME-Zarr."
        )
    pixels = int(np.prod(labelled.shape))
    with replacing(path) as beside:
        tifffile.imwrite(
            beside,
            (plane.labels.astype(dtype) for plane in labelled.planes()),
            shape=labelled.shape,
            dtype=dtype,
            ome=True,
            photometric="minisblack",  # else a stack of three or four columns is taken for colours
            bigtiff=pixels * dtype.itemsize > 2**31,
            compression="zlib",
            metadata=_metadata(labelled),
        )


def _metadata(labelled: Labelled) -> dict[str, Any]:
    """OME's names of axes, pixel sizes and units."""
    fields: dict[str, Any] = {"axes": labelled.axes.names, "Name": labelled.image_name}
    for letter in labelled.axes.space:
        size, unit = labelled.axes.of(letter)
        if unit in METRES or size != 1:
            fields[f"PhysicalSize{letter}"] = size
            fields[f"PhysicalSize{letter}Unit"] = unit_symbol(unit) if unit in METRES else "pixel"
    interval, unit = labelled.axes.of("T")
    if unit in SECONDS:
        fields["TimeIncrement"] = interval
        fields["TimeIncrementUnit"] = unit_symbol(unit)
    return fields
