"""What every test gets: its own folders, fixed seeds, one thread, and a check that nothing leaks."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

# Read when napari and torch are imported, hence set before any test module is.
_SETTINGS = tempfile.mkdtemp(prefix="napari-sam-settings-")
os.environ["NAPARI_CONFIG"] = str(Path(_SETTINGS) / "settings.yaml")
os.environ["NAPARI_STRICT_QT"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_unconfigure():
    shutil.rmtree(_SETTINGS, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """Keep a test away from the user's downloads and stored embeddings."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _fixed_seed():
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _no_work_left(request):
    """A test of the window fails if something still runs once the window is closed."""
    yield
    if request.node.get_closest_marker("gui"):
        from qtpy.QtCore import QThreadPool

        if not QThreadPool.globalInstance().waitForDone(10_000):
            pytest.fail("a worker was still running 10 s after the test had ended")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class DrawnCells(NamedTuple):
    """A drawn plane of bright cells and its truth."""

    image: np.ndarray  # (H, W) uint8
    labels: np.ndarray  # (H, W) uint16, 0 is background
    centres: np.ndarray  # (N, 2) float, (y, x) in pixels; row i belongs to label i + 1


def draw_cells(shape=(96, 128), radius=9.0, spacing=32, seed=0) -> DrawnCells:
    """Draw one ellipse a grid square: bright, blurred at the rim, on a noisy background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full(shape, 40.0)
    labels = np.zeros(shape, np.uint16)
    centres = []
    for cy in range(spacing // 2, shape[0] - radius.__ceil__(), spacing):
        for cx in range(spacing // 2, shape[1] - radius.__ceil__(), spacing):
            centre = np.array([cy, cx]) + rng.uniform(-3, 3, 2)
            ry, rx = radius * rng.uniform(0.8, 1.2, 2)
            distance = np.hypot((y - centre[0]) / ry, (x - centre[1]) / rx)
            centres.append(centre)
            labels[distance <= 1] = len(centres)
            image += 140 / (1 + np.exp(12 * (distance - 1)))
    image += rng.normal(0, 4, shape)
    return DrawnCells(image.clip(0, 255).astype(np.uint8), labels, np.array(centres))


@pytest.fixture
def drawn_cells() -> DrawnCells:
    return draw_cells()


@pytest.fixture(scope="session")
def labelled_data() -> Path:
    """Give the folder of the labelled microscopy sets, one folder a set."""
    folder = Path(os.environ.get("NAPARI_SAM_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no labelled data at {folder}: set NAPARI_SAM_DATA to its folder")
    return folder
