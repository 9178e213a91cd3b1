"""The images of a folder in the window, one after the other, with their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Points, Shapes
from qtpy.QtCore import QObject, QTimer

from napari_sam._napari.large_labels import folder_of
from napari_sam._napari.layers import add_labels_layer, is_filling, is_own, own_layers, remove_layer, role_of
from napari_sam.axes import METRES, SECONDS
from napari_sam.session.annotator import FolderAnnotator
from napari_sam.session.folder_jobs import Look

if TYPE_CHECKING:
    from napari_sam._napari.panels.folder_panel import FolderPanel
    from napari_sam._napari.widget import SegmentAnythingDock
    from napari_sam.folder.annotate import Snapshot
    from napari_sam.folder.opened import Opened

PAUSE = 1000
"""Milliseconds after a change of the labels before they are saved."""
KNOWN = {*METRES, *SECONDS, "pixel"}
"""Units of files that napari knows too."""
COLOURS = ("red", "green", "blue", "magenta", "cyan", "yellow")


class Annotator(QObject):
    """Puts images and labels into the viewer, and saves what is drawn.

    Parameters
    ----------
    dock : SegmentAnythingDock
    panel : FolderPanel
    """

    def __init__(self, dock: SegmentAnythingDock, panel: FolderPanel) -> None:
        super().__init__()
        self._dock, self._panel, self._bench = dock, panel, dock.bench
        self.work = FolderAnnotator(dock.session, self._snapshot, self._look, self._may_leave)
        self._layers: list[Image] = []
        self._labels: Labels | None = None
        self._opened: Opened | None = None
        self._taken = False
        """Whether labels that were removed from the viewer held objects, which are saved."""
        self._asked: object = None
        """Masks of which was said that they are lost when another image is turned to."""
        self._step: Any = None
        self._pause = QTimer(self, singleShot=True, interval=PAUSE)
        self._pause.timeout.connect(self.work.keep)
        work = self.work
        panel.folder_picked.connect(self._on_folder)
        panel.image_picked.connect(work.go)
        panel.previous_requested.connect(work.previous)
        panel.next_requested.connect(work.next)
        panel.done_requested.connect(work.finish)
        panel.done_toggled.connect(work.mark)
        work.changed.connect(self._show)
        work.opened.connect(self._on_opened)
        work.said.connect(panel.say)
        self._bench.viewer.layers.events.removed.connect(self._on_removed)
        self._bench.target_made.connect(self._adopt)
        for signal in (dock.session.history_changed, dock.session.sifted_changed):
            signal.connect(self._on_decision)
        for run in (dock.stack.stack, dock.automatic.large):
            run.filled.connect(self._adopt)

    def begin(self, images: str, labels: str | None = None) -> None:
        """Work through a folder; the labels go into its folder ``labels`` if no other is given."""
        self._panel.say("")
        self.work.begin(images, labels or str(Path(images) / "labels"))

    def close(self) -> None:
        """Save everything, and let go of the viewer."""
        self._pause.stop()
        left = self._labels
        trouble, news = self.work.close()
        self._bench.viewer.layers.events.removed.disconnect(self._on_removed)
        self._watch(False)
        self._labels = None
        if trouble:
            self._bench.failed.emit(f"Not everything could be saved. {trouble}")
        elif left is not None and left in self._bench.viewer.layers:
            words = f"{left.name!r} is saved. What is changed in it from now on is not. {news}"
            self._bench.told.emit(words.strip())

    def _on_folder(self, images: str, labels: str) -> None:
        if self._may_leave():
            self.begin(images, labels)

    def _may_leave(self) -> bool:
        """Whether another image may be turned to: when asked twice, if work that took long would be lost."""
        dock = self._dock
        dock.stack.stack.settle()  # the labels of this image are complete then, and saved
        trail, labels = dock.stack.trail.trail, self._labels
        followed = None if trail is None else trail.propagation.anchors
        found = dock.session.automatic if dock.session.sifted else None
        filling = labels if labels is not None and is_filling(labels) else None
        lost = None if followed is found is filling is None else (followed, found, filling)
        asked, self._asked = self._asked, lost
        if lost == asked or lost is None:
            return True
        self._show()  # the list may have another row chosen
        if filling is not None:
            why = "Planes are still being filled in, which would stop. Wait for them"
        else:
            what = "The object that was followed" if followed is not None else "What Segment all found"
            why = f"{what} is not among the labels yet, and would be lost. Commit it first"
        words = f"{why}; or ask once more, to go on without it."
        self._panel.say(words)
        if not self._panel.isVisible():  # the key was pressed with the section folded
            self._bench.told.emit(words)
        return False

    # --- for the behaviour below --------------------------------------------------------------------

    def _snapshot(self, number: int) -> Snapshot | None:
        """Labels on show as they are now."""
        from napari_sam.folder.annotate import Snapshot

        if self._labels is None or self._opened is None:
            return None
        if self._misfit():
            self._panel.say(
                f"{self._labels.name!r} is not saved: it has the shape {self._labels.data.shape} now, and "
                f"its image {self._opened.shape}. Bring it back to that shape, or export it."
            )
            return None
        return Snapshot(number, np.array(self._labels.data), self._labels.features.copy(), self._opened.axes)

    def _misfit(self) -> bool:
        """Whether somebody gave the labels another shape than their image has."""
        return bool(self._labels is not None and self._labels.data.shape != self._opened.shape)

    def _look(self) -> Look:
        """How the dock looks at its image, for the one that is embedded ahead."""
        panel = self._dock.image_panel
        return Look(self._picks(), panel.contrast.currentData(), panel.diameter.value() or None)

    def _picks(self) -> tuple[int | None, ...] | None:
        """Channels by their numbers, if the image has several."""
        source, picks = self._dock.image_panel.picked_channels()
        if source != "layers":
            return None
        numbers = {id(layer): number for number, layer in enumerate(self._layers)}
        return tuple(numbers.get(id(pick)) for pick in picks)

    # --- showing ------------------------------------------------------------------------------------

    def _on_opened(self, opened: Opened) -> None:
        """Show another image instead of the one before."""
        viewer, bench = self._bench.viewer, self._bench
        self._take_back()
        tool, picks = bench.tool, self._picks()
        old, old_labels = self._layers, None if self._misfit() else self._labels
        shape_before = self._opened.shape if self._opened is not None else None
        self._watch(False)
        self._labels, self._opened, self._taken = None, opened, False
        entry = self.work.entries[self.work.current or 0]
        self._layers = self._add_images(opened, entry.source.stem, str(entry.source))
        # The new image is taken up before the old one goes, so that no other comes in between.
        bench.follower.turn_to(self._layers[0])
        self._forget(old, old_labels)
        bench.follower.turn_to(self._layers[0])  # napari has selected another layer meanwhile
        labels = add_labels_layer(viewer, self._layers[0], name=f"{entry.source.stem}: objects")
        if opened.labels is not None:
            labels.data = opened.labels
        if opened.features is not None:
            labels.features = opened.features
        self._labels = labels
        # What was decided on the image before cannot be taken back without its layers.
        bench.session.history.clear()
        bench.session.history_changed.emit()
        if len(self._layers) > 1:
            first = [n if n < len(self._layers) else None for n in (0, 1, 2)]
            named = [None if p is None or p >= len(self._layers) else self._layers[p] for p in picks or first]
            self._dock.image_panel.pick_channels("layers", named)
        if opened.middle:
            lead = viewer.dims.ndim - len(opened.shape)
            for axis, position in enumerate(opened.middle):
                viewer.dims.set_current_step(lead + axis, position)
        if opened.shape != shape_before:
            viewer.reset_view()
        bench.use(tool or "point")
        self._dock.commit_panel.target.pick(labels)
        self._dock.export_panel.labels.pick(labels)
        self._watch(True)

    def _add_images(self, opened: Opened, name: str, path: str) -> list[Image]:
        """Add a layer for each channel."""
        axes, viewer = opened.axes, self._bench.viewer
        several = len(opened.channels) > 1
        layers = []
        for number, pixels in enumerate(opened.channels):
            keywords: dict[str, Any] = {"rgb": True} if opened.rgb else {"rgb": False}
            if opened.contrast:
                keywords["contrast_limits"] = opened.contrast[number]
            if several:
                keywords |= {"colormap": COLOURS[number % len(COLOURS)], "blending": "additive"}
            layer = Image(
                pixels,
                name=f"{name}: channel {number}" if several else name,
                scale=axes.spacing,
                units=[unit if unit in KNOWN else "pixel" for unit in axes.units],
                axis_labels=tuple(axes.names.lower()),
                metadata={"path": path},
                **keywords,
            )
            viewer.add_layer(layer)
            layers.append(layer)
        return layers

    def _forget(self, images: list[Image], labels: Labels | None) -> None:
        """Take an image out of the viewer, with all that was made for it."""
        viewer = self._bench.viewer
        kept = []
        for image in images:
            for layer in own_layers(viewer, image):
                if layer is not labels and role_of(layer) == "labels" and _holds_objects(layer):
                    kept.append(layer.name)
                    continue
                if isinstance(layer, Points | Shapes):
                    # napari may crash in its next drawing when one with content is removed (napari#6472).
                    layer.selected_data = set()
                    layer.data = []
                remove_layer(viewer, layer)
            remove_layer(viewer, image)
        remove_layer(viewer, labels)
        if kept:
            self._panel.say(f"Not among the folder's labels, and still in the viewer: {', '.join(kept)}.")

    def _adopt(self, layer: Labels) -> None:
        """Take labels that were made for the image for those of the folder, if these are gone or empty."""
        if self._opened is None:
            return
        if layer is self._labels:  # hidden layers do not tell of changes
            self._take_back()
            self.work.touch()
            self.work.keep()
            return
        if not any(is_own(layer, image) for image in self._layers):
            if not any(is_own(layer, image) for image in self._bench.viewer.layers):
                self._panel.say(f"{layer.name!r} is not saved in the folder: its image is gone. Export it.")
            return
        folder = folder_of(layer)
        taken = self._taken if self._labels is None else _holds_objects(self._labels)
        if folder is not None:
            self._panel.say(
                f"{layer.name!r} is not saved in the folder: its planes are large, and it is kept in "
                f"{folder}. Export it as the labels of this image."
            )
        elif taken or layer.data.shape != self._opened.shape:
            self._panel.say(
                f"{layer.name!r} is not saved in the folder: there are other labels of this image already, "
                "which would be lost. Export it, or turn to another image and back to go on with those."
            )
        else:
            self._watch(False)
            old, self._labels = self._labels, layer
            remove_layer(self._bench.viewer, old)
            self._watch(True)
            self._dock.commit_panel.target.pick(layer)
            self._dock.export_panel.labels.pick(layer)
            self.work.touch()
            self.work.keep()

    # --- listening ----------------------------------------------------------------------------------

    def _watch(self, on: bool) -> None:
        """Begin or end to listen for changes of the labels."""
        if self._labels is None:
            return
        events = self._labels.events
        for emitter in (events.paint, events.data, events.features, events.set_data):
            (emitter.connect if on else emitter.disconnect)(self._on_labels)
        self._step = self._bench.viewer.dims.current_step

    def _on_labels(self, event: Any) -> None:
        """The labels were drawn, filled or taken back; napari says so too when a slider moved."""
        step = self._bench.viewer.dims.current_step
        moved, self._step = step != self._step, step
        if not moved and self.work.on_show is not None:
            if event.type != "set_data":
                self.work.touch()
            self._pause.start()

    def _on_decision(self) -> None:
        """Something was committed: what was said of its being lost may be over."""
        if self._dock.stack.trail.trail is None and not self._dock.session.sifted:
            self._take_back()

    def _take_back(self) -> None:
        """Say no more that something would be lost."""
        if self._asked is not None:
            self._asked = None
            self._panel.say("")

    def _on_removed(self, event: Any) -> None:
        """Whoever removes the labels has not asked for what is saved to be deleted."""
        if self._labels is not None and event.value is self._labels:
            self._watch(False)
            snapshot = self._snapshot(self.work.on_show) if self.work.on_show is not None else None
            self._taken = _holds_objects(self._labels)
            self._labels = None
            self.work.keep(snapshot)

    def _show(self) -> None:
        folder = self.work.folder
        if folder is not None:
            self._panel.show_folder(str(folder.images), str(folder.labels))
        self._panel.show_entries(self.work.entries, self.work.current)


def _holds_objects(labels: Labels) -> bool:
    """Whether there is anything in a Labels layer; it is taken for granted where it is kept on disk."""
    return not isinstance(labels.data, np.ndarray) or bool(labels.data.any())
