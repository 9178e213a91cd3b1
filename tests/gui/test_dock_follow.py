"""Following one object through a stack in the real window: clicks, keys, the strip, cancel and undo."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from tests.fakes import DiscPredictor, disc_image, disc_mask
from tests.gui.dock import DISCS, check_nothing_is_cut_off, disc_picture

from napari_sam._napari.panels.confidence_strip import ConfidenceStrip
from napari_sam.masks import Mask, mask_iou

pytestmark = pytest.mark.gui

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


@pytest.fixture
def follow_desk(open_desk):
    """Return a function that opens a window with the ball and the section Stack unfolded."""

    def open_it(predictor=None, axis=0, **layer):
        desk = open_desk(image=layer.pop("image", ball()), predictor=predictor, **layer).wait_ready()
        desk.axis = axis
        for title, section in desk.dock.sections.items():
            section.set_expanded(title == "Stack")
        desk.panel = desk.dock.stack_panel.follow
        desk.trail = desk.dock.stack.trail
        desk.dock.stack.failed.connect(desk.errors.append)
        return desk

    return open_it


def click_object(desk, z: int) -> None:
    go(desk, z)
    desk.click(*at(z)[:2])
    desk.wait_offers()


def wait_followed(desk) -> None:
    desk.until(lambda: "follow" not in desk.session.running and desk.dock.stack.following, timeout=30_000)


def preview(desk) -> np.ndarray:
    """What is shown over the plane, as a plane."""
    layer = desk.dock.bench.preview.layer
    return layer.data.squeeze() if layer is not None and layer.visible else np.zeros(SHAPE)


def click_strip(desk, plane: int) -> None:
    strip = desk.panel.strip
    QTest.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(int(sum(strip.span(plane)) / 2), 15))


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
    assert list(json.loads(row["prompt"])["planes"]) == ["4"]
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
    desk.until(lambda: "follow" not in desk.session.running, timeout=20_000)
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
