"""Checkpoints: what is loaded, what is refused, and in which words."""

from __future__ import annotations

import errno
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.model.small import TINY, VIT, image, small_sam

from napari_sam.model import Sam
from napari_sam.weights.checkpoint import CheckpointError, load_checkpoint, model_hash


@pytest.fixture(scope="module")
def model() -> Sam:
    return small_sam()


def saved(contents: Any, path: Path) -> Path:
    torch.save(contents, path)
    return path


@pytest.mark.parametrize("encoder", [VIT, TINY], ids=["vit", "tiny_vit"])
def test_state_dict_of_a_published_file(encoder: Any, tmp_path: Path) -> None:
    expected = small_sam(encoder, seed=4)
    found = load_checkpoint(saved(expected.state_dict(), tmp_path / "model.pth"))
    pixels = image(encoder.image_size)
    torch.testing.assert_close(found.encode(pixels), expected.encode(pixels), rtol=0, atol=0)
    assert not found.training
    assert not any(value.requires_grad for value in found.parameters())
    assert not any(value.is_meta for value in found.state_dict().values())


def test_safetensors(model: Sam, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    found = load_checkpoint(path).state_dict()
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


def test_half_precision_is_read_as_single(model: Sam, tmp_path: Path) -> None:
    half = {key: value.half() for key, value in model.state_dict().items()}
    found = load_checkpoint(saved(half, tmp_path / "half.pt")).state_dict()
    assert all(value.dtype == torch.float32 for value in found.values())


@pytest.mark.parametrize("prefix", ["sam.", "module.", "module.sam."])
def test_training_checkpoint(model: Sam, prefix: str, tmp_path: Path) -> None:
    contents = {
        "model_state": {prefix + key: value for key, value in model.state_dict().items()},
        "decoder_state": {"out_conv.weight": torch.zeros(1)},
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 1e-5}]},
        "epoch": 3,
        "best_metric": np.float64(0.25),
    }
    found = load_checkpoint(saved(contents, tmp_path / "best.pt")).state_dict()
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_is_never_run(model: Sam, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    contents = {"model_state": model.state_dict(), "init": Malicious(trap)}
    path = saved(contents, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"Expected tensors .* also holds Python objects"):
        load_checkpoint(path)
    assert not trap.exists()
    path.write_bytes(pickle.dumps(Malicious(trap), protocol=2))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 0.01, 0.5, 0.999])
