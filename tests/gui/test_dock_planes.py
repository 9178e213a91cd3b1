"""Whatever the image is like: prompts land on the pixel that was clicked and labels lie on the image."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.fakes import DiscPredictor, disc_mask
from tests.gui.dock import DISCS, Desk, disc_picture

from napari_sam._napari.choices import is_time
from napari_sam._napari.follow import PAUSE
from napari_sam.masks import Mask, mask_iou

pytestmark = pytest.mark.gui


def commit_first(desk, disc=DISCS[0]):
    desk.click(*disc[:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    return desk.target


def fits(plane, disc=DISCS[0]):
    return mask_iou(Mask.from_plane(np.asarray(plane)), disc_mask(*disc)) > 0.97


@pytest.mark.parametrize(
    "geometry",
    [
        {"scale": (0.25, 0.5), "translate": (10, -7), "units": ("um", "um")},
        {"rotate": 30, "scale": (2, 2)},
        {"shear": [0.3], "affine": [[0.9, 0.2, 5], [-0.2, 0.9, 3], [0, 0, 1]]},
    ],
    ids=["anisotropic", "rotated", "sheared"],
)
def test_any_geometry(open_desk, geometry):
    desk = open_desk(**geometry).wait_ready()
    target = commit_first(desk)
    assert fits(target.data)
    for name in ("scale", "translate", "rotate", "shear", "affine"):
        assert np.allclose(getattr(target, name), getattr(desk.dock.bench.image, name))
    assert desk.errors == []


def test_a_plane_of_a_hyperstack(open_desk):
    """T, C and Z: the clicked plane is segmented and written, with the sliders anywhere."""
    image = np.zeros((2, 2, 3, 180, 200), np.uint16)
    image[1, 1, 2] = 257 * disc_picture().astype(np.uint16)
    desk = open_desk(image=image, scale=(1, 1, 2.5, 0.5, 0.5)).wait_ready()
    for axis, step in ((0, 1), (1, 1), (2, 2)):
        desk.viewer.dims.set_current_step(axis, step)
    desk.until(lambda: desk.session.status.phase == "ready")
    target = commit_first(desk)
    assert fits(target.data[1, 1, 2])
    assert np.count_nonzero(target.data) == np.count_nonzero(target.data[1, 1, 2])
    # A plane that has no click shows no offer, and the click is still there on the way back.
    desk.click(*DISCS[1][:2])
    desk.wait_offers()
    desk.viewer.dims.set_current_step(2, 0)
    assert desk.session.offers == ()
    desk.viewer.dims.set_current_step(2, 2)
    desk.wait_offers()
    assert desk.session.status.cached


def test_planes_are_stacked_the_other_way(open_desk):
    """With another axis along the slider the plane is another one, and so is what is written."""
    volume = np.repeat(disc_picture()[:, None, :], 4, axis=1)  # (Y, Z, X)
    desk = open_desk(image=volume).wait_ready()
    desk.viewer.dims.order = (1, 0, 2)
    desk.viewer.reset_view()
    desk.until(lambda: desk.session.status.phase == "ready")
    target = commit_first(desk)
    step = desk.viewer.dims.current_step[1]
    assert fits(target.data[:, step])
    assert np.count_nonzero(target.data) == np.count_nonzero(target.data[:, step])


def test_a_change_of_contrast_embeds_again_after_a_pause(desk):
    encoded = desk.predictor.encoded
    image = desk.dock.bench.image
    low, high = image.contrast_limits
    # Longer than a busy machine may take for a step.
    desk.dock.bench.follower._pause.setInterval(2_000)
    for step in range(10):
        image.contrast_limits = (low, high - step)
        desk.qtbot.wait(20)
    assert desk.predictor.encoded == encoded
    desk.dock.bench.follower._pause.setInterval(PAUSE)
    desk.until(lambda: desk.predictor.encoded == encoded + 1)
    image.contrast_limits = (low, high)
    desk.qtbot.wait(50)
    desk.until(lambda: desk.session.status.cached and desk.session.status.phase == "ready")
    assert desk.predictor.encoded == encoded + 1


def test_channels_become_colours(open_desk):
    planes = np.stack([np.zeros_like(disc_picture()), disc_picture()])
    desk = open_desk(image=planes, predictor=DiscPredictor(threshold=40)).wait_ready()
    panel = desk.dock.image_panel
    assert panel.colours.isVisible()
    panel.colours.setCurrentIndex(1)
    desk.until(lambda: desk.session.status.phase == "ready" and desk.session.rgb[..., 1].any())
    assert not desk.session.rgb[..., 0].any()
    # The channel axis is no stack, and the labels do without it.
    assert not desk.dock.stack_panel.run.isEnabled()
    target = commit_first(desk)
    assert target.data.shape == (180, 200)
    assert fits(target.data)


def test_layers_that_are_colours_are_offered_watched_and_let_go(desk):
    panel = desk.dock.image_panel
    image = desk.dock.bench.image
    panel.follow.setChecked(False)
    assert not panel.colours.isVisible()
    other = desk.viewer.add_image(disc_picture()[:, ::-1], name="other", contrast_limits=(0, 255))
    assert panel.colours.isVisible()
    panel.pick_channels("layers", [image, other, None])
    desk.until(lambda: desk.session.status.phase == "ready" and desk.session.rgb[..., 1].any())
    assert desk.dock.bench.image is image
    other.name = "renamed"
    assert panel.channels[1].currentText() == "renamed"
    brightest = int(desk.session.rgb[..., 1].max())
    encoded = desk.predictor.encoded
    other.contrast_limits = (0, 1000)
    desk.until(lambda: desk.predictor.encoded == encoded + 1 and desk.session.status.phase == "ready")
    assert desk.session.rgb[..., 1].max() < brightest / 2
    desk.viewer.layers.remove(other)
    assert panel.picked_channels() == (None, (None, None, None))
    desk.until(lambda: desk.session.status.phase == "ready" and not desk.session.running)
    rgb = desk.session.rgb
    assert np.array_equal(rgb[..., 1], rgb[..., 0])
    # Nobody listens to it any more.
    encoded = desk.predictor.encoded
    other.contrast_limits = (0, 50)
    desk.qtbot.wait(600)
    assert desk.predictor.encoded == encoded


def test_a_lower_level_of_a_pyramid(open_desk):
    full = np.kron(disc_picture(), np.ones((2, 2), np.uint8))
    desk = open_desk(image=[full, full[::2, ::2]], multiscale=True).wait_ready()
    panel = desk.dock.image_panel
    assert panel.level.isVisible()
    assert desk.session.rgb.shape == (360, 400, 3)
    panel.level.setCurrentIndex(1)
    desk.until(lambda: desk.session.rgb is not None and desk.session.rgb.shape == (180, 200, 3))
    y, x, _ = DISCS[0]
    desk.click(2 * y, 2 * x)
    desk.wait_offers()
    assert desk.session.prompts[0].points[0].y == pytest.approx(y, abs=1)
    preview = desk.dock.bench.preview.layer
    assert preview.data.shape == (360, 400)
    desk.press(Qt.Key.Key_C)
    assert desk.target.data.shape == (360, 400)
    expected = np.kron(disc_mask(*DISCS[0]).to_plane((180, 200)), np.ones((2, 2), bool))
    assert mask_iou(Mask.from_plane(desk.target.data), Mask.from_plane(expected)) > 0.97
    assert desk.target.features["area"].iloc[0] == np.count_nonzero(desk.target.data)


def test_clicks_on_a_small_pyramid_can_be_undone_after_a_change_of_contrast(open_desk):
    desk = open_desk(image=[disc_picture(), disc_picture()[::2, ::2]], multiscale=True).wait_ready()
    y, x, _ = DISCS[0]
    for shift in (0, 4):
        desk.click(y + shift, x)
        desk.until(lambda n=1 + shift // 4: desk.session.offers and len(desk.session.prompts[0].points) == n)
    contrast = desk.dock.image_panel.contrast
    contrast.setCurrentIndex(contrast.findData("percentiles"))
    desk.until(lambda: desk.session.status.phase == "ready")
    assert desk.session.history.undoable == "prompt"
    desk.press_button(desk.dock.commit_panel.undo)
    assert len(desk.session.prompts[0].points) == 1
    desk.wait_offers()
    assert desk.errors == []


def test_colour_pictures_and_other_numbers(open_desk):
    rgb = np.zeros((180, 200, 4), np.uint8)
    rgb[..., 1] = disc_picture()
    rgb[..., 3] = 255
    rgb[..., 0] = rgb[..., 2] = disc_picture()
    desk = open_desk(image=rgb).wait_ready()
    assert fits(commit_first(desk).data)
    desk.viewer.add_image(disc_picture().astype(np.float32) / 1000, name="floats")
    desk.until(lambda: desk.dock.bench.image.name == "floats" and desk.session.status.phase == "ready")
    assert desk.session.rgb.max() == 255


def test_a_volume_on_show_says_what_to_do(open_desk):
    desk = open_desk(image=np.stack([disc_picture()] * 3)).wait_ready()
    desk.viewer.dims.ndisplay = 3
    assert "Switch it to 2D" in desk.dock.image_panel.status.text()
    desk.press(Qt.Key.Key_C)
    desk.viewer.dims.ndisplay = 2
    desk.until(lambda: desk.session.status.phase == "ready")
    assert fits(commit_first(desk).data[desk.viewer.dims.current_step[0]])


def test_opened_on_a_volume_the_model_loads_and_the_tool_is_taken_up_in_2d(open_desk, qtbot):
    desk = open_desk(image=np.stack([disc_picture()] * 3))
    desk.viewer.dims.ndisplay = 3
    desk.until(lambda: desk.session.predictor is not None)
    desk.press_button(desk.dock.prompt_panel.tools["box"])
    assert "Switch it to 2D" in desk.errors.pop()
    desk.viewer.dims.ndisplay = 2
    desk.wait_ready()
    assert desk.dock.bench.tool == "point"
    assert fits(commit_first(desk).data[desk.viewer.dims.current_step[0]])


def test_pixels_that_were_written_in_place_are_seen(desk):
    image = desk.viewer.layers["discs"]
    image.data[:] = image.data[::-1].copy()
    image.refresh()
    desk.until(lambda: np.array_equal(desk.session.rgb[..., 0] > 100, image.data > 100))
    y, x, r = DISCS[0]
    moved = (image.data.shape[0] - 1 - y, x, r)
    assert fits(commit_first(desk, moved).data, moved)


def test_what_is_written_beside_a_stack_is_seen_and_sliders_are_no_news(open_desk):
    desk = open_desk().wait_ready()
    desk.viewer.add_image(np.zeros((5, 180, 200)), name="stack")
    image = desk.viewer.layers["discs"]
    desk.viewer.layers.selection.active = image
    desk.until(lambda: desk.session.status.phase == "ready")
    pictures = []
    desk.dock.bench.follower.picture_changed.connect(lambda: pictures.append(1))
    desk.viewer.dims.set_current_step(0, 3)
    QTest.qWait(2 * PAUSE)
    assert pictures == []
    image.data[:] = image.data[::-1].copy()
    image.refresh()
    desk.until(lambda: pictures)
    desk.until(lambda: np.array_equal(desk.session.rgb[..., 0] > 100, image.data > 100))


def test_colours_are_those_of_the_image_that_is_turned_to(open_desk):
    desk = open_desk(image=np.stack([disc_picture(), disc_picture()[::-1]]), scale=(1, 1, 1)).wait_ready()
    panel = desk.dock.image_panel
    panel.colours.setCurrentIndex(panel.colours.findText("channels of", Qt.MatchFlag.MatchStartsWith))
    panel.channels[2].setCurrentIndex(2)
    picked = panel.picked_channels()
    other = desk.viewer.add_image(disc_picture(), name="other")
    assert desk.dock.bench.image is other
    assert panel.picked_channels()[0] is None
    desk.viewer.layers.selection.active = desk.viewer.layers["discs"]
    assert panel.picked_channels() == picked
    assert desk.dock.bench.channel_axis == 0


def test_an_axis_is_time_by_its_label_or_its_unit():
    planes = np.zeros((3, 8, 8))
    assert is_time(Image(planes, units=("s", "um", "um")), 0)
    assert is_time(Image(planes, axis_labels=("Time", "y", "x")), 0)
    assert not is_time(Image(planes, units=("um", "um", "um")), 0)
    assert not is_time(Image(planes), 0)


def test_the_dock_follows_the_selected_image_or_the_picker(desk):
    other = desk.viewer.add_image(disc_picture()[:, ::-1].copy(), name="other")
    bench, panel = desk.dock.bench, desk.dock.image_panel
    assert bench.image is other
    desk.viewer.layers.selection.active = desk.viewer.layers["discs"]
    assert bench.image.name == panel.image.currentText() == "discs"
    panel.image.setCurrentIndex(panel.image.findText("other"))
    panel.image.activated.emit(panel.image.currentIndex())
    assert bench.image is other
    assert not panel.follow.isChecked()
    desk.viewer.layers.selection.active = desk.viewer.layers["discs"]
    assert bench.image is other
    # Clicks go to the image that is worked on, each image has its own.
    desk.until(lambda: desk.session.status.phase == "ready")
    desk.press_button(desk.dock.prompt_panel.tools["point"])
    assert desk.viewer.layers.selection.active.name == "other: clicks"


def test_labels_that_do_not_fit_are_refused_in_words(desk):
    desk.viewer.add_labels(np.zeros((20, 20), int), name="small")
    desk.press_button(desk.dock.prompt_panel.tools["point"])
    desk.dock.commit_panel.target.pick(desk.viewer.layers["small"])
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    assert "'small' has shape (20, 20)" in desk.errors[0]
    # The prompts are still there for another try.
    assert len(desk.session.offers) == 1


def test_objects_of_another_image_go_into_labels_of_their_own(desk):
    first = commit_first(desk)
    other = desk.viewer.add_image(disc_picture(), name="other")
    desk.until(lambda: desk.dock.bench.image is other and desk.session.status.phase == "ready")
    desk.dock.bench.use("point")
    second = commit_first(desk)
    assert second is not first
    assert second.name == "other: objects"
    assert first.data.max() == second.data.max() == 1
    desk.dock.bench.follower.turn_to(desk.viewer.layers["discs"])
    assert desk.target is first


def test_who_comes_back_to_an_image_or_to_the_dock_goes_on_in_its_labels(desk):
    labels = commit_first(desk)
    other = desk.viewer.add_image(disc_picture()[:, ::-1].copy(), name="other", translate=(300, 0))
    assert desk.dock.bench.image is other
    assert desk.target is None
    desk.viewer.layers.selection.active = desk.viewer.layers["discs"]
    assert desk.target is desk.dock.export_panel.labels.layer is labels
    desk.dock.close_down()
    again = Desk(desk.qtbot, desk.viewer, desk.predictor)
    try:
        again.wait_ready()
        assert again.target is labels
    finally:
        again.dock.close_down()


def test_labels_that_have_another_shape_now_are_left_alone_by_undo(open_desk):
    desk = open_desk(image=np.stack([disc_picture()] * 3)).wait_ready()
    labels = commit_first(desk)
    labels.data = labels.data.max(axis=0)
    before = labels.data.copy()
    desk.press_button(desk.dock.commit_panel.undo)
    assert "had the shape (3, 180, 200) and have (180, 200) now" in desk.errors[-1]
    assert np.array_equal(labels.data, before)


def test_another_channel_shares_the_labels(desk):
    first = commit_first(desk)
    image = desk.dock.bench.image
    image.blending = "additive"
    channel = desk.viewer.add_image(disc_picture(), name="channel", blending="additive")
    desk.until(lambda: desk.dock.bench.image is channel)
    assert desk.target is first


def test_return_in_the_field_of_a_slider_turns_the_plane_and_commits_nothing(open_desk):
    desk = open_desk(np.stack([disc_picture()] * 9)).wait_ready()
    start = desk.viewer.dims.current_step[0]
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    field = desk.viewer.window._qt_viewer.dims.slider_widgets[0].curslice_label
    desk.viewer.window._qt_window.activateWindow()
    field.setFocus()
    desk.until(field.hasFocus)
    field.selectAll()
    QTest.keyClicks(field, "7")
    QTest.keyClick(field, Qt.Key.Key_Return)
    desk.until(lambda: desk.viewer.dims.current_step[0] == 7)
    assert desk.target is None
    # Back on the canvas the keys are the dock's again.
    desk.viewer.dims.set_current_step(0, start)
    desk.wait_offers()
    desk.press(Qt.Key.Key_Return)
    assert desk.target.data[start].any()
