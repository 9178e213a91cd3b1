"""The code for GPUs on a pretended one: nothing is mixed, and the answers are the processor's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data
from tests.fakes import disc_image
from tests.model.small import TINY, VIT, small_sam
from tests.pretend_device import PretendTensor, pretended_gpu
from torch.nn import functional as F

from napari_sam import load_model
from napari_sam.everything import generate, settings_for
from napari_sam.image import plane_to_rgb
from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.model import optimise
from napari_sam.model.builtin import load_builtin
from napari_sam.predictor.official import SamPredictor
from napari_sam.progress import finish
from napari_sam.prompts import Point, Prompts
from napari_sam.store import EmbeddingStore
from napari_sam.training.examples import Recipe, make_batch
from napari_sam.training.step import train_step

CPU = torch.device("cpu")
DISCS = [(60, 60, 22), (60, 150, 18), (140, 90, 25), (150, 200, 5)]


@pytest.fixture
def gpu():
    with pretended_gpu() as mode:
        yield mode
        assert mode.operations, "nothing was computed on the device"


def test_the_pretended_device_refuses_what_a_gpu_refuses(gpu):
    there = torch.arange(6.0).view(2, 3).to(gpu.device)
    assert torch.equal((2 * there[:, 1:]).cpu(), torch.tensor([[2.0, 4.0], [8.0, 10.0]]))
    with pytest.raises(RuntimeError, match="two devices"):
        there + torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="two devices"):
        there.index_select(0, torch.tensor([0]))
    with pytest.raises(TypeError, match="to numpy"):
        np.asarray(there)
    with pytest.raises(TypeError, match="double precision"):
        there.double()
    with pytest.raises(NotImplementedError, match="uint8"):
        F.interpolate(there[None, None].byte(), size=(4, 6), mode="bilinear", antialias=True)


def everything_asked(predictor, rgb, embedding):
    """Masks of every kind of prompt."""
    click = Prompts((Point(52, 40),))
    asked = [
        click,
        Prompts(box=Box(20, 20, 80, 80)),
        Prompts((Point(52, 40), Point(10, 10, positive=False)), Box(20, 20, 80, 80)),
        Prompts(mask=Mask.from_plane(np.ones((40, 40), bool), 30, 20)),
        Prompts(box=Box(0, 0, *rgb.shape[:2])),  # more than a window of the built-in model
        Prompts(box=Box(100, 100, 112, 112)),  # less than it sees well
    ]
    offers = predictor.predict_each(embedding, asked)
    further = Prompts((Point(52, 40), Point(60, 44)))
    offers.append(predictor.predict(embedding, further, previous=offers[0].best))
    return [offer.best.mask for offer in offers]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.area == other.area == 0 or mask_iou(one, other) > 0.99


def test_the_built_in_model_answers_as_on_the_processor(gpu, tmp_path):
    rgb = plane_to_rgb(data.coins())
    predictor, near = (load_model("built-in", device=d, precision="fp32") for d in (str(gpu.device), "cpu"))
    embedding, other = (p.embed(rgb, diameter=40.0) for p in (predictor, near))
    assert isinstance(embedding.features["dense"], PretendTensor)
    assert_same(everything_asked(predictor, rgb, embedding), everything_asked(near, rgb, other))
    assert predictor.estimate_diameter(rgb) == pytest.approx(near.estimate_diameter(rgb), rel=1e-3)
    store = EmbeddingStore(tmp_path / "store")
    store.put(embedding)
    kept = store.get(embedding.key)
    assert kept is not None
    assert not isinstance(kept.features["dense"], PretendTensor)
    assert_same(everything_asked(predictor, rgb, kept), everything_asked(near, rgb, other))


def test_automatic_masks_of_the_built_in_model_are_those_of_the_processor(gpu):
    rgb = plane_to_rgb(disc_image((200, 260), DISCS))
    found = []
    for device in (str(gpu.device), "cpu"):
        predictor = load_model("built-in", device=device, precision="fp32")
        result = finish(generate(predictor, rgb, settings_for(predictor)))
        found.append(sorted(result.filtered.masks, key=lambda m: (m.y0, m.x0)))
    assert len(found[0]) >= 3
    assert_same(*found)


@pytest.mark.parametrize("encoder", [VIT, TINY], ids=["vit", "tiny vit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_official_models_answer_as_on_the_processor(gpu, encoder, precision):
    rgb = plane_to_rgb(data.coins())
    there, here = (
        SamPredictor(optimise(small_sam(encoder), device, precision), "small", "small", torch.device(device))
        for device in (gpu.device, CPU)
    )
    embedding, other = there.embed(rgb), here.embed(rgb)
    one, two = (e.features["image"].cpu().float() for e in (embedding, other))
    assert (one - two).norm() < (1e-4 if precision == "fp32" else 0.05) * two.norm()
    masks, expected = everything_asked(there, rgb, embedding), everything_asked(here, rgb, other)
    if precision == "fp32":
        assert_same(masks, expected)
    settings = settings_for(there)
    settings = replace(settings, points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    counts = [len(finish(generate(p, rgb, settings))) for p in (there, here)]
    assert counts[0] > 0
    if precision == "fp32":
        assert counts[0] == counts[1]


def test_the_loss_of_a_training_step_is_that_of_the_processor(gpu):
    recipe = Recipe(sides=(128,), pixels=2 * 128**2, prompts=6, drawn=1.0)
    batch = make_batch(recipe, [], [], 0, 0)
    results = []
    for device in (gpu.device, CPU):
        model = load_builtin().to(device).train()
        generator = torch.Generator().manual_seed(0)
        results.append(train_step(model, batch.to(device), 3, frozenset(), generator, torch.float32))
    there, here = results
    assert there.loss.item() == pytest.approx(here.loss.item(), rel=1e-4)
    assert there.measures == pytest.approx(here.measures, rel=1e-3)
