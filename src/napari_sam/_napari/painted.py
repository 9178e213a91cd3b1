"""Begin only when a widget can be seen."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QTimer, Signal
from qtpy.QtWidgets import QWidget

UNPAINTED = 50
"""Milliseconds that a widget is given to be painted, once the window has time; it may be hidden."""


class OncePainted(QObject):
    """Tells once when a widget has been painted, or that it is not going to be.

    Parameters
    ----------
    widget : QWidget
    """

    reached = Signal()

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self._over = False
        """Whether there is nothing left to wait for."""
        self._timer = QTimer(self, singleShot=True, interval=0)
        self._timer.timeout.connect(self._look)
        self._timer.start()
        widget.installEventFilter(self)

    @property
    def waiting(self) -> bool:
        """Whether it is still to be told."""
        return self._timer.isActive()

    def stop(self) -> None:
        """Tell nothing any more."""
        self._timer.stop()

    def eventFilter(self, _: QObject, event: QEvent) -> bool:
        """Notice that the widget is painted."""
        if event.type() == QEvent.Type.Paint:
            self._over = True
            if self._timer.isActive():
                self._timer.start(0)
        return False

    def _look(self) -> None:
        if self._over:
            self._widget.removeEventFilter(self)
            self.reached.emit()
        else:
            self._over = True
            self._timer.start(UNPAINTED)
