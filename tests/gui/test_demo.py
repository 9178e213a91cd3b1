"""The driven demo: the main job in the real window, with the model of the package and real clicks."""

import json

import numpy as np
import pandas as pd
import pytest
import roifile
import tifffile
from PIL import Image
from skimage import data

from napari_sam._napari.demo import CLICK, run_demo

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def report(tmp_path_factory, qapp):
    return run_demo(tmp_path_factory.mktemp("demo"), drive=True)


@pytest.fixture
def labels(report):
    return tifffile.imread(report.files["label image"])


def test_a_click_offers_three_candidates(report):
    assert len(report.offered) == 3
    assert "predicted IoU" in str(report)


def test_the_labels_lie_on_the_image_and_on_the_coins(report, labels):
    coins = data.coins()
    assert labels.shape == coins.shape
    clicked = labels[tuple(map(int, CLICK))]
    assert clicked > 0
    assert labels.max() >= report.automatic >= 15
    assert coins[labels > 0].mean() > coins[labels == 0].mean() + 30


def test_the_committed_coin_is_one_coin(labels):
    mask = labels == labels[tuple(map(int, CLICK))]
    ys, xs = np.nonzero(mask)
    assert 35 < np.ptp(ys) < 60
    assert 35 < np.ptp(xs) < 60
    assert np.allclose((ys.mean(), xs.mean()), CLICK, atol=5)


def test_every_file_holds_the_same_objects(report, labels):
    count = len(np.unique(labels)) - 1
    assert len(roifile.roiread(report.files["ROIs for Fiji"])) == count
    outlines = json.loads(report.files["outlines for QuPath"].read_text())
    assert len(outlines["features"]) == count
    table = pd.read_csv(report.files["table"])
    assert set(table["label"]) == set(np.unique(labels)) - {0}
    assert table["area_px"].sum() == np.count_nonzero(labels)


@pytest.mark.parametrize("name", ["the window after the click", "the window with every object"])
def test_the_pictures_show_the_whole_window(report, name):
    with Image.open(report.files[name]) as picture:
        assert picture.size == (1280, 800)
        assert len(picture.convert("RGB").getcolors(2**20)) > 500
