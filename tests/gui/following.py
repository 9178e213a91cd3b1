"""An object that is followed through a stack, and what is done with it in the window."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from tests.fakes import disc_image, disc_mask
from tests.gui.dock import DISCS

from napari_sam.masks import Mask, mask_iou

SHAPE = (180, 200)
RADII = (0, 8, 12, 16, 16, 16, 12, 8, 0)
"""Of the object on each plane; another one is on all of them."""


def at(z: int) -> tuple[float, float, float]:
    """The object on a plane: it wanders to the right."""
    return 60, 40 + 3 * z, RADII[z]


def ball(faint: int | None = None) -> np.ndarray:
    planes = []
    for z, radius in enumerate(RADII):
        plane = disc_image(SHAPE, [at(z)] if radius else [], 150 if z == faint else 200)
        planes.append(np.maximum(plane, disc_image(SHAPE, [DISCS[1]])))
    return np.stack(planes)


def fits(plane: np.ndarray, z: int) -> bool:
    return mask_iou(Mask.from_plane(plane), disc_mask(*at(z))) > 0.95


def go(desk, z: int) -> None:
    """Move the slider, and wait for the plane."""
    desk.viewer.dims.set_current_step(desk.axis, z)
    desk.until(lambda: desk.session.status.phase == "ready")


def click_object(desk, z: int) -> None:
    go(desk, z)
    desk.click(*at(z)[:2])
    desk.wait_offers()


def wait_followed(desk) -> None:
    desk.until(lambda: "follow" not in desk.session.running and desk.dock.stack.following)


def preview(desk) -> np.ndarray:
    """What is shown over the plane, as a plane."""
    layer = desk.dock.bench.preview.layer
    return layer.data.squeeze() if layer is not None and layer.visible else np.zeros(SHAPE)


def click_strip(desk, plane: int) -> None:
    strip = desk.panel.strip
    QTest.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(int(sum(strip.span(plane)) / 2), 15))
