"""Following one object through a stack in the real window: clicks, keys, the strip, cancel and undo."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from tests.fakes import DiscPredictor, disc_image
from tests.gui.dock import DISCS, disc_picture
from tests.gui.following import (
    RADII,
    SHAPE,
    at,
    ball,
    click_object,
    click_strip,
    fits,
    go,
    preview,
    wait_followed,
)

from napari_sam._napari.layers import add_labels_layer, set_filling

pytestmark = pytest.mark.gui


def test_one_click_is_followed_looked_at_and_committed_as_one(follow_desk):
    desk = follow_desk(image=ball(faint=6))
    panel = desk.panel
    assert not panel.strip.isVisible()
    click_object(desk, 4)
    desk.press_button(panel.run)
    wait_followed(desk)
    assert panel.strip.isVisible()
    assert desk.trail.here == 4
    assert "On 7 of 9 planes, 1 to 7. Least sure: plane 6," in panel.summary.text()
    # A click on the strip goes to the plane, where the object is shown before it is committed.
    for z in (2, 7):
        click_strip(desk, z)
        assert desk.viewer.dims.current_step[0] == z
        assert fits(preview(desk), z)
    click_strip(desk, 0)
    assert not preview(desk).any()
    desk.press_button(panel.weakest)
    assert desk.viewer.dims.current_step[0] == 6
    desk.press(Qt.Key.Key_W, Qt.KeyboardModifier.ShiftModifier)
    assert desk.viewer.dims.current_step[0] not in (4, 6)
    # One key commits all planes with one number; one undo takes them all out, whatever plane is on show.
    desk.press(Qt.Key.Key_C)
    labels = desk.target
    assert np.unique(labels.data).tolist() == [0, 1]
    assert all(fits(labels.data[z], z) for z in range(1, 8))
    assert not labels.data[[0, 8]].any()
    row = labels.features.set_index("index").loc[1]
    assert row["planes"] == 7
    assert row["area"] == np.count_nonzero(labels.data)
    (said,) = json.loads(row["prompt"])["planes"].items()
    assert said[0] == "4"
    assert [p[2] for p in said[1]["points"]] == [1], "what was clicked, not the mask that was chosen"
    assert row["model"] == "discs"
    assert not panel.strip.isVisible()
    assert not len(desk.dock.bench.binding.points.data)
    assert panel.text.text() == "Written into 7 planes of 'discs: objects'."
    committed = labels.data.copy()
    desk.press_button(desk.dock.commit_panel.undo)
    assert not labels.data.any()
    assert len(labels.features) == 0
    # The object and its click are there again, for another try.
    assert panel.strip.isVisible()
    assert len(desk.dock.bench.binding.points.data) == 1
    desk.press_button(desk.dock.commit_panel.redo)
    assert np.array_equal(labels.data, committed)
    assert not panel.strip.isVisible()
    # The next object gets the next number.
    go(desk, 2)
    desk.click(*DISCS[1][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_F, Qt.KeyboardModifier.ShiftModifier)
    wait_followed(desk)
    desk.press_button(panel.commit)
    assert np.unique(labels.data).tolist() == [0, 1, 2]
    assert labels.data[:, DISCS[1][0], DISCS[1][1]].tolist() == [2] * 9
    assert desk.errors == []


def test_a_prompt_in_the_middle_costs_only_what_it_touches(follow_desk):
    desk = follow_desk()
    predictor = desk.predictor
    click_object(desk, 1)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    click_object(desk, 5)
    desk.until(lambda: not desk.session.running)
    encoded, decoded = predictor.encoded, predictor.decoded
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    assert desk.trail.trail.anchors == {1, 5}
    # Planes 2 to 4 between the two, 6 to 8 beyond the second; two prompts each, one where it has ended.
    # Plane 0, on the other side of the first, is not asked for again.
    assert predictor.decoded - decoded == 2 * 3 + 2 * 2 + 1
    assert predictor.encoded == encoded
    # Nothing has changed: nothing is computed, although one was on other planes meanwhile.
    go(desk, 1)
    desk.wait_offers()
    go(desk, 7)
    desk.until(lambda: not desk.session.running)
    decoded = predictor.decoded
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    assert predictor.decoded == decoded
    # Another candidate on the second plane: only its own two stretches again.
    go(desk, 5)
    desk.wait_offers()
    desk.press(Qt.Key.Key_3)
    picked = desk.session.offers[0].choice.mask
    decoded = predictor.decoded
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    assert 0 < predictor.decoded - decoded <= 2 * 3 + 2 * 2 + 1
    assert desk.trail.trail.planes[5].mask.area == picked.area
    # What was picked is picked still when one comes back, and nothing is computed for it.
    go(desk, 2)
    go(desk, 5)
    desk.wait_offers()
    assert desk.session.offers[0].choice.mask.area == picked.area


def test_the_corrected_mask_is_committed_even_if_it_was_not_followed_again(follow_desk):
    desk = follow_desk()
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    click_object(desk, 6)
    desk.press(Qt.Key.Key_3)
    shown = preview(desk) > 0
    desk.press(Qt.Key.Key_C)
    assert np.array_equal(desk.target.data[6] > 0, shown)
    assert fits(desk.target.data[5], 5)
    assert np.unique(desk.target.data).tolist() == [0, 1]


def test_prompts_on_several_planes_are_one_object(follow_desk):
    """The object is lost on one plane; a click on its other side brings the rest."""
    image = ball()
    image[4][image[4] > 0] = 20
    image[4] = np.maximum(image[4], disc_image(SHAPE, [DISCS[1]]))
    desk = follow_desk(image=image)
    click_object(desk, 2)
    click_object(desk, 6)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    assert list(desk.trail.trail.planes) == [1, 2, 3, 5, 6, 7]
    assert desk.trail.trail.anchors == {2, 6}
    assert desk.trail.trail.confidence[4] is None


def test_an_end_is_set_and_taken_back(follow_desk):
    desk = follow_desk()
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    go(desk, 6)
    desk.press_button(desk.panel.end)
    assert list(desk.trail.trail.planes) == [1, 2, 3, 4, 5]
    assert not preview(desk).any()
    assert desk.panel.end.text() == "Goes on here"
    desk.press_button(desk.panel.end)
    assert fits(preview(desk), 6)
    desk.press_button(desk.panel.end)
    go(desk, 4)
    desk.press_button(desk.panel.end)
    assert "Clear the prompts here first" in desk.errors.pop()
    desk.press_button(desk.panel.commit)
    assert not desk.target.data[6:].any()
    assert desk.target.data[5].any()


def test_cancel_keeps_what_is_finished_and_goes_on_from_there(follow_desk):
    predictor = DiscPredictor(encode_seconds=0.25)
    desk = follow_desk(predictor)
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    assert desk.panel.progress.isVisible()
    desk.until(lambda: desk.dock.stack.following and len(desk.trail.trail.planes) >= 3)
    desk.press_button(desk.panel.progress.button)
    assert not desk.panel.progress.isVisible()
    desk.until(lambda: not desk.dock.bench.dispatch.worker.busy)
    kept = len(desk.trail.trail.planes)
    assert 3 <= kept < 7
    assert f"Stopped: {kept} planes are kept" in desk.panel.text.text()
    encoded = predictor.encoded
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    assert len(desk.trail.trail.planes) == 7
    assert predictor.encoded - encoded <= 9 - kept
    # A click is answered while an object is followed.
    desk.press_button(desk.panel.discard)
    assert not desk.dock.stack.following
    assert not len(desk.dock.bench.binding.points.data)
    desk.press_button(desk.dock.commit_panel.undo)
    assert len(desk.trail.trail.planes) == 7


def test_a_refused_commit_leaves_the_following_alone(follow_desk):
    desk = follow_desk(DiscPredictor(encode_seconds=0.25))
    click_object(desk, 4)
    busy = add_labels_layer(desk.viewer, desk.dock.bench.image, name="busy")
    desk.dock.commit_panel.target.pick(busy)
    desk.press_button(desk.panel.run)
    desk.until(lambda: desk.dock.stack.following)
    assert desk.target is busy
    set_filling(busy, True)
    assert desk.dock.stack.commit() == 0
    assert "still being filled" in desk.errors.pop()
    assert "follow" in desk.session.running
    wait_followed(desk)
    assert list(desk.trail.trail.planes) == [1, 2, 3, 4, 5, 6, 7]
    set_filling(busy, False)
    assert desk.dock.stack.commit() == 7
    assert busy.data.any(axis=(1, 2)).tolist() == [bool(radius) for radius in RADII]


@pytest.mark.parametrize("what", ["remove", "replace", "other shape", "other image", "scrub", "close"])
def test_nothing_breaks_in_the_middle(follow_desk, what):
    desk = follow_desk(DiscPredictor(encode_seconds=0.1))
    viewer, image = desk.viewer, desk.dock.bench.image
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    desk.until(lambda: desk.dock.stack.following and len(desk.trail.trail.planes) >= 2)
    if what == "remove":
        viewer.layers.remove(image)
    elif what == "replace":
        image.data = ball()[:, :, ::-1].copy()
    elif what == "other shape":
        image.data = ball()[:5, :90].copy()
    elif what == "other image":
        viewer.add_image(disc_picture(), name="flat")
    elif what == "scrub":
        for z in (0, 8, 3, 5, 1, 7):
            viewer.dims.set_current_step(0, z)
            QApplication.processEvents()
            viewer.dims.ndisplay = 3 if z == 3 else 2
    else:
        desk.dock.close_down()
        assert not desk.dock.bench.dispatch.worker.busy
        return
    desk.until(lambda: "follow" not in desk.session.running)
    if what in ("remove", "other image"):
        assert not desk.dock.stack.following
        assert not desk.panel.strip.isVisible()
    elif what == "scrub":
        assert list(desk.trail.trail.planes) == [1, 2, 3, 4, 5, 6, 7]
        assert fits(preview(desk), 7)
    else:
        # What was followed on other pixels is over; the click is still there.
        desk.until(lambda: not desk.dock.stack.following)
        assert len(desk.dock.bench.binding.points.data) == 1
        desk.until(lambda: desk.session.status.phase == "ready")
        encoded = desk.predictor.encoded
        desk.dock.follow()
        wait_followed(desk)
        assert desk.predictor.encoded > encoded
    assert desk.errors == []


def test_what_was_followed_waits_until_its_image_is_back(follow_desk):
    desk = follow_desk()
    image = desk.dock.bench.image
    click_object(desk, 4)
    desk.session.choose(1)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    areas = {n: mask.area for n, mask in desk.trail.masks.items()}
    other = desk.viewer.add_image(ball()[:, ::-1].copy(), name="other")
    assert not desk.dock.stack.following
    assert not desk.panel.strip.isVisible()
    desk.until(lambda: desk.session.status.phase == "ready")
    desk.viewer.layers.selection.active = image
    assert desk.panel.strip.isVisible()
    desk.until(lambda: desk.session.status.phase == "ready" and not desk.session.running)
    assert {n: mask.area for n, mask in desk.trail.masks.items()} == areas
    go(desk, 4)
    desk.wait_offers()
    assert desk.session.offers[0].chosen == 1
    desk.viewer.layers.remove(other)
    desk.press(Qt.Key.Key_C)
    assert {z: np.count_nonzero(desk.target.data[z]) for z in areas} == areas
    assert desk.errors == []


def test_elsewhere_in_the_image_what_is_seen_is_committed_and_nothing_is_dropped(follow_desk):
    desk = follow_desk(image=np.stack([ball(), ball()]), axis=1)
    panel = desk.dock.stack_panel
    panel.axis.setCurrentIndex(panel.axis.findData(1))
    desk.viewer.dims.set_current_step(1, 4)
    desk.until(lambda: desk.session.status.phase == "ready")
    desk.click(*at(4)[:2])
    desk.wait_offers()
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    followed = desk.trail.trail
    assert list(followed.planes) == [1, 2, 3, 4, 5, 6, 7]
    desk.viewer.dims.set_current_step(0, 1)
    desk.until(lambda: desk.session.status.phase == "ready")
    desk.click(*DISCS[1][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_F, Qt.KeyboardModifier.ShiftModifier)
    assert "not committed yet" in desk.errors[-1]
    assert desk.trail.trail is followed
    desk.press(Qt.Key.Key_C)
    labels = desk.target
    assert labels.data[1, 4].any()
    assert not labels.data[0].any()
    assert desk.trail.trail is followed
    desk.viewer.dims.set_current_step(0, 0)
    desk.until(lambda: not desk.session.running)
    desk.press(Qt.Key.Key_C)
    assert all(labels.data[0, z].any() for z in range(1, 8))


def test_along_time_with_other_sliders_and_thick_units(follow_desk):
    """T, Z: the other slider stays where it is; the strip counts planes of the image, not of the world."""
    image = np.zeros((len(RADII), 2, *SHAPE), np.uint8)
    image[:, 1] = ball()
    desk = follow_desk(
        image=image,
        axis=0,
        scale=(30, 2.5, 0.5, 0.25),
        units=("s", "um", "um", "um"),
        translate=(60, 0, 5, 5),
    )
    desk.viewer.dims.set_current_step(1, 1)
    desk.until(lambda: desk.session.status.phase == "ready")
    assert desk.dock.stack_panel.axis.count() == 2
    click_object(desk, 3)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    click_strip(desk, 6)
    assert desk.dock.bench.plane.index.index[:2] == (6, 1)
    assert fits(preview(desk), 6)
    desk.press(Qt.Key.Key_C)
    labels = desk.target
    assert not labels.data[:, 0].any()
    assert [bool(labels.data[t, 1].any()) for t in range(9)] == [bool(r) for r in RADII]
    assert np.allclose(labels.scale, desk.dock.bench.image.scale)


def test_neighbours_are_kept_and_rules_are_passed_on(follow_desk):
    desk = follow_desk()
    panel = desk.panel
    desk.press_button(panel.options.button)
    assert panel.min_iou.isVisible()
    panel.min_iou.setValue(0.9)  # a disc that moves by three pixels overlaps less
    click_object(desk, 4)
    desk.press_button(panel.run)
    wait_followed(desk)
    assert len(desk.trail.trail.planes) == 1
    panel.min_iou.setValue(0.3)
    panel.prompts.setCurrentIndex(panel.prompts.findText("its box"))
    desk.press_button(panel.run)
    wait_followed(desk)
    assert len(desk.trail.trail.planes) == 7
    painted = desk.viewer.add_labels(np.zeros((9, *SHAPE), np.uint8), name="mine")
    painted.data[5, 50:60] = 7
    desk.dock.commit_panel.target.pick(painted)
    desk.viewer.layers.selection.active = desk.dock.bench.binding.points
    desk.press(Qt.Key.Key_C)
    assert np.count_nonzero(painted.data == 7) == 10 * SHAPE[1]
    assert {int(i) for i in np.unique(painted.data)} == {0, 7, 8}
    # Where others take all of it, it is not counted.
    desk.press_button(desk.dock.commit_panel.undo)
    painted.data[1:4] = 255
    desk.press_button(panel.commit)
    assert panel.text.text() == "Written into 4 planes of 'mine'. On 3 planes other objects take all of it."
    assert painted.features.set_index("index").loc[256, "planes"] == 4
    assert desk.errors == []


def test_rules_that_never_came_to_work_do_not_count(follow_desk):
    """Given up before the first plane: the next run does not take the old planes for its own."""
    desk = follow_desk()
    click_object(desk, 4)
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    desk.panel.min_iou.setValue(0.9)
    desk.press_button(desk.panel.run)
    desk.session.cancel("follow")
    assert len(desk.trail.trail.planes) == 7
    desk.press_button(desk.panel.run)
    wait_followed(desk)
    assert len(desk.trail.trail.planes) == 1


def test_what_is_missing_is_said(follow_desk, open_desk):
    desk = follow_desk()
    desk.press_button(desk.panel.run)
    assert "Nothing says which object is meant" in desk.errors.pop()
    assert not desk.panel.commit.isVisible()
    desk.dock.prompt_panel.batch.setChecked(True)
    desk.click(*at(4)[:2])
    desk.click(*DISCS[1][:2])
    desk.wait_offers(2)
    desk.press_button(desk.panel.run)
    assert "One object is followed at a time" in desk.errors.pop()
    flat = open_desk().wait_ready()
    flat.dock.stack.failed.connect(flat.errors.append)
    flat.dock.follow()
    assert "one plane only" in flat.errors.pop()
