"""Segment a plane of any size: tile by tile, then one object out of its parts."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import Axes
from napari_sam.diameter import typical_diameter
from napari_sam.locks import alone_at
from napari_sam.progress import Progress, Steps, time_left
from napari_sam.store import Embeddings
from napari_sam.tile_grid import TileGrid
from napari_sam.tiling.pyramid import LabelPyramid
from napari_sam.tiling.seams import Load, Seams, find_seams, paint_tile
from napari_sam.tiling.tile import Read, fingerprint, segment_tile
from napari_sam.units import Unit, UnitFolder

if TYPE_CHECKING:
    from pandas import DataFrame

    from napari_sam.everything import AutomaticSettings
    from napari_sam.predictor import Predictor

TABLE = "table"
"""Group beside the levels with what is known of each object, one array a column."""
SPREAD = 1 << 16
"""While tiles come in, object i of tile n is shown with the id ``n * SPREAD + i``."""


class TilingError(ValueError):
    """A run that cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class TileDone(Progress):
    """A tile is finished and can be seen in the label image.

    Parameters
    ----------
    tile : int
        Its number in the grid.
    """

    tile: int


@dataclass(frozen=True, eq=False, slots=True)
class TiledResult:
    """A plane that was segmented in tiles.

    Parameters
    ----------
    path : Path
        OME-Zarr label image.
    grid : TileGrid
    table : DataFrame
        One row an object: ``index`` (its id), ``predicted_iou``, ``stability``, ``area`` (pixels).
    """

    path: Path
    grid: TileGrid
    table: DataFrame


