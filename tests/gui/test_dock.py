"""The main path in a real window, with the mouse and the keys of a person."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from tests.fakes import disc_mask
from tests.gui.canvas import double_click
from tests.gui.dock import DISCS

from napari_sam.masks import Mask, mask_iou

pytestmark = pytest.mark.gui

CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


def overlap_with(disc, mask):
    return mask_iou(mask, disc_mask(*disc))


def written(desk, label=1):
    return Mask.from_plane(np.asarray(desk.target.data) == label)


def test_click_choose_commit_undo(desk):
    """The first thing that anybody does here."""
    assert desk.dock.bench.tool == "point"
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    cards = desk.dock.candidate_panel.cards
    assert [card.isVisible() for card in cards] == [True] * 3
    assert [card.isChecked() for card in cards] == [False, True, False]
    assert "IoU 0.95" in cards[1].text.text()

    desk.press(Qt.Key.Key_3)
    assert [card.isChecked() for card in cards] == [False, False, True]
    desk.press(Qt.Key.Key_Tab)
    assert cards[0].isChecked()
    desk.press_button(cards[1])
    assert desk.session.offers[0].choice.level == 2

    desk.press(Qt.Key.Key_C)
    assert overlap_with(DISCS[0], written(desk)) > 0.98
    assert desk.session.prompts == ()
    assert len(desk.dock.bench.binding.points.data) == 0
    row = desk.target.features.iloc[0]
    assert row["index"] == 1
    assert row["predicted_iou"] == pytest.approx(0.95)
    assert row["model"] == "discs"
    assert row["prompt"].startswith('{"points":[[')

    desk.press(Qt.Key.Key_Z, CONTROL)
    assert not desk.target.data.any()
    assert len(desk.dock.bench.binding.points.data) == 1
    assert len(desk.session.offers) == 1
    desk.press(Qt.Key.Key_Z, CONTROL | SHIFT)
    assert overlap_with(DISCS[0], written(desk)) > 0.98
    assert desk.errors == []


def test_masks_lie_above_the_labels_and_below_the_clicks(desk):
    for disc in DISCS[:2]:
        desk.click(*disc[:2])
        desk.wait_offers()
        desk.press(Qt.Key.Key_C)
        desk.until(lambda: not desk.session.offers)
    layers, bench = list(desk.viewer.layers), desk.dock.bench
    order = [bench.image, desk.target, bench.preview.layer, bench.binding.points]
    assert [layers.index(layer) for layer in order] == sorted(layers.index(layer) for layer in order)


def test_the_choice_is_previewed_on_the_canvas(desk):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    layer = desk.dock.bench.preview.layer
    assert overlap_with(DISCS[0], Mask.from_plane(layer.data)) > 0.98
    desk.press(Qt.Key.Key_1)
    assert Mask.from_plane(layer.data).area < 0.5 * disc_mask(*DISCS[0]).area
    desk.press(Qt.Key.Key_Escape)
    assert not layer.visible
    assert len(desk.dock.bench.binding.points.data) == 0


def test_a_box_in_any_direction(desk):
    y, x, radius = DISCS[1]
    desk.press(Qt.Key.Key_B)
    assert desk.dock.bench.tool == "box"
    for down, right in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        first, last = (y - down * radius, x - right * radius), (y + down * radius, x + right * radius)
        desk.drag(first, (y, x), last)
        desk.wait_offers()
        box = desk.session.prompts[0].box
        assert np.allclose(box, (y - radius, x - radius, y + radius, x + radius), atol=2)
        assert overlap_with(DISCS[1], desk.session.offers[0].choice.mask) > 0.98
        if (down, right) != (1, 1):
            desk.press(Qt.Key.Key_C, SHIFT)
            assert desk.session.offers == ()
    # The keys work although a Shapes layer is active, which has tools on 1 and 2.
    desk.press(Qt.Key.Key_2)
    assert desk.session.offers[0].chosen == 1
    desk.press(Qt.Key.Key_1)
    desk.press(Qt.Key.Key_C)
    assert overlap_with(DISCS[1], written(desk)) > 0.98


def test_an_outline_is_a_mask_and_a_box(desk):
    y, x, radius = DISCS[2]
    desk.press_button(desk.dock.prompt_panel.tools["polygon"])
    assert desk.dock.bench.tool == "polygon"
    corners = [(y - radius, x), (y, x + radius), (y + radius, x), (y, x - radius)]
    for corner in corners:
        desk.click(*corner)
    desk.move(y - radius / 2, x - radius)
    # Return finishes the outline and is not taken for a commit.
    desk.press(Qt.Key.Key_Return)
    desk.wait_offers()
    (prompts,) = desk.session.prompts
    assert prompts.mask is not None
    assert prompts.mask.area == pytest.approx(2 * radius**2, rel=0.1)
    assert np.allclose(prompts.box, prompts.mask.box)
    assert overlap_with(DISCS[2], desk.session.offers[0].choice.mask) > 0.98


def test_a_scribble_is_points(desk):
    y, x, radius = DISCS[2]
    desk.press_button(desk.dock.prompt_panel.tools["scribble"])
    desk.click(y, x - radius / 2)
    desk.click(y, x)
    double_click(desk.viewer, desk.spot(y, x + radius / 2))
    desk.wait_offers()
    points = desk.session.prompts[0].points
    assert len(points) >= 2
    assert all(point.positive for point in points)
    assert overlap_with(DISCS[2], desk.session.offers[0].choice.mask) > 0.98


@pytest.mark.parametrize(("tool", "count"), [("scribble", 1), ("scribble", 3), ("polygon", 2)])
def test_a_commit_while_something_is_drawn(desk, tool, count):
    y, x, _ = DISCS[0]
    desk.click(y, x)
    desk.wait_offers()
    desk.press_button(desk.dock.prompt_panel.tools[tool])
    for place in [(y - 4, x - 4), (y + 4, x - 4), (y + 4, x + 4)][:count]:
        desk.click(*place)
    desk.press(Qt.Key.Key_C)
    assert (desk.target.data.max(), desk.session.offers) == (1, ())
    assert desk.session.history.undoable == "commit"
    assert len(desk.dock.bench.binding.shapes.data) == 0
    # The next one goes into the same labels, and what is drawn is drawn.
    desk.press_button(desk.dock.prompt_panel.tools["polygon"])
    y, x, r = DISCS[1]
    for place in [(y - r, x - r), (y + r, x - r), (y + r, x + r)]:
        desk.click(*place)
    double_click(desk.viewer, desk.spot(y - r, x + r))
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    assert desk.target.data.max() == 2
    desk.press_button(desk.dock.commit_panel.undo)
    assert desk.target.data.max() == 1
    assert desk.errors == []


@pytest.mark.parametrize("how", ["escape", "tool"])
def test_a_scribble_that_is_given_up_leaves_the_signs_of_the_others(desk, how):
    y, x, _ = DISCS[0]
    desk.press_button(desk.dock.prompt_panel.tools["scribble"])
    desk.click(y - 8, x - 8)
    double_click(desk.viewer, desk.spot(y + 8, x + 8))
    desk.press_button(desk.dock.prompt_panel.negative)
    desk.click(y - 12, x)
    double_click(desk.viewer, desk.spot(y - 12, x + 5))
    desk.wait_offers()
    signs = [point.positive for point in desk.session.prompts[0].points]
    assert set(signs) == {True, False}
    desk.click(150, 150)
    if how == "escape":
        desk.press(Qt.Key.Key_Escape)
    else:
        desk.press_button(desk.dock.prompt_panel.tools["point"])
    shapes = desk.dock.bench.binding.shapes
    assert list(shapes.features["sign"]) == ["+", "-"]
    assert [point.positive for point in desk.session.prompts[0].points] == signs


def test_clicks_outside_the_object(desk):
    y, x, radius = DISCS[2]
    desk.click(y, x)
    desk.wait_offers()
    whole = desk.session.offers[0].choice.area
    desk.press(Qt.Key.Key_T)
    assert desk.dock.prompt_panel.negative.isChecked()
    desk.click(y, x + radius / 2)
    desk.until(lambda: desk.session.offers and desk.session.offers[0].choice.area < whole)
    assert [point.positive for point in desk.session.prompts[0].points] == [True, False]
    desk.press_button(desk.dock.prompt_panel.positive)
    assert desk.dock.bench.binding.sign == "+"


def test_undo_of_a_click(desk):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.click(DISCS[0][0] + 5, DISCS[0][1])
    desk.until(lambda: desk.session.offers and desk.session.offers[0].choice.level == 0)
    desk.press_button(desk.dock.commit_panel.undo)
    assert len(desk.dock.bench.binding.points.data) == 1
    assert desk.session.offers[0].choice.level == 2
    desk.press_button(desk.dock.commit_panel.undo)
    assert len(desk.dock.bench.binding.points.data) == 0
    desk.press_button(desk.dock.commit_panel.redo)
    assert len(desk.dock.bench.binding.points.data) == 1
    assert len(desk.session.offers) == 1


def test_the_mask_under_the_mouse_is_shown_before_the_click(desk):
    desk.move(*DISCS[1][:2])
    desk.until(lambda: desk.session.hovered is not None)
    assert overlap_with(DISCS[1], desk.session.hovered) > 0.98
    layer = desk.dock.bench.preview.layer
    assert overlap_with(DISCS[1], Mask.from_plane(layer.data)) > 0.98
    desk.press(Qt.Key.Key_H)
    assert desk.session.hovered is None
    assert not layer.visible
    desk.move(*DISCS[0][:2])
    desk.qtbot.wait(100)
    assert desk.session.hovered is None


def test_every_prompt_its_own_object(desk):
    desk.press_button(desk.dock.prompt_panel.batch)
    for y, x, _ in DISCS:
        desk.click(y, x)
    desk.wait_offers(3)
    assert "3 objects" in desk.dock.candidate_panel.text.text()
    assert "3 objects" in desk.dock.commit_panel.commit.text()
    desk.press_button(desk.dock.commit_panel.commit)
    assert desk.target.data.max() == 3
    for label, disc in enumerate(DISCS, start=1):
        assert overlap_with(disc, written(desk, label)) > 0.98
    desk.press(Qt.Key.Key_Z, CONTROL)
    assert not desk.target.data.any()


def test_neighbours_are_kept_unless_they_are_to_be_replaced(desk):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    first = written(desk).area
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_3)
    desk.press(Qt.Key.Key_C)
    assert written(desk).area == first
    assert 0 < written(desk, 2).area < first
    overlap = desk.dock.commit_panel.overlap
    overlap.setCurrentIndex(overlap.findData("replace"))
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_2)
    desk.press(Qt.Key.Key_C)
    assert written(desk, 1).area == 0
    assert written(desk, 3).area == first


def test_a_commit_is_one_undo_step_of_the_layer_too(desk):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    desk.target.undo()
    assert not desk.target.data.any()


def test_any_layer_of_mine_as_prompts(desk):
    mine = desk.viewer.add_points([DISCS[1][:2]], name="mine")
    panel = desk.dock.prompt_panel
    panel.layers.setCurrentIndex(panel.layers.findText("mine"))
    panel.layers.activated.emit(panel.layers.currentIndex())
    desk.press_button(panel.adopt)
    desk.wait_offers()
    assert overlap_with(DISCS[1], desk.session.offers[0].choice.mask) > 0.98
    assert panel.adopt.text() == "Release"
    assert "mine" in panel.hint.text()
    desk.press_button(desk.dock.commit_panel.commit)
    assert overlap_with(DISCS[1], written(desk)) > 0.98
    # The layer is left as it is, and its point is used up.
    assert len(mine.data) == 1
    assert desk.session.offers == ()
    desk.press_button(panel.adopt)
    assert desk.dock.bench.binding.adopted == ()


def test_the_level_that_is_chosen_is_preselected_next(desk):
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_3)
    desk.press(Qt.Key.Key_C)
    desk.click(*DISCS[1][:2])
    desk.wait_offers()
    assert desk.session.offers[0].choice.level == 3
