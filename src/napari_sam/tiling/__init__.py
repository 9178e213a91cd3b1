"""Planes of any size: tiles that overlap, objects that are whole across the seams.

* `grid`: how the plane is cut;
* `tile`: one tile, segmented;
* `seams`: which objects of neighbouring tiles are one;
* `pyramid`: the labels as OME-Zarr that fills as tiles come in;
* `read`: boxes of an array that is not in memory;
* `run`: all of it, interruptible at any moment.
"""

from __future__ import annotations

from napari_sam.tiling.grid import TileGrid
from napari_sam.tiling.pyramid import LabelPyramid
from napari_sam.tiling.read import plane_contrast, rgb_reader, sampled_contrast
from napari_sam.tiling.run import (
    TiledJob,
    TileDone,
    TiledResult,
    TilingError,
    open_job,
    segment_plane,
    tile_diameter,
)
from napari_sam.tiling.tile import Read

__all__ = [
    "LabelPyramid",
    "Read",
    "TileDone",
    "TileGrid",
    "TiledJob",
    "TiledResult",
    "TilingError",
    "open_job",
    "plane_contrast",
    "rgb_reader",
    "sampled_contrast",
    "segment_plane",
    "tile_diameter",
]