@dataclass(frozen=True, eq=False, slots=True)
class TiledJob:
    """Everything that the work on one plane needs; pieces of it may run in several processes.

    Parameters
    ----------
    grid : TileGrid
    settings : AutomaticSettings
    path : Path
        OME-Zarr label image to write.
    diameter : float, optional
    """

    grid: TileGrid
    settings: AutomaticSettings
    path: Path
    diameter: float | None = None

    @property
    def tiles(self) -> UnitFolder:
        """Finished tiles, beside the label image until it is complete."""
        return UnitFolder(self.path.with_name(f".{self.path.name}.tiles"))

    def identity(self, model_id: str, source: str) -> str:
        """Digest of everything that the labels depend on."""
        about = [asdict(self.grid), asdict(self.settings), self.diameter, model_id, source]
        # A number is the same whether it is numpy's or Python's.
        text = json.dumps(about, sort_keys=True, default=np.generic.item)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def load(self, number: int) -> Unit:
        """Return a finished tile.

        Raises
        ------
        TilingError
            If it was damaged after it had been written, or cannot be read.
        """
        tile = self.tiles.read(number)
        if tile is None:
            raise TilingError(
                f"Tile {number} of {self.path} was damaged or deleted after it had been written, or the disk "
                "does not give it. Start the run again: it computes what is missing."
            )
        return tile

    def run_tile(
        self,
        predictor: Predictor,
        read: Read,
        number: int,
        kept: Sequence[Embeddings] = (),
        *,
        alone: bool = False,
    ) -> Generator[Progress, None, None]:
        """Segment one tile, keep it, and show it in the label image with ids for the time being.

        ``alone`` says that no other process writes tiles: then they are seen on the coarsest levels too.
        """
        tile = yield from segment_tile(
            predictor, read(self.grid.outer(number)), self.settings, diameter=self.diameter, kept=kept
        )
        self.tiles.write(number, tile)
        outer, inner = self.grid.outer(number), self.grid.inner(number)
        y, x = int(inner.y0 - outer.y0), int(inner.x0 - outer.x0)
        labels = tile.labels[y : y + int(inner.height), x : x + int(inner.width)]
        shown = np.where(labels > 0, labels + (number % (SPREAD // 2)) * SPREAD, 0).astype(np.int32)
        pyramid = LabelPyramid(self.path)
        if alone:
            pyramid.put(inner.slices, shown)
        else:
            pyramid.write(inner, shown, self.grid.side)

    def paint(self, number: int, seams: Seams, load: Load | None = None) -> NDArray[np.int64]:
        """Write the final labels of one tile; return the pixels of each id in it, from 0."""
        labels = paint_tile(self.grid, number, load or self.load, seams)
        LabelPyramid(self.path).write(self.grid.inner(number), labels, self.grid.side)
        return np.bincount(labels.ravel(), minlength=len(seams) + 1)


def segment_plane(
    predictor: Predictor,
    read: Read,
    shape: tuple[int, int],
    path: str | Path,
    settings: AutomaticSettings | None = None,
    *,
    side: int = 768,
    halo: int = 128,
    diameter: float | None = None,
    axes: Axes | None = None,
    source: str = "",
    first: tuple[float, float] | None = None,
    kept: Sequence[Embeddings] = (),
) -> Steps[TiledResult]:
    """Find every object of a plane that need not fit into memory.

    Tiles are kept beside the label image until it is complete. A run that was interrupted, in whatever way,
    goes on where it stopped when it is started again with the same arguments.

    Parameters
    ----------
    predictor : Predictor
    read : callable
        Gives the picture of a box of the plane (see `napari_sam.tiling.rgb_reader`).
    shape : tuple of int
        (H, W) of the plane.
    path : str or Path
        OME-Zarr label image to write; it fills while the run goes on.
    settings : AutomaticSettings, optional
        The model's own defaults if not given.
    side, halo : int
        See `TileGrid`. The halo should be no smaller than a typical object.
    diameter : float, optional
        Typical object diameter in pixels, for models that scale by it; estimated in some tiles if not given.
    axes : Axes, optional
        Pixel size of Y and X.
    source : str
        What tells this image from others, such as its path and time; a run is not continued on another. A
        digest of blocks spread over the plane if not given.
    first : tuple of float, optional
        Place (y, x) to begin at, such as the middle of the view.
    kept : sequence of Embeddings
        Where embeddings of tiles are looked for and kept.

    Yields
    ------
    Progress
        A `TileDone` after each tile. Closing the generator keeps what is finished.

    Returns
    -------
    TiledResult

    Raises
    ------
    TilingError
        If something else is at ``path``, an unfinished run with other settings, or a run that is going on.
    """
    from napari_sam.everything import settings_for

    settings = settings_for(predictor) if settings is None else settings
    grid = TileGrid(shape, side, halo)
    if diameter is None and predictor.uses_diameter:
        yield Progress(0, len(grid), "looking how large the objects are")
        diameter = tile_diameter(predictor, read, grid)
    job = TiledJob(grid, settings, Path(path).absolute(), diameter)
    source = source or fingerprint(read, grid.shape, most=side)
    if open_job(job, job.identity(predictor.model_id, source), axes).get("complete"):
        job.tiles.clear()  # there still, where a run was killed between its last two steps
        return read_result(job)
    with only_run(job.path):
        missing = [n for n in job.grid.outwards(first) if n not in job.tiles]
        total, started = len(job.grid), time.monotonic()
        for count, number in enumerate(missing):
            done = total - len(missing) + count
            left = time_left(time.monotonic() - started, count, len(missing) - count)
            for step in job.run_tile(predictor, read, number, kept, alone=True):
                yield Progress(done, total, f"tile {done + 1} of {total}: {step.message}{left}")
            yield TileDone(done + 1, total, f"tile {done + 1} of {total}{left}", tile=number)
        return (yield from finish_job(job))


@contextmanager
def only_run(path: Path) -> Iterator[None]:
    """Keep other runs off a label image that is not complete: the first to end would take the tiles away.

    Raises
    ------
    TilingError
        If another run is at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    busy = f"Another run is writing {path} at this moment. Wait until it is done, or choose another name."
    with alone_at(path, TilingError(busy)):
        yield


def tile_diameter(predictor: Predictor, read: Read, grid: TileGrid) -> float | None:
    """Typical object diameter in a plane, out of some of its tiles."""
    return typical_diameter(predictor, lambda number: read(grid.inner(number)), len(grid))


def open_job(job: TiledJob, identity: str, axes: Axes | None = None) -> dict[str, Any]:
    """Start a run, or find the one to go on with; returns what is noted about it."""
    if not job.path.exists():
        job.tiles.clear()
    return open_labels(job.path, job.grid.shape, job.grid.side, identity, axes).notes


def open_labels(
    path: Path, shape: Sequence[int], side: int, identity: str, axes: Axes | None = None
) -> LabelPyramid:
    """Open the label image of a run, made as a whole or not at all where it is not there yet.

    Parameters
    ----------
    path, shape, side, axes
        See `LabelPyramid.create`.
    identity : str
        What tells this run from others.

    Raises
    ------
    TilingError
        If something else is there.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        making = path.with_name(f".{path.name}.new")
        shutil.rmtree(making, ignore_errors=True)
        LabelPyramid.create(making, shape, side, axes).notes = {"job": identity}
        making.rename(path)
    try:
        pyramid = LabelPyramid(path)
        notes = pyramid.notes
    except (OSError, ValueError, KeyError) as error:
        raise TilingError(f"{path} is there already and is no label image. Choose another name.") from error
    if notes.get("job") != identity:
        raise TilingError(
            f"{path} was made with other settings, another model or from another image. "
            "Delete it or choose another name."
        )
    if axes is not None:
        with suppress(OSError):  # a finished result may lie where nothing can be written
            pyramid.describe(axes)  # the scale may have been corrected since
    return pyramid


def finish_job(job: TiledJob) -> Steps[TiledResult]:
    """Put the tiles together once all are there."""
    load = lru_cache(maxsize=16)(job.load)
    seams = yield from find_seams(job.grid, load)
    area = np.zeros(len(seams) + 1, np.int64)
    for number in range(len(job.grid)):
        yield Progress(number, len(job.grid), "drawing whole objects")
        area += job.paint(number, seams, load)
    return (yield from close_job(job, seams, area))


def close_job(job: TiledJob, seams: Seams, area: NDArray[np.int64]) -> Steps[TiledResult]:
    """Write the coarse levels, the table and, last, the mark that everything is there."""
    pyramid = LabelPyramid(job.path)
    yield from pyramid.finish(job.grid.side)
    columns = {"predicted_iou": seams.predicted_iou, "stability": seams.stability, "area": area[1:]}
    complete(pyramid, {"index": np.arange(1, len(seams) + 1), **columns})
    job.tiles.clear()
    return read_result(job)


def complete(pyramid: LabelPyramid, table: Mapping[str, Any]) -> None:
    """Write the columns of a table of objects and, last, the mark that everything is there."""
    group = pyramid.group.create_group(TABLE, overwrite=True)
    for name, values in table.items():
        group.create_array(name, data=np.asarray(values))
    pyramid.notes = {**pyramid.notes, "columns": list(table), "complete": True}


def read_result(job: TiledJob) -> TiledResult:
    """Return the result of a run that is complete."""
    return TiledResult(job.path, job.grid, read_table(LabelPyramid(job.path)))


def read_table(pyramid: LabelPyramid) -> DataFrame:
    """Return what is known of each object of a run that is complete."""
    import pandas as pd

    group: Any = pyramid.group[TABLE]
    columns = pyramid.notes.get("columns", ["predicted_iou", "stability", "area"])  # of older runs
    table = pd.DataFrame({name: group[name][...] for name in columns})
    if "index" not in table:
        table.insert(0, "index", np.arange(1, len(table) + 1))
    return table
