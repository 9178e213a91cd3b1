"""Objects of a movie as tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFileDialog, QPushButton, QSpinBox

from napari_sam._napari.panels.form import choice, column, form, row
from napari_sam._napari.panels.layer_picker import LayerPicker
from napari_sam._napari.panels.panel import Panel
from napari_sam._napari.panels.progress_row import ProgressRow
from napari_sam._napari.panels.save_dialog import ask_for_file, may_replace
from napari_sam.tracks import TRACK_FORMATS
from napari_sam.tracks.ctc import RESULT_FILE


class TracksPanel(Panel):
    """Choose labels, link their objects over time, save the tracks."""

    run_requested = Signal()
    cancel_requested = Signal()
    save_requested = Signal(object, str)
    """A Tracks layer and a path."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = LayerPicker()
        self.labels.setToolTip("Labels of a movie, segmented frame by frame; time is their first axis")
        self.distance = QDoubleSpinBox()
        self.distance.setRange(0, 1e6)
        self.distance.setSpecialValueText("as far as it is wide")
        self.distance.setToolTip("How far an object moves at most from one frame to the next")
        self.gap = QSpinBox()
        self.gap.setRange(0, 100)
        self.gap.setValue(1)
        self.gap.setPrefix("at most ")
        self.gap.setToolTip("In how many frames in between an object may be missing, and keep its track")
        self.divisions = QCheckBox("Objects may divide")
        self.divisions.setChecked(True)
        self.renumber = QCheckBox("Also labels numbered by track")
        self.renumber.setChecked(True)
        self.renumber.setToolTip("A new Labels layer, in which an object keeps its number and its colour")
        self.run = QPushButton("Track objects")
        self.progress = ProgressRow()
        self.tracks = LayerPicker()
        self.format = choice(*((f"{f.name} ({f.suffix or 'folder'})", f) for f in TRACK_FORMATS))
        self.save = QPushButton("Save tracks as…")
        self._running = False
        self._lay_out()
        self.run.clicked.connect(self.run_requested)
        self.progress.cancelled.connect(self.cancel_requested)
        self.labels.layer_picked.connect(lambda _: self._show_unit())
        self.save.clicked.connect(self._on_save)
        self.set_layers((), ())
        self.say("")

    def set_layers(self, labels: Any, tracks: Any) -> None:
        """Offer Labels layers with an axis to track along, and Tracks layers."""
        self.labels.set_layers(labels)
        self.tracks.set_layers(tracks)
        self._show_unit()
        self._show_buttons()

    def set_running(self, running: bool) -> None:
        """Show whether something is tracked or saved."""
        self._running = running
        self._show_buttons()
        if running:
            self.say("")
            self.progress.start("Waiting…")
        else:
            self.progress.stop()

    def _lay_out(self) -> None:
        layout = column(self)
        fields = form()
        fields.addRow("Labels", self.labels)
        fields.addRow("Moves at most", self.distance)
        fields.addRow("Missing frames", self.gap)
        layout.addLayout(fields)
        layout.addWidget(self.divisions)
        layout.addWidget(self.renumber)
        layout.addWidget(self.run)
        layout.addWidget(self.progress)
        layout.addWidget(self.text)
        fields = form()
        fields.addRow("Tracks", self.tracks)
        layout.addLayout(fields)
        layout.addLayout(row(self.format, self.save, stretch=0))

    def _show_buttons(self) -> None:
        self.run.setEnabled(not self._running and self.labels.layer is not None)
        self.save.setEnabled(not self._running and self.tracks.layer is not None)

    def _show_unit(self) -> None:
        layer = self.labels.layer
        unit = f"{layer.units[-1]:~}" if layer is not None else ""
        self.distance.setSuffix("" if unit in ("", "pixel") else f" {unit}")

    def _on_save(self) -> None:
        layer, wanted = self.tracks.layer, self.format.currentData()
        start = layer.name.replace("/", "-").replace(": ", "-") + wanted.suffix
        if wanted.suffix:
            path = ask_for_file(self, "Save tracks", start, wanted.title, [wanted.suffix])
        else:
            title = f"Folder for the masks and {RESULT_FILE}"
            path = QFileDialog.getExistingDirectory(self, title)
            older = Path(path) / RESULT_FILE
            if path and older.exists() and not may_replace(self, title, f"A result in {path}"):
                return
        if path:
            self.save_requested.emit(layer, path)
