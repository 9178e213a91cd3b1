"""Memory that automatic masks of a large plane take above the image: ``python -m benchmarks.memory``.

The official models see such a plane at once, at 1024 pixels, and their masks are as large as the plane (here
a network with random weights and the masks of the benchmark's scene). The built-in model sees it in tiles.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from skimage import data

from benchmarks.scene import picture
from benchmarks.steps import staged_predictor
from benchmarks.timing import forget_peak, memory_mb
from napari_sam import load_model
from napari_sam.everything import AutomaticSettings, generate
from napari_sam.progress import finish
from napari_sam.tiling import rgb_reader, segment_plane

DIAMETER = 60.0
"""Of the coins, in pixels."""


def grid_of_points(side: int) -> tuple[Callable[[], int], float]:
    """Every mask of a 32 x 32 grid with TinyViT; and the size of the image in MB."""
    predictor, image = staged_predictor("vit_t"), picture(side)
    # Another picture first: what the model itself takes is no part of what a large plane costs.
    predictor.embed(picture(512))

    def run() -> int:
        labels, _ = finish(generate(predictor, image, AutomaticSettings())).labels()
        return int(labels.max())

    return run, image.nbytes / 2**20


def tiles(side: int) -> tuple[Callable[[], int], float]:
    """Every coin of a plane full of them with the built-in model; and the size of the image in MB."""
    predictor = load_model("built-in", device="cpu")
    coins = data.coins()
    image = np.tile(coins, [side // n + 1 for n in coins.shape])[:side, :side].copy()
    predictor.embed(np.repeat(coins[..., None], 3, 2), diameter=DIAMETER)

    def run() -> int:
        with tempfile.TemporaryDirectory() as folder:
            steps = segment_plane(
                predictor, rgb_reader(image), image.shape, Path(folder) / "labels.ome.zarr", diameter=DIAMETER
            )
            return len(finish(steps).table)

    return run, image.nbytes / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000)
    side = parser.parse_args().side
    makers: tuple[Callable[[int], Any], ...] = (grid_of_points, tiles)
    for make in makers:
        run, size = make(side)
        forget_peak()
        before = memory_mb()
        found = run()
        above = memory_mb(peak=True) - before
        print(f"{make.__name__}: {found} objects, {above:.0f} MB above an image of {size:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
