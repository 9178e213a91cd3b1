"""Segment every plane of a Z or T stack and give one id to an object through its planes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import length_hint
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import unit_symbol
from napari_sam.diameter import typical_diameter
from napari_sam.image import RGB
from napari_sam.linking import Linker, LinkSettings, Lookup
from napari_sam.progress import Progress, Steps
from napari_sam.store import Embeddings, embed_once
from napari_sam.units import Unit, UnitFolder

if TYPE_CHECKING:
    from pandas import DataFrame

    from napari_sam.everything import AutomaticSettings
    from napari_sam.predictor import Predictor

COLUMNS = {"plane": int, "index": int, "predicted_iou": float, "stability": float, "area": int}
"""What `object_table` reads of each object in each plane, and its type."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PlaneDone(Progress):
    """A plane of a stack is finished.

    Parameters
    ----------
    plane : int
        Position of the plane in the stack.
    labels : ndarray of int32, shape (H, W)
        Its objects with the ids that they have in the whole stack, for the time being: an object that turns
        out to be too short is dropped at the end (`StackResult.relabelling`).
    table : DataFrame
        One row an object, as `AutomaticResult` gives it, with the stack's ids in ``index``.
    """

    plane: int
    labels: NDArray[np.int32]
    table: DataFrame


@dataclass(frozen=True, eq=False, slots=True)
class StackResult:
    """What is known once all planes are finished; the pixels went out plane by plane.

    Parameters
    ----------
    planes : int
        Number of planes.
    relabelling : ndarray of int32
        Lookup from the ids of `PlaneDone.labels` to final ids, without gaps; objects that are in fewer
        planes than asked for become 0. Apply it as ``result.relabelling[labels]``.
    lengths : ndarray of int64
        Number of planes in which each id of `PlaneDone.labels` was seen.
    linked : bool
        Whether an id is one object through the planes; otherwise each plane counts from 1 by itself.
    """

    planes: int
    relabelling: Lookup
    lengths: NDArray[np.int64]
    linked: bool = True

    @classmethod
    def unlinked(cls, tables: Iterable[DataFrame]) -> StackResult:
        """Result of planes that keep their own ids, out of the table of each plane's objects."""
        ids = [table["index"].to_numpy() for table in tables]
        seen = np.concatenate([np.empty(0, np.int64), *ids]).astype(np.int64)
        same = np.arange(seen.max(initial=0) + 1, dtype=np.int32)
        return cls(len(ids), same, np.bincount(seen, minlength=1), linked=False)

    @property
    def count(self) -> int:
        """Number of objects in the stack; of planes that are not linked, the sum of theirs."""
        return int(self.relabelling.max(initial=0) if self.linked else self.lengths.sum())

    @property
    def unchanged(self) -> bool:
        """Whether the ids given on the way are final already."""
        return bool((self.relabelling == np.arange(len(self.relabelling))).all())


def segment_stack(
    predictor: Predictor,
    planes: Iterable[RGB],
    settings: AutomaticSettings | None = None,
    *,
    link: LinkSettings | bool = True,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
    finished: UnitFolder | None = None,
) -> Steps[StackResult]:
    """Segment all objects in every plane, one plane after the other.

    Parameters
    ----------
    predictor : Predictor
    planes : iterable of ndarray of uint8, shape (H, W, 3)
        Pictures as of `napari_sam.image.plane_to_rgb`, all of one size. Taken one at a time, so that a
        generator or a sequence that reads from disk keeps memory flat.
    settings : AutomaticSettings, optional
        The model's own defaults if not given.
    link : LinkSettings or bool
        How objects are linked through the planes; ``False`` numbers each plane by itself, from 1.
    diameter : float, optional
        Typical object diameter in image pixels, for models that scale by it. If not given, it is estimated in
        some planes and used for all (`napari_sam.diameter`); in each by itself if ``planes`` is no sequence.
    kept : sequence of Embeddings
        Where embeddings are looked for and kept, the quickest first.
    finished : UnitFolder, optional
        Where finished planes are kept. Planes that are there already are not computed, nor read if ``planes``
        is a sequence: a run that was interrupted goes on where it stopped. The caller sees to it that they
        belong to the same stack, model and settings, and clears the folder when all is done.

    Yields
    ------
    Progress
        A `PlaneDone` with the labels after each plane, plain `Progress` in between. Closing the generator
        cancels: planes that came out are finished, and no other is touched.

    Returns
    -------
    StackResult

    Raises
    ------
    ValueError
        If there is no plane, or the planes differ in size while they are to be linked.
    """
    from napari_sam.everything import settings_for

    settings = settings_for(predictor) if settings is None else settings
    linker = Linker(LinkSettings() if link is True else link) if link else None
    total = length_hint(planes)
    number = -1
    tables: list[DataFrame] = []
    estimates = diameter is None and predictor.uses_diameter
    for number, read in enumerate(_readers(planes)):
        where = f"plane {number + 1} of {total}" if total else f"plane {number + 1}"
        unit = finished.read(number) if finished is not None else None
        if unit is None:
            if estimates and isinstance(planes, Sequence):
                yield Progress(number, total, "looking how large the objects are")
                estimates = False  # also if no plane that was looked at shows any
                diameter = typical_diameter(predictor, planes.__getitem__, len(planes))
            steps = segment_plane_unit(predictor, read(), settings, diameter=diameter, kept=kept)
            unit = yield from _within(steps, number, total, where)
            if finished is not None:
                finished.write(number, unit)
        labels, table = unit.labels, unit.table
        if linker is not None:
            lookup = linker.add(labels)
            labels = lookup[labels]
            table = table.assign(index=lookup[table["index"].to_numpy()])
        else:
            tables.append(table)
        yield PlaneDone(number + 1, max(total, number + 1), where, plane=number, labels=labels, table=table)
    if number < 0:
        raise ValueError("There is no plane to segment. Choose a stack with at least one plane.")
    if linker is not None:
        return StackResult(number + 1, linker.relabelling(), linker.lengths)
    return StackResult.unlinked(tables)


