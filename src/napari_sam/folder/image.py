"""Segment one image: a plane, or a stack with its planes linked."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.axes import Axes
from napari_sam.files import ImageFile
from napari_sam.folder.pictures import Pictures, Readers, plane_reader, settle_contrast
from napari_sam.folder.work import is_huge, linked_along, tiled_path, units_of
from napari_sam.linking import MOVIE, LinkSettings
from napari_sam.predictor import Predictor
from napari_sam.progress import Progress, Steps
from napari_sam.recipe import Recipe
from napari_sam.stack import PlaneDone, StackResult, segment_plane_unit, segment_stack
from napari_sam.tiling import segment_plane, segment_tiled_stack
from napari_sam.units import UnitFolder

if TYPE_CHECKING:
    import pandas as pd

    from napari_sam.store import Embeddings


MEGABYTE = 2**20


@dataclass(frozen=True, eq=False, slots=True)
class Segmented:
    """Labels of an image.

    Parameters
    ----------
    labels : ndarray of int32
        In the order of ``axes``; a stack lies on disk (`numpy.memmap`).
    axes : Axes
    table : DataFrame
        One row an object, with its id in ``index``; of planes that are not linked also with its place, ``t``
        and ``z``.
    linked : bool
        Whether an id is the same object in all planes of a stack.
    """

    labels: NDArray[np.int32]
    axes: Axes
    table: pd.DataFrame
    linked: bool = True

    @property
    def count(self) -> int:
        """Number of objects; of planes that are not linked, the sum of theirs."""
        if len(self.table):
            return len(self.table)
        planes = self.labels.reshape(-1, *self.labels.shape[-2:])
        return sum(int(np.count_nonzero(np.bincount(plane.ravel())[1:])) for plane in planes)


def segment_image(
    predictor: Predictor,
    image: ImageFile,
    recipe: Recipe,
    folder: Path | None = None,
    *,
    work: Path | None = None,
    kept: Sequence[Embeddings] = (),
) -> Steps[Segmented]:
    """Segment every plane of an image.

    The planes of a stack are linked along Z, or along T where there is no Z or one plane of it; the labels of
    a stack lie in a temporary file, so that memory does not grow with the number of planes.

    Parameters
    ----------
    predictor : Predictor
    image : ImageFile
    recipe : Recipe
    folder : Path, optional
        Where the temporary file goes.
    work : Path, optional
        Where finished planes or tiles are kept, so that a run that was interrupted goes on where it stopped
        (`napari_sam.folder.work.work_folder`). The caller deletes it when the labels are written. Without it
        huge planes are taken as a whole.
    kept : sequence of Embeddings
        Where embeddings of planes or tiles are looked for.
    """
    import pandas as pd

    settings = recipe.settings(predictor)
    if len(image) == 1 and work is not None and is_huge(image):
        return (yield from _segment_huge(predictor, image, recipe, work, kept))
    if len(image) == 1:
        found = units_of(work, 0).read(0) if work is not None else None
        if found is None:
            picture = Pictures(image, recipe)[0]
            found = yield from segment_plane_unit(
                predictor, picture, settings, diameter=recipe.diameter, kept=kept
            )
        return Segmented(found.labels.reshape(image.shape), image.axes, found.table)
    written = _on_disk((len(image), *image.shape[-2:]), folder)
    along, depth = linked_along(image)
    recipe = settle_contrast(image, recipe)
    link = recipe.link and (MOVIE if along == "T" else LinkSettings())
    tables: list[pd.DataFrame] = []
    top = 0
    for start in range(0, len(image), depth):
        volume = written[start : start + depth]
        if work is not None and is_huge(image):
            steps = _segment_huge_volume(predictor, image, recipe, work, link, start, volume, kept)
        else:
            finished = None if work is None else units_of(work, start // depth)
            steps = _segment_volume(predictor, image, recipe, finished, link, start, volume, kept)
        table = yield from steps
        if not len(table):
            continue
        if not link:
            place = np.unravel_index(start + table.pop("plane").to_numpy(int), image.shape[:-2])
            tables.append(table.assign(**dict(zip(image.axes.names.lower(), place, strict=False))))
            continue
        # The objects of each time point get ids of their own, after those before.
        for plane in volume if top else ():
            plane[plane > 0] += top
        tables.append(table.assign(index=table["index"] + top))
        top = int(tables[-1]["index"].max())
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return Segmented(written.reshape(image.shape), image.axes, table, bool(link))


def _on_disk(shape: tuple[int, ...], folder: Path | None) -> NDArray[np.int32]:
    """Labels in a file without a name, which goes with them.

    The file's room is taken at once: on a disk that gets full later, the system would end the program.
    """
    size = math.prod(shape) * np.dtype(np.int32).itemsize
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, MEGABYTE):
                    file.write(bytes(min(MEGABYTE, size - start)))
                file.flush()
            # The mapping outlives the file's name and handle: nothing is left behind, however the run ends.
            return np.memmap(file, np.int32, "r+", shape=shape)
    except OSError as error:
        where = folder or tempfile.gettempdir()
        raise OSError(
            f"There is no room for the labels of this stack, {size / MEGABYTE:.1f} MB for the time being, in "
            f"{where} ({error.strerror}). Make room or choose another folder; what is finished is kept."
        ) from error


def _segment_huge(
    predictor: Predictor, image: ImageFile, recipe: Recipe, work: Path, kept: Sequence[Embeddings]
) -> Steps[Segmented]:
    """Segment a plane that is too large to be seen at once."""
    result = yield from segment_plane(
        predictor,
        plane_reader(image, recipe),
        (image.shape[-2], image.shape[-1]),
        tiled_path(work),
        recipe.settings(predictor),
        diameter=recipe.diameter,
        source=work.name,
        kept=kept,
    )
    # Read once, for the writers: the labels of a plane are a few bytes a pixel.
    labels = zarr.open_array(result.path / "0", mode="r")[...]
    return Segmented(np.asarray(labels, np.int32).reshape(image.shape), image.axes, result.table)


def _segment_huge_volume(
    predictor: Predictor, image: ImageFile, recipe: Recipe, work: Path,
    link: LinkSettings | bool, start: int, volume: NDArray[np.int32], kept: Sequence[Embeddings],
) -> Steps[pd.DataFrame]:  # fmt: skip
    """Segment a stack whose planes are too large to be seen at once; as `_segment_volume`."""
    result = yield from segment_tiled_stack(
        predictor,
        Readers(image, recipe, start, start + len(volume)),
        (image.shape[-2], image.shape[-1]),
        tiled_path(work, start // len(volume)),
        recipe.settings(predictor),
        link=link,
        diameter=recipe.diameter,
        source=work.name,
        kept=kept,
    )
    labels = zarr.open_array(result.path / "0", mode="r")
    for number in range(len(volume)):
        volume[number] = labels[number]
    return result.table[["index", "predicted_iou", "stability", "planes" if link else "plane"]]


def _segment_volume(
    predictor: Predictor, image: ImageFile, recipe: Recipe, finished: UnitFolder | None,
    link: LinkSettings | bool, start: int, volume: NDArray[np.int32], kept: Sequence[Embeddings],
) -> Steps[pd.DataFrame]:  # fmt: skip
    """Segment the planes of a stack, from ``start`` on; return its objects, whose ids are in ``volume``.

    Where the planes are not linked, a column ``plane`` says in which of them an object is.
    """
    steps = segment_stack(
        predictor,
        Pictures(image, recipe, start, start + len(volume)),
        recipe.settings(predictor),
        link=link,
        diameter=recipe.diameter,
        kept=kept,
        finished=finished,
    )
    linked, planes = yield from _collect(steps, volume, start, len(image))
    for plane in volume:
        plane[...] = linked.relabelling[plane]
    if not link:
        return _plane_table(planes)
    return _mean_table([table.assign(index=linked.relabelling[table["index"]]) for table in planes])


def _collect(
    steps: Steps[StackResult], volume: NDArray[np.int32], start: int, total: int
) -> Generator[Progress, None, tuple[StackResult, list[pd.DataFrame]]]:
    """Write a stack's planes as they come."""
    tables: list[pd.DataFrame] = []
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value, tables
        if isinstance(step, PlaneDone):
            volume[step.plane] = step.labels
            tables.append(step.table)
        yield Progress(start + step.done, total, step.message)


def _plane_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One row an object and plane, with the number of the plane."""
    import pandas as pd

    columns = ["index", "predicted_iou", "stability", "plane"]
    rows = [table.assign(plane=number) for number, table in enumerate(tables) if len(table)]
    return (
        pd.concat(rows, ignore_index=True).reindex(columns=columns) if rows else pd.DataFrame(columns=columns)
    )


def _mean_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One row an object of a stack: the mean of what its planes say, and how many they are."""
    import pandas as pd

    filled = [table for table in tables if len(table)]
    if not filled:
        return pd.DataFrame({"index": np.empty(0, int)})
    rows = pd.concat(filled, ignore_index=True)
    rows = rows[rows["index"] > 0]
    grouped = rows.groupby("index")
    means = grouped[[c for c in ("predicted_iou", "stability") if c in rows]].mean()
    return means.assign(planes=grouped.size()).reset_index()
