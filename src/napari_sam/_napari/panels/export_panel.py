"""Write labels to a file."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton

from napari_sam._napari.panels.form import choice, column, form, note
from napari_sam._napari.panels.layer_picker import LayerPicker
from napari_sam._napari.panels.panel import Panel
from napari_sam._napari.panels.progress_row import ProgressRow
from napari_sam._napari.panels.save_dialog import ask_for_file
from napari_sam.export import FORMATS


class ExportPanel(Panel):
    """Choose labels, format and file."""

    export_requested = Signal(object, str, str)
    """Layer, path and name of the format."""
    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.labels = LayerPicker()
        self.format = choice(*((f"{f.name} ({f.suffixes[0]})", f) for f in FORMATS))
        self.planes = choice(
            ("as the layer says", None),
            ("time points", "T"),
            ("depths", "Z"),
            tip="Of a layer with three axes: objects of a movie are measured in each time point, those of a "
            "volume as a whole",
        )
        self.title = note()
        self.button = QPushButton("Save as…")
        self.progress = ProgressRow()
        layout = column(self)
        fields = form()
        fields.addRow("Labels", self.labels)
        fields.addRow("Format", self.format)
        fields.addRow("Planes are", self.planes)
        layout.addLayout(fields)
        layout.addWidget(self.title)
        layout.addWidget(self.button)
        layout.addWidget(self.progress)
        layout.addWidget(self.text)
        self.text.hide()
        self._show_title()
        self.format.currentIndexChanged.connect(lambda _: self._show_title())
        self.button.clicked.connect(self._on_clicked)
        self.progress.cancelled.connect(self.cancel_requested)

    def _show_title(self) -> None:
        self.title.setText(self.format.currentData().title)

    def _on_clicked(self) -> None:
        layer = self.labels.layer
        if layer is None:
            self.say("There is no Labels layer to export. Commit an object first.")
            return
        wanted = self.format.currentData()
        suffix = wanted.suffixes[0]
        start = f"{layer.name.replace('/', '-').replace(': ', '-')}{suffix}"
        path = ask_for_file(self, "Export labels", start, wanted.title, wanted.suffixes)
        if path:
            self.export_requested.emit(layer, path, wanted.name)
