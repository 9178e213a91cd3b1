"""Automatic masks against the reference generator: the same masks, boxes, scores, in the same order."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage as ndi
from tests.model.small import VIT, small_sam
from tests.model.test_parity import reference_sam
from tests.reference import segment_anything

from napari_sam.everything import AutomaticSettings, generate
from napari_sam.predictor.official import SamPredictor
from napari_sam.progress import finish

SIDE, CELLS = 128, 32


@pytest.fixture(autouse=True)
def _connected_components(monkeypatch):
    """The reference's clean-up asks OpenCV for connected regions; scipy finds the same ones."""

    def with_stats(mask, connectivity):
        assert connectivity == 8
        labels, count = ndi.label(mask, structure=np.ones((3, 3)))
        stats = np.bincount(labels.ravel(), minlength=count + 1)[:, None]
        return count + 1, labels, stats, None

    stand_in = ModuleType("cv2")
    stand_in.connectedComponentsWithStats = with_stats
    monkeypatch.setitem(sys.modules, "cv2", stand_in)


def blocks(shape, seed=3):
    """A colour picture of blocks."""
    coarse = np.random.default_rng(seed).integers(0, 255, (shape[0] // 10 + 1, shape[1] // 10 + 1, 3))
    return np.kron(coarse, np.ones((10, 10, 1)))[: shape[0], : shape[1]].astype(np.uint8)


@dataclass
class Scene:
    """Logits and predicted IoUs of textured discs, as a function of the point in model pixels.

    A real decoder with random weights gives noise: hardly a mask passes the default thresholds. Both sides
    get these outputs instead of their decoder's.
    """

    seed: int = 0

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.centres = rng.uniform(0, CELLS, (14, 2))
        self.radii = np.exp(rng.uniform(np.log(2), np.log(7), 14))
        self.quality = np.clip(rng.normal(0.92, 0.04, (14, 3)), 0, 1)
        self.slope = np.exp(rng.uniform(np.log(1), np.log(40), (14, 3)))
        texture = ndi.gaussian_filter(rng.normal(size=(CELLS, CELLS)), 1)
        self.texture = texture / texture.std()

    def outputs(self, points):
        """Logits (N, 3, h, w) and predicted IoU (N, 3) for points (N, 2), (x, y) in model pixels."""
        y, x = np.mgrid[:CELLS, :CELLS]
        place = np.asarray(points, float)[:, ::-1] / 4
        distance = np.hypot(*(place[:, None] - self.centres).transpose(2, 0, 1)) - self.radii
        logits, iou = [], []
        for point, own, gap in zip(place, distance.argmin(1), distance.min(1), strict=True):
            rim = self.radii[own] - np.hypot(y - self.centres[own, 0], x - self.centres[own, 1])
            # Neighbouring points see the same object a little differently.
            wobble = 0.3 * np.sin(point.sum() * 5)
            scaled = [rim + wobble + s * self.radii[own] for s in (-0.4, 0, 0.6)]
            logits.append(
                [(d + 0.7 * self.texture) * k for d, k in zip(scaled, self.slope[own], strict=True)]
            )
            inside = self.quality[own] + 0.02 * np.cos(point * 7).sum()
            iou.append(inside if gap < 0 else inside - 0.3)
        return np.array(logits, np.float32), np.array(iou, np.float32)


class SceneModel:
    """As much of a `Sam` as the predictor needs."""

    image_size = SIDE

    def __init__(self, scene):
        self.scene = scene

    def encode(self, picture):
        return torch.zeros(1, 8, SIDE // 16, SIDE // 16)

    def prepare(self, embedding, positions=None):
        return SimpleNamespace(image=SimpleNamespace(positions=positions))

    def decode(self, state, points, labels, mask=None):
        logits, iou = (torch.from_numpy(a) for a in self.scene.outputs(points[:, 0]))
        return SceneDecoded(torch.cat([iou[:, :1], iou], 1), logits)


@dataclass
class SceneDecoded:
    iou: torch.Tensor
    planes: torch.Tensor

    def logits(self, rows, columns):
        return self.planes[rows, columns - 1]


def scene_pair(scene):
    """Both sides on one scene."""
    theirs = reference_sam(VIT).eval()
    seen = {}

    def encode_prompts(points, boxes, masks):
        seen["points"] = points[0][:, 0]
        return None, None

    def decode(**_):
        return tuple(torch.from_numpy(a) for a in scene.outputs(seen["points"]))

    theirs.image_encoder.forward = lambda x: torch.zeros(1, 8, SIDE // 16, SIDE // 16)
    theirs.prompt_encoder.forward = encode_prompts
    theirs.mask_decoder.forward = decode
    return SamPredictor(SceneModel(scene), "scene", "scene", torch.device("cpu")), theirs


def compare(ours, theirs, image, least, **settings):
    """Run both and compare what they return."""
    generator = segment_anything().SamAutomaticMaskGenerator(theirs, **settings)
    expected = generator.generate(image)
    asked = AutomaticSettings(**settings)
    found = finish(generate(ours, image, asked)).records()
    assert len(expected) >= least, "the scene must have something to find"
    assert len(found) == len(expected)
    differing = 0
    for ours_, theirs_ in zip(found, expected, strict=True):
        for name in ("bbox", "crop_box", "area"):
            assert ours_[name] == pytest.approx(theirs_[name]), name
        np.testing.assert_allclose(ours_["point_coords"], theirs_["point_coords"])
        assert ours_["predicted_iou"] == pytest.approx(theirs_["predicted_iou"], rel=1e-5)
        assert ours_["stability_score"] == pytest.approx(theirs_["stability_score"], abs=1e-6)
        differing += np.count_nonzero(ours_["segmentation"] != theirs_["segmentation"])
    assert differing == 0
    return expected


SHAPES = [(128, 128), (90, 150), (260, 203)]


def test_default_settings():
    compare(*scene_pair(Scene(0)), blocks(SHAPES[0]), least=5)


@pytest.mark.parametrize(("seed", "shape"), [(1, SHAPES[1]), (2, SHAPES[2])])
def test_default_thresholds(seed, shape):
    compare(*scene_pair(Scene(seed)), blocks(shape), least=3, points_per_side=16)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_crops(shape):
    found = compare(
        *scene_pair(Scene(2)),
        blocks(shape),
        least=10,
        points_per_side=12,
        crop_n_layers=2,
        crop_n_points_downscale_factor=2,
    )
    assert len({tuple(r["crop_box"]) for r in found}) > 3


@pytest.mark.parametrize(("layers", "shape"), [(0, SHAPES[0]), (0, SHAPES[1]), (1, SHAPES[2])])
def test_clean_up(layers, shape):
    scene = Scene(4)
    scene.texture *= 3  # holes and islands
    settings = {"points_per_side": 16, "stability_score_thresh": 0.6, "crop_n_layers": layers}
    plain = compare(*scene_pair(scene), blocks(shape), least=5, **settings)
    clean = compare(*scene_pair(scene), blocks(shape), least=5, min_mask_region_area=60, **settings)
    assert [r["area"] for r in plain] != [r["area"] for r in clean]


@pytest.mark.parametrize(
    "settings",
    [
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.5},
        {"stability_score_offset": 0.3, "box_nms_thresh": 0.2},
        {"points_per_batch": 7, "pred_iou_thresh": 0.93, "stability_score_thresh": 0.9},
        {"points_per_side": 9, "crop_n_layers": 1, "crop_nms_thresh": 0.3, "crop_overlap_ratio": 0.6},
    ],
)
def test_other_settings(settings):
    compare(*scene_pair(Scene(5)), blocks((110, 160)), least=3, **{"points_per_side": 16, **settings})


def test_a_real_network_with_random_weights():
    """Encoder, prompt encoder, decoder and post-processing together; noise masks, so nothing is dropped."""
    ours = SamPredictor(small_sam(), "small", "small", torch.device("cpu"))
    theirs = reference_sam(VIT)
    theirs.load_state_dict(ours.model.state_dict())
    image = blocks((90, 150))
    settings = {
        "points_per_side": 5,
        "pred_iou_thresh": -10.0,
        "stability_score_thresh": 0.01,
        "stability_score_offset": 0.1,
        "box_nms_thresh": 1.0,
    }
    generator = segment_anything().SamAutomaticMaskGenerator(theirs.eval(), **settings)
    expected = {(tuple(r["point_coords"][0]), r["predicted_iou"]): r for r in generator.generate(image)}
    found = finish(generate(ours, image, AutomaticSettings(**settings))).records()
    assert len(found) == len(expected) > 40
    for record in found:
        point = record["point_coords"][0]
        _, twin = min(
            (
                (abs(iou - record["predicted_iou"]), r)
                for (p, iou), r in expected.items()
                if p == tuple(point)
            ),
            key=lambda pair: pair[0],
        )
        assert twin["predicted_iou"] == pytest.approx(record["predicted_iou"], abs=1e-4)
        assert np.mean(twin["segmentation"] != record["segmentation"]) < 1e-3
        assert twin["stability_score"] == pytest.approx(record["stability_score"], abs=2e-3)


def test_memory_depends_on_the_objects_and_not_on_the_plane():
    """The reference holds 64 x 3 masks of the whole plane at once: here that would be 6 GB."""
    side = 2900
    ours, _ = scene_pair(Scene(1))
    image = np.zeros((side, side, 3), np.uint8)
    settings = AutomaticSettings(points_per_side=10, points_per_batch=50)
    embedding = ours.embed(image)
    tracemalloc.start()
    try:
        result = finish(generate(ours, image, settings, embedding=embedding))
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    plane = side * side
    assert len(result.filtered) > 5
    assert max(p.area for p in result.found.proposals) > plane / 50
    assert kept < plane / 2
    assert peak < 6 * plane
