"""Write what was tuned here to a file, and take it from one."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_sam._napari.panels.form import column, row
from napari_sam._napari.panels.panel import Panel
from napari_sam._napari.panels.save_dialog import ask_for_file

KINDS = "Settings (*.yaml *.yml)"


class SettingsPanel(Panel):
    """Save settings, load settings."""

    save_requested = Signal(str)
    load_requested = Signal(str)

    def __init__(self) -> None:
        super().__init__("What is tuned here runs on whole folders:\nnapari-sam segment --settings FILE")
        self.save = QPushButton("Save settings…")
        self.save.setToolTip("Model, diameter, channels, contrast and filters, for napari-sam segment")
        self.load = QPushButton("Load settings…")
        layout = column(self)
        layout.addLayout(row(self.save, self.load))
        layout.addWidget(self.text)
        self.save.clicked.connect(self._on_save)
        self.load.clicked.connect(self._on_load)

    def _on_save(self) -> None:
        path = ask_for_file(self, "Save settings", "settings.yaml", "Settings", [".yaml", ".yml"])
        if path:
            self.save_requested.emit(path)

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load settings", "", KINDS)
        if path:
            self.load_requested.emit(path)
