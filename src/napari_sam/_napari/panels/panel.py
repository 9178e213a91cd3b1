"""What the panels share."""

from __future__ import annotations

from qtpy.QtWidgets import QWidget

from napari_sam._napari.panels.form import note


class Panel(QWidget):
    """The content of a section of the dock, with a text for what became of its work.

    Parameters
    ----------
    text : str
        What it says at first.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.text = note(text)

    def say(self, text: str) -> None:
        """Show what happened, or nothing."""
        self.text.setText(text)
        self.text.setVisible(bool(text))
