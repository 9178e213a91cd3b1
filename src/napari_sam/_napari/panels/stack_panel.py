"""A stack: every plane of it, one after the other, or one object through its planes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import floor, log10

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFrame, QPushButton, QWidget

from napari_sam._napari.panels.follow_panel import FollowPanel
from napari_sam._napari.panels.form import choice, column, form
from napari_sam._napari.panels.panel import Panel
from napari_sam._napari.panels.progress_row import ProgressRow
from napari_sam.linking import LinkSettings


class StackPanel(Panel):
    """Choose the axis, run, cancel."""

    run_requested = Signal()
    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.axis = choice(tip="The axis of Z or T to walk along; other sliders stay where they are")
        self.follow = FollowPanel()
        self.link = QCheckBox("Link objects through the planes")
        self.link.setChecked(True)
        self.link.setToolTip("An object has the same number in every plane that it is in")
        self.gap = QDoubleSpinBox()
        self.gap.setToolTip("An object may be missing for this long in between, and keeps its number")
        self.length = QDoubleSpinBox()
        self.length.setToolTip("Objects that are shorter than this along the axis are dropped")
        self.unit = choice(tip="Planes, or the length that the image's scale gives them")
        self.run = QPushButton("Segment every plane")
        self.progress = ProgressRow()
        self.why = ""
        self._chosen: int | None = None
        self._per_plane = 1.0
        self._planes = {self.gap: 1.0, self.length: 1.0}
        """The gap and the length in planes: the boxes round what they show."""
        self._lay_out()
        self.run.clicked.connect(self.run_requested)
        self.progress.cancelled.connect(self.cancel_requested)
        self.link.toggled.connect(self.linking.setVisible)
        self.unit.currentIndexChanged.connect(lambda _: self._convert())
        for box in self._planes:
            box.setRange(0, 1e6)
            box.valueChanged.connect(partial(self._on_value, box))
        self.set_step(1.0, "")
        self.set_axes(())

    def set_axes(self, axes: Sequence[tuple[str, int, int]], why: str = "") -> None:
        """Offer axes by (name, number, size); the one chosen last stays chosen if it is among them.

        Parameters
        ----------
        axes : sequence of tuple
        why : str
            Why there is none.
        """
        now = self.axis.currentData()
        self._chosen = chosen = self._chosen if now is None else now
        with QSignalBlocker(self.axis):
            self.axis.clear()
            for name, number, size in axes:
                self.axis.addItem(f"{name} ({size} planes)", number)
            self.axis.setCurrentIndex(max(self.axis.findData(chosen), 0 if axes else -1))
        self.run.setEnabled(bool(axes) and not self.progress.isVisibleTo(self))
        self.follow.set_possible(bool(axes))
        if why or self.text.text() == self.why:
            self.say(why)
        self.why = why

    def set_step(self, step: float, unit: str) -> None:
        """Tell how far apart the planes are, and in which unit; an empty one if that is not known.

        What is set stays as it is in planes.
        """
        chosen = self.unit.currentIndex()
        with QSignalBlocker(self.unit):
            self.unit.clear()
            self.unit.addItem("planes", 1.0)
            if unit:
                self.unit.addItem(f"{unit} (a plane is {step:.4g})", step)
            self.unit.setCurrentIndex(min(max(chosen, 0), self.unit.count() - 1))
        self.unit.setEnabled(bool(unit))
        self._convert()

    def link_settings(self) -> LinkSettings | bool:
        """How objects are linked through the planes, or False."""
        if not self.link.isChecked():
            return False
        return LinkSettings.measured(1.0, gap=self._planes[self.gap], length=self._planes[self.length])

    def set_running(self, running: bool) -> None:
        """Show whether a stack is being segmented."""
        self.run.setEnabled(not running and self.axis.count() > 0)
        if running:
            self.say("")
            self.progress.start("Waiting for the model…")
        else:
            self.progress.stop()

    def _lay_out(self) -> None:
        layout = column(self)
        fields = form()
        fields.addRow("Along", self.axis)
        layout.addLayout(fields)
        layout.addWidget(self.follow)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        layout.addWidget(line)
        layout.addWidget(self.link)
        self.linking = QWidget()
        fields = form()
        fields.setContentsMargins(16, 0, 0, 0)
        fields.addRow("May be missing for", self.gap)
        fields.addRow("Drop below", self.length)
        fields.addRow("Counted in", self.unit)
        self.linking.setLayout(fields)
        layout.addWidget(self.linking)
        layout.addWidget(self.run)
        layout.addWidget(self.progress)
        layout.addWidget(self.text)

    def _convert(self) -> None:
        """Show the gap and the length in the unit that is chosen now."""
        self._per_plane = float(self.unit.currentData())
        measured = self.unit.currentIndex() > 0
        for box, planes in self._planes.items():
            with QSignalBlocker(box):
                # A plane is told by two digits at least, however thin it is in this unit.
                box.setDecimals(max(2, 1 - floor(log10(self._per_plane))) if measured else 0)
                box.setSingleStep(self._per_plane)
                box.setValue(planes * self._per_plane)

    def _on_value(self, box: QDoubleSpinBox, value: float) -> None:
        self._planes[box] = value / self._per_plane