def test_truncated_file(model: Sam, suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        saved(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(CheckpointError, match=r"Expected .* model\..*(damaged|another kind)"):
        load_checkpoint(path)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_bit_that_flipped_on_the_disk(model: Sam, place: float, tmp_path: Path) -> None:
    path = saved(model.state_dict(), tmp_path / "model.pth")
    contents = bytearray(path.read_bytes())
    contents[int(len(contents) * place)] ^= 1
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"model\.pth is damaged: its part model/data/\d+ .*checksum"):
        load_checkpoint(path)


def test_files_without_checksums_are_loaded(model: Sam, tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(model.state_dict(), tmp_path / "model.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert zipfile.ZipFile(path).testzip() is not None
    load_checkpoint(path)


def test_files_of_the_past_and_names_of_all_languages(model: Sam, tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    load_checkpoint(path)
    load_checkpoint(saved(model.state_dict(), tmp_path / "größe 細胞.pth"))


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("half", [False, True])
def test_numbers_that_are_not_finite(model: Sam, wrong: float, half: bool, tmp_path: Path) -> None:
    state = {key: value.half() if half else value.clone() for key, value in model.state_dict().items()}
    for key in ("image_encoder.neck.0.weight", "mask_decoder.iou_token.weight"):
        state[key].view(-1)[3] = wrong
    with pytest.raises(CheckpointError, match=r"finite numbers .* NaN in image_encoder\.neck\.0\.weight"):
        load_checkpoint(saved(state, tmp_path / "diverged.pth"))


def test_large_numbers_are_finite_though_their_sum_is_not(model: Sam, tmp_path: Path) -> None:
    state = dict(model.state_dict())
    key = "image_encoder.neck.0.weight"
    state[key] = torch.full_like(state[key], 3e38)
    found = load_checkpoint(saved(state, tmp_path / "large.pth"))
    assert torch.equal(found.state_dict()[key], state[key])


@pytest.mark.parametrize(
    ("encoder", "key", "value", "words"),
    [
        (VIT, "image_encoder.pos_embed", torch.ones(3), r"4 axes named .*pos_embed.*\(3,\)"),
        (VIT, "mask_decoder.iou_token.weight", torch.ones(5), r"2 axes named .*iou_token.*\(5,\)"),
        (VIT, "image_encoder.blocks.0.attn.rel_pos_h", torch.ones(5), "2 axes named .*rel_pos_h"),
        (VIT, "image_encoder.blocks.0.attn.rel_pos_h", torch.ones(5, 0), "found none in .*rel_pos_h"),
        (VIT, "image_encoder.blocks.0.attn.rel_pos_h", torch.ones(5, 99), "shapes that do not fit"),
        (VIT, "image_encoder.patch_embed.proj.weight", torch.ones(5), "4 axes named .*patch_embed"),
        (VIT, "image_encoder.neck.0.weight", torch.tensor(1.0), "shapes that do not fit"),
        (
            VIT,
            "mask_decoder.mask_tokens.weight",
            torch.ones(4, 128, device="meta"),
            "found none in .*mask_tok",
        ),
        (VIT, "mask_decoder.mask_tokens.weight", torch.ones(4, 128).to_sparse(), "found none in .*mask_tok"),
        (TINY, "image_encoder.layers.0.blocks.0.conv1.c.weight", torch.ones(5, 0, 1, 1), "found none in"),
        (TINY, "image_encoder.layers.1.blocks.0.attn.attention_biases", torch.ones(5), "2 axes named"),
        (TINY, "image_encoder.layers.1.blocks.0.attn.norm.weight", torch.ones(1), "a tensor of shape|fit"),
    ],
)
def test_tensors_of_impossible_shapes(
    encoder: Any, key: str, value: torch.Tensor, words: str, tmp_path: Path
) -> None:
    state = {**small_sam(encoder).state_dict(), key: value}
    with pytest.raises(CheckpointError, match=f"wrong.pth cannot be used. Expected .*{words}"):
        load_checkpoint(saved(state, tmp_path / "wrong.pth"))


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.bool])
def test_numbers_of_another_kind(model: Sam, dtype: torch.dtype, tmp_path: Path) -> None:
    kind = str(dtype).removeprefix("torch.")
    state = {key: value.to(dtype) for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"Expected floating-point numbers in .* but found {kind}"):
        load_checkpoint(saved(state, tmp_path / "kind.pth"))


def test_what_a_file_is_it_says_itself(model: Sam, tmp_path: Path) -> None:
    save_file(model.state_dict(), tmp_path / "model.pth")
    saved(model.state_dict(), tmp_path / "model.safetensors")
    for name in ("model.pth", "model.safetensors"):
        found = load_checkpoint(tmp_path / name).state_dict()
        assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


def test_archives_of_other_things(tmp_path: Path) -> None:
    script = tmp_path / "script.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # that torch will give up this kind of file
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    with pytest.raises(CheckpointError, match=r"script\.pt is another kind of file: a program.*state dict"):
        load_checkpoint(script)
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"arrays\.npz is another kind of file: an archive"):
        load_checkpoint(tmp_path / "arrays.npz")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_disk_that_does_not_give_the_file_is_not_called_damage(
    model: Sam, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(model.state_dict(), tmp_path / f"model{suffix}")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        load_checkpoint(path)


def test_other_kinds_of_file(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("These are not the weights you are looking for.")
    with pytest.raises(CheckpointError, match=r"Expected a checkpoint .*notes.txt is another kind"):
        load_checkpoint(text)
    with pytest.raises(CheckpointError, match=r"found none at .*missing\.pth"):
        load_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(CheckpointError, match="found none at"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("contents", "found"),
    [
        ({"epoch": 3}, "a dictionary with epoch"),
        ({}, "a dictionary with nothing in it"),
        ([torch.zeros(2)], "a list"),
        (torch.zeros(2), "a Tensor"),
    ],
)
def test_no_named_tensors(contents: Any, found: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"Expected named tensors.*{found}"):
        load_checkpoint(saved(contents, tmp_path / "x.pt"))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("image_encoder.blocks.0.attn.qkv.qkv_proj.weight", "LoRA"),
        ("image_encoder.blocks.0.attn.qkv.w_a_linear_q.weight", "LoRA"),
        ("mask_decoder.hf_token.weight", "HQ-SAM"),
        ("image_encoder.blocks.0.MLP_Adapter.D_fc1.weight", "adapters between"),
        ("image_encoder.blocks.0.Adapter.channel.0.weight", "adapters between"),
        ("image_encoder.trunk.pos_embed", "SAM 2"),
        ("vision_encoder.layers.0.attn.qkv.weight", "transformers"),
        ("decoder.samplers.0.block.weight", "segmentation decoder"),
    ],
)
def test_related_files_are_named(model: Sam, key: str, kind: str, tmp_path: Path) -> None:
    contents = {**model.state_dict(), key: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=f"Expected the weights of a whole SAM.*{kind}"):
        load_checkpoint(saved(contents, tmp_path / "x.pt"))


def test_the_state_of_a_training_is_told_where_its_weights_are(tmp_path: Path) -> None:
    contents = {"model": {"decoder.prompts.kinds.weight": torch.zeros(1)}}
    with pytest.raises(CheckpointError, match=r"in weights\.safetensors beside it\. Choose that file\.$"):
        load_checkpoint(saved(contents, tmp_path / "checkpoint.pt"))


def test_foreign_network(tmp_path: Path) -> None:
    path = saved(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(CheckpointError, match=r"linear.pt cannot be used. Expected the weights"):
        load_checkpoint(path)


def test_missing_unknown_and_misshapen_tensors(model: Sam, tmp_path: Path) -> None:
    state = model.state_dict()
    key = "image_encoder.blocks.1.attn.proj.bias"
    without = {name: value for name, value in state.items() if name != key}
    with pytest.raises(CheckpointError, match=f"named {key}, but found no tensor"):
        load_checkpoint(saved(without, tmp_path / "without.pt"))
    with pytest.raises(CheckpointError, match=r"Expected a tensor of shape \(48,\).*\(47,\)"):
        load_checkpoint(saved({**state, key: torch.zeros(47)}, tmp_path / "shape.pt"))
    more = {**state, "mask_decoder.extra": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"Expected no tensor named mask_decoder\.extra"):
        load_checkpoint(saved(more, tmp_path / "more.pt"))


def test_model_hash(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert model_hash(path) == "xxh128:06b05ab6733a618578af5f94892f3950"
    path.write_bytes(b"abd")
    assert model_hash(path) != "xxh128:06b05ab6733a618578af5f94892f3950"
