"""The window around the dock: a second dock in it, napari's grid, copies of layers that napari makes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers._layer_actions import _duplicate_layer
from qtpy.QtCore import Qt
from tests.fakes import DiscPredictor
from tests.gui.dock import DISCS, disc_picture

from napari_sam._napari.widget import SegmentAnythingDock

pytestmark = pytest.mark.gui


def test_of_two_docks_the_one_used_last_has_the_keys(desk):
    pressed = []
    first, second = desk.dock, SegmentAnythingDock(desk.viewer, load_model=lambda *_, **__: DiscPredictor())
    desk.viewer.window.add_dock_widget(second, name="second", area="left")
    desk.until(lambda: second.session.status.phase == "ready")
    for dock in (first, second):
        dock._actions["toggle hover"] = lambda dock=dock: pressed.append(dock)
    desk.press(Qt.Key.Key_H)
    for dock in (first, second):
        field = dock.prompt_panel.hover
        field.setFocus()
        desk.until(field.hasFocus)
        desk.press(Qt.Key.Key_H)
    assert pressed == [second, first, second]
    desk.viewer.window.remove_dock_widget(second)
    desk.press(Qt.Key.Key_H)
    assert pressed == [second, first, second, first]


def test_where_the_grid_shows_the_mask_is_said_once(desk):
    told = []
    desk.dock.bench.told.connect(told.append)
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.session.choose(1)
    assert told == []
    desk.viewer.canvas.grid.enabled = True
    desk.session.choose(2)
    desk.session.choose(0)
    assert len(told) == 1
    assert "leave the grid" in told[0]
    # A cell for all of them is as good as no grid.
    desk.dock.bench._told.clear()
    desk.viewer.canvas.grid.stride = len(desk.viewer.layers)
    desk.session.choose(1)
    assert len(told) == 1


def test_of_planes_that_are_projected_the_model_sees_one_and_that_is_said_once(open_desk):
    desk = open_desk(np.stack([disc_picture()] * 3), scale=(2, 1, 1)).wait_ready()
    told = []
    desk.dock.bench.told.connect(told.append)
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.viewer.layers["discs"].projection_mode = "max"
    desk.session.choose(1)
    assert told == []  # without thickness one plane is shown
    desk.viewer.dims.margin_left = (0.8, 0, 0)
    desk.session.choose(2)
    assert told == []  # less than half a plane
    desk.viewer.dims.margin_left = (2, 0, 0)
    desk.session.choose(0)
    desk.session.choose(1)
    assert len(told) == 1
    assert "several planes" in told[0]


def test_a_mask_that_was_copied_is_a_layer_as_others(desk):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    preview = desk.dock.bench.preview.layer
    desk.viewer.layers.selection = {preview}
    _duplicate_layer(desk.viewer.layers)
    copy = next(layer for layer in desk.viewer.layers if layer.name.endswith("copy"))
    desk.viewer.layers.selection.active = desk.dock.bench.binding.points
    desk.dock.commit_panel.target.pick(copy)
    assert desk.target is copy
    desk.session.undo()
    assert copy.data.any()
