"""Segment a stack of planes of any size: each tile by tile, its objects linked through the planes.

A plane is finished by itself first (`napari_sam.tiling.run`), as labels on disk. Linking reads such planes
block by block: all that is held and grows is what is known of each object.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.axes import Axes
from napari_sam.linking import Linker, LinkSettings, Lookup, blocks
from napari_sam.progress import Progress, Steps
from napari_sam.stack import StackResult, object_table, with_volumes
from napari_sam.tile_grid import TileGrid
from napari_sam.tiling.pyramid import LabelPyramid
from napari_sam.tiling.run import (
    TiledJob,
    TileDone,
    TiledResult,
    complete,
    only_run,
    open_labels,
    read_result,
    segment_plane,
    tile_diameter,
)
from napari_sam.tiling.tile import Read, fingerprint

if TYPE_CHECKING:
    from pandas import DataFrame

    from napari_sam.everything import AutomaticSettings
    from napari_sam.predictor import Predictor
    from napari_sam.store import Embeddings

LOOKS = 9
"""A stack is known again by so many of its planes."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PlaneFilled(Progress):
    """A plane is finished and can be seen in the label image, with ids that may still change.

    Parameters
    ----------
    plane : int
        Position of the plane in the stack.
    """

    plane: int


def segment_tiled_stack(
    predictor: Predictor,
    planes: Sequence[Read],
    shape: tuple[int, int],
    path: str | Path,
    settings: AutomaticSettings | None = None,
    *,
    link: LinkSettings | bool = True,
    side: int = 768,
    halo: int = 128,
    diameter: float | None = None,
    axes: Axes | None = None,
    voxel: tuple[float, str] | None = None,
    source: str = "",
    kept: Sequence[Embeddings] = (),
) -> Steps[TiledResult]:
    """Find every object of a stack of planes that need not fit into memory, one plane after the other.

    Finished planes are kept beside the label image until it is complete. A run that was interrupted, in
    whatever way, goes on where it stopped when it is started again with the same arguments.

    Parameters
    ----------
    predictor : Predictor
    planes : sequence of callable
        Each gives the picture of a box of its plane (see `napari_sam.tiling.rgb_reader`).
    shape : tuple of int
        (H, W) of a plane.
    path : str or Path
        OME-Zarr label image to write, of shape (planes, H, W); it fills tile by tile.
    settings, side, halo, kept
        See `segment_plane`.
    link : LinkSettings or bool
        How objects are linked through the planes; False numbers each plane by itself.
    diameter : float, optional
        Typical object diameter in pixels, for models that scale by it; estimated in the middle plane if not
        given.
    axes : Axes, optional
        The axis of the planes, Y and X.
    voxel : tuple of (float, str), optional
        Volume of a voxel and the unit of its sides, where it is known.
    source : str
        What tells this image from others; a digest of some of its planes if not given.

    Yields
    ------
    Progress
        A `PlaneFilled` after each plane. Closing the generator keeps what is finished.

    Returns
    -------
    TiledResult
        Its table is that of `napari_sam.stack.object_table`.

    Raises
    ------
    ValueError
        If there is no plane.
    TilingError
        See `segment_plane`.
    """
    from napari_sam.everything import settings_for

    if not planes:
        raise ValueError("There is no plane to segment. Choose a stack with at least one plane.")
    settings = settings_for(predictor) if settings is None else settings
    grid = TileGrid(shape, side, halo)
    if diameter is None and predictor.uses_diameter:
        yield Progress(0, len(planes), "looking how large the objects are")
        diameter = tile_diameter(predictor, planes[len(planes) // 2], grid)
    job = TiledJob(grid, settings, Path(path).absolute(), diameter)
    linker = Linker(LinkSettings() if link is True else link) if link else None
    if not source:
        looked_at = sorted({int(n) for n in np.linspace(0, len(planes) - 1, LOOKS)})
        source = " ".join(fingerprint(planes[number], grid.shape, most=side) for number in looked_at)
    about = [source, len(planes), asdict(linker.settings) if linker is not None else None]
    identity = job.identity(predictor.model_id, repr(about))
    stack = open_labels(job.path, (len(planes), *shape), side, identity, axes)
    beside = plane_job(job, 0).path.parent
    if stack.notes.get("complete"):
        shutil.rmtree(beside, ignore_errors=True)  # where a run was killed between its last two steps
        return _result(job, voxel)
    with only_run(job.path):
        work = _Work(stack, job, len(planes))
        tables: list[DataFrame] = []
        for number, read in enumerate(planes):
            steps = segment_plane(
                predictor,
                read,
                shape,
                plane_job(job, number).path,
                settings,
                side=side,
                halo=halo,
                diameter=diameter,
                source=plane_source(source, number),
                kept=kept,
            )
            with closing(steps):
                table = (yield from work.show(steps, number)).table
            labels = work.plane(number)
            lookup = np.arange(len(table) + 1, dtype=np.int32) if linker is None else linker.add(labels)
            yield from work.fill(number, lookup, "linking")
            table = table[table["area"] > 0]
            tables.append(table.assign(index=lookup[table["index"].to_numpy()]))
            yield PlaneFilled((number + 1) * len(grid), work.total, work.where(number), plane=number)
        if linker is not None:
            linked = StackResult(len(planes), linker.relabelling(), linker.lengths)
        else:
            linked = StackResult.unlinked(tables)
        if not linked.unchanged:
            for number in range(len(planes)):
                yield from work.renumber(number, linked.relabelling)
        complete(stack, dict(object_table(tables, linked)))
        shutil.rmtree(beside, ignore_errors=True)
        return _result(job, voxel)


def _result(job: TiledJob, voxel: tuple[float, str] | None) -> TiledResult:
    """Return the result of a stack that is complete, with volumes by the scale of now."""
    result = read_result(job)
    kept = [name for name in result.table if not str(name).startswith("volume_")]  # runs of old kept theirs
    return replace(result, table=with_volumes(result.table[kept], voxel))


def plane_job(job: TiledJob, number: int) -> TiledJob:
    """The work on one plane by itself: its labels lie beside those of the stack until these are complete."""
    return replace(job, path=job.path.with_name(f".{job.path.name}.planes") / f"{number:06d}.ome.zarr")


def plane_source(source: str, number: int) -> str:
    """What tells a plane of a stack from others; see `segment_plane`."""
    return f"{source}/{number}"


@dataclass(frozen=True, eq=False, slots=True)
class _Work:
    """The labels of a stack, and those of its planes by themselves."""

    stack: LabelPyramid
    job: TiledJob
    planes: int

    @property
    def grid(self) -> TileGrid:
        """Tiles of a plane."""
        return self.job.grid

    @property
    def total(self) -> int:
        """Number of tiles."""
        return self.planes * len(self.grid)

    def plane(self, number: int) -> Any:
        """Labels of a plane by itself, on disk."""
        return LabelPyramid(plane_job(self.job, number).path).levels[0]

    def where(self, number: int) -> str:
        """Plane in words."""
        return f"plane {number + 1} of {self.planes}"

    def show(self, steps: Steps[TiledResult], number: int) -> Generator[Progress, None, TiledResult]:
        """Pass the progress within a plane on, and show its tiles as they come."""
        done = number * len(self.grid)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: TiledResult = end.value
                return result
            if isinstance(step, TileDone):
                done += 1
                box = self.grid.inner(step.tile).slices
                self.stack.put((number, *box), self.plane(number)[box])
            message = f"{self.where(number)} ({step.message})"
            yield replace(step, done=done, total=self.total, message=message)

    def fill(self, number: int, lookup: Lookup, doing: str) -> Generator[Progress, None, None]:
        """Write a plane that is finished, with ids of the stack."""
        yield from self._copy(self.plane(number), (), number, lookup, doing)

    def renumber(self, number: int, lookup: Lookup) -> Generator[Progress, None, None]:
        """Give the objects of a plane of the stack other ids."""
        yield from self._copy(self.stack.levels[0], (number,), number, lookup, "numbers")

    def _copy(
        self, source: Any, lead: tuple[int, ...], number: int, lookup: Lookup, doing: str
    ) -> Generator[Progress, None, None]:
        """Write labels into a plane of the stack, block by block."""
        for where in blocks(self.grid.shape):
            self.stack.put((number, *where), lookup[source[(*lead, *where)]])
            yield Progress((number + 1) * len(self.grid), self.total, f"{self.where(number)}: {doing}")