def segment_plane_unit(
    predictor: Predictor,
    picture: RGB,
    settings: AutomaticSettings,
    *,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
) -> Generator[Progress, None, Unit]:
    """Segment one plane by itself.

    Parameters
    ----------
    predictor : Predictor
    picture : ndarray of uint8, shape (H, W, 3)
    settings, diameter, kept
        See `segment_stack`.
    """
    from napari_sam.everything import generate

    yield Progress(0, 1, "embedding")
    embedding = embed_once(predictor, picture, *kept, diameter=diameter)
    result = yield from generate(predictor, picture, settings, embedding=embedding, diameter=diameter)
    return Unit(*result.labels())


def object_table(
    tables: Sequence[DataFrame], result: StackResult, voxel: tuple[float, str] | None = None
) -> DataFrame:
    """One row an object of a stack, out of one row an object and plane.

    Objects of planes that were not linked are each plane's own, even those of the same id: their rows stay
    apart, and say which plane they are of.

    Parameters
    ----------
    tables : sequence of DataFrame
        One of each plane, in the order of the planes.
    result : StackResult
    voxel : tuple of (float, str), optional
        Volume of a voxel and the unit of its sides, where it is known.

    Returns
    -------
    DataFrame
        ``index`` (final id), ``predicted_iou`` and ``stability`` (means over planes), ``area`` (pixels in all
        planes), ``planes`` (how many it is in), and the volume where the voxels' is known. Without linking
        also ``plane`` (from 0) after ``index``, which then does not tell objects apart by itself.
    """
    import pandas as pd

    keys = ["index"] if result.linked else ["plane", "index"]
    parts = [table.assign(plane=number) for number, table in enumerate(tables) if len(table)]
    # A stack without objects has the same columns.
    nothing = pd.DataFrame({name: np.empty(0, kind) for name, kind in COLUMNS.items()})
    rows = pd.concat(parts, ignore_index=True) if parts else nothing
    rows = rows.assign(index=result.relabelling[rows["index"].to_numpy()])
    groups = rows[rows["index"] > 0].groupby(keys)
    table = groups.agg(
        predicted_iou=("predicted_iou", "mean"),
        stability=("stability", "mean"),
        area=("area", "sum"),
        planes=("area", "size"),
    )
    table = table.round({"predicted_iou": 4, "stability": 4}).reset_index()
    return with_volumes(table[["index", *table.columns.drop("index")]], voxel)


def with_volumes(table: DataFrame, voxel: tuple[float, str] | None) -> DataFrame:
    """Add the volume to a table of objects, from their ``area``.

    Parameters
    ----------
    table : DataFrame
    voxel : tuple of (float, str), optional
        Volume of a voxel and the unit of its sides; nothing is added where it is not known.
    """
    if voxel is None:
        return table
    return table.assign(**{f"volume_{unit_symbol(voxel[1]).replace('µ', 'u')}3": table["area"] * voxel[0]})


def _readers(planes: Iterable[RGB]) -> Iterator[Callable[[], RGB]]:
    """Ways to get each plane, which read it only when they are called if ``planes`` is a sequence."""
    if isinstance(planes, Sequence):
        yield from (partial(planes.__getitem__, number) for number in range(len(planes)))
    else:
        yield from (lambda rgb=rgb: rgb for rgb in planes)


def _within(
    steps: Generator[Progress, None, Unit], number: int, total: int, where: str
) -> Generator[Progress, None, Unit]:
    """Pass the progress within a plane on, counted in planes."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            unit: Unit = end.value
            return unit
        yield Progress(number, total, f"{where}: {step.message}")
