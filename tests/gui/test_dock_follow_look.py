"""How an object that is followed looks in the real window: the panel, the strip, the view in 3D."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from tests.fakes import DiscPredictor
from tests.gui.dock import check_nothing_is_cut_off
from tests.gui.following import (
    RADII,
    SHAPE,
    ball,
    click_object,
    fits,
    go,
    preview,
    wait_followed,
)

from napari_sam._napari.panels.confidence_strip import ConfidenceStrip

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off(follow_desk, theme):
    desk = follow_desk(scale=(2.125, 0.5, 0.5), units=("um",) * 3)
    desk.viewer.theme = theme
    desk.viewer.add_labels(np.zeros((9, *SHAPE), int), name="labels of a movie with quite a long name")
    desk.dock.stack_panel.unit.setCurrentIndex(1)
    desk.viewer.layers.selection.active = desk.dock.bench.binding.points
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    desk.panel.options.set_expanded(True)
    check_nothing_is_cut_off(desk)


def test_the_strip_shows_what_it_says(qtbot):
    """Every plane its bar: colours and heights by confidence, nothing where the object is not."""
    strip = ConfidenceStrip()
    qtbot.addWidget(strip)
    strip.resize(200, strip.sizeHint().height())
    confidence = [None, 1.0, 0.3, 0.9, None]
    strip.show_planes(confidence, {1})
    strip.show_here(2)
    strip.show()
    picture = strip.grab().toImage()

    def column(plane):
        x = int(sum(strip.span(plane)) / 2) + 6  # beside the arrow and the dot
        return [picture.pixelColor(x, y) for y in range(8, 30)]

    blue = [c for c in column(1) if c.blue() > c.red() + 40]
    orange = [c for c in column(2) if c.red() > c.blue() + 40]
    assert len(blue) > 2 * len(orange) > 8
    background = column(0)
    assert background == column(4)
    assert not [c for c in background if c.blue() > c.red() + 40 or c.red() > c.blue() + 40]
    picked = []
    strip.plane_picked.connect(picked.append)
    QTest.mousePress(strip, Qt.MouseButton.LeftButton, pos=QPoint(10, 10))
    QTest.mouseMove(strip, QPoint(190, 10))
    QTest.mouseRelease(strip, Qt.MouseButton.LeftButton, pos=QPoint(190, 10))
    QTest.keyClick(strip, Qt.Key.Key_Right)
    assert picked[0] == 0
    assert picked[-1] == 3
    assert [strip._words(n) for n in (0, 1, 2)] == [
        "plane 0: not there",
        "plane 1: as you said",
        "plane 2: 30% sure",
    ]
    # More planes than pixels: the least sure of a pixel is what is seen.
    many = [0.95] * 2000
    many[1000] = 0.1
    strip.show_planes(many, ())
    picture = strip.grab().toImage()
    row = [picture.pixelColor(x, 29) for x in range(200)]
    assert [x for x, c in enumerate(row) if c.red() > c.blue()] == [100]


@pytest.mark.parametrize("lead", [False, True])
def test_the_object_is_seen_in_3d_while_it_is_followed(follow_desk, lead):
    """One layer through all planes that holds the box around the object only."""
    image = np.stack([np.zeros_like(ball()), ball()]) if lead else ball()
    scale = (*([1] if lead else []), 3, 0.5, 0.5)
    axis = int(lead)
    desk = follow_desk(image=image, axis=axis, scale=scale, predictor=DiscPredictor(encode_seconds=0.3))
    if lead:
        desk.viewer.dims.set_current_step(0, 1)
        chosen = desk.dock.stack_panel.axis
        chosen.setCurrentIndex(chosen.findData(axis))
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    desk.until(lambda: desk.trail.trail is not None)
    name = "discs: followed"
    assert name not in desk.viewer.layers
    desk.viewer.dims.ndisplay = 3
    desk.until(lambda: name in desk.viewer.layers)
    layer = desk.viewer.layers[name]
    begun = np.count_nonzero(layer.data)
    wait_followed(desk)
    assert begun < np.count_nonzero(layer.data)
    assert layer.data.size < 7 * 60 * 60
    # Every voxel lies on the object.
    places = layer.data_to_world(np.argwhere(layer.data)[0] * 0)
    corner = np.round(desk.viewer.layers["discs"].world_to_data(places)).astype(int)
    found = np.zeros(image.shape, bool)
    found[tuple(slice(c, c + n) for c, n in zip(corner, layer.data.shape, strict=True))] = layer.data > 0
    planes = found[1] if lead else found
    assert all(fits(planes[z], z) if RADII[z] else not planes[z].any() for z in range(len(RADII)))
    assert found.sum() == planes.sum()
    desk.viewer.dims.ndisplay = 2
    desk.until(lambda: name not in desk.viewer.layers)
    go(desk, 6)
    assert fits(preview(desk), 6)
    desk.viewer.dims.ndisplay = 3
    desk.until(lambda: name in desk.viewer.layers)
    desk.press_button(desk.panel.commit)
    assert name not in desk.viewer.layers
    assert desk.errors == []


def test_in_3d_it_is_said_that_planes_need_the_2d_view(follow_desk):
    image = np.stack([ball(), ball()])
    desk = follow_desk(image=image, axis=1)
    panel = desk.dock.stack_panel
    panel.axis.setCurrentIndex(panel.axis.findData(1))
    assert panel.run.isEnabled()
    assert not panel.text.isVisible()
    desk.viewer.dims.ndisplay = 3
    assert panel.text.isVisible()
    assert "shows this image in 3D" in panel.text.text()
    assert "2D view" in panel.text.text()
    assert not panel.run.isEnabled()
    assert not panel.follow.run.isEnabled()
    desk.press(Qt.Key.Key_F, Qt.KeyboardModifier.ShiftModifier)
    assert "2D view" in desk.errors.pop()
    # Back in 2D the message is gone, and the axis is the one that was chosen.
    desk.viewer.dims.ndisplay = 2
    assert not panel.text.isVisible()
    assert panel.run.isEnabled()
    assert panel.axis.currentData() == 1


def test_a_plane_by_itself_is_no_stack_in_3d_either(open_desk):
    desk = open_desk().wait_ready()
    panel = desk.dock.stack_panel
    assert panel.why == "This image has one plane only."
    desk.viewer.dims.ndisplay = 3
    assert panel.why == "This image has one plane only."
