"""One plane of labels as a 16-bit PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from napari_sam.export.atomic import replacing
from napari_sam.export.formats import ExportError, format_of
from napari_sam.export.labelled import Labelled


def write(labelled: Labelled, path: Path) -> None:
    """Write a grey picture whose values are the ids."""
    format_of(path, "png").check(labelled.shape)
    if labelled.top > 65535:
        raise ExportError(
            f"A PNG holds ids up to 65,535, found {labelled.top:,}. "
            "Renumber the objects, or export to TIFF or OME-Zarr."
        )
    plane = next(labelled.planes()).labels.astype(np.uint16)
    with replacing(path) as beside:
        Image.fromarray(plane).save(beside, format="PNG")
