"""Load a checkpoint safely: tensors only, never code, and say plainly what is wrong with a file.

Files may be the official ones, micro-sam's, checkpoints of a training (a dictionary with
``model_state``), or safetensors. Nothing is ever unpickled that is not a tensor or a plain value.
"""

from __future__ import annotations

import errno
import pickle
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch
from safetensors.torch import load_file
from torch import Tensor

from napari_sam.model import Sam, Variant, build, detect_variant
from napari_sam.model.unfilled import unfilled

WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model")
"""Where training checkpoints keep the weights."""
PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")

TRAINING = "decoder.prompts.kinds."
"""Part of the names in what a training keeps to go on from."""
FOREIGN = {
    "_proj.w_a_linear": "low-rank adapters (LoRA)",
    "lora_": "low-rank adapters (LoRA)",
    "w_a_linear_": "low-rank adapters (LoRA)",
    "qkv.qkv_proj": "low-rank adapters (LoRA)",
    "mask_decoder.hf_": "an HQ-SAM, which has outputs of its own",
    "Adapter.": "adapters between the layers of a SAM",
    "image_encoder.trunk.": "a SAM 2 model",
    "sam_mask_decoder.": "a SAM 2 model",
    "vision_encoder.layers.": "a SAM in the naming of the transformers library",
    "decoder.samplers.": "only the segmentation decoder of a micro-sam model",
    TRAINING: "the state of a training, whose weights are in weights.safetensors beside it",
}
"""Parts of names that tell what else a file may be."""
AXES = {
    "image_encoder.patch_embed.proj.weight": 4,
    "image_encoder.pos_embed": 4,
    ".attn.rel_pos_h": 2,
    "image_encoder.layers.0.blocks.0.conv1.c.weight": 4,
    ".attn.attention_biases": 2,
    "mask_decoder.iou_token.weight": 2,
}
"""Ends of names and how many axes such a tensor has, of those off which the architecture is read."""
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""First bytes of the files that torch writes, and wrote in the past."""
LONGEST_HEADER = 100_000_000
"""Bytes that the head of a safetensors file may have, as the format says."""
MISFIT = (
    "Expected the tensors of one model, but found shapes that do not fit together. "
    "Choose the file of a SAM model."
)


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be used; the message says what was found."""


def load_checkpoint(path: str | Path) -> Sam:
    """Load a SAM from a file; the architecture is read off its tensors.

    Parameters
    ----------
    path : str or Path
        ``.safetensors``, or a file written by ``torch.save``.

    Returns
    -------
    Sam
        In evaluation mode, float32, on the processor, without gradients.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, holds code or no finite numbers, or is not a SAM of a known kind.
    """
    path = Path(path)
    state = strip_prefixes(unwrap(read_file(path), path))
    refuse_foreign(state, path)
    weights = {
        key: value.float() if value.is_floating_point() else value
        for key, value in state.items()
        if key.startswith(PARTS)
    }
    try:
        refuse_no_numbers(weights)
        return assemble(_variant_of(weights), weights)
    except ValueError as error:
        raise CheckpointError(f"{path.name} cannot be used. {error}") from error


