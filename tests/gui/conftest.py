"""The dock in a real window, for the tests of this folder."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def _little_to_collect():
    """napari collects garbage at every layer that goes: let it look through what this test made only."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def open_desk(make_napari_viewer, qtbot):
    """Return a function that opens a window with a layer and the dock; closes the docks afterwards."""
    # Imported here: the tests of this folder that need no window are not to load Qt.
    from tests.gui.dock import Desk, disc_picture

    desks = []

    def open_it(image=None, predictor=None, **layer):
        viewer = make_napari_viewer(show=True)
        viewer.window.resize(1280, 800)
        viewer.add_image(disc_picture() if image is None else image, name="discs", **layer)
        desk = Desk(qtbot, viewer, predictor)
        desks.append(desk)
        return desk

    yield open_it
    for desk in desks:
        desk.dock.close_down()
        assert not desk.dock.bench.dispatch.worker.busy


@pytest.fixture
def desk(open_desk):
    """Give a window with three discs, the model loaded and the plane embedded."""
    return open_desk().wait_ready()


@pytest.fixture
def follow_desk(open_desk):
    """Return a function that opens a window with the ball and the section Stack unfolded."""

    from tests.gui.following import ball

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


@pytest.fixture
def bound():
    """Give a viewer without a window, an image in it and the binding that reads its prompts."""
    from tests.gui.bound import Bound

    return Bound()
