"""One object through the planes of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QPushButton, QWidget

from napari_sam._napari.panels.confidence_strip import ConfidenceStrip
from napari_sam._napari.panels.form import choice, column, form, note, row
from napari_sam._napari.panels.panel import Panel
from napari_sam._napari.panels.progress_row import ProgressRow
from napari_sam._napari.panels.section import Section

if TYPE_CHECKING:
    from napari_sam.session.trail import Trail

PROMPTS = {
    "its mask and box": ("mask", "box"),
    "its mask": ("mask",),
    "its box": ("box",),
    "a point in its middle": ("point",),
    "its box and a point": ("box", "point"),
    "all of these": ("mask", "box", "point"),
}


class FollowPanel(Panel):
    """Follow an object, see how sure each plane is, go there, commit it as one."""

    run_requested = Signal()
    cancel_requested = Signal()
    plane_picked = Signal(int)
    weakest_requested = Signal()
    end_requested = Signal()
    commit_requested = Signal()
    discard_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.run = QPushButton("Follow this object")
        self.run.setToolTip(
            "From the prompts on this plane, and on others where you set some, in both directions (Shift+F)"
        )
        self.prompts = choice(
            *PROMPTS.items(), tip="What the object on a plane says to the model on the next"
        )
        self.min_iou = _number(0.0, 0.95, 0.05, "Ended when it overlaps less with the plane before (IoU)")
        self.max_growth = _number(1.1, 20, 0.1, "Ended when its area changes by more than this factor")
        self.progress = ProgressRow()
        self.strip = ConfidenceStrip()
        self.weakest = QPushButton("Weakest plane")
        self.weakest.setToolTip("Go to the plane of least confidence; again for the next one (Shift+W)")
        self.end = QPushButton("Ends here")
        self.end.setToolTip("The object is not on this plane, nor on those that were followed beyond it")
        self.commit = QPushButton("Commit object")
        self.commit.setToolTip("Write it into all its planes, with one number (C)")
        self.discard = QPushButton("Discard")
        self._running = self._possible = False
        self._lay_out()
        self._connect()
        self.show_settings()
        self.show_trail(None)
        self.say("")

    def settings(self) -> dict[str, Any]:
        """What is chosen, as keywords of `PropagationSettings`."""
        chosen = self.prompts.currentData()
        prompts = {kind: kind in chosen for kind in ("mask", "box", "point")}
        return {**prompts, "min_iou": self.min_iou.value(), "max_growth": self.max_growth.value()}

    def show_settings(self, min_iou: float = 0.4, max_growth: float = 2.5) -> None:
        """Set what ends an object."""
        self.min_iou.setValue(min_iou)
        self.max_growth.setValue(max_growth)

    def set_possible(self, possible: bool) -> None:
        """Whether there is an axis to follow along."""
        self._possible = possible
        self.run.setEnabled(possible and not self._running)

    def set_running(self, running: bool) -> None:
        """Show whether an object is being followed."""
        self._running = running
        self.set_possible(self._possible)
        if running:
            self.say("")
            self.progress.start("Waiting for the model…")
        else:
            self.progress.stop()

    def show_trail(self, trail: Trail | None) -> None:
        """Show where the object was found."""
        for widget in (self.strip, self.summary, self.weakest, self.end, self.commit, self.discard):
            widget.setVisible(trail is not None)
        if trail is None:
            self.strip.show_planes((), ())
            return
        self.strip.show_planes(trail.confidence, trail.anchors)
        planes, weak = trail.planes, trail.weak()
        words = f"On {len(planes)} of {trail.total} planes, {min(planes)} to {max(planes)}."
        if weak is not None and weak not in trail.anchors:
            words += f" Least sure: plane {weak}, {planes[weak].confidence:.0%}."
        self.summary.setText(words)
        self.commit.setText(f"Commit in {len(planes)} planes" if len(planes) > 1 else "Commit object")

    def show_here(self, plane: int | None, ended: bool) -> None:
        """Show which plane is on show, and whether the object was ended there."""
        self.strip.show_here(plane)
        self.end.setEnabled(plane is not None)
        self.end.setText("Goes on here" if ended else "Ends here")

    def _lay_out(self) -> None:
        layout = column(self)
        layout.setContentsMargins(0, 0, 0, 0)
        options = QWidget()
        fields = form()
        fields.addRow("Next plane gets", self.prompts)
        fields.addRow("Ends below IoU", self.min_iou)
        fields.addRow("or area ×", self.max_growth)
        inner = column(options)
        inner.addLayout(fields)
        self.options = Section("How it is followed", options, expanded=False)
        self.summary = note()
        layout.addWidget(self.run)
        layout.addWidget(self.progress)
        layout.addWidget(self.strip)
        layout.addWidget(self.summary)
        layout.addLayout(row(self.weakest, self.end))
        layout.addLayout(row(self.commit, self.discard))
        layout.addWidget(self.text)
        layout.addWidget(self.options)

    def _connect(self) -> None:
        self.run.clicked.connect(self.run_requested)
        self.progress.cancelled.connect(self.cancel_requested)
        self.strip.plane_picked.connect(self.plane_picked)
        self.weakest.clicked.connect(self.weakest_requested)
        self.end.clicked.connect(self.end_requested)
        self.commit.clicked.connect(self.commit_requested)
        self.discard.clicked.connect(self.discard_requested)


def _number(low: float, high: float, step: float, tip: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setToolTip(tip)
    return box
