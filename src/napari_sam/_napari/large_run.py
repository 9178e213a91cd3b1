"""Every object of a large plane, or of a stack of them, into labels on disk, shown while they fill."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_sam._napari.commit import store_rows
from napari_sam._napari.large_labels import Part, add_filling_labels, folder_of, store_highest
from napari_sam._napari.layers import said_of, set_filling, set_linked
from napari_sam.levels import FULL
from napari_sam.session.large import LabelsAt, everything_tiled, stack_tiled

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam._napari.panels.everything_panel import EverythingPanel
    from napari_sam._napari.planes import Plane
    from napari_sam._napari.workbench import Workbench
    from napari_sam.everything import AutomaticSettings
    from napari_sam.linking import LinkSettings
    from napari_sam.progress import Progress

REFRESH = 0.5
"""Seconds between two looks at what has come in."""


class LargeRun(QObject):
    """Segments large planes, tile by tile.

    Parameters
    ----------
    bench : Workbench
    kind : str
        Kind of the session's work: "everything" for the plane on show, "stack" for all along an axis.
    button : str
        What is pressed to go on with a run that was stopped.
    """

    said = Signal(str)
    filled = Signal(object)
    """A Labels layer has all objects."""

    def __init__(self, bench: Workbench, kind: str, button: str) -> None:
        super().__init__()
        self._bench, self._kind, self._button = bench, kind, button
        self._path: Path | None = None
        self._layer: Labels | None = None
        self._part: Part | None = None
        self._done = self._total = 0
        self._refreshed = 0.0
        bench.session.progressed.connect(self._on_progress)
        bench.session.finished.connect(self._on_finished)

    def show_in(self, panel: EverythingPanel) -> None:
        """Let a panel choose the folder, and say what comes out."""
        bench = self._bench
        self.said.connect(panel.say)
        panel.folder_picked.connect(self._on_folder)
        bench.plane_changed.connect(lambda: panel.set_large(bench.lookout.view is not None))
        panel.show_folder(bench.labels_folder)

    def _on_folder(self, folder: Path) -> None:
        self._bench.labels_folder = folder

    def run(self, settings: AutomaticSettings, folder: Path) -> None:
        """Segment the whole plane into a folder; what an earlier run has finished there is taken over.

        Parameters
        ----------
        settings : AutomaticSettings
        folder : Path
        """
        bench, session = self._bench, self._bench.session
        view = bench.lookout.view
        session.drop_automatic()
        part = Part(bench.image, bench.plane.index, bench.plane.factors)
        box, _ = bench.lookout.shown()
        work = partial(
            everything_tiled,
            session.predictor,
            view.plane,
            settings,
            session.diameter,
            folder,
            bench.image.name,
            axes=part.pixels,
            first=box.clip(view.plane.shape).centre,
            kept=(bench.storage.stored,),
        )
        self._begin(part, work)

    def run_stack(
        self,
        axis: int,
        plane: Plane,
        settings: AutomaticSettings,
        link: LinkSettings | bool,
        diameter: float | None,
        voxel: tuple[float, str] | None,
    ) -> None:
        """Segment every plane along an axis of the image; what an earlier run has finished is taken over.

        Parameters
        ----------
        axis : int
        plane : Plane
            One of them, at full resolution.
        settings, link, diameter, voxel
            See `napari_sam.tiling.segment_tiled_stack`.
        """
        bench = self._bench
        part = Part(bench.image, plane.index, along=axis)
        work = partial(
            stack_tiled,
            bench.session.predictor,
            bench.large_planes_along(axis),
            settings,
            link,
            diameter,
            bench.labels_folder,
            bench.image.name,
            axes=part.pixels,
            voxel=voxel,
            kept=(bench.storage.stored,),
        )
        self._begin(part, work)

    def _begin(self, part: Part, work: Any) -> None:
        self._part, self._path, self._layer = part, None, None
        self._done = self._total = 0
        self._bench.session.request(self._kind, work)

    def _on_progress(self, kind: str, progress: Progress) -> None:
        if kind != self._kind or self._part is None:
            return
        if isinstance(progress, LabelsAt):
            self._path = progress.path
        if self._path is None:
            return
        if hasattr(progress, "tile"):
            self._done, self._total = progress.done, progress.total
            self._show()
        if self._layer is not None and time.monotonic() - self._refreshed > REFRESH:
            self._refreshed = time.monotonic()
            self._layer.refresh(extent=False)

    def _show(self) -> None:
        """Show the labels, in the layer that is there from an earlier run if there is one."""
        viewer = self._bench.viewer
        if self._layer is None:
            same = (layer for layer in viewer.layers if folder_of(layer) == self._path)
            self._layer = next(same, None) or add_filling_labels(viewer, self._part, self._path)
            set_filling(self._layer, True)
            self._bench.preview.raise_to_top()
            viewer.layers.events.removed.connect(self._on_removed)

    def _on_finished(self, kind: str, outcome: Any) -> None:
        if kind != self._kind or self._part is None:
            return
        path, part = self._path, self._part
        if outcome is not None and path is not None:
            self._show()
            layer, table = self._layer, outcome.table
            store_highest(layer, int(table["index"].max()) if len(table) else 0)
            if part.in_order and part.factors == FULL:
                said_of(layer)["by_hand"] = True
            set_linked(layer, "plane" not in table)
            # Planes that are not linked have the same ids each; napari shows one row for an id.
            if "plane" not in table:
                store_rows(layer, table)  # objects that were added by hand keep theirs
            layer.refresh(extent=False)
            self.said.emit(f"{len(table)} objects in the layer {layer.name!r}, kept in {path}")
            self.filled.emit(layer)
        elif path is not None and self._layer is not None:
            self.said.emit(
                f"Stopped after {self._done} of {self._total} tiles, which are kept in {path}. "
                f"{self._button} goes on with the others."
            )
        if self._layer is not None:
            set_filling(self._layer, False)
            self._bench.viewer.layers.events.removed.disconnect(self._on_removed)
        self._part = self._path = self._layer = None

    def _on_removed(self, event: Any) -> None:
        """Who removes the layer does not want the rest either; what is finished stays on disk."""
        if event.value is self._layer:
            self._bench.session.cancel(self._kind)