def assemble(variant: Variant, weights: Mapping[str, Tensor]) -> Sam:
    """Build a model around existing tensors, which it keeps.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown, of the wrong shape, or does not hold real numbers.
    """
    try:
        with unfilled():
            model = build(variant)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(MISFIT) from error
    empty = model.state_dict()
    expected = {key: tuple(value.shape) for key, value in empty.items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            raise ValueError(
                f"Expected {_shape_in_words(expected.get(key))} named {key}, but found "
                f"{_shape_in_words(found.get(key))}. Choose a complete {variant.name} checkpoint."
            )
        if empty[key].is_floating_point() and not weights[key].is_floating_point():
            kind = str(weights[key].dtype).removeprefix("torch.")
            raise ValueError(
                f"Expected floating-point numbers in {key}, but found {kind}. Choose the file of a SAM model."
            )
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def refuse_no_numbers(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights with which no model can work.

    Raises
    ------
    ValueError
        If a tensor has no numbers, or some that are infinite or none at all; the message names the first.
    """
    for key, value in weights.items():
        if value.is_meta or value.layout != torch.strided or not value.numel():
            raise ValueError(
                f"Expected numbers in every tensor, but found none in {key}. "
                "Choose a file that was written as a whole."
            )
        # A sum is not finite where one of its terms is not, and far quicker than looking at each of them.
        if value.is_floating_point() and not value.sum().isfinite() and not value.isfinite().all():
            raise ValueError(
                f"Expected finite numbers as weights, but found infinite ones or NaN in {key}. The file is "
                "damaged, or the training that wrote it had failed: choose an earlier one."
            )


def model_hash(path: str | Path) -> str:
    """The identity of a file's weights, as "xxh128:" and 32 hexadecimal digits."""
    return f"xxh128:{pooch.file_hash(str(path), alg='xxh128')}"


def read_file(path: Path) -> Any:
    """Read the contents of a checkpoint without running any code in it.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, is no checkpoint, or holds more than tensors and values.
    """
    if not path.is_file():
        raise CheckpointError(f"Expected a checkpoint file, but found none at {path}.")
    try:
        # What a file is, it says itself: files of either kind are found under the names of the other.
        if _is_safetensors(path):
            return load_file(path)
        if _starts_with(path, ZIP) and zipfile.is_zipfile(path):
            _check_archive(path)
        with ExitStack() as opened:
            # Older checkpoints carry numbers of numpy beside the weights; they are plain values.
            opened.enter_context(torch.serialization.safe_globals(_numpy_scalars()))
            # Of a file that is opened torch does not go by the name; by its name it is read more quickly.
            named = path.suffix != ".safetensors"
            source = path if named else opened.enter_context(path.open("rb"))
            return torch.load(source, map_location="cpu", weights_only=True)
    except (CheckpointError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_not_unpickled(path, error)) from error
    # All of it is decoding: bytes that are not those that were written may fail in any way.
    except Exception as error:
        raise CheckpointError(_why_not_read(path, error)) from error


def unwrap(contents: Any, path: Path) -> dict[str, Tensor]:
    """Take the weights out of a training checkpoint, or return a plain state dict as it is.

    Raises
    ------
    CheckpointError
        If there are no named tensors.
    """
    for name in WRAPPERS:
        if isinstance(contents, Mapping) and isinstance(contents.get(name), Mapping):
            contents = contents[name]
    if isinstance(contents, Mapping):
        tensors = {str(key): value for key, value in contents.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise CheckpointError(
        f"Expected named tensors, as a state dict or under 'model_state', but {path.name} holds "
        f"{_contents_in_words(contents)}. Choose the file of a SAM model."
    )


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what training code ("module.", "sam.", ...) puts before every name."""
    first = next((key for key in state if PARTS[0] in key), "")
    prefix = first.partition(PARTS[0])[0]
    return {key.removeprefix(prefix): value for key, value in state.items()}


def refuse_foreign(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for the files that are most easily mistaken for a SAM."""
    for mark, kind in FOREIGN.items():
        if any(mark in key for key in state):
            advice = "Choose another file, or export the model as a plain SAM where it was made."
            if mark == TRAINING:
                advice = "Choose that file."
            raise CheckpointError(
                f"Expected the weights of a whole SAM or MobileSAM, but {path.name} holds {kind}. {advice}"
            )


def _variant_of(weights: Mapping[str, Tensor]) -> Variant:
    """Read the architecture off weights of any shapes.

    Raises
    ------
    ValueError
        If they are not those of a SAM.
    """
    for key, value in weights.items():
        axes = next((count for end, count in AXES.items() if key.endswith(end)), value.dim())
        if value.dim() != axes:
            raise ValueError(
                f"Expected a tensor of {axes} axes named {key}, but found "
                f"{_shape_in_words(tuple(value.shape))}. Choose the file of a SAM model."
            )
    try:
        return detect_variant(weights)
    except (ArithmeticError, IndexError) as error:
        raise ValueError(MISFIT) from error


def _check_archive(path: Path) -> None:
    """Tell torch's archives from others, and an undamaged one from one that is not; torch itself does not.

    Raises
    ------
    CheckpointError
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError(
                f"Expected the weights of a model, but {path.name} is another kind of file: a program with "
                "weights in it (TorchScript). Export the model's weights (its state dict) where it was "
                "made, and choose that file."
            )
        if not any(name.endswith("/data.pkl") for name in names):
            raise CheckpointError(_another_kind(path, "another kind of file: an archive (zip)"))
        # Who tells torch to leave out the checksums gets zeros, which say nothing.
        damaged = archive.testzip() if any(part.CRC for part in archive.infolist()) else None
    if damaged is not None:
        raise CheckpointError(
            f"Expected a complete checkpoint, but {path.name} is damaged: its part {damaged} does not have "
            "the checksum that was written with it. Download or copy it again."
        )


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors do: with the length of the head, and the brace that opens it."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER


def _starts_with(path: Path, mark: bytes) -> bool:
    """Whether a file starts with some bytes."""
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _why_not_read(path: Path, error: Exception) -> str:
    """Tell a file that the disk does not give from one that is damaged."""
    # Where a file is cut short, a place before its beginning may be asked for: that is no fault of the disk.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return (
            f"Expected a checkpoint, but {path.name} cannot be read ({error.strerror}). "
            "Check the disk, or download or copy the file again."
        )
    return (
        f"Expected a complete checkpoint, but {path.name} ({path.stat().st_size:,} bytes) is "
        "damaged or cut short. Download or copy it again."
    )


def _why_not_unpickled(path: Path, error: Exception) -> str:
    """Tell a checkpoint that holds objects from a file that is no checkpoint."""
    if "GLOBAL" in str(error) and (_starts_with(path, ZIP) or _starts_with(path, PICKLE)):
        return (
            f"Expected tensors and plain values only, but {path.name} also holds Python objects, "
            "which could run code when they are loaded. Export the model's weights (its state "
            "dict) where it was made, and choose that file."
        )
    return _another_kind(path, "another kind of file")


def _another_kind(path: Path, kind: str) -> str:
    """Say that a file is no checkpoint at all."""
    return (
        f"Expected a checkpoint written by torch or as safetensors, but {path.name} is {kind}. "
        "Choose the file of a SAM model."
    )


def _numpy_scalars() -> list[Any]:
    """The constructors that a numpy number is pickled with."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = (np.float32, np.float64, np.int64, np.bool_)
    old_name = (scalar, "numpy.core.multiarray.scalar")
    return [scalar, old_name, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]


def _shape_in_words(shape: tuple[int, ...] | None) -> str:
    """A tensor's shape for a message."""
    return "no tensor" if shape is None else f"a tensor of shape {shape}"


def _contents_in_words(contents: Any) -> str:
    """What a file holds, for a message."""
    if isinstance(contents, Mapping):
        names = ", ".join(str(key) for key in list(contents)[:4])
        return f"a dictionary with {names or 'nothing in it'}"
    return f"a {type(contents).__name__}"
