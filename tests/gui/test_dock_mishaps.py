"""Disks that are full and files that are damaged: it is said in words, and nothing else is lost."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import Qt
from tests.fakes import DiscPredictor
from tests.gui.dock import DISCS
from tests.gui.following import SHAPE, ball, click_object, fits

from napari_sam._napari import target
from napari_sam._napari.large_labels import folder_of
from napari_sam.tiling.pyramid import LabelPyramid

pytestmark = pytest.mark.gui


def lazy_ball(damaged: set[int]) -> da.Array:
    """The ball, read plane by plane; damaged planes cannot be read."""
    planes = ball()

    def load(block_info=None):
        z = block_info[None]["array-location"][0][0]
        if z in damaged:
            raise RuntimeError("corrupt block")
        return planes[z : z + 1]

    chunks = ((1,) * len(planes), *((n,) for n in SHAPE))
    return da.map_blocks(load, chunks=chunks, dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8))


def test_a_plane_that_cannot_be_read_is_named(follow_desk):
    damaged = {6}
    desk = follow_desk(image=lazy_ball(damaged), contrast_limits=(0, 255))
    words = "Plane 6 of the image could not be read (RuntimeError: corrupt block)."
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    desk.until(lambda: not desk.session.running)
    assert desk.errors.pop().startswith(words)
    assert desk.panel.text.text() == "Stopped: 5 planes are kept."
    desk.press_button(desk.dock.stack_panel.run)
    desk.until(lambda: "stack" not in desk.session.running)
    assert desk.errors.pop().startswith(words)
    assert "Stopped after 6 of 9 planes" in desk.dock.stack_panel.text.text()
    # As soon as it can be read, the object is followed on from there.
    damaged.clear()
    desk.press_button(desk.panel.run)
    desk.until(lambda: not desk.session.running)
    desk.press(Qt.Key.Key_C)
    assert all(fits(desk.target.data[z], z) for z in range(1, 8))
    assert desk.errors == []


@pytest.fixture
def on_disk(open_desk, tmp_path, monkeypatch):
    """Give a window in which labels of any size are kept on disk."""
    monkeypatch.setattr(target, "IN_MEMORY", 1)
    desk = open_desk(image=np.kron(ball()[4], np.ones((6, 6), np.uint8))).wait_ready()
    desk.dock.bench.labels_folder = tmp_path / "labels"
    desk.click(*(6 * v for v in DISCS[1][:2]))
    desk.wait_offers()
    return desk


def test_a_folder_for_labels_that_cannot_be_written_to(on_disk, tmp_path):
    desk = on_disk
    (tmp_path / "labels").write_text("a file where the folder should be")
    desk.press(Qt.Key.Key_C)
    desk.until(lambda: desk.errors)
    assert "Choose another folder under Segment all > Labels in" in desk.errors.pop()
    assert [type(layer).__name__ for layer in desk.viewer.layers].count("Labels") == 1, "the preview"
    assert len(desk.session.offers) == 1
    desk.dock.bench.labels_folder = tmp_path / "another"
    desk.press(Qt.Key.Key_C)
    desk.until(lambda: desk.target is not None)
    assert np.count_nonzero(np.asarray(desk.target.data[0]))
    assert desk.errors == []


def test_a_disk_that_is_full(on_disk, monkeypatch):
    desk = on_disk
    put, full = LabelPyramid.put, [True]

    def put_while_there_is_room(self, *args):
        if full[0]:
            raise OSError(28, "No space left on device")
        put(self, *args)

    monkeypatch.setattr(LabelPyramid, "put", put_while_there_is_room)
    desk.press(Qt.Key.Key_C)
    desk.until(lambda: desk.errors)
    assert "(No space left on device). Make room, or" in desk.errors.pop()
    assert len(desk.session.offers) == 1
    full[0] = False
    desk.press(Qt.Key.Key_C)
    desk.until(lambda: not desk.session.offers)
    labels = LabelPyramid(folder_of(desk.target)).levels[0]
    assert np.count_nonzero(labels[...])
    full[0] = True
    desk.press_button(desk.dock.commit_panel.undo)
    assert "No space left on device" in desk.errors.pop()
    assert np.count_nonzero(labels[...])
    assert desk.errors == []


def test_keys_that_come_before_the_mask_are_not_napari_s(open_desk):
    """There 3 takes the tool for clicks out of the hand, and the next click would say nothing."""
    desk = open_desk(predictor=DiscPredictor(decode_seconds=1.0)).wait_ready()
    desk.click(*DISCS[0][:2])
    desk.until(lambda: desk.session.waiting)
    for key in (Qt.Key.Key_3, Qt.Key.Key_1, Qt.Key.Key_Tab):
        desk.press(key)
    assert desk.dock.bench.tool == "point"
    assert desk.errors == []
    desk.press(Qt.Key.Key_C)
    assert desk.session.waiting
    assert "still being computed" in desk.errors[-1]
    desk.wait_offers()
    desk.press(Qt.Key.Key_3)
    assert desk.session.offers[0].chosen == 2
    desk.press(Qt.Key.Key_C)
    assert desk.target is not None
    assert desk.target.data.max() == 1
    # There is nothing to wait for, nor to commit: the key is napari's again.
    assert not desk.session.waiting
