"""Load a checkpoint safely: tensors only, never code, and say plainly what is wrong with a file.

Files may be the official ones, micro-sam's, checkpoints of a training (a dictionary with
``model_state``), or safetensors. Nothing is ever unpickled that is not a tensor or a plain value.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from napari_sam.model import Sam, Variant, build, detect_variant

WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model")
"""Where training checkpoints keep the weights."""
PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")

FOREIGN = {
    "_proj.w_a_linear": "low-rank adapters (LoRA)",
    "lora_": "low-rank adapters (LoRA)",
    "w_a_linear_": "low-rank adapters (LoRA)",
    "qkv.qkv_proj": "low-rank adapters (LoRA)",
    "image_encoder.trunk.": "a SAM 2 model",
    "sam_mask_decoder.": "a SAM 2 model",
    "vision_encoder.layers.": "a SAM in the naming of the transformers library",
    "decoder.samplers.": "only the segmentation decoder of a micro-sam model",
}
"""Parts of names that tell what else a file may be."""


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
        If the file is missing, damaged, holds code, or is not a SAM of a known kind.
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
        return assemble(detect_variant(weights), weights)
    except ValueError as error:
        raise CheckpointError(f"{path.name} cannot be used. {error}") from error


def assemble(variant: Variant, weights: Mapping[str, Tensor]) -> Sam:
    """Build a model around existing tensors, which it keeps.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown, or of the wrong shape.
    """
    # Nothing is allocated or drawn at random for weights that are replaced at once.
    with torch.device("meta"):
        model = build(variant)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            raise ValueError(
                f"Expected {_shape_in_words(expected.get(key))} named {key}, but found "
                f"{_shape_in_words(found.get(key))}. Choose a complete {variant.name} checkpoint."
            )
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval().requires_grad_(False)


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
        if path.suffix == ".safetensors":
            return load_file(path)
        # Older checkpoints carry numbers of numpy beside the weights; they are plain values.
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_not_unpickled(path, error)) from error
    except (SafetensorError, RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(
            f"Expected a complete checkpoint, but {path.name} ({path.stat().st_size:,} bytes) is "
            "damaged or cut short. Download or copy it again."
        ) from error


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
            raise CheckpointError(
                f"Expected the weights of a whole SAM or MobileSAM, but {path.name} holds {kind}. "
                "Choose another file, or export the model as a plain SAM where it was made."
            )


def _why_not_unpickled(path: Path, error: Exception) -> str:
    """Tell a checkpoint that holds objects from a file that is no checkpoint."""
    if "GLOBAL" in str(error) and _looks_pickled(path):
        return (
            f"Expected tensors and plain values only, but {path.name} also holds Python objects, "
            "which could run code when they are loaded. Export the model's weights (its state "
            "dict) where it was made, and choose that file."
        )
    return (
        f"Expected a checkpoint written by torch or as safetensors, but {path.name} is another "
        "kind of file. Choose the file of a SAM model."
    )


def _looks_pickled(path: Path) -> bool:
    """Whether a file starts as torch's files do."""
    with path.open("rb") as file:
        return zipfile.is_zipfile(path) or file.read(1) == b"\x80"


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
