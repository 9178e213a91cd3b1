"""Everything at once: a plane, a stack, an export, from the dock."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pandas as pd
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox
from tests.fakes import DiscPredictor, disc_image, disc_mask
from tests.gui.dock import DISCS, disc_picture

from napari_sam._napari.panels.everything_panel import STEPS, EverythingPanel
from napari_sam.masks import Mask, mask_iou, masks_of_labels
from napari_sam.session import Filters

pytestmark = pytest.mark.gui

SHIFT = Qt.KeyboardModifier.ShiftModifier


def run_everything(desk):
    desk.press(Qt.Key.Key_E, SHIFT)
    desk.until(lambda: desk.session.sifted is not None)


def matches(labels, discs):
    """Whether labels hold these discs and nothing else."""
    masks = masks_of_labels(np.asarray(labels)).values()
    best = [max((mask_iou(m, disc_mask(*d)) for m in masks), default=0) for d in discs]
    return len(masks) == len(discs) and min(best) > 0.7


def test_segment_all_filter_accept_undo(desk):
    panel = desk.dock.everything_panel
    run_everything(desk)
    assert panel.isVisible()
    assert panel.counts.text() == "3 objects"
    preview = desk.dock.bench.preview.layer
    assert Mask.from_plane(preview.data).area == np.count_nonzero(desk.session.sifted.labels)

    # A click's candidate lies on top of them, and they come to light again without it.
    before = preview.data.copy()
    desk.click(*DISCS[2][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_1)
    inside = desk.session.offers[0].choice.mask.to_plane(preview.data.shape)
    assert (preview.data[inside] == 1).all()
    assert np.array_equal(preview.data[~inside], before[~inside])
    desk.press(Qt.Key.Key_C, SHIFT)
    assert np.array_equal(preview.data, before)

    # A slider filters at once, says what it removed, and asks the model for nothing.
    decoded = desk.predictor.decoded
    low, high = panel.area.value()
    # Larger than the smallest disc with its surroundings, smaller than the next disc.
    panel.area.setValue((panel._position_of(1200), high))
    desk.until(lambda: len(desk.session.sifted.objects) == 2)
    assert "removed by smallest area" in panel.counts.text()
    panel.area.setValue((low, high))
    desk.until(lambda: len(desk.session.sifted.objects) == 3)
    panel.predicted_iou.setValue(1000)
    desk.until(lambda: len(desk.session.sifted.objects) == 0)
    assert not panel.accept.isEnabled()
    assert "removed by predicted IoU" in panel.counts.text()
    panel.predicted_iou.setValue(500)
    desk.until(lambda: len(desk.session.sifted.objects) == 3)
    assert desk.predictor.decoded == decoded

    desk.press_button(panel.accept)
    assert matches(desk.target.data, DISCS)
    assert list(desk.target.features["index"]) == [1, 2, 3]
    assert {"predicted_iou", "stability", "area", "model", "prompt"} <= set(desk.target.features)
    assert not preview.visible
    assert panel.counts.isHidden() or not panel._results.isVisible()
    desk.press_button(desk.dock.commit_panel.undo)
    assert not desk.target.data.any()
    assert desk.errors == []


def test_sliders_that_were_not_moved_mean_what_they_were_shown_for(qtbot):
    """They have a thousand positions, which is not every number."""
    panel = EverythingPanel()
    qtbot.addWidget(panel)
    given = Filters(0.6625, 0.5505, 500, 199_500)
    panel.show_results((120, 200_000), given)
    assert panel.filters == given
    assert panel.labels["area"].text() == "500 to 199\u2009500 px"
    panel.stability.setValue(700)
    assert panel.filters == replace(given, stability=0.7)
    low, high = panel.area.value()
    assert high == STEPS
    panel.area.setValue((low + 100, high))
    moved = panel.filters.min_area
    assert panel.filters == replace(given, stability=0.7, min_area=moved)
    assert moved > 600
    panel.area.setValue((low, high - 1))
    panel.area.setValue((low, high))
    assert panel.filters.max_area == inf, "the end is no limit where a person put it"
    beyond = Filters(0.66, 0.55, 10, 1_000_000)
    panel.show_results((120, 200_000), beyond)
    assert panel.filters == beyond, "there may be smaller and larger objects in other planes"


def test_accepted_at_once_is_what_the_sliders_say(desk):
    run_everything(desk)
    panel = desk.dock.everything_panel
    panel.predicted_iou.setValue(1000)
    desk.press_button(panel.accept)
    assert "lower the filters" in desk.errors.pop()
    assert desk.target is None
    assert "3 masks removed by predicted IoU" in panel.counts.text()
    assert not panel.accept.isEnabled()
    panel.predicted_iou.setValue(500)
    desk.until(panel.accept.isEnabled)
    desk.press_button(panel.accept)
    assert matches(desk.target.data, DISCS)
    assert desk.errors == []


def test_only_where_no_object_is_yet(desk):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    region = desk.dock.everything_panel.region
    region.setCurrentIndex(region.findData("unlabelled"))
    run_everything(desk)
    assert len(desk.session.sifted.objects) == 2
    desk.press_button(desk.dock.everything_panel.accept)
    assert desk.target.data.max() == 3


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"data": np.zeros((90, 100), int)}, "has shape"),
        ({"data": np.zeros((4, 180, 200), int)}, "has shape"),
        ({"data": np.zeros((180, 200), int), "translate": (20, 30)}, "another scale, position"),
        ({"data": [np.zeros((180, 200), int), np.zeros((90, 100), int)], "multiscale": True}, "a pyramid"),
    ],
)
def test_where_no_object_is_cannot_be_told_by_labels_that_do_not_fit(desk, labels, words):
    desk.dock.automatic.failed.connect(desk.errors.append)
    desk.dock.commit_panel.target.pick(desk.viewer.add_labels(**labels))
    desk.viewer.layers.selection.active = desk.viewer.layers["discs"]
    region = desk.dock.everything_panel.region
    region.setCurrentIndex(region.findData("unlabelled"))
    desk.press_button(desk.dock.everything_panel.run)
    assert words in desk.errors[0]
    assert "everything" not in desk.session.running


def test_masks_wait_for_their_image(desk):
    """Looking at another image, or another channel, costs nothing."""
    desk.dock.automatic.failed.connect(desk.errors.append)
    run_everything(desk)
    other = desk.viewer.add_image(disc_image((180, 200), DISCS[:1]), name="other")
    assert desk.dock.bench.image is other
    desk.press_button(desk.dock.everything_panel.accept)
    assert "those of 'discs'" in desk.errors[0]
    desk.viewer.layers.selection.active = desk.viewer.layers["discs"]
    desk.until(lambda: desk.session.status.phase == "ready")
    assert desk.dock.bench.preview.layer.data.any()
    desk.press_button(desk.dock.everything_panel.accept)
    assert matches(desk.target.data, DISCS)
    run_everything(desk)
    desk.viewer.layers.selection.active = other
    desk.viewer.layers.remove("discs")
    assert desk.session.sifted is None


def test_masks_of_pixels_that_are_gone_are_not_accepted(desk):
    run_everything(desk)
    image = desk.viewer.layers["discs"]
    desk.viewer.add_image(disc_picture(), name="other")
    image.data = disc_picture()[::-1].copy()
    told = []
    desk.dock.bench.told.connect(told.append)
    desk.viewer.layers.selection.active = image
    assert desk.session.sifted is None
    assert "'discs' shows something else now" in told[0]


def test_masks_of_channels_wait_too(open_desk):
    desk = open_desk(image=np.stack([disc_picture()] * 2)).wait_ready()
    colours = desk.dock.image_panel.colours
    colours.setCurrentIndex(colours.findText("channels of", Qt.MatchFlag.MatchStartsWith))
    run_everything(desk)
    desk.viewer.add_image(disc_picture(), name="other")
    desk.viewer.layers.selection.active = desk.viewer.layers["discs"]
    desk.until(lambda: desk.session.status.phase == "ready")
    desk.press_button(desk.dock.everything_panel.accept)
    assert matches(desk.target.data, DISCS)


def test_masks_of_planes_that_are_counted_otherwise_are_dropped(open_desk):
    desk = open_desk(image=np.stack([disc_picture()] * 2)).wait_ready()
    told = []
    desk.dock.bench.told.connect(told.append)
    run_everything(desk)
    colours = desk.dock.image_panel.colours
    colours.setCurrentIndex(colours.findText("channels of", Qt.MatchFlag.MatchStartsWith))
    assert desk.session.sifted is None
    assert "Segment all were dropped" in told[0]


def test_rims_beside_objects_that_are_there_are_not_accepted(desk):
    run_everything(desk)
    desk.press_button(desk.dock.everything_panel.accept)
    desk.target.data[DISCS[0][0] - 20 : DISCS[0][0] + 4] = 0
    desk.target.data[desk.target.data == 1] = 7
    told = []
    desk.dock.bench.told.connect(told.append)
    run_everything(desk)
    desk.press_button(desk.dock.everything_panel.accept)
    assert "masks were left out" in told[0]
    areas = np.bincount(desk.target.data.ravel())
    assert areas[8:].min() > 400
    features = desk.target.features.set_index("index")
    assert features.loc[8, "area"] == areas[8]


def test_only_what_the_canvas_shows(desk):
    y, x, _ = DISCS[1]
    desk.viewer.scene.camera.center = (y, x)
    desk.viewer.scene.camera.zoom *= 3
    region = desk.dock.everything_panel.region
    region.setCurrentIndex(region.findData("view"))
    run_everything(desk)
    assert len(desk.session.sifted.objects) == 1
    assert mask_iou(desk.session.sifted.objects[0].mask, disc_mask(*DISCS[1])) > 0.7


def test_segment_all_can_be_cancelled(open_desk):
    predictor = DiscPredictor(decode_seconds=0.2)
    predictor.batch_size = 1
    desk = open_desk(predictor=predictor).wait_ready()
    panel = desk.dock.everything_panel
    panel.prompts.setCurrentIndex(panel.prompts.findData("grid"))
    desk.dock.sections["Segment all"].set_expanded(True)
    desk.press_button(panel.run)
    desk.until(lambda: predictor.decoded >= 2)
    assert panel.progress.isVisible()
    desk.press_button(panel.progress.button)
    assert not panel.progress.isVisible()
    assert panel.run.isEnabled()
    desk.until(lambda: not desk.dock.bench.dispatch.worker.busy)
    decoded = predictor.decoded
    desk.qtbot.wait(500)
    assert predictor.decoded <= decoded + 1
    assert desk.session.automatic is None
    # A click is answered while a long run goes on: it does not wait for its end.
    desk.press_button(panel.run)
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    assert "everything" in desk.session.running


def stack():
    """Three discs that wander through five planes; the last is in two planes only."""
    planes = []
    for z in range(5):
        discs = [(y + 2 * z, x, r) for y, x, r in DISCS[: 3 if z in (1, 2) else 2]]
        planes.append(disc_image((180, 200), discs))
    return np.stack(planes)


def test_a_stack_fills_a_layer_with_linked_objects(open_desk):
    desk = open_desk(image=stack()).wait_ready()
    panel = desk.dock.stack_panel
    desk.dock.sections["Stack"].set_expanded(True)
    assert panel.axis.currentText() == "axis 0 (5 planes)"
    desk.press_button(panel.run)
    desk.until(lambda: panel.text.text() != "")
    assert panel.text.text() == "3 objects in 5 planes, in the layer 'discs: stack'."
    layer = desk.viewer.layers["discs: stack"]
    for z in range(5):
        discs = [(y + 2 * z, x, r) for y, x, r in DISCS[: 3 if z in (1, 2) else 2]]
        assert matches(layer.data[z], discs)
    first = layer.data[0, DISCS[0][0], DISCS[0][1]]
    assert {layer.data[z, DISCS[0][0] + 2 * z, DISCS[0][1]] for z in range(5)} == {first}
    assert sorted(layer.features["planes"]) == [2, 5, 5]
    assert sorted(np.unique(layer.data)) == [0, 1, 2, 3]
    # What is added by hand goes into the same labels, and these are what is exported.
    assert desk.target is desk.dock.export_panel.labels.layer is layer
    assert desk.errors == []


def test_a_stack_that_is_cancelled_keeps_its_finished_planes(open_desk):
    desk = open_desk(image=stack(), predictor=DiscPredictor(encode_seconds=0.3)).wait_ready()
    panel = desk.dock.stack_panel
    desk.dock.sections["Stack"].set_expanded(True)
    desk.press_button(panel.run)
    layer = desk.viewer.layers["discs: stack"]
    desk.until(lambda: layer.data[1].any())
    desk.press_button(panel.progress.button)
    desk.until(lambda: not desk.dock.bench.dispatch.worker.busy)
    desk.qtbot.wait(500)
    assert panel.text.text().startswith("Stopped after")
    assert matches(layer.data[0], DISCS[:2])
    assert not layer.data[4].any()
    assert panel.run.isEnabled()


def test_export_from_the_dock(desk, tmp_path, monkeypatch):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    panel = desk.dock.export_panel
    desk.dock.sections["Export"].set_expanded(True)
    for name, file in (("tiff", "cells.tif"), ("table", "cells.csv")):
        # The person types a name without the ending.
        typed = tmp_path / "cells"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, typed=typed: (str(typed), ""))
        panel.format.setCurrentIndex([f.name for f in map(panel.format.itemData, range(8))].index(name))
        desk.press_button(panel.button)
        desk.until(lambda file=file: (tmp_path / file).exists() and "export" not in desk.session.running)
        assert file in panel.text.text()
    assert np.array_equal(tifffile.imread(tmp_path / "cells.tif"), desk.target.data)
    table = pd.read_csv(tmp_path / "cells.csv")
    image = desk.dock.bench.image
    inside = image.data[desk.target.data == 1]
    np.testing.assert_allclose(table["intensity_mean"], [inside.mean()])
    assert panel.text.text().endswith(f"cells.csv, with the intensities of {image.name!r}")


@pytest.mark.parametrize(("said", "rows"), [("as the layer says", 1), ("depths", 1), ("time points", 2)])
def test_planes_of_a_file_that_does_not_say_it_are_said_to_be_times(desk, tmp_path, said, rows):
    labels = np.zeros((3, 40, 50), int)
    labels[:2, 5:15, 10:30] = 4
    layer = desk.viewer.add_labels(labels)
    desk.dock.sections["Export"].set_expanded(True)
    planes = desk.dock.export_panel.planes
    planes.setCurrentIndex(planes.findText(said))
    desk.dock.export(layer, str(tmp_path / "cells.csv"), "table")
    desk.until(lambda: (tmp_path / "cells.csv").exists() and "export" not in desk.session.running)
    table = pd.read_csv(tmp_path / "cells.csv")
    assert len(table) == rows
    assert ("volume_px" in table) == (rows == 1)


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_a_file_is_not_replaced_unasked_for_want_of_an_ending(desk, tmp_path, monkeypatch, answer):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    asked = []

    def question(parent, title, text, *_):
        asked.append(text)
        return QMessageBox.StandardButton[answer]

    monkeypatch.setattr(QMessageBox, "question", question)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(tmp_path / "cells"), ""))
    (tmp_path / "cells.tif").write_bytes(b"mine")
    desk.press_button(desk.dock.sections["Export"].button)
    desk.press_button(desk.dock.export_panel.button)
    assert asked == ["cells.tif is there already. Replace it?"]
    desk.until(lambda: "export" not in desk.session.running)
    assert ((tmp_path / "cells.tif").read_bytes() == b"mine") == (answer == "No")


def test_an_export_that_fails_says_why(desk, tmp_path):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    (tmp_path / "file").touch()
    desk.dock.export(desk.target, str(tmp_path / "file" / "cells.tif"), "tiff")
    desk.until(lambda: desk.errors)
    assert "file" in desk.errors[0]
    assert "Nothing was written" in desk.dock.export_panel.text.text()
