"""How to say which object is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari.layers import Labels
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QWidget

from napari_sam._napari.panels.form import column, note, row
from napari_sam._napari.panels.layer_picker import LayerPicker

if TYPE_CHECKING:
    from napari.layers import Layer

TOOLS = {
    "point": ("Click", "Click inside the object"),
    "box": ("Box", "Drag a box around the object, in any direction"),
    "polygon": ("Outline", "Draw a rough outline: click its corners, finish with a double click"),
    "ellipse": ("Oval", "Drag a rough oval over the object"),
    "scribble": ("Scribble", "Draw a line inside the object: click along it, finish with a double click"),
}


class PromptPanel(QWidget):
    """Choose the tool, the sign of the next click, adopted layers and batch mode."""

    tool_requested = Signal(str)
    sign_requested = Signal(bool)
    adopt_requested = Signal(object)
    batch_toggled = Signal(bool)
    hover_toggled = Signal(bool)
    clear_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.tools = {name: QPushButton(text) for name, (text, _) in TOOLS.items()}
        for name, (_, tip) in TOOLS.items():
            self.tools[name].setCheckable(True)
            self.tools[name].setToolTip(tip)
        self.positive = QPushButton("+ part of it")
        self.negative = QPushButton("− not part of it")
        for button, tip in ((self.positive, "belong to the object"), (self.negative, "do not belong to it")):
            button.setCheckable(True)
            button.setToolTip(f"The next clicks {tip} (T toggles)")
        self.positive.setChecked(True)
        self.layers = LayerPicker("a layer of mine…")
        self.layers.setToolTip("Any Points, Shapes or Labels layer can be used as prompts")
        self.adopt = QPushButton("Use as prompts")
        self.adopt.setEnabled(False)
        self.batch = QCheckBox("Every prompt is its own object")
        self.batch.setToolTip("Each click inside, each box is an object of its own; clicks outside go to all")
        self.hover = QCheckBox("Preview under the mouse")
        self.hover.setChecked(True)
        self.hover.setToolTip("Show what a click would give, before the click")
        self.clear = QPushButton("Clear prompts")
        self.hint = note()
        self._adopted: tuple[Layer, ...] = ()
        self._lay_out()
        self._connect()

    def show_tool(self, name: str | None) -> None:
        """Show which tool is in the hand."""
        for tool, button in self.tools.items():
            with QSignalBlocker(button):
                button.setChecked(tool == name)

    def show_sign(self, positive: bool) -> None:
        """Show the sign of the next click."""
        with QSignalBlocker(self.positive), QSignalBlocker(self.negative):
            self.positive.setChecked(positive)
            self.negative.setChecked(not positive)

    def show_layers(self, layers: Sequence[Layer], adopted: Sequence[Layer]) -> None:
        """Offer the person's own layers, and show which are used as prompts."""
        self._adopted = tuple(adopted)
        self.layers.set_layers(layers)
        self._show_adopted()

    def _lay_out(self) -> None:
        layout = column(self)
        layout.addLayout(row(*self.tools.values()))
        layout.addLayout(row(self.positive, self.negative))
        layout.addLayout(row(self.layers, self.adopt, stretch=0))
        layout.addWidget(self.hint)
        layout.addWidget(self.batch)
        bottom = QHBoxLayout()
        bottom.addWidget(self.hover, 1)
        bottom.addWidget(self.clear)
        layout.addLayout(bottom)
        self._show_adopted()

    def _connect(self) -> None:
        for name, button in self.tools.items():
            button.clicked.connect(lambda _, tool=name: self.tool_requested.emit(tool))
        self.positive.clicked.connect(lambda: self.sign_requested.emit(True))
        self.negative.clicked.connect(lambda: self.sign_requested.emit(False))
        self.layers.layer_picked.connect(lambda _: self._show_adopted())
        self.adopt.clicked.connect(lambda: self.adopt_requested.emit(self.layers.layer))
        self.batch.toggled.connect(self.batch_toggled)
        self.batch.toggled.connect(lambda _: self._show_adopted())
        self.hover.toggled.connect(self.hover_toggled)
        self.clear.clicked.connect(self.clear_requested)

    def _show_adopted(self) -> None:
        layer = self.layers.layer
        used = any(layer is other for other in self._adopted)
        self.adopt.setText("Release" if used else "Use as prompts")
        self.adopt.setEnabled(layer is not None)
        which = "each label" if self.batch.isChecked() else "its selected label"
        names = ", ".join(f"{x.name} ({which})" if isinstance(x, Labels) else x.name for x in self._adopted)
        self.hint.setText(f"Also prompts: {names}" if names else "")
        self.hint.setVisible(bool(names))
