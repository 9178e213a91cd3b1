"""A predictor by name or file, with files that the tests write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.model.small import small_sam

from napari_sam.model.builtin import BuiltIn, save_builtin
from napari_sam.predictor import load_model
from napari_sam.predictor.builtin import BuiltInPredictor
from napari_sam.predictor.load import choose_device
from napari_sam.predictor.official import SamPredictor
from napari_sam.prompts import Point, Prompts


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "mine.pth"
    torch.save(small_sam().state_dict(), path)
    return path


def test_a_checkpoint_file_becomes_a_predictor(checkpoint):
    predictor = load_model(checkpoint, device="cpu")
    assert isinstance(predictor, SamPredictor)
    assert predictor.name == "mine"
    embedding = predictor.embed(np.zeros((40, 30, 3), np.uint8))
    assert len(predictor.predict(embedding, Prompts((Point(3, 4),)))) == 3


def test_safetensors_are_told_apart_by_what_they_say(tmp_path):
    model = BuiltIn((8, 8, 8, 8, 8), (1, 1, 1, 1), 16)
    save_builtin(model.state_dict(), model.config, tmp_path / "tuned.safetensors")
    save_file(small_sam().state_dict(), tmp_path / "sam.safetensors")
    assert isinstance(load_model(tmp_path / "tuned.safetensors", device="cpu"), BuiltInPredictor)
    assert isinstance(load_model(tmp_path / "sam.safetensors", device="cpu"), SamPredictor)


@pytest.mark.parametrize("config", ['{"a": 1}', "vit", "[1, 2]"])
def test_a_sam_may_have_notes_of_any_name(config, tmp_path):
    save_file(small_sam().state_dict(), tmp_path / "sam.safetensors", {"config": config})
    assert isinstance(load_model(tmp_path / "sam.safetensors", device="cpu"), SamPredictor)


def test_a_built_in_model_may_have_any_ending(tmp_path):
    model = BuiltIn((8, 8, 8, 8, 8), (1, 1, 1, 1), 16)
    save_builtin(model.state_dict(), model.config, tmp_path / "tuned.pth")
    assert isinstance(load_model(tmp_path / "tuned.pth", device="cpu"), BuiltInPredictor)


def test_the_same_weights_have_the_same_identity(checkpoint, tmp_path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(checkpoint.read_bytes())
    other = tmp_path / "other.pth"
    torch.save(small_sam(seed=1).state_dict(), other)
    first, second, third = (load_model(p, device="cpu").model_id for p in (checkpoint, copy, other))
    assert first == second != third


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"built-in, .*vit_b.* found 'vit_q'"):
        load_model("vit_q")


@pytest.mark.parametrize("device", ["cuda:99", "abacus", "xla"])
def test_a_device_that_is_not_there_is_refused_in_a_sentence(device):
    with pytest.raises(ValueError, match="cannot be used on this machine") as refused:
        choose_device(device)
    assert len(str(refused.value)) < 400
