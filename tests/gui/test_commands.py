"""Menu and palette: each command opens the dock once and uses it."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from tests.fakes import DiscPredictor
from tests.gui.dock import disc_picture

from napari_sam._napari.commands import WIDGET, show_dock
from napari_sam._napari.settings import PLUGIN

pytestmark = pytest.mark.gui


@pytest.fixture
def window(make_napari_viewer, npe2pm, monkeypatch, qtbot):
    """Give a viewer that knows the plugin, with a model that needs no weights."""
    monkeypatch.setattr("napari_sam.predictor.load_model", lambda *args, **kwargs: DiscPredictor())
    viewer = make_napari_viewer()
    npe2pm.register(PluginManifest.from_distribution(PLUGIN))
    yield viewer
    for dock in list(viewer.window.dock_widgets.values()):
        close = getattr(dock, "close_down", None)
        if close is not None:
            close()


def run(command: str) -> None:
    """Run a command as the menu does: napari finds the viewer that it asks for."""
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command(f"{PLUGIN}.{command}").result()


def test_open_dock_opens_one(window):
    run("open_dock")
    run("open_dock")
    docks = [name for name in window.window.dock_widgets if WIDGET in name]
    assert len(docks) == 1


def test_segment_everything_finds_every_disc(window, qtbot):
    window.add_image(disc_picture())
    run("segment_everything")
    session = show_dock(window).session
    qtbot.waitUntil(lambda: session.sifted is not None, timeout=60_000)
    assert len(session.sifted.objects) == 3


def test_segment_stack_fills_every_plane(window, qtbot):
    window.add_image(np.stack([disc_picture()] * 3))
    run("segment_stack")
    qtbot.waitUntil(lambda: filled(window) == 3, timeout=60_000)


def filled(viewer) -> int:
    """Count the planes of the topmost Labels layer, the preview aside, that hold objects."""
    from napari.layers import Labels

    from napari_sam._napari.layers import role_of

    stacks = [layer for layer in viewer.layers if isinstance(layer, Labels) and layer.ndim == 3]
    labels = [layer for layer in stacks if role_of(layer) != "preview"]
    return int(sum(plane.any() for plane in labels[-1].data)) if labels else 0


@pytest.mark.parametrize("command", ["segment_everything", "segment_stack"])
def test_without_an_image_it_is_said_and_no_dock_opens(window, command):
    said = []
    notification_manager.notification_ready.connect(lambda note: said.append(note.message))
    run(command)
    assert "There is no image to segment" in said[0]
    assert not [name for name in window.window.dock_widgets if WIDGET in name]
