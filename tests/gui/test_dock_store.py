"""The folder of embeddings in the real window."""

from __future__ import annotations

import re

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.fakes import DiscPredictor, disc_image
from tests.gui.dock import DISCS, disc_picture
from tests.test_large_tiles import DISCS as FAR_DISCS
from tests.test_large_tiles import SHAPE, TileSam, fits, write_pictures
from tests.test_storage import Sam
from tests.test_store_microsam import write_store

from napari_sam._napari.settings import preferences, set_preference
from napari_sam.store import EmbeddingStore

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def _own_preferences():
    before = preferences()
    yield
    set_preference("store", "folder", before.store_folder)
    set_preference("store", "read_only", before.store_read_only)
    set_preference("store", "max_gb", before.store_gb)


def stack(count=6):
    return np.stack([np.roll(disc_picture(), 3 * z, axis=1) for z in range(count)])


def choose(desk, folder):
    """Unfold the section and type a folder."""
    section = desk.dock.sections["Embeddings on disk"]
    if not section.content.isVisible():
        desk.press_button(section.button)
        desk.dock.scroll_to(section)
    panel = desk.dock.many.store_panel
    panel.path.setFocus()
    panel.path.selectAll()
    QTest.keyClicks(panel.path, str(folder))
    QTest.keyClick(panel.path, Qt.Key.Key_Return)
    desk.until(lambda: "store" not in desk.session.running)
    return panel


def test_every_plane_ahead_of_time_and_the_encoder_rests_ever_after(open_desk, tmp_path):
    desk = open_desk(image=stack()).wait_ready()
    desk.viewer.dims.set_current_step(0, 4)
    desk.until(lambda: desk.session.status.phase == "ready")
    panel = choose(desk, tmp_path / "store")
    assert panel.text.text() == "0 embeddings, 0 MB of 20 GB."
    said = []
    desk.session.progressed.connect(lambda kind, p: said.append(p.message) if kind == "precompute" else None)
    desk.press_button(panel.run)
    desk.until(lambda: "Every plane is in the folder: 6 embedded." in panel.text.text())
    assert panel.run.isEnabled()
    desk.dock.close_down()
    desk.dock.window().hide()

    assert preferences().store_folder == str(tmp_path / "store")
    again = open_desk(image=stack()).wait_ready()
    for z in range(6):
        again.viewer.dims.set_current_step(0, z)
        again.until(lambda: again.session.status.phase == "ready")
        again.click(DISCS[0][0], DISCS[0][1] + 3 * z)
        again.wait_offers()
        again.dock.bench.clear()
    assert again.predictor.encoded == 0
    assert "from the folder" in again.dock.image_panel.status.text()
    assert again.errors == []


