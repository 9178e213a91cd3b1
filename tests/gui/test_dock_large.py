"""Planes that are never read whole, in the real window."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from qtpy.QtCore import Qt
from tests.fakes import DiscPredictor, disc_mask
from tests.gui.large_images import DrawnLevel, drawn_pyramid

from napari_sam._napari.commit import commit_mask
from napari_sam._napari.coordinates import plane_index
from napari_sam._napari.large_labels import folder_of, is_stored
from napari_sam.everything import AutomaticSettings
from napari_sam.masks import Mask, mask_iou

pytestmark = pytest.mark.gui
SHAPE = (5200, 4600)


@pytest.fixture
def open_slide(open_desk, tmp_path, monkeypatch):
    """Open a pyramid of drawn cells, of which no part larger than 2048 x 2048 pixels may be read."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))

    def open_it(lead=(), giants=(), pitch=100, shape=SHAPE, **layer):
        pyramid = drawn_pyramid(shape, 4, giants)
        for level in pyramid:
            level.most, level.pitch = 2300**2, pitch
        data = [Stacked(level, lead) for level in pyramid] if lead else pyramid
        desk = open_desk(image=data, multiscale=True, contrast_limits=(0, 255), **layer)
        desk.until(lambda: desk.session.status.phase == "ready", 60_000)
        desk.wait_ready()
        desk.session.automatic_settings = AutomaticSettings(
            pred_iou_thresh=0.5, stability_score_thresh=0.5, prompts="seeds"
        )
        go_to(desk, *((2050, 2050) if shape == SHAPE else (1200, 1000)))
        return desk, pyramid

    return open_it


class Stacked:
    """A level on several planes."""

    def __init__(self, level: DrawnLevel, lead: tuple[int, ...]) -> None:
        self.level, self.shape = level, (*lead, *level.shape)
        self.dtype, self.ndim, self.size = level.dtype, len(self.shape), int(np.prod(self.shape))

    def __getitem__(self, where):
        where = where if isinstance(where, tuple) else (where,)
        where = (*where, *(slice(None) for _ in range(self.ndim - len(where))))
        plane = self.level[where[-2:]]
        for size, at in list(zip(self.shape, where, strict=True))[-3::-1]:
            plane = (
                plane
                if np.ndim(at) == 0 and not isinstance(at, slice)
                else np.stack([plane] * len(range(*at.indices(size))))
            )
        return plane


class PlaneByPlane:
    """A level of a stack whose planes differ."""

    def __init__(self, levels: list[DrawnLevel]) -> None:
        self.levels, self.shape = levels, (len(levels), *levels[0].shape)
        self.dtype, self.ndim, self.size = levels[0].dtype, 3, int(np.prod(self.shape))

    def __getitem__(self, where):
        where = where if isinstance(where, tuple) else (where,)
        where = (*where, *(slice(None) for _ in range(self.ndim - len(where))))
        here = self.levels[where[0]]
        if isinstance(here, list):
            return np.stack([level[where[1:]] for level in here])
        return here[where[1:]]


def go_to(desk, y, x, zoom=1.0):
    """Move the canvas and wait until what it shows is encoded."""
    camera = desk.viewer.scene.camera
    desk.viewer.scene.camera.zoom = zoom
    camera.center = (*([0] if len(camera.center) == 3 else []), y, x)
    desk.qtbot.wait(350)
    desk.until(lambda: desk.session.status.phase == "ready", 20_000)


def stored(layer):
    return zarr.open_array(folder_of(layer) / "0", mode="r")


def fits(labels, y, x, radius=20):
    part = labels[..., y - 60 : y + 60, x - 60 : x + 60]
    return mask_iou(Mask.from_plane(np.squeeze(part), y - 60, x - 60), disc_mask(y, x, radius)) > 0.97


