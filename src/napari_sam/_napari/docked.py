"""A widget in a dock: when it comes into its window, and when it is over with it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QMainWindow, QWidget


class Docked(QWidget):
    """Tells subclasses of their window by `on_docked` and `close_down`.

    napari tells a docked widget nothing when its dock is closed: it takes it out of the window and forgets
    it. When the window closes the widget is merely hidden, then deleted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._docked = False
        self._window_closing = False

    def on_docked(self, window: QMainWindow) -> None:
        """Come into a window; called once."""

    def close_down(self, *, tidy: bool = True) -> None:
        """Give everything back; ``tidy`` if the window goes on without the widget. May be called twice."""

    def showEvent(self, event: QShowEvent) -> None:
        """Notice the window."""
        super().showEvent(event)
        window = main_window_of(self)
        if not self._docked and window is not None:
            self._docked = True
            window.installEventFilter(self)
            self.on_docked(window)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Notice that the window is being closed."""
        if event.type() == QEvent.Type.Close:
            self._window_closing = True
        return super().eventFilter(watched, event)

    def hideEvent(self, event: QHideEvent) -> None:
        """Close down with the window; a dock that is merely hidden works on."""
        super().hideEvent(event)
        window = main_window_of(self)
        if self._window_closing and (window is None or not window.isVisible()):
            self.close_down(tidy=False)

    def changeEvent(self, event: QEvent) -> None:
        """Close down when napari takes the widget out of its window."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and self._docked:
            self.close_down()
            self.deleteLater()

    def closeEvent(self, event: Any) -> None:
        """Close down."""
        self.close_down()
        super().closeEvent(event)


def main_window_of(widget: QWidget) -> QMainWindow | None:
    """Find the window that a widget belongs to, through a floating dock too."""
    parent: QWidget | None = widget
    while parent is not None and not isinstance(parent, QMainWindow):
        parent = parent.parentWidget()
    return parent
