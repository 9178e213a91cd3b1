"""How far a long computation is, with a button to give it up."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_sam._napari.panels.form import note
from napari_sam.progress import SILENT, Progress


class ProgressRow(QWidget):
    """A bar, a line of text and a cancel button; hidden while nothing runs."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.button = QPushButton("Cancel")
        self.text = note()
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.text)
        self.button.clicked.connect(self.cancelled)
        self.hide()

    def start(self, text: str) -> None:
        """Show that something runs, how long is not known yet."""
        self.bar.setRange(0, 0)
        self.text.setText(text)
        self.show()

    def set_progress(self, progress: Progress) -> None:
        """Show how far it is, unless there is nothing to show."""
        if progress == SILENT:
            return
        self.bar.setRange(0, max(progress.total, 0))
        self.bar.setValue(progress.done)
        if progress.message:
            self.text.setText(progress.message)
        self.show()

    def stop(self) -> None:
        """Nothing runs any more."""
        self.hide()
