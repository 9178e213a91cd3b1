"""Sample data: the same every time, calibrated, without the network; and what opens from the menus."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from scipy import ndimage as ndi

from napari_sam._napari import samples

DRAWN = (samples.cells_2d, samples.cells_3d, samples.cells_time)
ALL = (*DRAWN, samples.coins, samples.immunohistochemistry)


@pytest.fixture
def no_network(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a sample asked for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("sample", ALL, ids=lambda f: f.__name__)
def test_sample_opens_as_one_image(sample):
    viewer = ViewerModel()
    for data, keywords, kind in sample():
        assert kind == "image"
        layer = viewer.add_image(data, **keywords)
        assert isinstance(layer, Image)
        assert layer.rgb == (sample is samples.immunohistochemistry)
        assert layer.ndim == {"cells_3d": 3, "cells_time": 3}.get(sample.__name__, 2)
        assert np.ptp(layer.data) > 50
    assert len(viewer.layers) == 1


@pytest.mark.parametrize("sample", DRAWN, ids=lambda f: f.__name__)
def test_drawn_cells_are_calibrated_and_the_same_every_time(sample):
    ((data, keywords, _),) = sample()
    np.testing.assert_array_equal(data, sample()[0][0])
    assert data.dtype == np.uint16
    assert len(keywords["scale"]) == len(keywords["units"]) == len(keywords["axis_labels"]) == data.ndim
    assert keywords["scale"][-1] == 0.5
    assert keywords["units"][-1] == "µm"


def count(plane) -> int:
    """Number of bright objects that are more than noise."""
    smooth = ndi.gaussian_filter(plane.astype(float), 1.5)
    labels, found = ndi.label(smooth > (smooth.min() + smooth.max()) / 4)
    return int((np.bincount(labels.ravel())[1:] > 40).sum()) if found else 0


def test_drawn_cells_are_cells():
    assert count(samples.cells_2d()[0][0]) > 40
    frames = samples.cells_time()[0][0]
    assert abs(count(frames[0]) - count(frames[1])) <= 1
    assert count(frames[0]) > 8


def test_drawn_nuclei_are_round_in_micrometres():
    ((data, keywords, _),) = samples.cells_3d()
    smooth = ndi.gaussian_filter(data.astype(float), 1)
    labels, _ = ndi.label(smooth > smooth.max() / 3)
    sizes = [
        [(part.stop - part.start) * step for part, step in zip(found, keywords["scale"], strict=True)]
        for found in ndi.find_objects(labels)
    ]
    whole = [s for s in sizes if min(s) > 6]
    assert len(whole) >= 5
    assert np.median([s[0] / s[1] for s in whole]) == pytest.approx(1, abs=0.35)


def test_moving_cells_stay_nearest_to_themselves():
    """Step by step a cell moves less than a fifth of its width, but for those that meet; over time more."""
    frames = samples.cells_time()[0][0]
    found = [centres(frame) for frame in frames]
    steps = np.concatenate([moves(now, then) for now, then in pairwise(found)])
    assert np.percentile(steps, 95) < 4
    assert np.median(moves(found[0], found[-1])) > 2


def centres(plane) -> np.ndarray:
    """Centres (y, x), shape (N, 2), of the bright objects of a plane."""
    smooth = ndi.gaussian_filter(plane.astype(float), 1.5)
    labels, found = ndi.label(smooth > (smooth.min() + smooth.max()) / 4)
    return np.array(ndi.center_of_mass(labels > 0, labels, range(1, found + 1)))


def moves(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Distance of each object to the nearest one of another frame, less those that left the picture."""
    nearest = np.hypot(*(now[:, None] - then[None]).transpose(2, 0, 1)).min(axis=1)
    edge = np.minimum(now, np.array([192, 256]) - now).min(axis=1)
    return nearest[edge > 12]


@pytest.mark.gui
@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("key", ["cells_2d", "cells_3d", "cells_time", "coins", "immunohistochemistry"])
def test_sample_opens_from_the_menu(make_napari_viewer, npe2pm, key):
    from npe2 import PluginManifest

    viewer = make_napari_viewer()
    npe2pm.register(PluginManifest.from_distribution("napari-sam-cells"))
    viewer.open_sample("napari-sam-cells", key)
    assert len(viewer.layers) == 1
