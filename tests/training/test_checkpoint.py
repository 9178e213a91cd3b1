"""Checkpoints: whatever else a file may hold is refused in plain words, and what was there stays."""

import dataclasses
import zipfile

import pytest
import torch

from napari_sam.model.builtin import BuiltIn, load_builtin, save_builtin
from napari_sam.training.config import BUILT_IN, CHECKPOINT, METRICS, WEIGHTS
from napari_sam.training.loop import train


@pytest.fixture
def begun(config):
    """A run of two steps that has done one."""
    list(train(dataclasses.replace(config, steps=1)))
    return dataclasses.replace(config, steps=2)


def state_of(config):
    return torch.load(config.output / CHECKPOINT, weights_only=True)


def refused(config, reason):
    kept = {name: (config.output / name).read_bytes() for name in (WEIGHTS, CHECKPOINT, METRICS)}
    with pytest.raises(
        ValueError, match=rf"cannot go on from .*checkpoint\.pt: {reason}.*\. Choose"
    ) as error:
        next(train(config))
    assert {name: (config.output / name).read_bytes() for name in kept} == kept
    for word in ("weights_only", "miniz", "Error"):
        assert word not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(100_000), None])
def test_a_file_that_is_no_checkpoint_is_refused(begun, content):
    path = begun.output / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-5000] if content is None else content)
    refused(begun, "it is damaged, or was written by another program")


def test_a_tensor_that_was_overwritten_is_noticed(begun):
    path = begun.output / CHECKPOINT
    tensor = max(state_of(begun)["average"].values(), key=torch.Tensor.numel)
    data, held = bytearray(path.read_bytes()), tensor.numpy().tobytes()
    where = data.index(held)
    half = len(held) // 8
    data[where : where + 4 * half] = torch.full((half,), 3.0).numpy().tobytes()
    path.write_bytes(data)
    assert zipfile.is_zipfile(path)
    refused(begun, "it is damaged, or was written by another program")


@pytest.mark.parametrize(
    "content", [[1, 2], torch.zeros(3), "x", {}, {"model": [1]}, dict.fromkeys(("model", "average"), 1)]
)
def test_the_contents_of_another_program_are_refused(begun, content):
    if isinstance(content, dict):
        content = {"step": 1, "seconds": 1.0, **content}
    torch.save(content, begun.output / CHECKPOINT)
    refused(begun, "it is not the state of a training")


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("step", lambda _: "abc", "it is not the state of a training"),
        ("step", lambda _: -1, "it is not the state of a training"),
        ("seconds", lambda _: float("nan"), "it is not the state of a training"),
        ("average", lambda state: dict(list(state.items())[:5]), "it is of another network"),
        ("average", lambda state: {k: torch.ones(1) for k in state}, "it is of another network"),
        ("average", lambda state: {k: v.double() for k, v in state.items()}, "it is of another network"),
        ("average", lambda state: {k: v * torch.nan for k, v in state.items()}, "its numbers are not finite"),
        ("model", lambda state: {k: v * torch.nan for k, v in state.items()}, "its numbers are not finite"),
        ("optimizers", lambda states: states[:1], "its optimisers are others"),
        ("optimizers", lambda _: [1, 2], "its optimisers are others"),
        ("optimizers", lambda _: None, "its optimisers are others"),
        (
            "optimizers",
            lambda states: [
                s | {"state": {n: {k: torch.ones(3, 3, 3) for k in h} for n, h in s["state"].items()}}
                for s in states
            ],
            "its optimisers are others",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused(begun, name, change, reason):
    state = state_of(begun)
    torch.save(state | {name: change(state[name])}, begun.output / CHECKPOINT)
    refused(begun, reason)


@pytest.fixture
def packaged(monkeypatch, config, tmp_path):
    """Return a function that puts built-in weights of a seed and depths into the package."""
    real = load_builtin

    def put(seed, depths=config.depths):
        torch.manual_seed(seed)
        model = BuiltIn(config.channels, depths, config.width)
        save_builtin(model.state_dict(), model.config, tmp_path / "builtin.safetensors")

    monkeypatch.setattr(
        "napari_sam.training.loop.load_builtin",
        lambda path=None: real(tmp_path / "builtin.safetensors" if path is None else path),
    )
    put(0)
    return put


@pytest.mark.parametrize("depths", [(0, 1, 0, 0), (1, 1, 0, 0)])
def test_a_run_goes_on_where_the_built_in_weights_have_changed(config, packaged, depths):
    tuned = dataclasses.replace(config, start_from=BUILT_IN, steps=1)
    list(train(tuned))
    began = state_of(tuned)["start"]
    packaged(1, depths)
    assert list(train(tuned)) == []
    for steps in (2, 3):
        assert [p.step for p in train(dataclasses.replace(tuned, steps=steps))] == [steps]
    assert state_of(tuned)["start"] == began
    assert load_builtin(tuned.output / WEIGHTS).config["depths"] == list(config.depths)


def test_what_is_to_be_mixed_with_built_in_weights_that_have_changed_is_refused(config, packaged):
    tuned = dataclasses.replace(config, start_from=BUILT_IN, steps=1, keep=0.5)
    list(train(tuned))
    before = (tuned.output / WEIGHTS).read_bytes()
    packaged(1)
    assert list(train(tuned)) == []
    with pytest.raises(ValueError, match=r"have changed with the version of this package, .* keep = 0 or"):
        next(train(dataclasses.replace(tuned, steps=2)))
    assert (tuned.output / WEIGHTS).read_bytes() == before


@pytest.mark.parametrize("change", [{"start_from": ""}, {"deepen": (1, 0, 0, 0)}])
def test_what_a_run_began_from_is_not_changed_by_its_configuration(config, packaged, change):
    tuned = dataclasses.replace(config, start_from=BUILT_IN, steps=1)
    list(train(tuned))
    with pytest.raises(ValueError, match="it began from other weights than start_from names now"):
        next(train(dataclasses.replace(tuned, steps=2, **change)))


def test_a_run_from_other_weights_does_not_go_on_from_the_built_in_ones(config, packaged, tmp_path):
    list(train(dataclasses.replace(config, output=tmp_path / "first", seed=7, steps=1)))
    tuned = dataclasses.replace(config, start_from=str(tmp_path / "first" / WEIGHTS), steps=1)
    list(train(tuned))
    for older in (False, True):  # it did not say whether it began from the built-in ones
        if older:
            state = {k: v for k, v in state_of(tuned).items() if k not in ("built_in", "deepened")}
            torch.save(state, tuned.output / CHECKPOINT)
        with pytest.raises(ValueError, match="it began from other weights than start_from names now"):
            next(train(dataclasses.replace(tuned, steps=2, start_from=BUILT_IN)))
