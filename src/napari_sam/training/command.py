"""The command ``napari-sam train``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from napari_sam.training.config import TrainConfig

__all__ = ["train_command"]

_log = logging.getLogger(__name__)

USELESS = 0.1
"""IoU in the last steps below which weights find nothing."""
STOPPED = 130
"""What shells call a program that Ctrl+C has ended."""
DRAWN_ONLY = (
    "Careful: {config} names no [[data]], so that the training sees drawn pictures only and learns nothing "
    "of your images. Name them as the user guide shows."
)


def train_command(
    config: Annotated[Path, typer.Argument(help="TOML file; the user guide shows one.")],
    output: Annotated[Path | None, typer.Option(help="Folder of checkpoints, metrics and weights.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the labelled data.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Training time of each part; 0 to go by steps.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps of each part, instead of minutes.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
) -> None:
    """Train the built-in model, or fine-tune it on your own labels.

    Can be stopped at any moment: the same command goes on from the last checkpoint.
    """
    from statistics import median

    from napari_sam.files.refused import in_plain_words
    from napari_sam.training.config import CURVES, METRICS, WEIGHTS, load_config
    from napari_sam.training.distributed import rank_and_size

    given: dict[str, Any] = {
        "output": output, "data_root": data_root, "minutes": minutes, "steps": steps, "device": device,
    }  # fmt: skip
    if steps is not None and minutes is None:
        given["minutes"] = 0.0
    try:
        parts = load_config(config, **{k: v for k, v in given.items() if v is not None})
        if parts[0].start_from and not any(part.data for part in parts):
            typer.echo(DRAWN_ONLY.format(config=config), err=True)
        trained, overlaps = _train(parts)
    except (ValueError, OSError) as error:
        _log.debug("It happened here:", exc_info=True)
        typer.echo(in_plain_words(error), err=True)
        raise typer.Exit(1) from None
    last, picture = parts[-1].output, parts[-1].output / CURVES
    if not trained:
        longer = "; with these the last part goes on" if len(parts) > 1 else ""
        typer.echo(
            "This training was finished before: nothing was trained. For other data or settings choose "
            f"another output, with start_from = {str((last / WEIGHTS).absolute())!r} to go on from these "
            f"weights; or give more minutes or steps{longer}."
        )
    if overlaps and (overlap := median(overlaps)) < USELESS:
        typer.echo(
            f"Careful: after a click the best mask overlaps its object by {overlap:.2f} only, so that these "
            "weights are of no use yet. Train longer, or with a smaller learning_rate.",
            err=True,
        )
    if rank_and_size()[0] == 0 and (trained or not picture.exists()):  # the first process writes for all
        _plot([part.output / METRICS for part in parts], picture)
    typer.echo(f"Weights: {last / WEIGHTS}")


def _train(parts: Sequence[TrainConfig]) -> tuple[bool, Sequence[float]]:
    """Train what is left of the parts and show how far it is.

    Returns
    -------
    trained : bool
        Whether there was anything left.
    overlaps : sequence of float
        IoU of the best mask after a click, in the last steps.
    """
    from collections import deque
    from contextlib import closing

    from tqdm import tqdm

    from napari_sam.training.loop import train
    from napari_sam.training.output import parts_to_train, refuse_others

    trained = False
    overlaps: deque[float] = deque(maxlen=20)
    left = parts_to_train(parts)
    for part in left:  # all of them, before the first is trained
        refuse_others(part.output)
    with tqdm(total=100.0, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
        for number, part in enumerate(left, len(parts) - len(left)):
            try:
                with closing(train(part)) as run:
                    for count, progress in enumerate(run):
                        if not count and progress.step > 1:
                            stay = "; the parts before it stay as they are" if number else ""
                            bar.write(f"Going on after step {progress.step - 1} in {part.output}{stay}.")
                        trained = True
                        if "oracle" in progress.measures:
                            overlaps.append(progress.measures["oracle"])
                        share = (number + min(progress.share, 1.0)) / len(parts)
                        bar.n = round(100 * share, 2)
                        # What was done before says nothing of the time left.
                        bar.initial = bar.initial or bar.n
                        shown = ", ".join(
                            f"{k} {progress.measures[k]:.3f}"
                            for k in ("loss", "oracle", "box")
                            if k in progress.measures
                        )
                        bar.set_postfix_str(f"step {progress.step}, {shown}")
            except KeyboardInterrupt:
                bar.close()
                typer.echo(_where_it_stopped(part.output), err=True)
                raise typer.Exit(STOPPED) from None
    return trained, overlaps


def _plot(metrics: Sequence[Path], picture: Path) -> None:
    """Draw the curves, or say why there are none: the weights, which count, are written by now."""
    from napari_sam.files.refused import in_plain_words
    from napari_sam.training.metrics import plot_metrics

    try:
        plot_metrics(metrics, picture)
    except ImportError:
        typer.echo('Curves need matplotlib: pip install "napari-sam-cells[training]"', err=True)
    except (ValueError, OSError) as error:
        _log.debug("It happened here:", exc_info=True)
        typer.echo(f"There are no new curves in {picture}. {in_plain_words(error)}", err=True)


def _where_it_stopped(output: Path) -> str:
    """Say from where a training that was stopped will go on."""
    from napari_sam.training.checkpoint import read_checkpoint
    from napari_sam.training.config import CHECKPOINT

    if not (output / CHECKPOINT).exists():
        return f"Stopped before anything was written to {output}: the same command begins it anew."
    try:
        step = read_checkpoint(output / CHECKPOINT).clock.step
    except (ValueError, OSError):
        return "Stopped."
    return f"Stopped after step {step} in {output}: the same command goes on from there."
