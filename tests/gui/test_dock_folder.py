"""A folder of images in the real window: clicks, keys, and what is on disk afterwards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.fakes import DiscPredictor, disc_image, disc_mask
from tests.gui.dock import DISCS, disc_picture

from napari_sam._napari import large
from napari_sam._napari.panels import folder_panel
from napari_sam.files.pairs import labelled_pairs
from napari_sam.masks import Mask, mask_iou

pytestmark = pytest.mark.gui


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        tifffile.imwrite(folder / f"img{i}.tif", np.roll(disc_picture(), 4 * i, axis=1))
    return folder


class Work:
    """A window with a folder open, and shorthands."""

    def __init__(self, desk, images, monkeypatch):
        self.desk, self.out = desk, images / "labels"
        desk.until(lambda: desk.dock.many.annotator is not None)
        self.panel, self.annotator = desk.dock.many.folder_panel, desk.dock.many.annotator
        section = desk.dock.sections["Folder of images"]
        if not section.content.isVisible():
            desk.press_button(section.button)
        desk.dock.scroll_to(section)
        monkeypatch.setattr(folder_panel.QFileDialog, "getExistingDirectory", lambda *_: str(images))
        desk.press_button(self.panel.choose)
        self.wait(0)

    def wait(self, number):
        """Wait until an image is on show and ready for clicks."""
        session = self.desk.session
        self.desk.until(lambda: self.annotator.work.current == number)
        self.desk.until(lambda: session.status.phase == "ready" and session.place is not None)

    def commit(self, number, disc=0):
        """Click an object of an image and commit it with the key."""
        y, x, _ = DISCS[disc]
        self.desk.click(y, x + 4 * number)
        self.desk.wait_offers()
        self.desk.press(Qt.Key.Key_C)
        self.desk.until(lambda: not self.desk.session.offers)

    def saved(self, number):
        return self.out / f"img{number}_labels.tif"

    def until_saved(self, number, objects):
        def there():
            return (
                self.saved(number).exists() and len(np.unique(tifffile.imread(self.saved(number)))) > objects
            )

        self.desk.until(there)

    @property
    def rows(self):
        return [self.panel.images.item(i).text() for i in range(self.panel.images.count())]


def test_through_a_folder_with_clicks_and_keys(open_desk, images, monkeypatch):
    desk = open_desk().wait_ready()
    desk.viewer.layers.clear()
    work = Work(desk, images, monkeypatch)
    assert work.rows == ["○  img0.tif", "○  img1.tif", "○  img2.tif"]
    work.commit(0)
    work.until_saved(0, 1)  # by itself, after a moment
    work.commit(0, disc=1)
    desk.press(Qt.Key.Key_N)
    work.wait(1)
    work.until_saved(0, 2)
    desk.until(lambda: work.rows[0] == "◐  img0.tif · 2 objects")
    names = [layer.name for layer in desk.viewer.layers]
    assert not [name for name in names if name.startswith("img0")], "the image before is gone with its layers"
    work.commit(1)
    assert desk.target.name == "img1: objects"
    desk.press(Qt.Key.Key_D, Qt.KeyboardModifier.ShiftModifier)
    work.wait(2)
    desk.until(lambda: work.rows[1] == "●  img1.tif · 1 object")
    assert work.panel.count.text() == "1 of 3 done"
    desk.press(Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    work.wait(1)
    assert work.panel.done.isChecked()
    desk.press_button(work.panel.previous)
    work.wait(0)
    assert np.array_equal(np.asarray(desk.target.data), tifffile.imread(work.saved(0)))
    assert desk.target.features["index"].tolist() == [1, 2]
    # A row of the list is a jump.
    item = work.panel.images.visualItemRect(work.panel.images.item(2))
    QTest.mouseClick(
        work.panel.images.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, item.center()
    )
    work.wait(2)
    assert desk.errors == []


def test_an_image_without_objects_that_is_done_goes_into_a_training(open_desk, images, monkeypatch):
    """Its labels are empty, and train and evaluate find them among the images, where they are by default."""
    desk = open_desk().wait_ready()
    desk.viewer.layers.clear()
    work = Work(desk, images, monkeypatch)
    for number in (1, 2, 2):
        assert not work.saved(number).exists()
        desk.press(Qt.Key.Key_D, Qt.KeyboardModifier.ShiftModifier)
        work.wait(number)
    desk.until(lambda: work.saved(2).exists())
    assert not any(tifffile.imread(work.saved(number)).any() for number in range(3))
    pairs = [(image.name, labels.name) for image, labels in labelled_pairs(images.parent)]
    assert pairs == [(f"img{number}.tif", f"img{number}_labels.tif") for number in range(3)]


def test_the_next_image_is_embedded_meanwhile(open_desk, images, monkeypatch):
    desk = open_desk().wait_ready()
    work = Work(desk, images, monkeypatch)
    desk.until(lambda: "prefetch" not in desk.session.running)
    encoded = desk.predictor.encoded
    desk.press_button(work.panel.next)
    work.wait(1)
    assert desk.session.status.cached, "the picture that was embedded ahead is the one on show"
    desk.until(lambda: "prefetch" not in desk.session.running)
    assert desk.predictor.encoded == encoded + 1, "only the one after it"


def test_closing_the_window_saves_and_work_goes_on_the_next_day(open_desk, images, monkeypatch):
    desk = open_desk().wait_ready()
    work = Work(desk, images, monkeypatch)
    work.commit(0)
    desk.press(Qt.Key.Key_N)
    work.wait(1)
    work.commit(1, disc=2)
    desk.viewer.close()
    assert len(np.unique(tifffile.imread(work.saved(1)))) == 2
    again = open_desk().wait_ready()
    later = Work.__new__(Work)
    later.desk, later.out = again, images / "labels"
    later.panel, later.annotator = again.dock.many.folder_panel, again.dock.many.annotator
    later.annotator.begin(str(images))
    later.wait(1)
    assert later.rows[:2] == ["◐  img0.tif · 1 object", "◐  img1.tif · 1 object"]
    assert np.asarray(again.target.data).max() == 1


def test_labels_that_are_painted_undone_or_removed(open_desk, images, monkeypatch):
    desk = open_desk().wait_ready()
    work = Work(desk, images, monkeypatch)
    layer = desk.target
    layer.data_setitem((np.array([3, 4]), np.array([5, 5])), np.array([7, 7], layer.data.dtype))
    work.until_saved(0, 1)
    layer.undo()
    desk.until(lambda: not tifffile.imread(work.saved(0)).any())
    layer.redo()
    desk.viewer.layers.remove(layer)
    desk.until(lambda: tifffile.imread(work.saved(0)).max() == 7)
    desk.press(Qt.Key.Key_N)
    work.wait(1)
    assert tifffile.imread(work.saved(0)).max() == 7


def test_labels_that_were_given_another_shape_do_not_replace_those_on_disk(open_desk, images, monkeypatch):
    desk = open_desk().wait_ready()
    desk.viewer.layers.clear()
    work = Work(desk, images, monkeypatch)
    work.commit(0)
    work.until_saved(0, objects=1)
    before = work.saved(0).read_bytes()
    labels = desk.target
    labels.data = np.pad(labels.data, 4)
    desk.until(lambda: f"is not saved: it has the shape {labels.data.shape} now" in work.panel.text.text())
    desk.press(Qt.Key.Key_N)
    work.wait(1)
    assert work.saved(0).read_bytes() == before
    assert labels in desk.viewer.layers
    assert f"still in the viewer: {labels.name}" in work.panel.text.text()


def test_labels_that_were_removed_empty_are_replaced_by_those_that_are_made_next(
    open_desk, images, monkeypatch
):
    desk = open_desk().wait_ready()
    work = Work(desk, images, monkeypatch)
    desk.viewer.layers.remove(desk.target)
    work.commit(0)
    work.until_saved(0, 1)
    # What is saved is not given up for other labels; those stay in the viewer.
    desk.viewer.layers.remove(desk.target)
    work.commit(0, 1)
    other = desk.target
    assert "is not saved in the folder" in work.panel.text.text()
    desk.press(Qt.Key.Key_N)
    work.wait(1)
    assert other in desk.viewer.layers
    assert tifffile.imread(work.saved(0)).max() == 1
    assert mask_iou(Mask.from_plane(tifffile.imread(work.saved(0)) > 0), disc_mask(*DISCS[0])) > 0.95


@pytest.fixture
def stacks(tmp_path):
    folder = tmp_path / "stacks"
    folder.mkdir()
    for i in range(2):
        stack = np.stack([disc_picture()] * 6)
        tifffile.imwrite(folder / f"img{i}.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    return folder


def test_a_stack_that_was_segmented_is_saved_with_the_folder(open_desk, stacks, monkeypatch):
    desk = open_desk().wait_ready()
    work = Work(desk, stacks, monkeypatch)
    desk.dock.segment_stack()
    desk.until(lambda: "stack" not in desk.session.running)
    work.until_saved(0, len(DISCS))
    desk.press(Qt.Key.Key_N)
    work.wait(1)
    assert len(np.unique(tifffile.imread(work.saved(0)))) == 1 + len(DISCS)
    assert [x.name for x in desk.viewer.layers if x.name.startswith("img0")] == []


def test_labels_of_a_large_plane_are_said_not_to_be_in_the_folder(open_desk, tmp_path, monkeypatch):
    monkeypatch.setattr(large, "IN_MEMORY", 10**6)
    folder = tmp_path / "slides"
    folder.mkdir()
    tifffile.imwrite(folder / "img0.tif", np.kron(disc_picture(), np.ones((6, 6), np.uint8)))
    desk = open_desk().wait_ready()
    work = Work(desk, folder, monkeypatch)
    desk.dock.bench.labels_folder = tmp_path / "kept"
    desk.dock.segment_everything()
    desk.until(lambda: "everything" not in desk.session.running)
    text = work.panel.text.text()
    assert "'img0: all objects' is not saved in the folder: its planes are large" in text
    assert f"it is kept in {tmp_path / 'kept'}" in text


@pytest.mark.parametrize("what", ["followed", "found"])
def test_masks_that_took_long_are_lost_only_when_asked_twice(open_desk, stacks, monkeypatch, what):
    desk = open_desk().wait_ready()
    work = Work(desk, stacks, monkeypatch)
    if what == "followed":
        desk.click(*DISCS[0][:2])
        desk.wait_offers()
        desk.dock.follow()
        desk.until(lambda: "follow" not in desk.session.running and desk.dock.stack.following)
    else:
        desk.dock.segment_everything()
        desk.until(lambda: desk.session.sifted)
    desk.press(Qt.Key.Key_N)
    assert "would be lost" in work.panel.text.text()
    assert work.annotator.work.current == 0
    assert work.panel.images.currentRow() == 0
    if what == "followed":
        desk.press(Qt.Key.Key_C)
        work.until_saved(0, 1)
        assert work.panel.text.text() == ""
    desk.press(Qt.Key.Key_N)  # committed, or asked once more
    work.wait(1)
    assert work.panel.text.text() == ""
    desk.press(Qt.Key.Key_N)
    assert "last image" in work.panel.text.text()
    assert desk.errors == []


def test_a_stack_whose_image_was_left_is_not_saved_and_that_is_said(open_desk, stacks, monkeypatch):
    desk = open_desk(predictor=DiscPredictor(decode_seconds=0.3)).wait_ready()
    work = Work(desk, stacks, monkeypatch)
    desk.until(lambda: "prefetch" not in desk.session.running)  # the next one need not be read then
    desk.dock.segment_stack()
    layer = next(x for x in desk.viewer.layers if x.name == "img0: stack")
    desk.until(lambda: layer.data.any())
    desk.press(Qt.Key.Key_N)
    work.wait(1)
    desk.until(lambda: "stack" not in desk.session.running)
    assert "'img0: stack' is not saved in the folder" in work.panel.text.text()
    work.commit(0)  # the second image is like the first
    work.until_saved(1, 1)
    assert desk.target.name == "img1: objects"
    assert len(np.unique(layer.data)) == 1 + len(DISCS)


@pytest.mark.parametrize("how", ["next", "close"])
def test_numbers_of_a_time_point_are_complete_when_they_are_saved(open_desk, tmp_path, monkeypatch, how):
    folder = tmp_path / "movies"
    folder.mkdir()
    volume = np.stack([disc_image((180, 200), DISCS[1:] + DISCS[:1] * (z < 2)) for z in range(6)])
    for i in range(2):
        movie = np.stack([volume, volume])
        tifffile.imwrite(folder / f"img{i}.tif", movie, imagej=True, metadata={"axes": "TZYX"})
    desk = open_desk().wait_ready()
    work = Work(desk, folder, monkeypatch)
    desk.until(lambda: "prefetch" not in desk.session.running)
    panel = desk.dock.stack_panel
    panel.axis.setCurrentIndex(panel.axis.findData(1))
    panel.length.setValue(3)
    steps = []

    def look(kind, progress):
        if kind == "stack" and "numbers" in progress.message:
            steps.append(progress)
            if len(steps) == 3:
                (desk.dock.close_down if how == "close" else work.annotator.work.next)()

    desk.session.progressed.connect(look)
    desk.dock.segment_stack()
    desk.until(lambda: "stack" not in desk.session.running)
    if how == "next":
        work.wait(1)
    saved = tifffile.imread(work.saved(0))[1]  # the time point in the middle was on show
    ids = [[int(plane[y, x]) for y, x, _ in DISCS] for plane in saved]
    assert ids == [[0, *ids[0][1:]]] * 6
    assert sorted(ids[0][1:]) == [1, 2]
    assert len(pd.read_csv(work.out / "img0_labels.features.csv")) == 2


def test_the_next_image_waits_for_planes_that_are_filled_in(open_desk, tmp_path, monkeypatch):
    folder = tmp_path / "movies"
    folder.mkdir()
    for i in range(2):
        movie = np.stack([[disc_picture()] * 4] * 2)
        tifffile.imwrite(folder / f"img{i}.tif", movie, imagej=True, metadata={"axes": "TZYX"})
    desk = open_desk(predictor=DiscPredictor(decode_seconds=0.3)).wait_ready()
    work = Work(desk, folder, monkeypatch)
    panel = desk.dock.stack_panel
    panel.axis.setCurrentIndex(panel.axis.findData(1))
    desk.dock.segment_stack()
    desk.press(Qt.Key.Key_N)
    assert "still being filled in" in work.panel.text.text()
    desk.until(lambda: "stack" not in desk.session.running)
    work.until_saved(0, len(DISCS))
    desk.press(Qt.Key.Key_N)
    work.wait(1)
    assert "filled in" not in work.panel.text.text()


def test_who_closes_the_dock_is_told_that_the_labels_are_saved_no_more(open_desk, images, monkeypatch):
    desk = open_desk().wait_ready()
    work = Work(desk, images, monkeypatch)
    told = []
    desk.dock.bench.told.connect(told.append)
    work.commit(0)
    desk.dock.close_down()
    assert len(np.unique(tifffile.imread(work.saved(0)))) == 2
    assert "from now on is not" in told[0]


def test_a_broken_image_is_marked_and_images_of_all_shapes_follow(open_desk, images, monkeypatch):
    (images / "img1.tif").write_bytes(b"no image")
    channels = np.stack([disc_picture() // 3, disc_picture()[:, ::-1]])
    stack = np.stack([disc_picture()] * 4)
    tifffile.imwrite(
        images / "img2.tif", channels, metadata={"axes": "CYX"}, photometric="minisblack", ome=True
    )
    tifffile.imwrite(
        images / "img3.tif", stack, imagej=True, metadata={"axes": "ZYX", "unit": "um", "spacing": 2}
    )
    tifffile.imwrite(
        images / "img4.tif", np.repeat(disc_picture()[:90, :, None], 3, axis=-1), photometric="rgb"
    )
    desk = open_desk().wait_ready()
    work = Work(desk, images, monkeypatch)
    desk.press(Qt.Key.Key_N)
    work.wait(2)
    assert work.rows[1] == "✕  img1.tif · cannot be opened"
    assert "img1.tif cannot be read" in work.panel.images.item(1).toolTip()
    assert desk.dock.image_panel.colours.currentText() == "several layers"
    y, x, _ = DISCS[0]
    desk.click(y, x)
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    desk.press(Qt.Key.Key_N)
    work.wait(3)
    assert desk.viewer.dims.current_step[0] == 2
    work.commit(0)
    desk.press(Qt.Key.Key_N)
    work.wait(4)
    work.commit(0)
    desk.press(Qt.Key.Key_N)
    assert work.panel.text.text() == "This is the last image."
    work.until_saved(4, 1)
    assert tifffile.imread(work.out / "img2_labels.tif").shape == (180, 200)
    labels = tifffile.imread(work.out / "img3_labels.tif")
    assert labels[2].any()
    assert not labels[[0, 1, 3]].any()
    assert desk.errors == []


def test_a_folder_without_images_is_refused_in_words(open_desk, tmp_path, monkeypatch):
    desk = open_desk().wait_ready()
    desk.until(lambda: desk.dock.many.annotator is not None)
    desk.press_button(desk.dock.sections["Folder of images"].button)
    monkeypatch.setattr(folder_panel.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    desk.press_button(desk.dock.many.folder_panel.choose)
    desk.until(lambda: "found none" in desk.dock.many.folder_panel.text.text())
    assert not desk.dock.many.folder_panel.next.isVisible()
    desk.press(Qt.Key.Key_N)  # no folder, no shortcut
