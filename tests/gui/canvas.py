"""The mouse on the real canvas: where things appear on the screen, and events there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

Spot = tuple[float, float]
"""Position (y, x) on the canvas in screen pixels."""


def canvas_of(viewer: Any) -> QWidget:
    """Widget that napari draws into."""
    found = [w for w in QApplication.allWidgets() if type(w).__name__ == "CanvasBackendDesktop"]
    visible = [w for w in found if w.isVisible()]
    assert len(visible) == 1, f"expected one visible canvas, found {len(visible)}"
    return visible[0]


def picture_of(viewer: Any) -> np.ndarray:
    """What the canvas shows, (H, W, 3) uint8, at one pixel a screen pixel."""
    QApplication.processEvents()
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3]


def bright_spot(viewer: Any) -> Spot:
    """Centre of what is white on the canvas."""
    where = np.argwhere(picture_of(viewer).min(axis=-1) > 200)
    assert len(where), "nothing on the canvas is white"
    y, x = where.mean(axis=0)
    return float(y), float(x)


def move(viewer: Any, spot: Spot, buttons: Qt.MouseButton = Qt.MouseButton.NoButton) -> None:
    """Move the mouse to a spot."""
    canvas = canvas_of(viewer)
    QTest.mouseMove(canvas, _point(spot))
    QApplication.processEvents()


def click(viewer: Any, spot: Spot) -> None:
    """Click with the left button."""
    move(viewer, spot)
    QTest.mouseClick(
        canvas_of(viewer), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, _point(spot)
    )
    QApplication.processEvents()


def double_click(viewer: Any, spot: Spot) -> None:
    """Double-click with the left button."""
    QTest.mouseDClick(
        canvas_of(viewer), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, _point(spot)
    )
    QApplication.processEvents()


def drag(viewer: Any, spots: Sequence[Spot]) -> None:
    """Press at the first spot, go through the others, release at the last."""
    canvas = canvas_of(viewer)
    left, plain = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    move(viewer, spots[0])
    QTest.mousePress(canvas, left, plain, _point(spots[0]))
    for spot in spots[1:]:
        QTest.mouseMove(canvas, _point(spot), 10)
        QApplication.processEvents()
    QTest.mouseRelease(canvas, left, plain, _point(spots[-1]))
    QApplication.processEvents()


def _point(spot: Spot) -> QPoint:
    return QPoint(round(spot[1]), round(spot[0]))
