"""Every object of the plane at once, with sliders that filter what was found."""

from __future__ import annotations

from math import exp, inf, log
from pathlib import Path

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QSlider, QSpinBox, QWidget
from superqt import QRangeSlider

from napari_sam._napari.panels.form import any_width, choice, column, form, note, row, thousands
from napari_sam._napari.panels.panel import Panel
from napari_sam._napari.panels.progress_row import ProgressRow
from napari_sam.session import Filters

STEPS = 1000
"""Positions of a slider."""


class EverythingPanel(Panel):
    """Run automatic masks, filter them live, accept or drop them."""

    run_requested = Signal()
    cancel_requested = Signal()
    filters_changed = Signal()
    accept_requested = Signal()
    discard_requested = Signal()
    folder_picked = Signal(object)
    """Where the labels of large planes are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.region = choice(
            ("the whole plane", "plane"),
            ("only where no object is yet", "unlabelled"),
            ("what the canvas shows", "view"),
            tip="Where to look for objects",
        )
        self.prompts = choice(
            ("as the model suggests", "auto"),
            ("a grid of clicks", "grid"),
            tip="Where the model is asked: at the places that it proposes, or on a regular grid",
        )
        self.side = QSpinBox()
        self.side.setRange(2, 256)
        self.side.setValue(32)
        self.side.setToolTip("Clicks along a side of the grid: more find smaller objects and take longer")
        self.folder = QPushButton()
        any_width(self.folder)
        self._folder = Path()
        self.run = QPushButton("Segment all")
        self.progress = ProgressRow()
        self.predicted_iou = _slider()
        self.stability = _slider()
        self.area = QRangeSlider(Qt.Orientation.Horizontal)
        self.area.setRange(0, STEPS)
        self.area.setValue((0, STEPS))
        self.labels = {name: QLabel() for name in ("iou", "stability", "area")}
        self.counts = note()
        self.accept = QPushButton("Accept into labels")
        self.discard = QPushButton("Discard")
        self._areas = (1, 2)
        # Where each slider was put, and the exact number that it was put there for, until it is moved.
        self._given: list[tuple[int, float] | None] = [None] * 4
        self._lay_out()
        self._connect()
        self.show_results(None)
        self.set_large(False)
        self.say("")

    @property
    def filters(self) -> Filters:
        """Where the sliders stand; of those that were not moved, what they were shown for."""
        iou, stability, low, high = self._positions
        meant = (
            iou / STEPS,
            stability / STEPS,
            # The ends mean no limit at all, whatever rounding does to them.
            0 if low == 0 else self._area_at(low),
            inf if high == STEPS else self._area_at(high),
        )
        return Filters(*(m if g is None else g[1] for m, g in zip(meant, self._given, strict=True)))

    @property
    def _positions(self) -> tuple[int, int, int, int]:
        """Positions of the sliders: predicted IoU, stability, smallest and largest area."""
        return self.predicted_iou.value(), self.stability.value(), *self.area.value()

    def show_results(self, areas: tuple[int, int] | None, filters: Filters | None = None) -> None:
        """Show the sliders for new masks.

        Parameters
        ----------
        areas : tuple of int, optional
            Smallest and largest area among the masks; None hides the sliders.
        filters : Filters, optional
            Where the sliders are to stand. A slider has fewer positions than there are numbers: these hold
            exactly until it is moved.
        """
        self._results.setVisible(areas is not None)
        if areas is None or filters is None:
            return
        self._areas = (max(areas[0], 1), max(areas[1], areas[0] + 1, 2))
        with (
            QSignalBlocker(self.predicted_iou),
            QSignalBlocker(self.stability),
            QSignalBlocker(self.area),
        ):
            self.predicted_iou.setValue(round(filters.predicted_iou * STEPS))
            self.stability.setValue(round(filters.stability * STEPS))
            self.area.setValue((self._position_of(filters.min_area), self._position_of(filters.max_area)))
        exact = filters.predicted_iou, filters.stability, filters.min_area, filters.max_area
        self._given = list(zip(self._positions, exact, strict=True))
        self._show_values()

    def show_counts(self, kept: int, removed: dict[str, int]) -> None:
        """Show how many masks are kept, and how many each filter removed."""
        lines = [f"{kept} objects" if kept != 1 else "1 object"]
        lines += [f"{n} mask{'s' if n > 1 else ''} removed by {name}" for name, n in removed.items() if n]
        self.counts.setText("\n".join(lines))
        self.accept.setEnabled(kept > 0)

    def set_large(self, large: bool) -> None:
        """Show where the labels are kept, if the plane is large."""
        self._fields.setRowVisible(self.folder, large)

    def show_folder(self, folder: Path) -> None:
        """Show which folder labels are kept in."""
        self.folder.setText(f"{folder.name}/…")
        self.folder.setToolTip(f"Labels of a plane this large are written to disk as they come, to {folder}")
        self._folder = folder

    def set_running(self, running: bool) -> None:
        """Show whether masks are being computed."""
        self.run.setEnabled(not running)
        if running:
            self.say("")
            self.progress.start("Waiting for the model…")
        else:
            self.progress.stop()

    def _lay_out(self) -> None:
        layout = column(self)
        fields = self._fields = form()
        fields.addRow("Where", self.region)
        fields.addRow("Prompts", self.prompts)
        fields.addRow("Grid", self.side)
        fields.addRow("Labels in", self.folder)
        layout.addLayout(fields)
        layout.addWidget(self.run)
        layout.addWidget(self.progress)
        layout.addWidget(self.text)
        self._results = QWidget()
        inner = column(self._results)
        inner.setContentsMargins(0, 0, 0, 0)
        for title, name, slider in (
            ("Predicted IoU at least", "iou", self.predicted_iou),
            ("Stability at least", "stability", self.stability),
            ("Area", "area", self.area),
        ):
            inner.addLayout(row(QLabel(title), self.labels[name], stretch=0))
            inner.addWidget(slider)
        inner.addWidget(self.counts)
        inner.addLayout(row(self.accept, self.discard, stretch=0))
        layout.addWidget(self._results)
        self._on_prompts_changed()

    def _connect(self) -> None:
        self.run.clicked.connect(self.run_requested)
        self.folder.clicked.connect(self._on_folder)
        self.progress.cancelled.connect(self.cancel_requested)
        self.prompts.currentIndexChanged.connect(lambda _: self._on_prompts_changed())
        for slider in (self.predicted_iou, self.stability, self.area):
            slider.valueChanged.connect(self._on_slider_moved)
        self.accept.clicked.connect(self.accept_requested)
        self.discard.clicked.connect(self.discard_requested)

    def _on_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(
            self, "Keep the labels of large planes in", str(self._folder)
        )
        if chosen:
            self.show_folder(Path(chosen))
            self.folder_picked.emit(Path(chosen))

    def _on_prompts_changed(self) -> None:
        self._fields.setRowVisible(self.side, self.prompts.currentData() == "grid")

    def _on_slider_moved(self) -> None:
        self._given = [
            given if given is not None and given[0] == position else None
            for given, position in zip(self._given, self._positions, strict=True)
        ]
        self._show_values()
        self.filters_changed.emit()

    def _show_values(self) -> None:
        filters, (smallest, largest) = self.filters, self._areas
        low = round(filters.min_area) or smallest
        high = largest if filters.max_area == inf else round(filters.max_area)
        self.labels["iou"].setText(f"{filters.predicted_iou:.2f}")
        self.labels["stability"].setText(f"{filters.stability:.2f}")
        self.labels["area"].setText(f"{thousands(low)} to {thousands(high)} px")

    def _area_at(self, position: int) -> int:
        """Area at a position of the slider: equal steps are equal factors."""
        low, high = map(log, self._areas)
        return round(exp(low + (high - low) * position / STEPS))

    def _position_of(self, area: float) -> int:
        """Position of the slider for an area."""
        if area == inf:
            return STEPS
        low, high = map(log, self._areas)
        part = (log(max(area, 1)) - low) / (high - low)
        return round(min(max(part, 0), 1) * STEPS)


def _slider() -> QSlider:
    """Slider for a lowest value from 0 to 1."""
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, STEPS)
    return slider
