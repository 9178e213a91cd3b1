"""The command ``napari-sam train``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["train_command"]

_log = logging.getLogger(__name__)

USELESS = 0.1
"""IoU in the last steps below which weights find nothing."""


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
    from collections import deque
    from contextlib import closing
    from statistics import median

    from tqdm import tqdm

    from napari_sam.files.refused import in_plain_words
    from napari_sam.training.config import METRICS, WEIGHTS, load_config
    from napari_sam.training.loop import train

    given: dict[str, Any] = {
        "output": output, "data_root": data_root, "minutes": minutes, "steps": steps, "device": device,
    }  # fmt: skip
    if steps is not None and minutes is None:
        given["minutes"] = 0.0
    trained = False
    overlaps: deque[float] = deque(maxlen=20)
    try:
        parts = load_config(config, **{k: v for k, v in given.items() if v is not None})
        with tqdm(total=100.0, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
            for number, part in enumerate(parts):
                with closing(train(part)) as run:
                    for count, progress in enumerate(run):
                        if not count and progress.step > 1:
                            bar.write(f"Going on after step {progress.step - 1} in {part.output}.")
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
    except (ValueError, OSError) as error:
        _log.debug("It happened here:", exc_info=True)
        typer.echo(in_plain_words(error), err=True)
        raise typer.Exit(1) from None
    last = parts[-1].output
    if not trained:
        typer.echo(
            "This training was finished before: nothing was trained. For other data or settings choose "
            f"another output, with start_from = {str((last / WEIGHTS).absolute())!r} to go on from these "
            "weights; or give more minutes or steps."
        )
    if overlaps and (overlap := median(overlaps)) < USELESS:
        typer.echo(
            f"Careful: after a click the best mask overlaps its object by {overlap:.2f} only, so that these "
            "weights are of no use yet. Train longer, or with a smaller learning_rate.",
            err=True,
        )
    _plot([part.output / METRICS for part in parts], last / "metrics.png")
    typer.echo(f"Weights: {last / WEIGHTS}")


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
        typer.echo(f"There are no curves. {in_plain_words(error)}", err=True)
