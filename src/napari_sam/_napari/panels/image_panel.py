"""Which image, which colours, which model: what is embedded, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QWidget,
)

from napari_sam._napari.panels.form import choice, column, form, note, row
from napari_sam._napari.panels.layer_picker import LayerPicker
from napari_sam._napari.panels.progress_row import ProgressRow

if TYPE_CHECKING:
    from napari.layers import Image

OWN_FILE = "Use a file I have…"
MODEL_TIP = "Models that are not on this computer are downloaded first."

Picked = tuple[object, tuple[object, object, object]]
"""Where the colours come from (an axis, ``"layers"`` or None) and what is red, green and blue."""


@dataclass(frozen=True)
class ChannelOptions:
    """What may become red, green and blue.

    Parameters
    ----------
    axes : sequence of (text, axis, size)
        Axes of the image that may hold channels.
    layers : sequence of (text, Image)
        Grey layers of the same shape, by their names.
    levels : sequence of (text, number)
        Levels of a pyramid, the finest first; empty for an image without. The number None stands for the
        level that the canvas shows.
    """

    axes: tuple[tuple[str, int, int], ...] = ()
    layers: tuple[tuple[str, Image], ...] = ()
    levels: tuple[tuple[str, int | None], ...] = ()


class ImagePanel(QWidget):
    """Choose image, colours, contrast, model, device and diameter."""

    image_picked = Signal(object)
    follow_toggled = Signal(bool)
    picture_changed = Signal()
    """Colours, contrast window or pyramid level changed."""
    model_requested = Signal(str, str)
    diameter_changed = Signal(object)
    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.image = LayerPicker()
        self.image.setToolTip("The image to segment")
        self.follow = QCheckBox("Follow")
        self.follow.setChecked(True)
        self.follow.setToolTip("Take the image layer that is selected in the layer list")
        self.colours = choice(("as displayed", None), tip="What the model sees as red, green and blue")
        self.channels = [choice(("none", None)) for _ in range(3)]
        self.contrast = choice(
            ("as displayed", "displayed"),
            ("percentiles", "percentiles"),
            ("darkest to brightest", "range"),
            ("darkest to brightest of each tile", "tiles"),
            tip="What is black and white for the model: the layer's contrast limits, or what the plane says",
        )
        self.level = choice(tip="Resolution of the image pyramid that the model works on")
        self.model = choice(tip=MODEL_TIP)
        self.device = choice(*((d, d) for d in ("auto", "cpu", "cuda", "mps")), tip="Where the model runs")
        self.diameter = QDoubleSpinBox()
        self.diameter.setRange(0, 10_000)
        self.diameter.setDecimals(1)
        self.diameter.setSuffix(" px")
        self.diameter.setSpecialValueText("estimated")
        self.diameter.setKeyboardTracking(False)
        self.diameter.setToolTip("Typical diameter of an object in pixels, for the built-in model")
        self.status = note()
        self.progress = ProgressRow()
        self._lay_out()
        self._connect()

    def set_options(self, options: ChannelOptions) -> None:
        """Offer the channels and levels of another image; the first of each is chosen."""
        self._options = options
        with QSignalBlocker(self.colours), QSignalBlocker(self.level):
            self.colours.clear()
            self.colours.addItem("as displayed", None)
            for text, axis, _ in options.axes:
                self.colours.addItem(f"channels of {text}", axis)
            if len(options.layers) > 1:
                self.colours.addItem("several layers", "layers")
            self.level.clear()
            for text, number in options.levels:
                self.level.addItem(text, number)
        self._form.setRowVisible(self.colours, self.colours.count() > 1)
        self._form.setRowVisible(self.level, len(options.levels) > 1)
        self._offer_channels()

    def refresh_options(self, options: ChannelOptions) -> None:
        """Offer what there is now for the same image; what was chosen stays, where it is still there."""
        if options == self._options:
            return
        source, picks = self.picked_channels()
        level = self.level.currentData()
        self.set_options(options)
        with QSignalBlocker(self.level):
            self.level.setCurrentIndex(max(self.level.findData(level), 0))
        with QSignalBlocker(self):
            self.pick_channels(source, picks)
        if (source, picks) != self.picked_channels():
            self.picture_changed.emit()

    @property
    def typical_diameter(self) -> float | None:
        """Diameter of the objects in pixels; None to have it estimated."""
        return self.diameter.value() or None

    def picked_channels(self) -> Picked:
        """What is chosen to be seen as colours."""
        red, green, blue = (box.currentData() for box in self.channels)
        return self.colours.currentData(), (red, green, blue)

    def pick_channels(self, source: object, picks: Sequence[object]) -> None:
        """Choose the axis of the channels (or ``"layers"``) and what is red, green and blue."""
        with QSignalBlocker(self.colours):
            self.colours.setCurrentIndex(max(self.colours.findData(source), 0))
        self._offer_channels()
        if self.colours.currentData() is not None:
            for box, pick in zip(self.channels, picks, strict=True):
                # Layers are compared by identity, which Qt's own search does not do.
                found = (i for i in range(box.count()) if box.itemData(i) is pick or box.itemData(i) == pick)
                with QSignalBlocker(box):
                    box.setCurrentIndex(next(found, 0))
        self.picture_changed.emit()

    def set_models(self, models: Sequence[tuple[str, str, str]]) -> None:
        """Offer models by (text, name, licence and authors); a file of one's own comes last."""
        with QSignalBlocker(self.model):
            self.model.clear()
            for text, name, about in models:
                self.model.addItem(text, name)
                self.model.setItemData(self.model.count() - 1, about, Qt.ItemDataRole.ToolTipRole)
            self.model.addItem(OWN_FILE, OWN_FILE)

    def show_model(self, name: str, device: str) -> None:
        """Show which model and device were asked for, without asking for them."""
        with QSignalBlocker(self.model), QSignalBlocker(self.device):
            if self.model.findData(name) < 0:
                # Trained models have the same file name: their folders tell them apart.
                place, last = Path(name), self.model.count() - 1
                self.model.insertItem(last, str(Path(place.parent.name, place.name)), name)
                self.model.setItemData(last, name, Qt.ItemDataRole.ToolTipRole)
            self.model.setCurrentIndex(self.model.findData(name))
            self.device.setCurrentIndex(max(self.device.findData(device), 0))
        self._model = name
        about = self.model.currentData(Qt.ItemDataRole.ToolTipRole)
        self.model.setToolTip("\n".join(text for text in (about, MODEL_TIP) if text))

    def set_uses_diameter(self, uses: bool) -> None:
        """Show the diameter only for models that use it."""
        self._form.setRowVisible(self.diameter, uses)

    def _lay_out(self) -> None:
        layout = column(self)
        self._form: QFormLayout = form()
        self._form.addRow("Image", row(self.image, self.follow, stretch=0))
        self._form.addRow("Colours", self.colours)
        self._channel_row = QWidget()
        inner = row(*self.channels)
        inner.setContentsMargins(0, 0, 0, 0)
        self._channel_row.setLayout(inner)
        self._form.addRow("R G B", self._channel_row)
        self._form.addRow("Contrast", self.contrast)
        self._form.addRow("Level", self.level)
        self._form.addRow("Model", self.model)
        self._form.addRow("Device", self.device)
        self._form.addRow("Diameter", self.diameter)
        layout.addLayout(self._form)
        layout.addWidget(self.status)
        layout.addWidget(self.progress)
        self._model = ""
        self.set_options(ChannelOptions())

    def _connect(self) -> None:
        self.image.layer_picked.connect(self._on_image_picked)
        self.follow.toggled.connect(self.follow_toggled)
        self.colours.currentIndexChanged.connect(self._on_colours_changed)
        for box in (*self.channels, self.contrast, self.level):
            box.currentIndexChanged.connect(lambda _: self.picture_changed.emit())
        self.model.activated.connect(self._on_model_picked)
        self.device.activated.connect(self._on_model_picked)
        self.diameter.valueChanged.connect(lambda value: self.diameter_changed.emit(value or None))
        self.progress.cancelled.connect(self.cancel_requested)

    def _on_image_picked(self, layer: Image | None) -> None:
        self.follow.setChecked(False)
        self.image_picked.emit(layer)

    def _on_colours_changed(self) -> None:
        self._offer_channels()
        self.picture_changed.emit()

    def _offer_channels(self) -> None:
        """Fill red, green and blue with the channels of the chosen axis, or the layers."""
        source = self.colours.currentData()
        if source is None:
            entries: Sequence[tuple[str, object]] = ()
        elif source == "layers":
            entries = self._options.layers
        else:
            size = next(size for _, axis, size in self._options.axes if axis == source)
            entries = [(str(i), i) for i in range(size)]
        for number, box in enumerate(self.channels):
            _fill(
                box, [("none", None), *entries], min(number + 1, len(entries)) if number < len(entries) else 0
            )
        self._form.setRowVisible(self._channel_row, source is not None)

    def _on_model_picked(self) -> None:
        name = self.model.currentData()
        if name == OWN_FILE:
            kinds = "Checkpoints (*.pt *.pth *.safetensors);;All files (*)"
            name, _ = QFileDialog.getOpenFileName(self, "Choose a checkpoint", "", kinds)
            if not name:
                self.show_model(self._model, self.device.currentData())
                return
        self.show_model(name, self.device.currentData())
        self.model_requested.emit(name, self.device.currentData())


def _fill(box: QComboBox, entries: Sequence[tuple[str, object]], chosen: int) -> None:
    """Offer other entries without telling anyone."""
    with QSignalBlocker(box):
        box.clear()
        for text, value in entries:
            box.addItem(text, value)
        box.setCurrentIndex(chosen)
