"""Training: a generator of progress that can be stopped at any moment and goes on exactly.

The batches and the simulated clicks of a step depend on (seed, step) alone, so a checkpoint need
hold no generator state. With `minutes` instead of `steps` the schedule follows the time spent.
"""

from __future__ import annotations

import ctypes
import math
import platform
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_sam.model.builtin import BuiltIn, deepened, load_builtin, save_builtin
from napari_sam.predictor.load import choose_device
from napari_sam.training.checkpoint import (
    Average,
    Checkpoint,
    Clock,
    Start,
    code_of,
    read_checkpoint,
    refuse_other_start,
    restore,
    save_checkpoint,
)
from napari_sam.training.config import BUILT_IN, CHECKPOINT, METRICS, WEIGHTS, TrainConfig, load_sources
from napari_sam.training.data import Source
from napari_sam.training.distributed import (
    average_gradients,
    join_processes,
    rank_and_size,
    same_everywhere,
    wait_for_all,
)
from napari_sam.training.examples import Batch, Batches
from napari_sam.training.metrics import MetricsFile
from napari_sam.training.muon import Muon
from napari_sam.training.output import refuse_others
from napari_sam.training.prompts import rounds_of
from napari_sam.training.step import train_step
from napari_sam.training.unbroken import interrupts_held, only_writer

__all__ = ["Progress", "train"]

_OUTER = ("token", "kinds", "encoder.stem", "encoder.dense.1", "quality.4")
"""Of the names of parameters that are no matrices between two layers."""
LOST = 100
"""Steps in a row with a gradient that is not finite, after which a training has diverged."""
DIVERGED = (
    "The training has diverged: its {what} no longer finite numbers. Choose a smaller learning_rate, and "
    "another output."
)


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step."""

    step: int
    share: float
    """How much of the training is over, 0 to 1."""
    measures: dict[str, float]
    """See `napari_sam.training.step.StepResult`; with ``loss`` and ``rate``."""


def train(config: TrainConfig) -> Generator[Progress, None, None]:
    """Train the built-in model, or go on with it.

    If the output folder holds a checkpoint, training goes on from there. Metrics, checkpoints and
    the averaged weights (`WEIGHTS`) are written as it goes; closing the generator writes them too. Ctrl+C
    waits for the end of a step; of a step that fails nothing is written, and where the training is finished
    nothing at all.

    Parameters
    ----------
    config : TrainConfig

    Yields
    ------
    Progress
        After every step.

    Raises
    ------
    ValueError
        If the labelled data cannot be read, another training writes into the output folder, the one there
        began from other weights, something else lies there, or the training has diverged.
    """
    device = _device(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        _keep_freed_memory()
        # Far from an outline the gradients of the masks underflow; products of such numbers take
        # twenty times as long, which was half of a step.
        torch.set_flush_denormal(True)
    join_processes(device)
    rank, _ = rank_and_size()
    data = load_sources(config)  # before anything is written: it may be unfit
    torch.manual_seed(config.seed)
    model = _fresh_model(config)
    code = code_of(model.state_dict()) if config.start_from else ""
    start = Start(code, config.start_from == BUILT_IN, config.deepen)
    refuse_others(config.output)
    # Before the lock, which has to be written too: the disk may be full, or read-only.
    checkpoint = _last_checkpoint(config, start)
    if checkpoint is None or not _finished(config, checkpoint):
        config.output.mkdir(parents=True, exist_ok=True)
        with nullcontext() if rank else only_writer(config.output):  # the first process writes for all
            yield from _steps(config, device, data, model, start)
    wait_for_all()  # another part may start from the weights, which the first process has written now


def _steps(
    config: TrainConfig,
    device: torch.device,
    data: tuple[list[Source], list[float]],
    fresh: BuiltIn,
    start: Start,
) -> Iterator[Progress]:
    """Go on with a model from the last checkpoint, if there is one, to the end."""
    rank, size = rank_and_size()
    refuse_others(config.output)  # what lies there may have changed before the lock was taken
    checkpoint = _last_checkpoint(config, start)
    path, weights = config.output / CHECKPOINT, config.output / WEIGHTS
    model = fresh
    if checkpoint and checkpoint.start and checkpoint.start.code != start.code:
        # The built-in weights have changed since then, and their network may have: this one has its own.
        start = checkpoint.start
        model = load_builtin(weights) if weights.exists() else fresh
    model = model.to(device).train()
    first = {name: value.clone() for name, value in model.state_dict().items()}
    optimizers = _optimizers(model, config)
    average = Average(model, config.ema)
    clock = Clock()
    if checkpoint:
        restore(checkpoint, model, optimizers, average)
        clock = checkpoint.clock
    kept = clock.step if weights.exists() else 0
    metrics = None if rank else MetricsFile(config.output / METRICS, clock.step)
    precision = _precision(config, device)
    parameters = list(model.parameters())
    batches = _batches(config, data, clock.step * size + rank, size)
    last, saved = time.monotonic(), time.monotonic()
    whole, lost = True, 0

    def save() -> None:
        nonlocal kept
        if metrics is None or clock.step == kept:
            return
        state = between(average.state, first, config.keep)
        refuse_diverged(state)
        # What is wanted most and is smallest comes first: the disk may be full. But weights that lie without
        # a checkpoint are another training's, so that the first checkpoint comes before them.
        begun = path.exists()
        if not begun:
            save_checkpoint(path, model, optimizers, average, clock, start)
        save_builtin(state, model.config, weights, f"average after {clock.step} steps")
        if begun:
            save_checkpoint(path, model, optimizers, average, clock, start)
        metrics.flush()
        kept = clock.step

    try:
        while (share := _share(config, clock)) < 1:
            rate = _rate(config, clock.step, share)
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = rate
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + clock.step * size + rank)
            if share >= 1 - config.settle:
                settle_norms(model)
            rounds, idle = rounds_of(clock.step, config.seed, share, config.rounds)
            batch = next(batches).to(device)
            with interrupts_held():
                whole = False
                result = train_step(
                    model, batch, rounds, idle, generator, precision, config.quality, config.overlap
                )
                model.zero_grad()
                result.loss.backward()
                average_gradients(parameters)
                norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
                if torch.isfinite(norm):
                    for optimizer in optimizers:
                        optimizer.step()
                average.update(model, clock.step)
                now = time.monotonic()
                seconds = same_everywhere(clock.seconds + now - last, device)
                clock.step, clock.seconds, last = clock.step + 1, seconds, now
                whole = True
                measures = {
                    "loss": result.loss.item(), "rate": rate, "rounds": float(rounds),
                    "seconds": clock.seconds, "gradient": float(norm), **result.measures,
                }  # fmt: skip
                if metrics is not None:
                    metrics.add(clock.step, measures)
            lost = 0 if torch.isfinite(norm) else lost + 1
            if lost == LOST:
                raise ValueError(DIVERGED.format(what="gradients are"))
            if now - saved > 60 * config.checkpoint_minutes:
                with interrupts_held():
                    save()
                last = saved = time.monotonic()  # writing is not training time
            yield Progress(clock.step, _share(config, clock), measures)
    finally:
        if whole:
            with interrupts_held():
                save()


def settle_norms(model: BuiltIn) -> None:
    """Let the batch norms use their running statistics from now on, as they do when the model is used.

    A batch mixes a few crops of quite different images, so its own statistics are noisy.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()


