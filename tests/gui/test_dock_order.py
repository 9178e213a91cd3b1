"""Steps in an order that nobody planned: what is shown, followed, filled in and saved stays one thing."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
import tifffile
from napari.layers import Labels, Tracks
from qtpy.QtCore import Qt
from tests.fakes import DiscPredictor, disc_image, disc_mask
from tests.gui.dock import DISCS, disc_picture
from tests.gui.following import RADII, SHAPE, at, ball, click_object, go, wait_followed

from napari_sam._napari import target

pytestmark = pytest.mark.gui


def stack_layer(desk):
    return next(layer for layer in desk.viewer.layers if layer.name.endswith(": stack"))


def at_step(desk, words, count, act):
    """Do something at the count-th step of the stack that says some words."""
    steps = []

    def look(kind, progress):
        if kind == "stack" and words in progress.message:
            steps.append(progress)
            if len(steps) == count:
                act()

    desk.session.progressed.connect(look)


# --- an object that is followed ------------------------------------------------------------------------


def test_a_followed_object_is_taken_out_and_written_again_when_its_image_is_gone(follow_desk):
    desk = follow_desk()
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    desk.press_button(desk.panel.commit)
    labels = desk.target
    written = labels.data.copy()
    desk.viewer.layers.remove(desk.dock.bench.image)
    desk.session.undo()
    assert not labels.data.any()
    desk.session.redo()
    assert np.array_equal(labels.data, written)
    assert written.any()
    assert desk.errors == []


def test_undo_while_another_object_is_followed_brings_back_the_first_alone(follow_desk):
    desk = follow_desk(DiscPredictor(decode_seconds=0.1))
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    first = {z: mask.area for z, mask in desk.trail.masks.items()}
    desk.press(Qt.Key.Key_C)
    go(desk, 2)
    desk.click(*DISCS[1][:2])
    desk.wait_offers()
    desk.press_button(desk.panel.run)
    desk.until(lambda: desk.dock.stack.following and len(desk.trail.trail.planes) >= 2)
    go(desk, 3)
    desk.press_button(desk.dock.commit_panel.undo)
    desk.until(lambda: not desk.dock.bench.dispatch.worker.busy)
    assert "follow" not in desk.session.running
    assert {z: mask.area for z, mask in desk.trail.masks.items()} == first
    # What was begun of the other comes back with redo.
    desk.press_button(desk.dock.commit_panel.redo)
    assert desk.trail.trail is not None
    assert desk.trail.trail.anchors == {2}
    assert desk.errors == []


def test_where_every_prompt_is_an_object_the_chosen_candidate_is_followed(follow_desk):
    desk = follow_desk()
    desk.dock.prompt_panel.batch.setChecked(True)
    click_object(desk, 4)
    desk.press(Qt.Key.Key_1)
    chosen = desk.session.offers[0].choice.area
    assert chosen < 0.5 * np.pi * RADII[4] ** 2
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    assert desk.trail.masks[4].area == chosen


def test_several_objects_on_any_of_the_planes_are_not_followed_as_one(follow_desk):
    desk = follow_desk()
    desk.dock.prompt_panel.batch.setChecked(True)
    go(desk, 2)
    desk.click(*at(2)[:2])
    desk.click(*DISCS[1][:2])
    desk.wait_offers(2)
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    assert "One object is followed at a time" in desk.errors[0]
    assert not desk.dock.stack.following


def test_an_end_is_set_where_the_prompts_were_cleared(follow_desk):
    desk = follow_desk()
    click_object(desk, 4)
    click_object(desk, 6)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    desk.press_button(desk.panel.end)
    assert "Clear the prompts here first" in desk.errors.pop()
    desk.dock.bench.clear()
    desk.press_button(desk.panel.end)
    assert desk.errors == []
    assert max(desk.trail.masks) < 6
    # Where it was followed from one plane alone, nothing would be left of it.
    desk.press_button(desk.panel.discard)
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    desk.dock.bench.clear()
    desk.press_button(desk.panel.end)
    assert "Discard it instead" in desk.errors.pop()
    assert len(desk.trail.masks) == 7


def test_an_object_does_not_end_on_all_planes(follow_desk):
    desk = follow_desk()
    for z in (2, 6):
        click_object(desk, z)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    for z in (2, 6):
        go(desk, z)
        desk.dock.bench.clear()
    desk.press_button(desk.panel.end)
    assert max(desk.trail.masks) < 6
    go(desk, 2)
    desk.press_button(desk.panel.end)
    assert "Nothing would be left of the object" in desk.errors.pop()
    assert min(desk.trail.masks) == 1
    # Where it goes on again elsewhere, it may end here.
    go(desk, 6)
    desk.press_button(desk.panel.end)
    go(desk, 2)
    desk.press_button(desk.panel.end)
    assert min(desk.trail.masks) > 2
    assert desk.errors == []


def test_what_was_chosen_on_other_pixels_is_not_what_is_followed(follow_desk):
    desk = follow_desk()
    for z in (2, 6):
        click_object(desk, z)
    image = desk.dock.bench.image
    image.data = np.stack([disc_image(SHAPE, [(*at(z)[:2], 10)]) for z in range(9)])
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    assert {mask.area for mask in desk.trail.masks.values()} == {disc_mask(0, 0, 10).area}
    # Nor does undo bring back what was followed on pixels that are gone.
    desk.press(Qt.Key.Key_C)
    image.data = ball()
    desk.press_button(desk.dock.commit_panel.undo)
    assert not desk.target.data.any()
    assert not desk.dock.stack.following
    assert len(desk.dock.bench.binding.points.data) == 2


def test_a_script_removes_all_layers_with_an_object_followed(follow_desk):
    desk = follow_desk()
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    desk.viewer.layers.clear()
    desk.until(lambda: len(desk.viewer.layers) == 0)
    assert not desk.panel.strip.isVisible()
    desk.viewer.add_image(disc_picture(), name="another")
    desk.until(lambda: desk.session.status.phase == "ready")
    assert desk.errors == []


# --- a stack that is filled in -------------------------------------------------------------------------


def short_and_long():
    """Planes of two discs; a third is on the first two planes."""
    return np.stack([disc_image((180, 200), DISCS[1:] + DISCS[:1] * (z < 2)) for z in range(9)])


@pytest.mark.parametrize("how", ["cancel", "close", "pixels"])
def test_numbers_that_are_being_written_are_written_to_the_end(follow_desk, how):
    desk = follow_desk(image=short_and_long())
    panel = desk.dock.stack_panel
    panel.length.setValue(3)
    act = {
        "cancel": lambda: desk.session.cancel("stack"),
        "close": desk.dock.stack.stack.close,
        "pixels": lambda: setattr(desk.dock.bench.image, "data", ball()),
    }[how]
    at_step(desk, "numbers", 4, act)
    desk.press_button(panel.run)
    labels = stack_layer(desk)
    desk.until(lambda: "stack" not in desk.session.running)
    ids = [[int(plane[y, x]) for y, x, _ in DISCS] for plane in labels.data]
    assert ids == [[0, *ids[0][1:]]] * 9  # the short one is dropped on all planes, the others are one each
    assert sorted(ids[0][1:]) == [1, 2]
    assert labels.editable
    assert len(labels.features) == 2
    if how != "close":
        assert "2 objects in 9 planes" in panel.text.text()


def test_the_window_does_more_than_draw_what_is_filled_in(follow_desk, monkeypatch):
    desk = follow_desk(image=short_and_long())
    drawn, refresh = [], Labels.refresh

    def refresh_slowly(layer, *args, **kwargs):
        if layer.name.endswith(": stack") and layer.data.any():
            drawn.append(np.count_nonzero(layer.data))
            time.sleep(0.2)  # as a large volume takes in 3D
        refresh(layer, *args, **kwargs)

    monkeypatch.setattr(Labels, "refresh", refresh_slowly)
    desk.press_button(desk.dock.stack_panel.run)
    desk.until(lambda: "stack" not in desk.session.running)
    assert 0 < len(drawn) <= 4
    assert drawn[-1] == np.count_nonzero(stack_layer(desk).data), "the last one shows all of it"


def test_a_stack_from_the_side_is_not_filled_into_labels_on_disk(follow_desk, tmp_path, monkeypatch):
    monkeypatch.setattr(target, "IN_MEMORY", 10**6)
    planes = [np.kron(plane, np.ones((6, 6), np.uint8)) for plane in ball()[3:6]]
    desk = follow_desk(image=np.stack(planes))
    desk.dock.bench.labels_folder = tmp_path
    desk.click(*(6 * v for v in DISCS[1][:2]))
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    on_disk = desk.target
    assert on_disk.multiscale
    desk.viewer.dims.order = (1, 0, 2)
    desk.until(lambda: desk.session.status.phase == "ready")
    desk.press_button(desk.dock.stack_panel.run)
    desk.until(lambda: stack_layer(desk).data.any())
    assert np.unique(on_disk.data[0][...]).tolist() == [0, 1]
    desk.session.cancel("stack")
    assert desk.errors == []


def test_time_points_of_a_movie_of_volumes_are_filled_into_one_layer(follow_desk):
    movie = np.stack([short_and_long()[:5], short_and_long()[:5, ::-1]])
    desk = follow_desk(image=movie, axis_labels=("t", "z", "y", "x"))
    panel = desk.dock.stack_panel
    panel.axis.setCurrentIndex(panel.axis.findData(1))
    panel.length.setValue(3)  # the third disc is too short: ids are given anew at the end
    for t in (1, 0):
        desk.viewer.dims.set_current_step(0, t)
        desk.until(lambda: desk.session.status.phase == "ready")
        desk.press_button(panel.run)
        desk.until(lambda: "stack" not in desk.session.running)
        assert "2 objects in 5 planes" in panel.text.text()
    labels = stack_layer(desk)
    assert [np.unique(volume).tolist() for volume in labels.data] == [[0, 3, 4], [0, 1, 2]]
    assert np.array_equal(labels.data[0] > 0, labels.data[1, :, ::-1] > 0)
    assert labels.features["index"].tolist() == [1, 2, 3, 4]
    # Nothing is written over: where there is something, a new layer is made.
    desk.press_button(panel.run)
    desk.until(lambda: "stack" not in desk.session.running)
    assert [layer.name for layer in desk.viewer.layers].count(labels.name) == 1
    assert np.unique(desk.dock.commit_panel.target.layer.data).tolist() == [0, 1, 2]


def test_what_is_still_being_filled_is_neither_tracked_nor_exported(follow_desk, tmp_path):
    desk = follow_desk(DiscPredictor(encode_seconds=0.1))
    desk.press_button(desk.dock.stack_panel.run)
    labels = stack_layer(desk)
    desk.dock.tracks_panel.labels.pick(labels)
    desk.dock.stack.track()
    assert "still being filled" in desk.errors.pop()
    desk.dock.export(labels, str(tmp_path / "half.tif"), "tiff")
    assert "still being filled" in desk.dock.export_panel.text.text()
    desk.until(lambda: "stack" not in desk.session.running)
    assert list(tmp_path.iterdir()) == []
    desk.dock.export(labels, str(tmp_path / "whole.tif"), "tiff")
    desk.until(lambda: "export" not in desk.session.running)
    assert np.array_equal(tifffile.imread(tmp_path / "whole.tif"), labels.data)


def test_other_pixels_of_an_image_that_is_not_on_show_end_its_filling(follow_desk):
    desk = follow_desk(DiscPredictor(encode_seconds=0.15))
    image = desk.dock.bench.image
    desk.press_button(desk.dock.stack_panel.run)
    desk.viewer.add_image(disc_picture(), name="flat")
    image.data = image.data[:, ::-1].copy()
    assert "stack" not in desk.session.running
    assert "'discs' has other pixels now" in desk.dock.stack_panel.text.text()
    assert stack_layer(desk).editable
    assert not stack_layer(desk).data[-1].any()


def desk_with_an_object(follow_desk):
    """A movie of stacks, with an object in the first frame."""
    movie = np.stack([short_and_long()[:5]] * 2)
    desk = follow_desk(DiscPredictor(encode_seconds=0.1), image=movie, axis_labels=("t", "z", "y", "x"))
    desk.click(*DISCS[1][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    return desk


def begin_to_fill(desk):
    """Turn to the second frame and segment its planes."""
    panel = desk.dock.stack_panel
    panel.axis.setCurrentIndex(panel.axis.findData(1))
    desk.viewer.dims.set_current_step(0, 1)
    desk.until(lambda: desk.session.status.phase == "ready")
    desk.press_button(panel.run)


def test_nothing_is_written_by_redo_into_labels_that_are_being_filled(follow_desk):
    desk = desk_with_an_object(follow_desk)
    labels = desk.target
    desk.press_button(desk.dock.commit_panel.undo)
    begin_to_fill(desk)
    assert not labels.editable  # it is the one that is filled
    desk.press_button(desk.dock.commit_panel.redo)
    assert "is still being filled" in desk.errors.pop()
    desk.until(lambda: "stack" not in desk.session.running)
    assert not labels.data[0].any()
    desk.press_button(desk.dock.commit_panel.redo)
    assert labels.data[0].any()
    assert desk.errors == []


def test_what_is_not_undone_in_labels_that_are_being_filled_is_undone_afterwards(follow_desk):
    desk = desk_with_an_object(follow_desk)
    labels, before = desk.target, desk.target.data[0].copy()
    begin_to_fill(desk)
    desk.press_button(desk.dock.commit_panel.undo)
    assert desk.errors.pop().endswith("is still being filled. Wait until it is, then undo.")
    assert desk.session.history.undoable == "commit"
    desk.until(lambda: "stack" not in desk.session.running)
    assert np.array_equal(labels.data[0], before)
    filled = labels.data[1].copy()
    desk.press_button(desk.dock.commit_panel.undo)
    assert not labels.data[0].any()
    assert np.array_equal(labels.data[1], filled)
    assert desk.errors == []


def test_a_stack_of_an_image_that_is_not_on_show_takes_no_objects_of_another(follow_desk):
    desk = follow_desk(DiscPredictor(encode_seconds=0.1))
    desk.press_button(desk.dock.stack_panel.run)
    desk.viewer.add_image(disc_picture(), name="flat")
    desk.until(lambda: "stack" not in desk.session.running)
    assert desk.dock.commit_panel.target.layer is not stack_layer(desk)
    desk.until(lambda: desk.session.status.phase == "ready")
    desk.dock.bench.use("point")
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    assert desk.target.name == "flat: objects"
    assert desk.errors == []


# --- tracks ------------------------------------------------------------------------------------------


def test_tracks_are_saved_as_they_were_corrected(follow_desk, tmp_path):
    desk = follow_desk()
    movie = np.zeros((4, 180, 200), np.uint16)
    for t in range(4):
        movie[t, 10 + t : 20 + t, 10:20], movie[t, 60:70, 60 + t : 70 + t] = 1, 7
    labels = desk.viewer.add_labels(movie, name="cells")
    desk.dock.tracks_panel.labels.pick(labels)
    desk.dock.stack.track()
    desk.until(lambda: "track" not in desk.session.running)
    (layer,) = [x for x in desk.viewer.layers if isinstance(x, Tracks)]
    layer.data = layer.data[layer.data[:, 0] == 2]
    for name in ("cells.csv", "01_RES"):
        desk.dock.stack.tracks.save(layer, str(tmp_path / name))
        desk.until(lambda: "track" not in desk.session.running)
    table = pd.read_csv(tmp_path / "cells.csv")
    assert table["track"].unique().tolist() == [2]
    assert set(table["label"]) == {7}  # napari has forgotten it, we have not
    masks = np.stack([tifffile.imread(tmp_path / "01_RES" / f"mask{t:03d}.tif") for t in range(4)])
    assert np.array_equal(masks > 0, movie == 7)


def test_a_correction_leaves_the_other_divisions_alone(follow_desk, tmp_path):
    desk = follow_desk()
    movie = np.zeros((4, 180, 200), np.uint16)
    movie[:, 100:104, 150:154] = 9  # dirt
    movie[:2, 30:40, 45:60] = 1
    movie[2:, 30:40, 42:49], movie[2:, 30:40, 56:63] = 2, 3
    labels = desk.viewer.add_labels(movie, name="cells")
    desk.dock.tracks_panel.labels.pick(labels)
    desk.dock.stack.track()
    desk.until(lambda: "track" not in desk.session.running)
    (layer,) = [x for x in desk.viewer.layers if isinstance(x, Tracks)]
    assert len(layer.graph) == 2
    dirt = layer.data[layer.data[:, 2] > 90][0, 0]
    data = layer.data[layer.data[:, 0] != dirt]
    data[0, 2] += 0.5  # and one position is moved
    layer.data = data
    desk.dock.stack.tracks.save(layer, str(tmp_path / "cells.csv"))
    desk.until(lambda: "track" not in desk.session.running)
    table = pd.read_csv(tmp_path / "cells.csv")
    assert table["track"].nunique() == 3
    assert table.loc[table["parent"] > 0, "track"].nunique() == 2
    assert set(table["label"]) == {1, 2, 3}
