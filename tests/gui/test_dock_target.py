"""Objects go into labels of the image in which they were clicked, whatever was looked at in between."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tifffile
from napari.layers._layer_actions import _duplicate_layer
from qtpy.QtCore import Qt
from tests.fakes import disc_image
from tests.gui.dock import DISCS, Desk, disc_picture

pytestmark = pytest.mark.gui

OTHER = [(45, 60, 16), (110, 150, 20)]
"""Objects of another image of the same shape: the first one overlaps one of the discs."""


def commit(desk, place):
    """Click an object and write it; returns the layer."""
    desk.dock.bench.use("point")
    desk.click(*place[:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    desk.until(lambda: desk.target is not None and desk.session.history.undoable == "commit")
    return desk.target


def look_at(desk, image):
    """Turn to an image, and wait until it can be clicked in."""
    desk.viewer.layers.selection.active = image
    desk.until(lambda: desk.dock.bench.image is image)
    desk.until(lambda: not desk.dock.bench.dispatch.worker.busy)
    desk.wait_ready()


@pytest.mark.parametrize("blending", ["translucent", "additive"])
def test_objects_of_another_image_go_into_labels_of_its_own(desk, tmp_path, blending):
    """Those of the image before would have cut them off where the two overlap."""
    first = desk.dock.bench.image
    first.blending, first.metadata["path"] = blending, str(tmp_path / "a.tif")
    mine = desk.viewer.add_labels(np.zeros((180, 200), np.uint16), name="mine")
    desk.viewer.layers.selection.active = first
    desk.dock.commit_panel.target.pick(mine)
    assert commit(desk, DISCS[0]) is mine
    second = desk.viewer.add_image(
        disc_image((180, 200), OTHER),
        name="other",
        blending=blending,
        metadata={"path": str(tmp_path / "b.tif")},
    )
    first.visible = False
    look_at(desk, second)
    assert desk.target is None
    theirs = commit(desk, OTHER[0])
    assert theirs is not mine
    assert np.count_nonzero(theirs.data) == pytest.approx(np.pi * OTHER[0][2] ** 2, rel=0.05)
    assert mine.data.max() == 1
    look_at(desk, first)
    assert desk.target is mine
    look_at(desk, second)
    assert desk.target is theirs
    assert desk.errors == []


def test_a_copy_that_was_laid_aside_is_not_drawn_in(desk):
    first = desk.dock.bench.image
    labels = commit(desk, DISCS[0])
    desk.viewer.layers.selection = {labels}
    _duplicate_layer(desk.viewer.layers)
    copy = next(layer for layer in desk.viewer.layers if layer.name.endswith("copy"))
    copy.visible = False
    look_at(desk, desk.viewer.add_image(disc_image((180, 200), OTHER), name="other"))
    assert desk.target is None
    look_at(desk, first)
    assert desk.target is labels
    commit(desk, DISCS[1])
    assert (labels.data.max(), copy.data.max()) == (2, 1)


def test_an_image_that_is_opened_after_the_dock_can_be_clicked_in(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    desk = Desk(qtbot, viewer)
    try:
        desk.until(lambda: not desk.dock.bench.dispatch.worker.busy)
        viewer.add_image(disc_picture(), name="discs")
        desk.wait_ready()
        desk.until(lambda: desk.dock.bench.tool == "point")
        desk.click(*DISCS[0][:2])
        desk.wait_offers()
        viewer.layers.remove("discs")
        desk.until(lambda: desk.dock.bench.tool is None)
        viewer.add_image(disc_picture(), name="others")
        desk.wait_ready()
        desk.until(lambda: desk.dock.bench.tool == "point")
    finally:
        desk.dock.close_down()


def test_a_file_holds_the_labels_of_the_moment_of_its_export(desk, tmp_path, monkeypatch):
    from napari_sam.export import napari_writer

    write = napari_writer.write_layer

    def slowly(*args):
        time.sleep(0.5)
        return write(*args)

    monkeypatch.setattr(napari_writer, "write_layer", slowly)
    labels = commit(desk, DISCS[0])
    before = np.array(labels.data)
    desk.dock.export(labels, str(tmp_path / "cells.tif"), "tiff")
    labels.data[:] = 7
    labels.features = labels.features.assign(later=1)
    desk.until(lambda: "export" not in desk.session.running)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "cells.tif"), before)