def test_clicks_anywhere_on_a_plane_that_is_never_read(open_slide):
    desk, pyramid = open_slide()
    text = desk.dock.image_panel.status.text()
    assert "in view: " in text
    assert "×" in text
    desk.click(2050, 2050)
    desk.wait_offers()
    offer = desk.session.offers[0]
    assert mask_iou(offer.choice.mask, disc_mask(2050, 2050, 20)) > 0.97
    # The preview lies on the object and covers little more.
    preview = desk.dock.bench.preview.layer
    assert preview.data.size <= 1024**2
    where = np.argwhere(preview.data).mean(axis=0)
    assert np.allclose(preview.data_to_world(where), (2050, 2050), atol=0.5)
    # Elsewhere the object stays on offer; it is written where it was found.
    go_to(desk, 4050, 3050, zoom=0.5)
    assert desk.session.offers == (offer,)
    assert "at 1:2" in desk.dock.image_panel.status.text()
    desk.press(Qt.Key.Key_C)
    target = desk.target
    assert target.multiscale
    assert stored(target).shape == SHAPE
    assert fits(stored(target)[...], 2050, 2050)
    assert np.count_nonzero(target.data[2][...]) == pytest.approx(offer.choice.area / 16, rel=0.1)
    assert target.features["area"].tolist() == [offer.choice.area]
    # Undo brings the clicks back and takes the pixels out, on all levels.
    desk.session.undo()
    assert not np.count_nonzero(stored(target)[...])
    assert not np.count_nonzero(target.data[3][...])
    assert len(desk.session.offers) == 1
    desk.session.redo()
    assert fits(stored(target)[...], 2050, 2050)
    assert max(level.read for level in pyramid) < 0.75 * SHAPE[0] * SHAPE[1]
    assert desk.errors == []


def test_an_object_larger_than_the_view(open_slide):
    desk, _ = open_slide(giants=[(2600, 2300, 900)])
    go_to(desk, 2600, 2300, zoom=2)
    desk.click(2600, 2300)
    desk.until(lambda: len(desk.session.offers) == 1 and "predict" not in desk.session.running, 20_000)
    assert mask_iou(desk.session.offers[0].choice.mask, disc_mask(2600, 2300, 900)) > 0.97
    assert desk.dock.bench.preview.layer.visible


def test_prompts_out_of_sight_and_the_objects_of_last_time(open_slide):
    desk, _ = open_slide()
    points = [[450, 350], [4850, 4250]]
    theirs = desk.viewer.add_points(points, name="mine")
    desk.dock.prompt_panel.batch.click()
    desk.dock.bench.binding.adopt(theirs)
    desk.until(lambda: len(desk.session.offers) == 2 and "predict" not in desk.session.running, 20_000)
    desk.press(Qt.Key.Key_C)
    labels = stored(desk.target)[...]
    assert all(fits(labels, *point) for point in points)
    # Who opens the image again goes on with the same labels, from the next free id.
    desk.viewer.layers.remove(desk.target)
    desk.press_button(desk.dock.prompt_panel.tools["point"])
    desk.click(2050, 2150)
    desk.until(lambda: any(o.choice.mask.box.y0 > 2000 for o in desk.session.offers), 20_000)
    desk.press(Qt.Key.Key_C)
    labels = stored(desk.target)[...]
    assert sorted(np.unique(labels)) == [0, 1, 2, 3]


def test_a_stack_of_large_planes(open_slide):
    desk, _ = open_slide(lead=(3,), scale=(2, 0.5, 0.5))
    desk.viewer.dims.set_current_step(0, 2)
    go_to(desk, 1025, 1025, zoom=2)
    desk.click(2050, 2050)
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    labels = stored(desk.target)
    assert labels.shape == (3, *SHAPE)
    assert fits(labels[2], 2050, 2050)
    assert not np.count_nonzero(labels[1])


def test_all_objects_of_what_the_canvas_shows(open_slide):
    desk, _ = open_slide(pitch=400)
    panel = desk.dock.everything_panel
    panel.region.setCurrentIndex(panel.region.findData("view"))
    desk.dock.segment_everything()
    desk.until(lambda: desk.session.sifted is not None, 20_000)
    backdrop = desk.dock.bench.preview.layer
    assert np.count_nonzero(backdrop.data) > 4 * 1000
    desk.dock._on_accept()
    labels = stored(desk.target)[...]
    assert fits(labels, 2200, 2200)
    assert fits(labels, 1800, 2200)
    assert labels.max() == 4
    panel.region.setCurrentIndex(panel.region.findData("unlabelled"))
    refused = []
    desk.dock.automatic.failed.connect(refused.append)
    desk.dock.segment_everything()
    assert "too large to look for what is free" in refused[0]