def between(
    state: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor], keep: float
) -> dict[str, torch.Tensor]:
    """Weights on the way back from `state` to `start`, by the share `keep` of it."""
    return {
        name: value.lerp(start[name], keep) if value.is_floating_point() else value
        for name, value in state.items()
    }


def refuse_diverged(state: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights for use, which are kept in half precision, that are not finite in it.

    Raises
    ------
    ValueError
    """
    if not all(value.half().isfinite().all() for value in state.values() if value.is_floating_point()):
        raise ValueError(DIVERGED.format(what="weights are"))


def _last_checkpoint(config: TrainConfig, start: Start) -> Checkpoint | None:
    """Read the checkpoint of a run that has begun, and refuse one from another start."""
    path = config.output / CHECKPOINT
    if not path.exists():
        return None
    checkpoint = read_checkpoint(path)
    refuse_other_start(checkpoint, start, config.keep > 0 and not _finished(config, checkpoint))
    return checkpoint


def _finished(config: TrainConfig, checkpoint: Checkpoint) -> bool:
    """Whether there is nothing left to be done."""
    return _share(config, checkpoint.clock) >= 1 and (config.output / WEIGHTS).exists()


def _fresh_model(config: TrainConfig) -> BuiltIn:
    """Return a new model, or the one to fine-tune."""
    if Path(config.start_from).name == CHECKPOINT:
        raise ValueError(
            f"Expected weights to start from, found the state of a training, {config.start_from}. Its "
            f"weights lie beside it: choose {WEIGHTS}."
        )
    if not config.start_from:
        return BuiltIn(config.channels, config.depths, config.width)
    if config.start_from != BUILT_IN and not Path(config.start_from).is_file():
        kind = "which is a folder" if Path(config.start_from).is_dir() else "where there is no file"
        raise ValueError(
            f'Expected start_from = "{BUILT_IN}" or the {WEIGHTS} of an earlier training, found '
            f"{config.start_from}, {kind}. Only the built-in model can be trained: name its weights, or "
            "leave start_from out to begin from nothing."
        )
    model = load_builtin(None if config.start_from == BUILT_IN else config.start_from)
    return deepened(model, config.deepen) if any(config.deepen) else model


def _optimizers(model: BuiltIn, config: TrainConfig) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices between two layers, AdamW for first and last layers, tokens and vectors."""
    hidden, outer, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif any(part in name for part in _OUTER):
            outer.append(parameter)
        else:
            hidden.append(parameter)
    groups = [
        {"params": outer, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return (
        Muon(hidden, config.learning_rate, config.weight_decay),
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98)),
    )


def _batches(
    config: TrainConfig, data: tuple[list[Source], list[float]], start: int, stride: int
) -> Iterator[Batch]:
    """Every `stride`-th batch from `start` on, made in other processes if there are workers."""
    sources, weights = data
    dataset = Batches(config.recipe, sources, weights, config.seed, start, stride)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_single_thread,
    )
    try:
        yield from loader
    except ValueError as error:  # from a worker it comes with all that led to it
        raise ValueError(str(error).rsplit("ValueError: ", 1)[-1].strip()) from error


def _single_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _share(config: TrainConfig, clock: Clock) -> float:
    if config.minutes:
        return clock.seconds / (60 * config.minutes)
    return clock.step / config.steps


def _rate(config: TrainConfig, step: int, share: float) -> float:
    """Warm-up, then a cosine down to one percent."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    return config.learning_rate * min(1.0, (step + 1) / max(config.warmup, 1)) * (0.01 + 0.99 * cosine)


def _device(config: TrainConfig) -> torch.device:
    if config.device != "auto":
        return choose_device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    """Bfloat16 where the processor has it: it halves the time and costs nothing measurable."""
    if config.precision != "auto":
        return torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: giving each large tensor back costs as much as the maths."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
