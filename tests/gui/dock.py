"""A real window with an image, the dock and a predictor without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel
from tests.fakes import DiscPredictor, disc_image
from tests.gui.canvas import canvas_of, click, drag, move

from napari_sam._napari.widget import SegmentAnythingDock

DISCS = [(40, 48, 16), (40, 140, 20), (120, 80, 24)]
"""(y, x, radius) of the objects of `disc_picture`."""


def disc_picture() -> np.ndarray:
    return disc_image((180, 200), DISCS)


class Desk:
    """The window and shorthands for what a person does there.

    Parameters
    ----------
    qtbot, viewer
        Of pytest-qt and napari.
    predictor : DiscPredictor
    """

    def __init__(self, qtbot: Any, viewer: Any, predictor: DiscPredictor | None = None) -> None:
        self.qtbot = qtbot
        self.viewer = viewer
        self.predictor = predictor or DiscPredictor()
        self.dock = SegmentAnythingDock(viewer, load_model=lambda name, **_: self.predictor)
        viewer.window.add_dock_widget(self.dock, name="Segment Anything", area="right")
        self.session = self.dock.session
        self.errors: list[str] = []
        self.dock.bench.failed.connect(self.errors.append)

    def until(self, true: Callable[[], bool], timeout: int = 60_000) -> None:
        self.qtbot.waitUntil(lambda: bool(true()), timeout=timeout)

    def wait_ready(self) -> Desk:
        self.until(lambda: self.session.status.phase == "ready")
        self.until(lambda: self.dock.width() > 100)
        return self

    def wait_offers(self, count: int = 1) -> None:
        self.until(lambda: len(self.session.offers) == count and "predict" not in self.session.running)

    def spot(self, y: float, x: float) -> tuple[float, float]:
        """Where an image pixel of the current plane appears on the canvas, by the camera."""
        image, plane = self.dock.bench.image, self.dock.bench.plane
        world = np.asarray(image.data_to_world(np.nan_to_num(plane.index.embed([[y, x]])[0])))
        shown = world[list(plane.index.axes)]
        camera = self.viewer.scene.camera
        canvas = canvas_of(self.viewer)
        size = np.array([canvas.height(), canvas.width()])
        place = (shown - np.array(camera.center)[-2:]) * camera.zoom + size / 2
        return float(place[0]), float(place[1])

    def click(self, y: float, x: float) -> None:
        click(self.viewer, self.spot(y, x))

    def move(self, y: float, x: float) -> None:
        move(self.viewer, self.spot(y, x))

    def drag(self, *places: tuple[float, float]) -> None:
        drag(self.viewer, [self.spot(*place) for place in places])

    def press(self, key: Qt.Key, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
        """Press a key while the canvas has the focus."""
        canvas = canvas_of(self.viewer)
        canvas.window().activateWindow()
        canvas.setFocus()
        self.until(canvas.hasFocus)
        QTest.keyClick(canvas, key, modifier)

    def press_button(self, button: Any) -> None:
        """Click a button of the dock with the mouse."""
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    @property
    def target(self) -> Any:
        """The Labels layer that objects were written into."""
        return self.dock.commit_panel.target.layer


def check_nothing_is_cut_off(desk: Desk) -> None:
    """Unfold every section, and see that all texts are there in full."""
    for section in desk.dock.sections.values():
        section.set_expanded(True)
    desk.qtbot.wait(200)
    assert desk.dock.width() < 360
    scroll = desk.dock._scroll
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()
    for kind in (QAbstractButton, QComboBox, QLabel):
        for widget in scroll.widget().findChildren(kind):
            if not widget.isVisible():
                continue
            right = widget.mapTo(scroll.widget(), QPoint(widget.width(), 0)).x()
            assert right <= scroll.viewport().width(), f"{widget} {getattr(widget, 'text', str)()}"
            if kind is QAbstractButton:
                assert widget.width() >= widget.minimumSizeHint().width(), widget.text()