def test_a_whole_plane_fills_tile_by_tile(open_slide):
    desk, pyramid = open_slide(pitch=400, shape=(2400, 2000))
    panel = desk.dock.everything_panel
    desk.dock.sections["Segment all"].set_expanded(True)
    assert panel.folder.isVisibleTo(panel)
    panel.region.setCurrentIndex(panel.region.findData("plane"))
    # Cancelled in the middle: what is finished is shown and kept.
    desk.press_button(panel.run)
    named = "discs: all objects"
    desk.until(lambda: named in [layer.name for layer in desk.viewer.layers], 30_000)
    layer = desk.viewer.layers[named]
    desk.until(lambda: "left" in panel.progress.text.text(), 30_000)
    desk.press_button(panel.progress.button)
    assert "Stopped after" in panel.text.text()
    begun = np.count_nonzero(stored(layer)[...])
    assert begun
    # The coarsest level shows them too.
    assert np.count_nonzero(layer.data[-1][...])
    encoded = desk.predictor.encoded
    desk.press_button(panel.run)
    desk.until(lambda: "objects in the layer" in panel.text.text(), 120_000)
    tiles = 4 * 3
    assert desk.predictor.encoded - encoded < tiles
    labels = stored(layer)[...]
    assert labels.max() == 6 * 5
    assert fits(labels, 600, 1400)
    assert len(layer.features) == 6 * 5
    assert max(level.read for level in pyramid) < 3 * 2400 * 2000
    assert is_stored(layer)  # objects may be added to it by hand
    assert desk.errors == []


@pytest.mark.parametrize("lead", [(2,), (2, 2)])
def test_every_plane_of_a_stack_fills_tile_by_tile(open_slide, lead):
    """No plane is read whole: the pyramid refuses it."""
    desk, _ = open_slide(lead=lead, pitch=400, shape=(2400, 2000), scale=(*[2] * len(lead), 0.5, 0.5))
    if len(lead) > 1:  # the stack at the second time point
        desk.viewer.dims.set_current_step(0, 1)
        go_to(desk, 600, 500)
    panel = desk.dock.stack_panel
    desk.dock.sections["Stack"].set_expanded(True)
    axis = len(lead) - 1
    panel.axis.setCurrentIndex(panel.axis.findData(axis))
    desk.press_button(panel.run)
    named = "discs: stack"
    desk.until(lambda: named in [layer.name for layer in desk.viewer.layers], 60_000)
    layer = desk.viewer.layers[named]
    desk.until(lambda: "left)" in panel.progress.text.text(), 60_000)
    desk.press_button(panel.progress.button)
    desk.until(lambda: "Stopped after" in panel.text.text())
    assert "of 24 tiles" in panel.text.text()
    assert "Segment every plane goes on" in panel.text.text()
    encoded = desk.predictor.encoded
    desk.press_button(panel.run)
    desk.until(lambda: "objects in the layer" in panel.text.text(), 300_000)
    assert desk.predictor.encoded - encoded < 24
    assert [layer.name for layer in desk.viewer.layers].count(named) == 1
    # The planes are alike: every object goes through both.
    labels = stored(layer)[...]
    assert labels.shape == (2, 2400, 2000)
    assert np.array_equal(labels[0], labels[1])
    assert labels.max() == len(layer.features) == 6 * 5
    assert set(layer.features["planes"]) == {2}
    assert fits(labels[1], 600, 1400)
    # It lies where the image does, and shows what is on the plane on show.
    assert layer.data[0].shape == (*(1 for _ in lead[1:]), 2, 2400, 2000)
    there = np.array([*(0 for _ in lead[1:]), 1, 600, 1400])
    here = np.array([*(1 for _ in lead[1:]), 1, 600, 1400])
    assert layer.data[0][tuple(there)] > 0
    image = desk.viewer.layers["discs"]
    assert np.allclose(layer.data_to_world(there), image.data_to_world(here))
    assert is_stored(layer) == (len(lead) == 1)
    assert desk.dock.tracks_panel.labels.layer is layer
    if is_stored(layer):
        # Who adds an object and presses the button once more keeps it, and what is known of it.
        where = plane_index(desk.viewer, image)
        done = commit_mask(layer, where, disc_mask(100, 100, 20), record={"predicted_iou": 0.5, "area": 0})
        desk.press_button(panel.run)
        desk.until(lambda: "stack" not in desk.session.running)
        assert sorted(layer.features["index"]) == [*range(1, 6 * 5 + 1), done.label]
        assert stored(layer)[where.index[0], 100, 100] == done.label
    assert desk.errors == []


