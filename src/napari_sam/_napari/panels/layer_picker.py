"""A list of layers to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox

if TYPE_CHECKING:
    from napari.layers import Layer


class LayerPicker(QComboBox):
    """Shows layers by name and remembers the chosen one by itself, so that renaming does not matter.

    Parameters
    ----------
    none : str, optional
        Text of a first entry that stands for no layer.
    """

    layer_picked = Signal(object)
    """The person chose another layer (or None); not emitted by `set_layers` and `pick`."""

    def __init__(self, none: str | None = None) -> None:
        super().__init__()
        self._none = none
        self._layers: list[Layer | None] = []
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.activated.connect(lambda: self.layer_picked.emit(self.layer))
        self.set_layers(())

    @property
    def layer(self) -> Layer | None:
        """The chosen layer."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def set_layers(self, layers: Sequence[Layer]) -> None:
        """Offer other layers; the chosen one stays chosen if it is among them."""
        chosen = self.layer
        self._layers = [*([None] if self._none is not None else []), *layers]
        with QSignalBlocker(self):
            self.clear()
            self.addItems([self._none if layer is None else layer.name for layer in self._layers])
        self.pick(chosen)

    def pick(self, layer: Layer | None) -> None:
        """Choose a layer without telling anyone; the first entry if it is not offered."""
        found = next((i for i, other in enumerate(self._layers) if other is layer), 0)
        with QSignalBlocker(self):
            self.setCurrentIndex(found if self._layers else -1)
