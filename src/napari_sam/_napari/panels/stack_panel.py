"""Every plane of a stack, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QPushButton, QWidget

from napari_sam._napari.panels.form import choice, column, form, note
from napari_sam._napari.panels.progress_row import ProgressRow


class StackPanel(QWidget):
    """Choose the axis, run, cancel."""

    run_requested = Signal()
    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.axis = choice(tip="The axis of Z or T to walk along; other sliders stay where they are")
        self.link = QCheckBox("Link objects through the planes")
        self.link.setChecked(True)
        self.link.setToolTip("An object has the same number in every plane that it is in")
        self.run = QPushButton("Segment every plane")
        self.progress = ProgressRow()
        self.text = note()
        layout = column(self)
        fields = form()
        fields.addRow("Along", self.axis)
        layout.addLayout(fields)
        layout.addWidget(self.link)
        layout.addWidget(self.run)
        layout.addWidget(self.progress)
        layout.addWidget(self.text)
        self.run.clicked.connect(self.run_requested)
        self.progress.cancelled.connect(self.cancel_requested)
        self.set_axes(())

    def set_axes(self, axes: Sequence[tuple[str, int, int]]) -> None:
        """Offer axes by (name, number, size); the chosen one stays chosen if it is among them."""
        chosen = self.axis.currentData()
        with QSignalBlocker(self.axis):
            self.axis.clear()
            for name, number, size in axes:
                self.axis.addItem(f"{name} ({size} planes)", number)
            self.axis.setCurrentIndex(max(self.axis.findData(chosen), 0 if axes else -1))
        self.run.setEnabled(bool(axes))
        if not axes:
            self.say("This image has one plane only.")
        elif self.text.text().startswith("This image"):
            self.say("")

    def set_running(self, running: bool) -> None:
        """Show whether a stack is being segmented."""
        self.run.setEnabled(not running and self.axis.count() > 0)
        if running:
            self.say("")
            self.progress.start("Waiting for the model…")
        else:
            self.progress.stop()

    def say(self, text: str) -> None:
        """Show what became of the run."""
        self.text.setText(text)
        self.text.setVisible(bool(text))
