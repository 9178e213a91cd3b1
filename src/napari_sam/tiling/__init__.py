"""Planes of any size: tiles that overlap (`napari_sam.tile_grid`), objects that are whole across the seams.

* `tile`: one tile, segmented;
* `seams`: which objects of neighbouring tiles are one;
* `pyramid`: the labels as OME-Zarr that fills as tiles come in;
* `read`: boxes of an array that is not in memory;
* `crop`: prompts anywhere, in a crop around them;
* `large_plane`: what of a plane is looked at, and how finely;
* `seen`: prompts in what was looked at;
* `run`: all of it, interruptible at any moment;
* `stack`: a stack of such planes, objects linked through them.
"""

from __future__ import annotations

from napari_sam.tile_grid import TileGrid
from napari_sam.tiling.crop import CropOffer, crop_around, predict_anywhere
from napari_sam.tiling.pyramid import LabelPyramid
from napari_sam.tiling.read import (
    plane_contrast,
    rgb_reader,
    sampled_contrast,
    sampled_pixels,
    shows_colours,
    whole_range,
)
from napari_sam.tiling.run import (
    TiledJob,
    TileDone,
    TiledResult,
    TilingError,
    open_job,
    segment_plane,
    tile_diameter,
)
from napari_sam.tiling.stack import PlaneFilled, plane_job, plane_source, segment_tiled_stack
from napari_sam.tiling.tile import Read

__all__ = [
    "CropOffer",
    "LabelPyramid",
    "PlaneFilled",
    "Read",
    "TileDone",
    "TileGrid",
    "TiledJob",
    "TiledResult",
    "TilingError",
    "crop_around",
    "open_job",
    "plane_contrast",
    "plane_job",
    "plane_source",
    "predict_anywhere",
    "rgb_reader",
    "sampled_contrast",
    "sampled_pixels",
    "segment_plane",
    "segment_tiled_stack",
    "shows_colours",
    "tile_diameter",
    "whole_range",
]
