"""A training that is over in a moment."""

import pytest

from napari_sam.training.config import TrainConfig
from napari_sam.training.examples import Recipe

RECIPE = Recipe(sides=(64,), pixels=2 * 64**2, prompts=4, drawn=1.0)


@pytest.fixture
def config(tmp_path):
    return TrainConfig(
        output=tmp_path / "run", recipe=RECIPE, channels=(4, 8, 8, 8, 8), depths=(0, 1, 0, 0),
        width=16, steps=6, rounds=3, warmup=2, precision="float32", threads=1, workers=0,
    )  # fmt: skip
