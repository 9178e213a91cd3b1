"""The folder of embeddings: what the panel asks for, and what becomes of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_sam._napari.choices import stack_axes, why_no_axes
from napari_sam._napari.coordinates import PlaneError, finest
from napari_sam._napari.large import is_large
from napari_sam._napari.planes import Pictures
from napari_sam._napari.settings import preferences, set_preference

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam._napari.panels.image_panel import ImagePanel
    from napari_sam._napari.panels.store_panel import StorePanel
    from napari_sam._napari.workbench import Workbench
    from napari_sam.progress import Progress


class StoreRun(QObject):
    """Connects the panel of the folder with the session's storage.

    Parameters
    ----------
    bench : Workbench
    panel : StorePanel
    image_panel : ImagePanel
        Where contrast and diameter are chosen.
    """

    def __init__(self, bench: Workbench, panel: StorePanel, image_panel: ImagePanel) -> None:
        super().__init__()
        self._bench, self._panel, self._image_panel = bench, panel, image_panel
        self._here = 0
        session, storage = bench.session, bench.storage
        panel.folder_picked.connect(self._on_folder)
        panel.run_requested.connect(self.run)
        panel.cancel_requested.connect(partial(session.cancel, "precompute"))
        storage.changed.connect(self._show)
        storage.matched.connect(self._on_matched)
        session.started.connect(self._on_started)
        session.progressed.connect(self._on_progress)
        session.finished.connect(self._on_finished)
        session.model_changed.connect(self._match)
        bench.image_changed.connect(self._match)
        bench.plane_changed.connect(self._on_plane)
        chosen = preferences()
        panel.show_folder(chosen.store_folder, chosen.store_read_only, chosen.store_gb)
        self._show()

    def open_preferred(self) -> None:
        """Open the folder of the Preferences, if there is one."""
        chosen = preferences()
        if chosen.store_folder:
            self._open(chosen.store_folder, chosen.store_read_only, chosen.store_gb)

    def run(self) -> None:
        """Embed every plane along the chosen axis into the folder; large planes in tiles."""
        bench, axis = self._bench, self._panel.axis.currentData()
        diameter, view = self._image_panel.typical_diameter, bench.lookout.view
        if axis is None and view is not None:
            bench.storage.precompute_tiles([view.plane], lambda: 0, diameter)
            return
        if axis is None or bench.image is None:
            why = why_no_axes(bench.viewer, bench.image, bench.channel_axis)
            bench.failed.emit(f"There is nothing to embed ahead of time. {why}")
            return
        try:
            planes = tuple(bench.planes_along(axis, at_level=True))
            large = is_large(bench.image, planes[0])
            parts = bench.large_planes_along(axis, at_level=True) if large else []
        except PlaneError as error:
            bench.failed.emit(str(error))
            return
        self._on_plane()

        def here() -> int:
            return min(self._here, len(planes) - 1)

        if large:
            bench.storage.precompute_tiles(parts, here, diameter)
        else:
            bench.storage.precompute(Pictures(planes), here, diameter)

    def _on_folder(self, path: str, read_only: bool, gigabytes: float) -> None:
        set_preference("store", "folder", path)
        set_preference("store", "read_only", read_only)
        set_preference("store", "max_gb", gigabytes)
        self._open(path, read_only, gigabytes)

    def _open(self, path: str, read_only: bool, gigabytes: float) -> None:
        self._bench.storage.open(path, read_only=read_only, max_bytes=int(gigabytes * 1e9))

    def _match(self, _: Any = None) -> None:
        """Another image, model or folder: look whether micro-sam's store fits."""
        image = self._bench.image
        self._bench.storage.match(None if image is None else partial(raw_pixels, image))

    def _on_matched(self) -> None:
        """Show the planes to the model as micro-sam did: what was computed then holds for them."""
        contrast = self._image_panel.contrast
        contrast.setCurrentIndex(contrast.findData("tiles"))

    def _on_plane(self) -> None:
        bench = self._bench
        self._panel.set_axes(stack_axes(bench.viewer, bench.image, bench.channel_axis))
        axis = self._panel.axis.currentData()
        if axis is not None and bench.plane is not None:
            self._here = bench.plane.index.index[axis] or 0
        self._show()

    def _on_started(self, kind: str) -> None:
        if kind in ("precompute", "index"):
            self._panel.progress.start("Waiting for the model…" if kind == "precompute" else "Reading…")
            self._show()

    def _on_progress(self, kind: str, progress: Progress) -> None:
        if kind in ("precompute", "index"):
            self._panel.progress.set_progress(progress)

    def _on_finished(self, kind: str, outcome: Any) -> None:
        running = self._bench.session.running
        if kind in ("precompute", "index") and not running & {"precompute", "index"}:
            self._panel.progress.stop()
        if kind == "store" and outcome is not None:
            self._match()
        if kind in ("precompute", "embed", "store", "prefetch"):
            self._show()

    def _show(self) -> None:
        storage, running = self._bench.storage, self._bench.session.running
        able = storage.writable and "precompute" not in running
        self._panel.set_able(able, large=self._bench.lookout.view is not None)
        text = storage.text
        if storage.trouble and storage.trouble != text:
            text = f"{text}\n{storage.trouble}"
        self._panel.say(text)


def raw_pixels(image: Image) -> Any:
    """Pixels of a layer at full resolution as they are in its file; colours are the last axis."""
    data = finest(image)
    return data if hasattr(data, "ndim") else np.asarray(data)