def test_an_object_is_followed_through_planes_that_are_never_read(open_desk, tmp_path, monkeypatch):
    """One click, a correction in the middle, an end that is set, and one commit into the labels on disk."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    where, radii = (2600, 2300), (0, 40, 62, 82, 80, 60, 42, 0)
    planes = [drawn_pyramid(SHAPE, 4, [(*where, radius)] if radius else ()) for radius in radii]
    levels = [level for plane in planes for level in plane]
    for level in levels:
        level.most, level.pitch = 2300**2, 400
    data = [PlaneByPlane([plane[k] for plane in planes]) for k in range(4)]
    desk = open_desk(image=data, multiscale=True, contrast_limits=(0, 255))
    desk.until(lambda: desk.session.status.phase == "ready", 60_000)
    desk.dock.sections["Stack"].set_expanded(True)
    panel, trail = desk.dock.stack_panel.follow, desk.dock.stack.trail

    def turn(z):
        desk.viewer.dims.set_current_step(0, z)
        desk.until(lambda: desk.session.status.phase == "ready", 20_000)

    def follow():
        desk.press_button(panel.run)
        desk.until(lambda: "follow" not in desk.session.running and trail.trail is not None, 60_000)

    turn(3)
    go_to(desk, *where)
    desk.click(*where)
    desk.wait_offers()
    before, encoded = [level.read for level in levels], desk.predictor.encoded
    follow()
    assert list(trail.trail.planes) == [1, 2, 3, 4, 5, 6]
    assert "On 6 of 8 planes, 1 to 6" in panel.summary.text()
    assert desk.predictor.encoded - encoded == len(radii) - 2  # the first and the last plane are alike
    read = [level.read - old for level, old in zip(levels, before, strict=True)]
    assert sum(read) < 2 * len(radii) * 1024**2
    # What was followed is seen on its plane before it is committed.
    turn(5)
    assert np.count_nonzero(desk.dock.bench.preview.layer.data) == disc_mask(*where, 60).area
    # A click in the middle costs only the planes that it touches.
    desk.click(where[0] + 5, where[1])
    desk.wait_offers()
    encoded = desk.predictor.encoded
    follow()
    assert trail.trail.anchors == {3, 5}
    assert desk.predictor.encoded - encoded <= 3
    turn(1)
    desk.press_button(panel.end)
    desk.press(Qt.Key.Key_C)
    labels = stored(desk.target)
    assert labels.shape == (len(radii), *SHAPE)
    for z, radius in enumerate(radii):
        part = labels[z, 2400:2800, 2100:2500]
        if 2 <= z <= 6:
            assert mask_iou(Mask.from_plane(part, 2400, 2100), disc_mask(*where, radius)) > 0.97
        else:
            assert not part.any()
    assert desk.target.features["planes"].tolist() == [5]
    desk.press_button(desk.dock.commit_panel.undo)
    assert not np.count_nonzero(labels[:, 2400:2800, 2100:2500])
    assert panel.strip.isVisible()
    assert desk.errors == []


def test_a_single_large_array_in_memory(open_desk, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    plane = DrawnLevel((4200, 4200), most=10**9)[0:4200, 0:4200]
    desk = open_desk(image=plane, contrast_limits=(0, 255), predictor=DiscPredictor()).wait_ready()
    go_to(desk, 2050, 2050)
    desk.click(2050, 2050)
    desk.wait_offers()
    desk.press(Qt.Key.Key_C)
    assert fits(stored(desk.target)[...], 2050, 2050)
