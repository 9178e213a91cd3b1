"""Labels of a huge plane as an OME-Zarr image that fills tile by tile, all levels at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.axes import METRES, Axes
from napari_sam.masks import Box
from napari_sam.progress import Progress, Steps

COARSEST = 1024
"""The pyramid ends with a level of which both sides are at most this."""
FINEST_CHUNK = 64
"""Levels are written tile by tile as long as a tile leaves this many pixels on a side."""
OWN = "napari_sam"
"""Attribute that holds what the plugin notes about a run."""


class LabelPyramid:
    """An OME-Zarr label image of one plane (version 0.5, zarr format 3).

    Every tile is one chunk on every level that is written tile by tile, so that several processes may write
    at the same time. `finish` adds the coarser levels.

    Parameters
    ----------
    path : Path
        Folder of an image made by `LabelPyramid.create`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.group = zarr.open_group(path, mode="r+")
        ome: Any = self.group.attrs["ome"]
        self.levels: list[Any] = [self.group[d["path"]] for d in ome["multiscales"][0]["datasets"]]

    @staticmethod
    def create(path: Path, shape: tuple[int, int], side: int, axes: Axes | None = None) -> LabelPyramid:
        """Make an empty label image.

        Parameters
        ----------
        path : Path
            Folder to make; nothing may be there.
        shape : tuple of int
            (H, W) of the plane.
        side : int
            Side of a tile in pixels, and of a chunk of the finest level.
        axes : Axes, optional
            Distance between pixels and units of Y and X.
        """
        axes = axes or Axes("YX", (1.0, 1.0), ("pixel", "pixel"))
        group = zarr.create_group(path)
        shapes = [shape]
        while max(shapes[-1]) > COARSEST:
            height, width = shapes[-1]
            shapes.append((-(-height // 2), -(-width // 2)))
        for k, size in enumerate(shapes):
            # Levels beyond those that tiles write have chunks of the first's side again.
            chunk = side >> k if _by_tile(side, k) else side
            chunks = min(chunk, size[0]), min(chunk, size[1])
            group.create_array(str(k), shape=size, chunks=chunks, dtype=np.uint32, dimension_names=["y", "x"])
        group.attrs["ome"] = _metadata(path.name.split(".")[0], len(shapes), axes)
        return LabelPyramid(path)

    @property
    def notes(self) -> dict[str, Any]:
        """What is noted about the run."""
        notes: Any = self.group.attrs.get(OWN, {})
        return dict(notes)

    @notes.setter
    def notes(self, value: dict[str, Any]) -> None:
        self.group.attrs[OWN] = value

    def write(self, box: Box, labels: NDArray[np.int32], side: int) -> None:
        """Write the labels of a tile's inner ``box`` to every level that is written tile by tile."""
        for k, level in enumerate(self.levels):
            if not _by_tile(side, k):
                break
            if k:
                labels = labels[::2, ::2]
            y, x = int(box.y0) >> k, int(box.x0) >> k
            level[y : y + labels.shape[0], x : x + labels.shape[1]] = labels.astype(np.uint32)

    def finish(self, side: int) -> Steps[None]:
        """Fill the coarse levels out of those before them, one row of chunks at a time."""
        for k in range(1, len(self.levels)):
            if _by_tile(side, k):
                continue
            fine, coarse = self.levels[k - 1], self.levels[k]
            for y in range(0, coarse.shape[0], side):
                yield Progress(y, coarse.shape[0], f"coarser level {k}")
                rows = fine[2 * y : 2 * (y + side)]
                coarse[y : y + side] = rows[::2, ::2]


def _by_tile(side: int, level: int) -> bool:
    """Whether a tile is one chunk of a level."""
    return side % (1 << level) == 0 and (level == 0 or side >> level >= FINEST_CHUNK)


def _metadata(name: str, levels: int, axes: Axes) -> dict[str, Any]:
    """Multiscale metadata of a label image."""
    described: list[dict[str, str]] = []
    for axis, unit in zip(axes.names, axes.units, strict=True):
        described.append(
            {"name": axis.lower(), "type": "space", **({"unit": unit} if unit in METRES else {})}
        )
    datasets = [
        {
            "path": str(k),
            # Every second pixel from the first on: the origin, a pixel's centre, stays where it is.
            "coordinateTransformations": [{"type": "scale", "scale": [s * 2**k for s in axes.spacing]}],
        }
        for k in range(levels)
    ]
    multiscale = {"name": name, "axes": described, "datasets": datasets, "type": "nearest"}
    return {"version": "0.5", "multiscales": [multiscale], "image-label": {"version": "0.5"}}
