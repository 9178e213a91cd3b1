"""The mouse on the real canvas: where things appear on the screen, and events there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
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


def move(viewer: Any, spot: Spot) -> None:
    """Move the mouse to a spot."""
    _send(viewer, QEvent.Type.MouseMove, spot, _NONE, _NONE)


def click(viewer: Any, spot: Spot) -> None:
    """Move to a spot and click with the left button."""
    move(viewer, spot)
    _send(viewer, QEvent.Type.MouseButtonPress, spot, _LEFT, _LEFT)
    _send(viewer, QEvent.Type.MouseButtonRelease, spot, _LEFT, _NONE)


def double_click(viewer: Any, spot: Spot) -> None:
    """Double-click with the left button: the second press arrives as a double click."""
    click(viewer, spot)
    _send(viewer, QEvent.Type.MouseButtonDblClick, spot, _LEFT, _LEFT)
    _send(viewer, QEvent.Type.MouseButtonRelease, spot, _LEFT, _NONE)


def drag(viewer: Any, spots: Sequence[Spot]) -> None:
    """Press at the first spot, go through the others, release at the last."""
    move(viewer, spots[0])
    _send(viewer, QEvent.Type.MouseButtonPress, spots[0], _LEFT, _LEFT)
    for spot in spots[1:]:
        _send(viewer, QEvent.Type.MouseMove, spot, _NONE, _LEFT)
    _send(viewer, QEvent.Type.MouseButtonRelease, spots[-1], _LEFT, _NONE)


_LEFT, _NONE = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton


def _send(
    viewer: Any, kind: QEvent.Type, spot: Spot, button: Qt.MouseButton, buttons: Qt.MouseButton
) -> None:
    """Give the canvas an event of the mouse.

    Not by moving the screen's pointer, as QTest does: what comes back from the screen's server comes late.
    """
    canvas = canvas_of(viewer)
    here = QPointF(spot[1], spot[0])
    plain = Qt.KeyboardModifier.NoModifier
    there = QPointF(canvas.mapToGlobal(here))
    QApplication.sendEvent(canvas, QMouseEvent(kind, here, there, button, buttons, plain))
    QApplication.processEvents()
