"""Labels of huge planes as an OME-Zarr image that fills tile by tile, all levels at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import METRES, SECONDS, Axes, make_axes
from napari_sam.masks import Box
from napari_sam.progress import Progress, Steps

COARSEST = 1024
"""The pyramid ends with a level of which both sides are at most this."""
FINEST_CHUNK = 64
"""Levels are written tile by tile as long as a tile leaves this many pixels on a side."""
OWN = "napari_sam"
"""Attribute that holds what the plugin notes about a run."""


class LabelPyramid:
    """An OME-Zarr label image of one plane, or of a stack of planes (version 0.5, zarr format 3).

    Every tile is one chunk on every level that is written tile by tile, so that several processes may write
    at the same time. `finish` adds the coarser levels.

    Parameters
    ----------
    path : Path
        Folder of an image made by `LabelPyramid.create`.
    """

    def __init__(self, path: Path) -> None:
        import zarr

        self.path = path
        self.group = zarr.open_group(path, mode="r+")
        ome: Any = self.group.attrs["ome"]
        self.levels: list[Any] = [self.group[d["path"]] for d in ome["multiscales"][0]["datasets"]]

    @staticmethod
    def create(path: Path, shape: Sequence[int], side: int, axes: Axes | None = None) -> LabelPyramid:
        """Make an empty label image.

        Parameters
        ----------
        path : Path
            Folder to make; nothing may be there.
        shape : sequence of int
            (..., H, W); levels are coarser along the last two axes only.
        side : int
            Side of a tile in pixels, and of a chunk of the finest level.
        axes : Axes, optional
            Names of the axes, distances between pixels and units.
        """
        import zarr

        axes = axes or make_axes(len(shape))
        group = zarr.create_group(path)
        shapes = [tuple(shape)]
        while max(shapes[-1][-2:]) > COARSEST:
            *lead, height, width = shapes[-1]
            shapes.append((*lead, -(-height // 2), -(-width // 2)))
        names = [name.lower() for name in axes.names]
        for k, size in enumerate(shapes):
            # Levels beyond those that tiles write have chunks of the first's side again.
            chunk = side >> k if _by_tile(side, k) else side
            chunks = (*(1 for _ in size[:-2]), *(min(chunk, n) for n in size[-2:]))
            group.create_array(str(k), shape=size, chunks=chunks, dtype=np.uint32, dimension_names=names)
        group.attrs["ome"] = _metadata(path, len(shapes), axes)
        return LabelPyramid(path)

    def describe(self, axes: Axes) -> None:
        """Say anew what the axes are, and how far apart the pixels lie."""
        known, said = self.group.attrs["ome"], _metadata(self.path, len(self.levels), axes)
        if known != said:
            self.group.attrs["ome"] = said

    @property
    def notes(self) -> dict[str, Any]:
        """What is noted about the run."""
        notes: Any = self.group.attrs.get(OWN, {})
        return dict(notes)

    @notes.setter
    def notes(self, value: dict[str, Any]) -> None:
        self.group.attrs[OWN] = value

    def put(self, region: Sequence[int | slice], labels: NDArray[np.integer]) -> None:
        """Change a part of the image on all levels: what a person draws after the tiles are done.

        Parameters
        ----------
        region : sequence of int or slice
            One entry an axis, of the finest level.
        labels : ndarray of int
            The part as it is to be, one axis for each slice.
        """
        shape = self.levels[0].shape
        spans = [
            range(*s.indices(n)) if isinstance(s, slice) else range(s, s + 1)
            for s, n in zip(region, shape, strict=True)
        ]
        values = np.asarray(labels, np.uint32).reshape([len(span) for span in spans])
        for k, level in enumerate(self.levels):
            # Every 2**k-th pixel of the image, down and to the right, is one of the level.
            step = 1 << k
            skip = [-span.start % step for span in spans[-2:]]
            part = values[..., skip[0] :: step, skip[1] :: step]
            if not part.size:
                continue
            starts = [span.start for span in spans[:-2]]
            starts += [(span.start + s) // step for span, s in zip(spans[-2:], skip, strict=True)]
            level[tuple(slice(a, a + n) for a, n in zip(starts, part.shape, strict=True))] = part

    def write(self, box: Box, labels: NDArray[np.int32], side: int) -> None:
        """Write the labels of a tile's inner ``box`` to every level that is written tile by tile.

        Several processes may do so at a time; `put` writes to all levels, but from one process only.
        """
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
            height = coarse.shape[-2]
            for at in product(*(range(n) for n in coarse.shape[:-2])):
                for y in range(0, height, side):
                    yield Progress(y, height, f"coarser level {k}")
                    rows = fine[(*at, slice(2 * y, 2 * (y + side)))]
                    coarse[(*at, slice(y, y + side))] = rows[::2, ::2]


def _by_tile(side: int, level: int) -> bool:
    """Whether a tile is one chunk of a level."""
    return side % (1 << level) == 0 and (level == 0 or side >> level >= FINEST_CHUNK)


def _metadata(path: Path, levels: int, axes: Axes) -> dict[str, Any]:
    """Multiscale metadata of a label image, which has the name of its folder, be it made beside first."""
    name = path.name.strip(".").split(".")[0]
    described: list[dict[str, str]] = []
    for axis, unit in zip(axes.names, axes.units, strict=True):
        kind = {"T": "time", "C": "channel"}.get(axis, "space")
        known = unit in (SECONDS if kind == "time" else METRES)
        described.append({"name": axis.lower(), "type": kind, **({"unit": unit} if known else {})})
    datasets = [
        {
            "path": str(k),
            # Every second pixel from the first on: the origin, a pixel's centre, stays where it is.
            "coordinateTransformations": [
                {"type": "scale", "scale": [*axes.spacing[:-2], *(s * 2**k for s in axes.spacing[-2:])]}
            ],
        }
        for k in range(levels)
    ]
    multiscale = {"name": name, "axes": described, "datasets": datasets, "type": "nearest"}
    return {"version": "0.5", "multiscales": [multiscale], "image-label": {"version": "0.5"}}