def test_large_planes_are_embedded_in_tiles_and_the_encoder_rests_ever_after(
    open_desk, tmp_path, monkeypatch
):
    """Clicks, following and segmenting every plane; the planes count as large here."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    monkeypatch.setattr("napari_sam._napari.large.IN_MEMORY", 500**2)
    discs = [(300, 400, 14), (1000, 1200, 20), (500, 1300, 12)]
    image = np.random.default_rng(0).integers(0, 30, (2, 1300, 1500)).astype(np.uint8)
    image += np.stack([disc_image(image.shape[1:], discs)] * 2)
    desk = open_desk(image=image, contrast_limits=(0, 255)).wait_ready()
    panel = choose(desk, tmp_path / "store")
    desk.press_button(panel.run)
    desk.until(lambda: "Every tile is in the folder: 8 embedded" in panel.text.text(), 30_000)
    desk.dock.close_down()
    desk.dock.window().hide()

    again = open_desk(image=image, contrast_limits=(0, 255)).wait_ready()
    assert "from the folder" in again.dock.image_panel.status.text()
    for disc in discs:
        again.click(*disc[:2])
        again.until(
            lambda disc=disc: again.session.offers and fits(again.session.offers[0].choice.mask, disc)
        )
        if disc is not discs[-1]:
            again.dock.bench.clear()
    again.dock.sections["Stack"].set_expanded(True)
    stack_panel = again.dock.stack_panel
    again.press_button(stack_panel.follow.run)
    again.until(lambda: again.dock.stack.following and "follow" not in again.session.running, 30_000)
    assert list(again.dock.stack.trail.trail.planes) == [0, 1]
    again.press_button(stack_panel.run)
    again.until(lambda: "objects in the layer" in stack_panel.text.text(), 60_000)
    assert "3 objects" in stack_panel.text.text()
    assert again.predictor.encoded == 0
    assert again.errors == []


def test_a_large_plane_by_itself_is_embedded_in_tiles(open_desk, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam._napari.large.IN_MEMORY", 500**2)
    image = np.random.default_rng(0).integers(0, 200, (1300, 1500)).astype(np.uint8)
    desk = open_desk(image=image, contrast_limits=(0, 255)).wait_ready()
    panel = choose(desk, tmp_path / "store")
    assert panel.run.text() == "Embed every tile"
    desk.press_button(panel.run)
    desk.until(lambda: "Every tile is in the folder: 4 embedded" in panel.text.text(), 30_000)


def test_cancel_keeps_what_is_done_and_clicks_do_not_wait(open_desk, tmp_path):
    slow = DiscPredictor(encode_seconds=0.25)
    desk = open_desk(image=stack(12), predictor=slow).wait_ready()
    panel = choose(desk, tmp_path / "store")
    desk.press_button(panel.run)
    store = EmbeddingStore(tmp_path / "store")
    desk.until(lambda: len(store) >= 2)
    # The plane on show is there: a click is answered although an encoder is at work.
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    assert "precompute" in desk.session.running
    assert "left" in panel.progress.text.text()
    desk.press_button(panel.progress.button)
    desk.until(lambda: not panel.progress.isVisible())
    done = len(store)
    assert 2 <= done < 12
    slow.encode_seconds = 0
    desk.press_button(panel.run)
    desk.until(lambda: "were there before" in panel.text.text())
    # The plane that was in the encoder when it was cancelled may have come in since.
    embedded, before = map(int, re.findall(r"\d+", panel.text.text()))
    assert done <= before <= done + 1
    assert embedded + before == len(store) == 12


def test_what_is_wrong_with_a_folder_is_said_and_work_goes_on(open_desk, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    desk = open_desk(image=stack()).wait_ready()
    panel = choose(desk, tmp_path / "other")
    assert "found other files" in panel.text.text()
    assert not panel.run.isEnabled()
    choose(desk, tmp_path / "store")
    assert panel.run.isEnabled()
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("napari_sam.store.disk.write_entry", lambda *_: (_ for _ in ()).throw(full))
    desk.viewer.dims.set_current_step(0, 3)
    desk.until(lambda: "No space left" in desk.dock.image_panel.status.text())
    desk.click(DISCS[0][0], DISCS[0][1] + 9)
    desk.wait_offers()
    monkeypatch.undo()
    desk.press_button(panel.read_only)
    desk.until(lambda: "only read" in panel.text.text())
    assert not panel.run.isEnabled()


def test_a_store_of_micro_sam_serves_its_image(open_desk, tmp_path):
    # Each plane has another brightness, so that its own range is not that of the layer.
    image = stack(3).astype(np.uint16) * np.array([20, 40, 60], np.uint16)[:, None, None]
    write_store(tmp_path / "e.zarr", image)
    desk = open_desk(image=image, predictor=Sam()).wait_ready()
    encoded = desk.predictor.encoded
    panel = choose(desk, tmp_path / "e.zarr")
    desk.until(lambda: "its 3 planes are used" in panel.text.text())
    assert desk.dock.image_panel.contrast.currentText() == "darkest to brightest of each tile"
    for z in range(3):  # the plane that was on show may have come into memory meanwhile
        desk.viewer.dims.set_current_step(0, z)
        desk.until(lambda: desk.session.status.phase == "ready" and desk.session.status.cached)
    assert desk.predictor.encoded == encoded


def test_tiles_of_micro_sam_serve_a_large_plane(open_desk, tmp_path, monkeypatch):
    """The plane counts as large here; each click is answered from the tile that it lies in."""
    monkeypatch.setattr("napari_sam._napari.large.IN_MEMORY", 100**2)
    monkeypatch.setattr("napari_sam.store.microsam_adopt.WHOLE", 100**2)
    image = disc_image(SHAPE, FAR_DISCS).astype(np.uint16) * 10
    write_pictures(tmp_path / "e.zarr", image)
    desk = open_desk(image=image, predictor=TileSam()).wait_ready()
    assert "in view: " in desk.dock.image_panel.status.text()
    encoded = desk.predictor.encoded
    panel = choose(desk, tmp_path / "e.zarr")
    desk.until(lambda: "tiles are used" in panel.text.text())
    desk.until(lambda: desk.session.status.phase == "ready" and desk.session.status.stored)
    assert "from the folder" in desk.dock.image_panel.status.text()
    for disc in FAR_DISCS:
        desk.click(*disc[:2])
        desk.until(lambda disc=disc: desk.session.offers and fits(desk.session.offers[0].choice.mask, disc))
        desk.dock.bench.clear()
    assert desk.predictor.encoded == encoded
    assert desk.errors == []
