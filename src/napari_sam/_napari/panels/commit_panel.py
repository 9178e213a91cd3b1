"""Write the chosen mask into a Labels layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_sam._napari.panels.form import choice, column, form, row
from napari_sam._napari.panels.layer_picker import LayerPicker

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.masks import Overlap


class CommitPanel(QWidget):
    """Choose where objects go, commit, undo and redo."""

    commit_requested = Signal()
    undo_requested = Signal()
    redo_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.target = LayerPicker("a new Labels layer")
        self.target.setToolTip("The Labels layer that objects are written into")
        self.overlap = choice(
            ("keep neighbours", "keep"),
            ("replace neighbours", "replace"),
            tip="Who gets the pixels that belong to another object already",
        )
        self.commit = QPushButton("Commit")
        self.undo = QPushButton("Undo")
        self.redo = QPushButton("Redo")
        layout = column(self)
        fields = form()
        fields.addRow("Into", self.target)
        fields.addRow("Overlap", self.overlap)
        layout.addLayout(fields)
        layout.addLayout(row(self.commit, self.undo, self.redo, stretch=0))
        self.commit.clicked.connect(self.commit_requested)
        self.undo.clicked.connect(self.undo_requested)
        self.redo.clicked.connect(self.redo_requested)
        self.show_count(0)
        self.show_history(None, None)

    @property
    def where(self) -> tuple[Labels | None, Overlap]:
        """The layer that objects go into, None for a new one, and who gets the pixels of neighbours."""
        return self.target.layer, self.overlap.currentData()

    def show_count(self, count: int) -> None:
        """Show how many objects a commit would write."""
        self.commit.setEnabled(count > 0)
        self.commit.setText("Commit (C)" if count < 2 else f"Commit {count} objects (C)")

    def show_history(self, undoable: str | None, redoable: str | None) -> None:
        """Show what can be taken back and done again."""
        for button, what, verb in ((self.undo, undoable, "Undo"), (self.redo, redoable, "Redo")):
            button.setEnabled(what is not None)
            button.setToolTip(f"{verb} the {what}" if what else "")
