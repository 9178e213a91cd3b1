"""How the dock looks, and how it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from napari.settings import get_settings
from qtpy.QtCore import QPoint
from tests.fakes import DiscPredictor
from tests.gui.dock import DISCS, check_nothing_is_cut_off, disc_picture

from napari_sam._napari.shortcuts import KEYS, listing
from napari_sam._napari.widget import SegmentAnythingDock

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off(desk, theme):
    """All sections open, three candidates and automatic masks on show, every text in full."""
    desk.viewer.theme = theme
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.dock.segment_everything()
    desk.until(lambda: desk.session.sifted is not None)
    check_nothing_is_cut_off(desk)
    for card in desk.dock.candidate_panel.cards:
        assert card.height() >= card.layout().sizeHint().height()


def test_what_a_large_font_pushes_out_of_sight_is_scrolled_to(desk, monkeypatch):
    scroll = desk.dock._scroll
    bar, card = scroll.horizontalScrollBar(), desk.dock.candidate_panel.cards[-1]
    desk.click(*DISCS[0][:2])
    desk.wait_offers()
    desk.until(card.isVisible)
    assert bar.maximum() == 0
    monkeypatch.setattr(get_settings().appearance, "font_size", 16)
    desk.until(lambda: bar.maximum() > 0)
    assert bar.isVisible()
    bar.setValue(bar.maximum())
    right = card.mapTo(scroll.viewport(), QPoint(card.width(), 0)).x()
    assert right <= scroll.viewport().width()


def test_a_long_name_pushes_nothing_out_of_sight(desk):
    """There is no space in it at which the line could end."""
    name = "20241103_plate07_well_A01_field_012_channel_DAPI_GFP_mCherry_stitched_projection_max"
    desk.viewer.layers["discs"].name = name
    desk.dock.export_panel.say(f"Written to /data/{name}.tif")
    desk.dock.everything_panel.progress.start(f"writing {name}.tif")
    desk.dock.everything_panel.show_folder(Path(name))
    desk.dock.everything_panel.set_large(True)
    desk.dock.sections["Segment all"].set_expanded(True)
    desk.dock.sections["Export"].set_expanded(True)
    desk.qtbot.wait(200)
    scroll = desk.dock._scroll
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()
    assert desk.dock.width() < 360


def test_sections_fold(desk):
    section = desk.dock.sections["Prompts"]
    assert desk.dock.prompt_panel.isVisible()
    desk.press_button(section.button)
    assert not desk.dock.prompt_panel.isVisible()
    desk.press_button(section.button)
    assert desk.dock.prompt_panel.isVisible()


def test_all_shortcuts_are_listed_and_do_something(desk):
    said = " ".join(keys for keys, _ in listing())
    for key in KEYS:
        assert key.action in desk.dock._actions
        for sequence in key.keys:
            assert sequence.replace("Return", "Enter") in said


def test_opened_from_the_menu(make_napari_viewer_proxy, qtbot, monkeypatch):
    """napari hands a proxy of its viewer to the dock, which lets nobody touch what is private."""
    monkeypatch.setattr("napari_sam.predictor.load_model", lambda name, **_: DiscPredictor(name=name))
    viewer = make_napari_viewer_proxy(show=True)
    viewer.add_image(disc_picture(), name="discs")
    _, dock = viewer.window.add_plugin_dock_widget("napari-sam-cells", "Segment Anything")
    assert isinstance(dock, SegmentAnythingDock)
    qtbot.waitUntil(lambda: dock.session.status.phase == "ready", timeout=60_000)
    # The model and the device of the Preferences.
    assert dock.session.status.model == "built-in"
    dock.bench.binding.points.add(DISCS[0][:2])
    qtbot.waitUntil(lambda: len(dock.session.offers) == 1, timeout=60_000)
    assert dock.commit() == 1
    assert viewer.layers["discs: objects"].data.any()
    dock.close_down()


def test_a_command_waits_for_the_model(open_desk):
    """From the menu the dock may be opened and used at once."""
    desk = open_desk()
    assert desk.session.predictor is None
    desk.dock.segment_everything()
    desk.until(lambda: desk.session.sifted is not None)
    assert len(desk.session.sifted.objects) == 3
    assert desk.errors == []
