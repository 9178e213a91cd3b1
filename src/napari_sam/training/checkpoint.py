"""Checkpoints from which training goes on as if it had never stopped."""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_sam.export.atomic import replacing
from napari_sam.weights.checkpoint import CheckpointError, read_file, refuse_no_numbers

__all__ = [
    "Average",
    "Checkpoint",
    "Clock",
    "Start",
    "code_of",
    "read_checkpoint",
    "refuse_other_start",
    "restore",
    "save_checkpoint",
]

UNFIT = (
    "Training cannot go on from {path}: {reason}. Choose another output, where start_from may name the "
    "weights beside it; or empty its folder to begin anew."
)
NO_STATE = "it is not the state of a training"


@dataclass
class Clock:
    """Where a run stands."""

    step: int = 0
    seconds: float = 0.0
    """Time spent in training, all sittings together."""


@dataclass(frozen=True)
class Start:
    """What a run began from."""

    code: str = ""
    """Code of the weights, see `code_of`; empty for none."""
    built_in: bool = False
    """Whether they are those in the package, which change with its versions."""
    deepened: tuple[int, ...] = ()
    """Blocks that were added to their network; empty where that is not known."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file says of a run."""

    path: Path
    clock: Clock
    start: Start | None
    """None where the file, of an older version, does not say."""
    state: Mapping[str, Any]


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
    start: Start,
) -> None:
    """Write all that a run needs to go on, and what it began from.

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
        "start": start.code,
        "built_in": start.built_in,
        "deepened": list(start.deepened),
    }
    content = io.BytesIO()  # torch has no words for a disk that is full
    torch.save(state, content)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the state of a run.

    Raises
    ------
    ValueError
        If it is damaged, holds something else, or numbers that are not finite.
    OSError
        If the disk does not give it.
    """
    state = _contents(path)
    if not isinstance(state, Mapping):
        raise ValueError(UNFIT.format(path=path, reason=NO_STATE))
    try:
        clock = Clock(_number(state["step"], int), _number(state["seconds"], int, float))
        code = state.get("start")
        built_in, deepened = bool(state.get("built_in")), tuple(state.get("deepened", ()))
        start = None if code is None else Start(code, built_in, deepened)
        held = [dict(state[name].items()) for name in ("model", "average")]
        [value.shape for weights in held for value in weights.values()]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(UNFIT.format(path=path, reason=NO_STATE)) from error
    try:
        for weights in held:
            refuse_no_numbers(weights)
    except ValueError as error:
        reason = "its numbers are not finite, as it is damaged or the training had failed"
        raise ValueError(UNFIT.format(path=path, reason=reason)) from error
    return Checkpoint(path, clock, start, state)


def _contents(path: Path) -> Any:
    """Read a file of torch, with the checksums in it; torch itself leaves them out."""
    with path.open("rb"):  # what is a folder or must not be read, the system says itself
        pass
    try:
        return read_file(path)
    except CheckpointError as error:
        cause = error.__cause__
        # A disk that fails may give the file later. A file that is cut short is "invalid" (EINVAL).
        if isinstance(cause, OSError) and cause.errno not in (None, errno.EINVAL):
            raise cause from None
        reason = "it is damaged, or was written by another program"
        raise ValueError(UNFIT.format(path=path, reason=reason)) from error


def _number(value: Any, *kinds: type) -> Any:
    """Return a number of 0 or more, or raise ValueError."""
    if type(value) not in kinds or not 0 <= value < math.inf:
        raise ValueError(value)
    return value


def refuse_other_start(checkpoint: Checkpoint, start: Start, mixed: bool) -> None:
    """Refuse to go on with a run that began from other weights than are named now.

    The built-in weights change with the version of the package, which nobody can take back who has begun from
    them: where they are not needed any more, the run goes on.

    Parameters
    ----------
    checkpoint : Checkpoint
    start : Start
        What the configuration names now.
    mixed : bool
        Whether weights are to be written into which those of the start are mixed.

    Raises
    ------
    ValueError
    """
    began = checkpoint.start or start
    updated = began.built_in and start.built_in and began.deepened in ((), start.deepened)
    if began.code == start.code or (updated and not mixed):
        return
    if updated:
        raise ValueError(
            f"Training cannot go on from {checkpoint.path}: the built-in weights that it began from have "
            "changed with the version of this package, and keep above 0 mixes them into what is written. Go "
            "on with keep = 0 or with the version from before; or choose another output, where start_from "
            "may name the weights beside this file, to go on from what was learned."
        )
    raise ValueError(
        f"Training cannot go on from {checkpoint.path}: it began from other weights than start_from names "
        "now. Name those again, or choose another output; there start_from may name the weights beside this "
        "file, to go on from what was learned."
    )


def restore(
    checkpoint: Checkpoint, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], average: Average
) -> None:
    """Bring model, optimizers and average to the state of a checkpoint.

    Settings such as the weight decay stay those that the optimizers have: the configuration may have been
    changed meanwhile.

    Raises
    ------
    ValueError
        If it is of another network, or of other optimizers.
    """
    path, state = checkpoint.path, checkpoint.state
    if not _like(state["model"], average.state) or not _like(state["average"], average.state):
        reason = "it is of another network than this configuration and what it starts from have"
        raise ValueError(UNFIT.format(path=path, reason=reason))
    model.load_state_dict(state["model"])
    average.state = {k: v.to(average.state[k].device) for k, v in state["average"].items()}
    try:
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            _restore_optimizer(optimizer, kept)
    # What another version or program has left there may be anything.
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = "its optimisers are others than those of this version"
        raise ValueError(UNFIT.format(path=path, reason=reason)) from error


def _like(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names, shapes and types of others."""
    kinds, wanted = ({k: (v.shape, v.dtype) for k, v in state.items()} for state in (found, expected))
    return kinds == wanted


def _restore_optimizer(optimizer: torch.optim.Optimizer, kept: dict[str, Any]) -> None:
    """Load the state of an optimizer, but for its settings."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(kept)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    for parameter, held in optimizer.state.items():
        if any(value.ndim and value.shape != parameter.shape for value in held.values()):
            raise ValueError("a mean of another shape than its parameter")
