"""Every plane of a stack into one Labels layer, which fills as the planes come in."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_sam._napari.choices import is_time
from napari_sam._napari.commit import check_target, store_rows, write_plane
from napari_sam._napari.coordinates import PlaneError, PlaneIndex
from napari_sam._napari.ids import next_label
from napari_sam._napari.label_pixels import CommitError
from napari_sam._napari.large import is_large
from napari_sam._napari.large_run import LargeRun
from napari_sam._napari.layers import add_labels_layer, is_own, set_filling, set_linked, twin_plane
from napari_sam._napari.planes import Pictures, Plane
from napari_sam.axes import voxel_volume
from napari_sam.linking import LinkSettings
from napari_sam.spacing import pixel_spacing

if TYPE_CHECKING:
    import pandas as pd
    from napari.layers import Image, Labels

    from napari_sam._napari.workbench import Workbench
    from napari_sam.everything import AutomaticSettings
    from napari_sam.predictor import Predictor
    from napari_sam.progress import Progress, Steps
    from napari_sam.stack import PlaneDone, StackResult
    from napari_sam.store import EmbeddingCache


REST = 10
"""Times as long as the drawing of the layer took, until it is drawn again."""


class StackRun(QObject):
    """Segments a stack and fills a layer; one of large planes on disk, tile by tile.

    Parameters
    ----------
    bench : Workbench
    """

    filled = Signal(object)
    """A Labels layer has all planes."""
    said = Signal(str)
    failed = Signal(str)

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self._layer: Labels | None = None
        self._planes: Sequence[Plane] = ()
        self._image: Image | None = None
        self._done = self._below = 0
        self._rest_until = 0.0
        self._final: Segmented | None = None
        """The outcome, while its numbers are being written into the planes."""
        self._large = LargeRun(bench, "stack", "Segment every plane")
        self._large.said.connect(self.said)
        self._large.filled.connect(self.filled)
        bench.session.progressed.connect(self._on_progress)
        bench.session.finished.connect(self._on_finished)
        bench.viewer.layers.events.removed.connect(self._on_removed)

    def run(
        self, axis: int, *, link: LinkSettings | bool, diameter: float | None, into: Labels | None = None
    ) -> None:
        """Segment every plane along an axis of the image.

        Parameters
        ----------
        axis : int
        link : LinkSettings or bool
            How objects are linked through the planes; False if they are not.
        diameter : float, optional
            Typical object diameter in pixels.
        into : Labels, optional
            Labels in which these planes are a part that is free, as a time point of a movie of volumes is;
            else a new layer is filled.
        """
        bench, session = self._bench, self._bench.session
        if bench.image is None or session.predictor is None or session.automatic_settings is None:
            self.failed.emit("Nothing to segment yet: wait for the model to load and choose an image.")
            return
        try:
            planes = list(bench.planes_along(axis))
        except PlaneError as error:
            self.failed.emit(str(error))
            return
        session.cancel("stack")
        settings, voxel = session.automatic_settings, _voxel(bench.image, axis, planes[0].index)
        if is_time(bench.image, axis) and isinstance(link, LinkSettings):
            link = link.over_time()
        if is_large(bench.image, planes[0]):
            self._large.run_stack(axis, planes[0], settings, link, diameter, voxel)
            return
        if into is not None and _is_free(into, bench.image, planes, bench.channel_axis):
            self._layer = into
        else:
            name = f"{bench.image.name}: stack"
            self._layer = add_labels_layer(
                bench.viewer, bench.image, name=name, channel_axis=bench.channel_axis, dtype=np.uint32
            )
        self._below = next_label(self._layer) - 1
        set_filling(self._layer, True)
        self._planes, self._image, self._done = planes, bench.image, 0
        bench.image.events.data.connect(self._on_pixels)
        work = partial(segment, session.predictor, planes, settings, link, diameter, session.cache, voxel)
        session.request("stack", work)

    def close(self) -> None:
        """Fill the layer no more."""
        self._bench.viewer.layers.events.removed.disconnect(self._on_removed)
        self.settle()
        self._let_go()

    def settle(self) -> None:
        """Write the numbers of a stack that is complete, if they are being written, at once."""
        if self._final is not None:
            self._bench.session.cancel("stack")

    def _on_progress(self, kind: str, progress: Progress) -> None:
        plane = getattr(progress, "plane", None)
        if kind != "stack" or plane is None or self._layer is None:
            return
        self._write(progress)
        self._done = plane + 1

    def _on_finished(self, kind: str, outcome: Any) -> None:
        if kind != "stack" or self._layer is None:
            return
        if outcome is None and self._final is not None:
            table = self._final.table
            self._write_numbers()
            self._finish(table)
        elif outcome is None:
            layer, total = self._layer, len(self._planes)
            self._let_go()
            self.said.emit(f"Stopped after {self._done} of {total} planes; they are kept in {layer.name!r}.")
        elif isinstance(outcome, Segmented) and not outcome.result.unchanged:
            # All planes are in the layer by now: what was told before this was shown before this.
            self._final, self._done = outcome, 0
            self._bench.session.request("stack", self._renumber(outcome))
        else:
            self._finish(outcome.table)

    def _write_numbers(self) -> None:
        """Write the numbers that are left, at once: in part of the planes they would mean other objects."""
        final, self._final = self._final, None
        if final is not None and self._layer is not None:
            for step in islice(self._renumber(final)(), self._done, None):
                self._write(step)

    def _renumber(self, final: Segmented) -> Callable[[], Generator[PlaneDone, None, Segmented]]:
        assert self._layer is not None
        indices = [plane.index for plane in self._planes]
        return partial(renumber, self._layer.data, indices, final, self._below)

    def _write(self, step: PlaneDone) -> None:
        """Write a plane; its ids count from those that the layer had before."""
        assert self._layer is not None
        labels = np.where(step.labels > 0, step.labels + self._below, 0)
        write_plane(self._layer, self._planes[step.plane].index, labels, refresh=False)
        # In 3D all of the volume is drawn: with every plane that comes in, the window would do nothing else.
        began = time.monotonic()
        if began >= self._rest_until:
            self._layer.refresh(extent=False)
            ended = time.monotonic()
            self._rest_until = ended + REST * (ended - began)

    def _finish(self, table: pd.DataFrame) -> None:
        layer, total = self._layer, len(self._planes)
        self._let_go()
        if layer is not None:
            set_linked(layer, "plane" not in table)
            # Planes that are not linked have the same ids each; napari shows one row for an id.
            if len(table) and "plane" not in table:
                store_rows(layer, table.assign(index=table["index"] + self._below))
            count = f"{len(table)} object{'s' if len(table) != 1 else ''}"
            self.said.emit(f"{count} in {total} planes, in the layer {layer.name!r}.")
            self.filled.emit(layer)

    def _let_go(self) -> None:
        """End with the layer, and keep none of the image's arrays alive."""
        layer = self._layer
        if layer is not None:
            set_filling(layer, False)
        if self._image is not None:
            self._image.events.data.disconnect(self._on_pixels)
        self._layer, self._planes, self._image, self._final = None, (), None, None
        if layer is not None:
            layer.refresh(extent=False)  # what came in since it was drawn last

    def _on_pixels(self, event: Any) -> None:
        """The image became another one: the planes that are filled in are no longer its own."""
        if self._final is not None:
            self.settle()  # all planes are those before: half of the numbers would be those of other objects
        elif self._layer is not None:
            image, labels = event.source.name, self._layer.name
            self._let_go()
            self._bench.session.cancel("stack")
            self.said.emit(f"Stopped: {image!r} has other pixels now. {labels!r} is of those before.")

    def _on_removed(self, event: Any) -> None:
        """Who removes the layer does not want the rest either."""
        if event.value is self._layer:
            self._let_go()
            self._bench.session.cancel("stack")
            self.said.emit("Stopped: the layer that was being filled is gone.")


