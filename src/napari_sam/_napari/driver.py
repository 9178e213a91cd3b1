"""Drive the real window as a person does: real mouse events on the canvas, real clicks on buttons.

The demo without a screen and the pictures of the documentation are made with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication

if TYPE_CHECKING:
    from napari import Viewer

    from napari_sam._napari.widget import SegmentAnythingDock

DOCK = "napari-sam-cells"


class DriveError(RuntimeError):
    """The window did not do what it was driven to; the message says what was waited for."""


class Driver:
    """A napari window with the dock, and the hand that uses them.

    Parameters
    ----------
    viewer : Viewer
        With an image layer; the dock is opened beside it.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        _, dock = viewer.window.add_plugin_dock_widget(DOCK)
        self.dock: SegmentAnythingDock = dock
        self.session = self.dock.session
        self.errors: list[str] = []
        self.dock.bench.failed.connect(self.errors.append)

    def wait(self, what: str, true: Callable[[], Any], seconds: float = 120) -> None:
        """Let the window live until something is true.

        Raises
        ------
        DriveError
            If it is not true in time, or the dock reported an error.
        """
        end = time.monotonic() + seconds
        while not true():
            if self.errors:
                raise DriveError(f"While waiting for {what}: {self.errors[0]}")
            if time.monotonic() > end:
                raise DriveError(f"Waited {seconds:.0f} s for {what} in vain.")
            self.rest(0.02)

    def rest(self, seconds: float) -> None:
        """Let the window live for a while."""
        end = time.monotonic() + seconds
        while True:
            QApplication.processEvents()
            if time.monotonic() >= end:
                return
            time.sleep(0.005)

    def wait_ready(self) -> None:
        """Wait for the model and the embedding of the plane."""
        self.wait("the embedding", lambda: self.session.status.phase == "ready")

    def click(self, y: float, x: float) -> None:
        """Click an image pixel with the left button and wait for its candidates."""
        before = len(self.session.prompts)
        canvas, spot = self._canvas(), self._spot(y, x)
        QTest.mouseMove(canvas, spot)
        self.rest(0.05)
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, spot)
        self.wait("the click", lambda: len(self.session.prompts) >= max(before, 1))
        self.wait("three candidates", lambda: self.session.offers and "predict" not in self.session.running)

    def press(self, button: QAbstractButton) -> None:
        """Press a button of the dock."""
        if not button.isEnabled():
            raise DriveError(f"The button {button.text()!r} cannot be pressed now.")
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.rest(0.05)

    def show_section(self, title: str) -> None:
        """Unfold one section of the dock and scroll to it."""
        section = self.dock.sections[title]
        section.set_expanded(True)
        self.rest(0.3)
        self.dock.scroll_to(section)
        self.rest(0.1)

    def export(self, layer: Any, path: Path, format_name: str) -> Path:
        """Write a Labels layer as the Export section does, and wait for the file."""
        self.dock.export(layer, str(path), format_name)
        self.wait(path.name, lambda: "export" not in self.session.running and path.exists())
        return path

    def picture(self, path: Path) -> Path:
        """Save a picture of the whole window."""
        self.rest(0.5)
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        return path

    def _canvas(self) -> QOpenGLWidget:
        """The widget that napari draws into."""
        found = self.dock.window().findChildren(QOpenGLWidget)
        visible = [widget for widget in found if widget.isVisible()]
        if not visible:
            raise DriveError("The window has no canvas on the screen.")
        return visible[0]

    def _spot(self, y: float, x: float) -> QPoint:
        """Where an image pixel of the current plane appears on the canvas, by the camera."""
        image, plane = self.dock.bench.image, self.dock.bench.plane
        world = np.asarray(image.data_to_world(plane.index.embed([[y, x]])[0]))
        shown = world[list(plane.index.axes)]
        camera, canvas = self.viewer.scene.camera, self._canvas()
        middle = np.array([canvas.height(), canvas.width()]) / 2
        place = (shown - np.array(camera.center)[-2:]) * camera.zoom + middle
        return QPoint(round(place[1]), round(place[0]))
