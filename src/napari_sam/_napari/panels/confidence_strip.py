"""How sure each plane of a stack is, at a glance."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

UNSURE, SURE = (224, 120, 20), (48, 142, 208)
"""Orange and blue: told apart with any kind of colour vision, and seen on dark and on light."""
LOW, HIGH = 0.4, 0.9
"""Confidence at which the colours are reached."""
BARS = 24
"""Height of a bar that is sure, in pixels of the screen."""
MARK = 7
"""Height of the arrow above, and of the dots below."""


class ConfidenceStrip(QWidget):
    """One bar a plane: high and blue where the object is sure, low and orange where it is not.

    Planes that the object does not reach are empty. A dot stands below the planes on which something was
    said, an arrow above the plane on show. A click on a plane asks for it.
    """

    plane_picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._confidence: Sequence[float | None] = ()
        self._anchors: Collection[int] = ()
        self._here: int | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName("Confidence of each plane")

    def sizeHint(self) -> QSize:
        """As wide as the dock allows."""
        return QSize(200, BARS + 2 * MARK + 2)

    minimumSizeHint = sizeHint

    def show_planes(self, confidence: Sequence[float | None], anchors: Collection[int]) -> None:
        """Show an object.

        Parameters
        ----------
        confidence : sequence of float or None
            0 to 1 for each plane of the stack; None where the object is not.
        anchors : collection of int
            Planes on which something was said.
        """
        self._confidence, self._anchors = confidence, anchors
        self.update()

    def show_here(self, plane: int | None) -> None:
        """Mark the plane on show."""
        self._here = plane
        self.update()

    def span(self, plane: int) -> tuple[float, float]:
        """Left and right edge of a plane's bar."""
        wide = self.width() / max(len(self._confidence), 1)
        return plane * wide, (plane + 1) * wide

    def plane_at(self, x: float) -> int | None:
        """Plane at a position from the left."""
        count = len(self._confidence)
        return min(max(int(x * count / max(self.width(), 1)), 0), count - 1) if count else None

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bars; where planes are finer than pixels, the least sure one of a pixel."""
        painter = QPainter(self)
        ink = self.palette().windowText().color()
        faint = QColor(ink)
        faint.setAlpha(40)
        floor = MARK + BARS
        painter.fillRect(QRectF(0, floor, self.width(), 1), faint)
        for left, right, confidence in self._bars():
            if confidence is not None:
                high = BARS * (0.25 + 0.75 * confidence)
                painter.fillRect(QRectF(left, floor - high, right - left, high), colour_of(confidence))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ink)
        for plane in self._anchors:
            middle = sum(self.span(plane)) / 2
            painter.drawEllipse(QPointF(middle, floor + 2 + MARK / 2), 2.5, 2.5)
        if self._here is not None and self._here < len(self._confidence):
            left, right = self.span(self._here)
            middle = (left + right) / 2
            arrow = [QPointF(middle - 4, 0), QPointF(middle + 4, 0), QPointF(middle, MARK - 1)]
            painter.drawPolygon(QPolygonF(arrow))
            wide = max(right - left, 1)
            painter.fillRect(QRectF(middle - wide / 2, floor, wide, 2), ink)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Ask for the plane under the mouse."""
        self._pick(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Go along with the mouse while the button is held."""
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._pick(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go to the neighbour with the arrow keys."""
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(event.key())
        if step is None or self._here is None:
            super().keyPressEvent(event)
        elif 0 <= self._here + step < len(self._confidence):
            self.plane_picked.emit(self._here + step)

    def event(self, event: QEvent) -> bool:
        """Say the numbers under the mouse."""
        if isinstance(event, QHelpEvent):
            QToolTip.showText(event.globalPos(), self._words(self.plane_at(event.pos().x())), self)
            return True
        return super().event(event)

    def _pick(self, event: QMouseEvent) -> None:
        plane = self.plane_at(event.position().x())
        if plane is not None:
            self.plane_picked.emit(plane)

    def _words(self, plane: int | None) -> str:
        if plane is None:
            return ""
        confidence = self._confidence[plane]
        if plane in self._anchors:
            return f"plane {plane}: as you said"
        return f"plane {plane}: " + ("not there" if confidence is None else f"{confidence:.0%} sure")

    def _bars(self) -> list[tuple[float, float, float | None]]:
        """Edges and confidence of what is drawn side by side."""
        count, wide = len(self._confidence), self.width()
        if count <= wide:
            gap = 1 if count * 4 <= wide else 0
            return [
                (left, right - gap, c)
                for c, (left, right) in zip(self._confidence, map(self.span, range(count)), strict=True)
            ]
        bars: list[tuple[float, float, float | None]] = []
        for x in range(wide):
            here = [c for c in self._confidence[x * count // wide : (x + 1) * count // wide] if c is not None]
            bars.append((x, x + 1, min(here, default=None)))
        return bars


def colour_of(confidence: float) -> QColor:
    """Colour between `UNSURE` and `SURE`."""
    part = min(max((confidence - LOW) / (HIGH - LOW), 0.0), 1.0)
    return QColor(*(round(u + part * (s - u)) for u, s in zip(UNSURE, SURE, strict=True)))
