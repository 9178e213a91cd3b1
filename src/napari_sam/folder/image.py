"""Segment one image: a plane, or a stack with its planes linked."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import Axes
from napari_sam.everything import generate
from napari_sam.files import ImageFile
from napari_sam.image import RGB, Contrast, plane_to_rgb
from napari_sam.predictor import Predictor
from napari_sam.progress import Progress, Steps
from napari_sam.recipe import Recipe
from napari_sam.stack import PlaneDone, StackResult, segment_stack

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, slots=True)
class Segmented:
    """Labels of an image.

    Parameters
    ----------
    labels : ndarray of int32
        In the order of ``axes``; a stack lies on disk (`numpy.memmap`).
    axes : Axes
    table : DataFrame
        One row an object, with its id in ``index``.
    """

    labels: NDArray[np.int32]
    axes: Axes
    table: pd.DataFrame

    @property
    def count(self) -> int:
        """Number of objects; of planes that are not linked, the sum of theirs."""
        if len(self.table):
            return len(self.table)
        planes = self.labels.reshape(-1, *self.labels.shape[-2:])
        return sum(int(np.count_nonzero(np.bincount(plane.ravel())[1:])) for plane in planes)


class Pictures(Sequence[RGB]):
    """The planes of an image as 8-bit RGB, read and converted when they are asked for."""

    def __init__(self, image: ImageFile, recipe: Recipe, start: int = 0, stop: int | None = None) -> None:
        self._image, self._recipe = image, recipe
        self._numbers = range(len(image))[start:stop]

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self._numbers)

    def __getitem__(self, number: Any) -> Any:
        """Read one plane."""
        recipe = self._recipe
        windows = None if recipe.contrast is None else [Contrast(*pair) for pair in recipe.contrast]
        plane = self._image.plane(self._numbers[number])
        return plane_to_rgb(plane, contrast=windows, channels=recipe.channels)


def segment_image(
    predictor: Predictor, image: ImageFile, recipe: Recipe, folder: Path | None = None
) -> Steps[Segmented]:
    """Segment every plane of an image.

    The planes of a stack are linked along Z, or along T where there is no Z; the labels of a stack lie in a
    temporary file, so that memory does not grow with the number of planes.

    Parameters
    ----------
    predictor : Predictor
    image : ImageFile
    recipe : Recipe
    folder : Path, optional
        Where the temporary file goes.
    """
    import pandas as pd

    settings = recipe.settings(predictor)
    if len(image) == 1:
        picture = Pictures(image, recipe)[0]
        result = yield from generate(predictor, picture, settings, diameter=recipe.diameter)
        labels, table = result.labels()
        return Segmented(labels.reshape(image.shape), image.axes, table)
    with tempfile.TemporaryFile(dir=folder) as file:
        # The mapping outlives the file's name and handle: nothing is left behind, however the run ends.
        written = np.memmap(file, np.int32, "w+", shape=(len(image), *image.shape[-2:]))
    depth = image.shape[-3]
    tables: list[pd.DataFrame] = []
    top = 0
    for start in range(0, len(image), depth):
        volume = written[start : start + depth]
        pictures = Pictures(image, recipe, start, start + depth)
        steps = segment_stack(predictor, pictures, settings, link=recipe.link, diameter=recipe.diameter)
        linked, found = yield from _collect(steps, volume, start, len(image))
        # The objects of each time point get ids of their own, after those before.
        final = np.where(linked.relabelling > 0, linked.relabelling + top, 0).astype(np.int32)
        for plane in volume:
            plane[...] = final[plane]
        tables += [table.assign(index=final[table["index"].to_numpy()]) for table in found]
        top += linked.count if recipe.link else 0
    table = _mean_table(tables) if recipe.link else pd.DataFrame()
    return Segmented(written.reshape(image.shape), image.axes, table)


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


def _mean_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One row an object of a stack: the mean of what its planes say, and how many they are."""
    import pandas as pd

    filled = [table for table in tables if len(table)]
    if not filled:
        return pd.DataFrame()
    rows = pd.concat(filled, ignore_index=True)
    rows = rows[rows["index"] > 0]
    grouped = rows.groupby("index")
    means = grouped[[c for c in ("predicted_iou", "stability") if c in rows]].mean()
    return means.assign(planes=grouped.size()).reset_index()
