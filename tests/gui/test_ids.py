"""The next free id, also of layers that are too large to be read each time."""

from __future__ import annotations

import gc

import numpy as np
import pandas as pd
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Labels

from napari_sam._napari import ids
from napari_sam._napari.commit import commit_mask, write_plane
from napari_sam._napari.coordinates import PlaneIndex
from napari_sam._napari.ids import next_label
from napari_sam._napari.large_labels import add_large_labels
from napari_sam.masks import Mask

HERE = PlaneIndex((1, None, None), 1, 2)


class Counted:
    """An array that counts how often it is read."""

    def __init__(self, data):
        self._data, self.reads = data, 0
        self.shape, self.dtype, self.ndim, self.size = data.shape, data.dtype, data.ndim, data.size

    def __getitem__(self, key):
        self.reads += 1
        return self._data[key]

    def __setitem__(self, key, value):
        self._data[key] = value


@pytest.fixture
def large(monkeypatch):
    """Give a layer that counts as large, with the highest id in a plane that is not shown."""
    monkeypatch.setattr(ids, "SMALL", 100)
    data = np.zeros((4, 20, 30), np.uint16)
    data[3, 0, 0] = 7
    return Labels(data)


def test_small_layers_are_read_each_time():
    layer = Labels(np.zeros((20, 30), np.uint8))
    assert next_label(layer) == 1
    layer.data[3, 3] = 9
    assert next_label(layer) == 10


def test_features_count_too(large):
    large.features = pd.DataFrame({"index": [3, 12]})
    assert next_label(large) == 13
    large.features = pd.DataFrame({"kind": list("abcdefghijk")})
    assert next_label(large) == 11
    large.features = pd.DataFrame({"index": np.zeros(0, int)})
    assert next_label(large) == 8


def test_large_layers_are_read_once():
    data = Counted(np.zeros((4, 20, 30), np.uint16))
    layer = Labels(data)
    assert next_label(layer) == 1
    reads = data.reads
    assert next_label(layer) == 1
    assert data.reads == reads


def test_edits_are_followed(large):
    assert next_label(large) == 8
    assert commit_mask(large, HERE, Mask(0, 0, np.ones((3, 3), bool))).label == 8
    assert next_label(large) == 9
    large.selected_label = 20
    large.paint((1, 10, 10), 20)
    assert next_label(large) == 21
    large.fill((1, 10, 10), 30)
    assert next_label(large) == 31
    large.data_setitem((np.array([0]), np.array([0]), np.array([0])), 40)
    assert next_label(large) == 41
    write_plane(large, HERE, np.full((20, 30), 50))
    assert next_label(large) == 51


def test_replaced_data_are_read_anew(large):
    assert next_label(large) == 8
    large.data = np.full((4, 20, 30), 3, np.uint16)
    assert next_label(large) == 4
    large.paint((1, 10, 10), 20)
    assert next_label(large) == 21


def test_zarr_is_followed():
    layer = Labels(zarr.zeros((4, 20, 30), chunks=(1, 20, 30), dtype="u2"))
    assert commit_mask(layer, HERE, Mask(0, 0, np.ones((3, 3), bool))).label == 1
    assert commit_mask(layer, HERE, Mask(9, 0, np.ones((3, 3), bool))).label == 2


def test_two_windows_on_the_same_labels_on_disk_give_each_object_an_id_of_its_own(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (1300, 1300)).astype(np.uint8)
    windows = [ViewerModel(), ViewerModel()]
    layers = [add_large_labels(v, v.add_image(picture, name="slide"), tmp_path) for v in windows]
    plane = PlaneIndex((None, None), 0, 1)
    given = [
        commit_mask(layer, plane, Mask(50 * step, 50 * number, np.ones((9, 9), bool))).label
        for step in range(3)
        for number, layer in enumerate(layers)
    ]
    assert given == [1, 2, 3, 4, 5, 6]
    assert np.unique(layers[0].data[0][...]).tolist() == [0, *given]


def test_nothing_is_kept_of_layers_that_are_gone(large):
    next_label(large)
    other = Labels(np.zeros((4, 20, 30), np.uint16))
    next_label(other)
    gc.collect()
    known = len(ids._highest)
    del other
    gc.collect()
    assert len(ids._highest) == known - 1
