"""What the commands are tried on."""

from __future__ import annotations

import pytest
import tifffile
from tests.fakes import DiscPredictor, disc_image

import napari_sam.predictor
from napari_sam.predictor import load_model


@pytest.fixture
def discs(monkeypatch):
    """Commands get the predictor that finds discs; a name other than the built-in's is looked up."""
    asked = []

    def load(name, *, device="auto"):
        asked.append((name, device))
        return DiscPredictor() if name == "built-in" else load_model(name, device=device)

    monkeypatch.setattr(napari_sam.predictor, "load_model", load)
    return asked


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(1, 3):
        tifffile.imwrite(folder / f"img{i}.tif", disc_image((48, 60), [(12, 14, 7), (30, 40, 6)][:i]))
    return folder
