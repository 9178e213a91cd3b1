"""The diameter estimate, with a model whose word is known."""

from __future__ import annotations

import pytest
import torch

from napari_sam.model.builtin import MODEL_DIAMETER, BuiltIn, Features
from napari_sam.predictor import diameter
from napari_sam.predictor.diameter import estimate_diameter

TRUE = 88.0


class _Decoded:
    def __init__(self, quality: float, count: int) -> None:
        self.iou = torch.full((count, 4), quality)
        self._quality = quality

    def logits(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(rows), 128, 128), -9.0)
        logits[:, 50:70, 50:70] = 9.0
        return logits


class _Knowing(BuiltIn):
    """Sees one object in the middle, and is the surer the nearer it is to its own diameter."""

    def __init__(self, sees: bool = True) -> None:
        super().__init__((4, 4, 4, 4, 4), (0, 0, 0, 0), 16)
        self.sees, self.side, self.looks = sees, 512, []

    def encode(self, x: torch.Tensor) -> Features:
        height, width = x.shape[-2:]
        scale = self.side_of_picture / self.side
        dense = torch.full((1, 4, height // 4, width // 4), -6.0)
        if self.sees:
            middle = height // 8, width // 8
            dense[0, 0, middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2] = 4.0
            dense[0, 3] = torch.log2(torch.tensor(TRUE * scale / MODEL_DIAMETER))
        self.looks.append(scale)
        self.octaves = float(dense[0, 3].max())
        return Features(*(torch.zeros(1, 1, 1, 1),) * 3, dense)

    def decode(self, features, index, origin, points, labels, mask=None):
        return _Decoded(0.9 - 0.2 * abs(self.octaves), len(points))


@pytest.fixture
def plane():
    return torch.zeros(512, 512, 3, dtype=torch.uint8)


def _watch(monkeypatch, model):
    """Tell the model the scale at which it is shown the plane."""
    cut = diameter._cut

    def watched(plane, scale, centre):
        model.side_of_picture = plane.shape[0] * scale
        return cut(plane, scale, centre)

    monkeypatch.setattr(diameter, "_cut", watched)


def test_the_surest_distance_is_taken(plane, monkeypatch):
    model = _Knowing().eval()
    _watch(monkeypatch, model)
    assert estimate_diameter(model, plane) == pytest.approx(TRUE)
    assert model.looks == [0.25, 0.5, 1.0, 2.0, 4.0, MODEL_DIAMETER / TRUE]


def test_without_objects_there_is_no_diameter(plane, monkeypatch):
    model = _Knowing(sees=False).eval()
    _watch(monkeypatch, model)
    assert estimate_diameter(model, plane) is None


def test_large_planes_are_looked_at_in_part():
    plane = torch.arange(3000 * 2000).view(3000, 2000, 1).expand(-1, -1, 3)
    start, picture = diameter._cut(plane, 1.0, torch.tensor([2990.0, 10.0]))
    assert start.tolist() == [3000 - diameter.GLANCE, 0]
    assert picture.shape == (1, 3, diameter.GLANCE, diameter.GLANCE)
    assert picture[0, 0, 0, 0] == plane[start[0], start[1], 0]
