"""What both sides see: random weights, pictures, and a synthetic scene for automatic masks.

Random weights give no usable masks. Both pipelines run their real networks, so that these are timed, and
then get the same logits and predicted IoUs: textured discs of many sizes, seen from each point of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from skimage import data
from tests.model.small import randomise

from napari_sam.model import build

SIDE = 1024
"""Side of the plane and of the model's input."""
CELLS = 256
"""Side of the logits."""


def state(variant: str) -> dict[str, torch.Tensor]:
    """One random state dict, the same in every process."""
    return randomise(build(variant)).state_dict()


def random_input() -> torch.Tensor:
    """One random input of an encoder."""
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def picture(side: int) -> NDArray[np.uint8]:
    """A real photograph at a given size."""
    return np.asarray(Image.fromarray(data.astronaut()).resize((side, side)))


@dataclass(frozen=True)
class Scene:
    """Discs on the grid of the logits.

    Parameters
    ----------
    objects : int
    seed : int
    """

    objects: int = 90
    seed: int = 0

    @cached_property
    def _discs(self) -> dict[str, NDArray[np.float64]]:
        rng = np.random.default_rng(self.seed)
        texture = ndi.gaussian_filter(rng.normal(size=(CELLS, CELLS)), 3)
        return {
            "centre": rng.uniform(0, CELLS, (self.objects, 2)),
            "radius": np.exp(rng.uniform(np.log(5), np.log(34), self.objects)),
            "iou": np.clip(rng.normal(0.90, 0.05, (self.objects, 3)), 0, 1),
            "slope": np.exp(rng.uniform(np.log(0.3), np.log(6), (self.objects, 3))),
            "texture": 1.2 * texture / texture.std(),
        }

    def outputs(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, 3, 256, 256) and predicted IoU (N, 3).

        Parameters
        ----------
        points : Tensor, shape (N, 2)
            (x, y) in model pixels of the 1024-pixel input.
        """
        discs = self._discs
        place = points.double().numpy()[:, ::-1] / 4
        gap = np.hypot(*(place[:, None] - discs["centre"]).transpose(2, 0, 1)) - discs["radius"]
        own = gap.argmin(1)
        y, x = np.mgrid[:CELLS, :CELLS].astype(np.float32)
        logits = np.empty((len(place), 3, CELLS, CELLS), np.float32)
        for i, k in enumerate(own):
            distance = np.hypot(y - discs["centre"][k, 0], x - discs["centre"][k, 1])
            for level, part in enumerate((0.55, 1.0, 1.6)):
                rim = discs["radius"][k] * part - distance + discs["texture"]
                logits[i, level] = np.clip(rim * discs["slope"][k, level], -25, 25)
        jitter = 0.02 * np.sin(place.sum(1) * 7)[:, None]
        iou = np.where(gap.min(1)[:, None] < 0, discs["iou"][own] + jitter, 0.5).astype(np.float32)
        return torch.from_numpy(logits), torch.from_numpy(iou)


class Stage:
    """The scene's outputs for every point of a run, made beforehand so that they cost nothing in it."""

    def __init__(self, scene: Scene, points: torch.Tensor) -> None:
        logits, self.iou = scene.outputs(points)
        self.logits = logits
        self._row = {tuple(p): i for i, p in enumerate(points.round(decimals=2).tolist())}

    def rows(self, points: torch.Tensor) -> torch.Tensor:
        """Rows of the outputs for points (N, 2), (x, y) in model pixels."""
        return torch.tensor([self._row[tuple(p)] for p in points.round(decimals=2).tolist()])


@cache
def stage() -> Stage:
    """The scene as seen from a grid of 32 x 32 points."""
    grid = (torch.arange(32) + 0.5) / 32 * SIDE
    points = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1).reshape(-1, 2)
    return Stage(Scene(), points)
