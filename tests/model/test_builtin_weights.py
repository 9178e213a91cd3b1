"""The weights in the package: small enough, loadable, and good at what they are for."""

from importlib.resources import files

import numpy as np
import pytest
import torch

from napari_sam.evaluation.prompted import objects_of, prompt_objects
from napari_sam.evaluation.report import evaluate, read_planes, summary
from napari_sam.model.builtin import load_builtin
from napari_sam.predictor.builtin import BuiltInPredictor
from napari_sam.training.drawn import draw_plane


@pytest.fixture(scope="module")
def predictor():
    return BuiltInPredictor(load_builtin(), "built-in", "built-in", torch.device("cpu"))


def test_the_file_is_small():
    weights = files("napari_sam") / "weights" / "builtin.safetensors"
    assert len(weights.read_bytes()) <= 20_000_000


@pytest.mark.parametrize(("kind", "least"), [("nuclei", 0.75), ("rods", 0.6), ("yeast", 0.65)])
def test_drawn_cells_are_found(predictor, kind, least):
    """Floors somewhat below what the weights reach: they tell a broken model, not a better one."""
    plane = draw_plane(np.random.default_rng([2**32 - 1, 99]), 256, kind)
    truth = objects_of(plane.labels[0])[:12]
    embedding = predictor.embed(np.repeat(plane.image, 3, 2), diameter=plane.diameter)
    iou = prompt_objects(predictor, embedding, truth).iou
    assert iou["point1_oracle"].mean() > least
    assert iou["box"].mean() > least


def test_the_diameter_is_estimated(predictor):
    plane = draw_plane(np.random.default_rng([2**32 - 1, 99]), 256, "nuclei")
    estimate = predictor.estimate_diameter(np.repeat(plane.image, 3, 2))
    assert 0.6 < estimate / plane.diameter < 1.7


@pytest.mark.slow
def test_nuclei_of_the_validation_split(predictor, labelled_data):
    """A floor well below the numbers of the model card, which are of the whole split."""
    planes = list(read_planes(labelled_data / "dsb2018" / "val", 2))
    numbers = summary(list(evaluate(predictor, planes)))
    assert numbers["miou"]["point1_oracle"] > 0.65
    assert numbers["miou"]["box"] > 0.7
    assert numbers["automatic"]["ap50"] > 0.5