@dataclass(frozen=True, eq=False, slots=True)
class Segmented:
    """A stack whose planes are all out; ``table`` has one row for each final id."""

    result: StackResult
    table: pd.DataFrame


def segment(
    predictor: Predictor,
    planes: Sequence[Plane],
    settings: AutomaticSettings,
    link: LinkSettings | bool,
    diameter: float | None,
    cache: EmbeddingCache,
    voxel: tuple[float, str] | None = None,
) -> Steps[Segmented]:
    """Segment planes one after the other; each comes out as `napari_sam.stack.PlaneDone`."""
    from napari_sam.stack import object_table, segment_stack

    tables: list[pd.DataFrame] = []
    pictures = Pictures(planes)
    steps = segment_stack(predictor, pictures, settings, link=link, diameter=diameter, kept=(cache,))
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return Segmented(end.value, object_table(tables, end.value, voxel))
        if hasattr(step, "table"):
            tables.append(step.table)
        yield step


def renumber(
    filled: NDArray[np.integer], planes: Sequence[PlaneIndex], segmented: Segmented, below: int = 0
) -> Generator[PlaneDone, None, Segmented]:
    """Go through a filled stack once more and give its objects their final ids.

    The ids in it are greater by ``below`` than those that are told.
    """
    from napari_sam.stack import PlaneDone

    lookup = segmented.result.relabelling
    for number, plane in enumerate(planes):
        labels = np.asarray(filled[twin_plane(plane, filled.ndim).slices])
        labels = lookup[np.maximum((labels.T if plane.flipped else labels).astype(np.int64) - below, 0)]
        message = f"plane {number + 1} of {len(planes)}: numbers"
        yield PlaneDone(
            number + 1, len(planes), message, plane=number, labels=labels, table=segmented.table.iloc[:0]
        )
    return Segmented(replace(segmented.result, relabelling=np.arange(len(lookup))), segmented.table)


def _is_free(labels: Labels, image: Image, planes: Sequence[Plane], channel_axis: int | None) -> bool:
    """Whether an image's labels have nothing on some planes, which are not all that there are."""
    try:
        check_target(labels, image, channel_axis=channel_axis)
    except CommitError:
        return False
    if labels.multiscale:  # on disk; planes that are small enough are filled in memory
        return False
    data = labels.data
    places = [twin_plane(plane.index, labels.ndim).slices for plane in planes]
    whole = data.size == len(places) * data[places[0]].size
    return is_own(labels, image, "labels") and not whole and not any(data[p].any() for p in places)


def _voxel(image: Image, axis: int, plane: PlaneIndex) -> tuple[float, str] | None:
    """Volume of a voxel of a stack along an axis, by the size of its pixels; None where that is not known."""
    axes, spacing = (axis, *plane.axes), pixel_spacing(image)
    if spacing is None:
        return None
    return voxel_volume([spacing[a] for a in axes], [image.units[a] for a in axes])
