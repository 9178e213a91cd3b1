"""Checkpoints from which training goes on as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from napari_sam.export.atomic import replacing
from napari_sam.files.image_file import in_words

__all__ = ["Average", "Clock", "code_of", "load_checkpoint", "save_checkpoint"]


@dataclass
class Clock:
    """Where a run stands."""

    step: int = 0
    seconds: float = 0.0
    """Time spent in training, all sittings together."""


class Average:
    """Exponential moving average of a model's state, buffers included."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model; faster in the first steps, whose weights say little."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, rate)
            else:
                self.state[name].copy_(value)


def code_of(state: Mapping[str, Tensor]) -> str:
    """Short code of weights, the same on every device."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: Average,
    clock: Clock,
    start: str,
) -> None:
    """Write all that a run needs to go on, and the code of the weights that it began from, empty for none.

    The file is replaced as a whole: a run that is killed at any moment leaves a complete checkpoint behind.

    Raises
    ------
    ExportError
        If it cannot be written; what was written of it is removed.
    """
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "average": average.state,
        "step": clock.step,
        "seconds": clock.seconds,
        "start": start,
    }
    content = io.BytesIO()  # torch has no words for a disk that is full
    torch.save(state, content)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: Average,
    start: str,
) -> Clock:
    """Bring model, optimizers and average to the state of a checkpoint.

    Settings such as the weight decay stay those that the optimizers have: the configuration may have been
    changed meanwhile.

    Raises
    ------
    ValueError
        If it is damaged, of another architecture, or of a run that began from other weights.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(kept)
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)
        average.state = {k: v.to(average.state[k].device) for k, v in state["average"].items()}
        clock = Clock(state["step"], state["seconds"])
    except (RuntimeError, ValueError, LookupError, EOFError, UnpicklingError) as error:
        raise ValueError(
            f"Training cannot go on from {path}: it is damaged or of another network ({in_words(error)}). "
            "Choose another output, where start_from may name the weights beside it; or delete the two to "
            "begin anew."
        ) from error
    # Those of older versions do not say what they began from.
    if state.get("start", start) != start:
        raise ValueError(
            f"Training cannot go on from {path}: it began from other weights than start_from names now. Name "
            "those again, or choose another output; there start_from may name the weights beside this file, "
            "to go on from what was learned."
        )
    return clock
