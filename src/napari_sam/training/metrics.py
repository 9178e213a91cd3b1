"""Training metrics: a CSV that follows the run, and its plot."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from napari_sam.export import ExportError
from napari_sam.export.atomic import replacing

__all__ = ["COLUMNS", "MetricsFile", "plot_metrics", "read_metrics"]

COLUMNS = (
    "step", "seconds", "rate", "rounds", "gradient", "loss", "mask", "iou_error", "dense",
    "confident", "oracle", "box", "last",
)  # fmt: skip
"""Columns of the CSV; the values are means over the steps since the row before."""
OWN = {"step", "seconds", "rate"}
"""Columns that it has always had; other programs, too, count steps."""


class MetricsFile:
    """Rows of means over `every` steps.

    Of a new run nothing is written before `flush`, which comes after its first checkpoint: a log without a
    checkpoint is another run's.

    Parameters
    ----------
    path : Path
    start : int
        Step from which the run goes on; later rows, of a run that was killed, are dropped.
    every : int
        Steps per row.

    Raises
    ------
    ValueError
        If there is a file that is no such log.
    """

    def __init__(self, path: Path, start: int, every: int = 20) -> None:
        self.path, self.every = path, every
        self._open: dict[str, list[float]] = defaultdict(list)
        self._rows = [row for row in read_metrics(path) if row["step"] <= start] if path.exists() else []
        self._follows = start > 0

    def add(self, step: int, measures: dict[str, float]) -> None:
        """Take in the measures of a step, and write them now and then."""
        for name, value in measures.items():
            self._open[name].append(value)
        self._open["step"] = [step]
        if step % self.every == 0:
            self._close_row()
            if self._follows:
                # Windows lets nobody write while a spreadsheet shows the log: what has come in is kept for
                # the next time.
                with suppress(ExportError):
                    self.flush()

    def flush(self) -> None:
        """Write what has come in since the last time.

        Raises
        ------
        ExportError
            If it cannot be written; the log from before stays then.
        """
        self._close_row()
        # As a whole: where the disk is full, what is known of the run so far must not be lost.
        with replacing(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self._rows)
        self._follows = True

    def _close_row(self) -> None:
        """Make a row of what has come in since the last one."""
        if not self._open:
            return
        row = {k: round(sum(v) / len(v), 6) for k, v in self._open.items() if k in COLUMNS}
        row["seconds"] = round(self._open["seconds"][-1], 1)
        self._rows.append(row)
        self._open.clear()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics file; what a row lacks is left out of it, and so are columns that the file lacks.

    Raises
    ------
    ValueError
        If it is no log of a training, as when a spreadsheet has saved it with semicolons.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            ours = OWN <= set(table.fieldnames or OWN) <= set(COLUMNS)
            rows = [{k: float(v) for k, v in row.items() if v} for row in table] if ours else []
        wrong = not ours or any("step" not in row for row in rows)
    except (TypeError, ValueError, csv.Error):  # a row may have more values than there are columns
        wrong = True
    if wrong:
        raise ValueError(
            f"Expected the log of a training in {path}, numbers with commas between them, found something "
            "else: another program may have saved it its own way. Rename it: the log begins anew then, and "
            "the training goes on."
        )
    return rows


def plot_metrics(paths: Sequence[Path], picture: Path) -> None:
    """Plot metrics files: losses, and mean IoU of the simulated prompts, over the steps.

    Parameters
    ----------
    paths : sequence of Path
        CSV files written by `MetricsFile`: the parts of a run, one after the other.
    picture : Path
        PNG or SVG to write.

    Raises
    ------
    ValueError
        If a file is no such log.
    ExportError
        If the picture cannot be written; the one from before stays then.
    """
    from matplotlib.figure import Figure

    rows: list[dict[str, float]] = []
    starts: list[float] = []
    for path in paths:
        starts.append(rows[-1]["step"] if rows else 0.0)
        rows += [row | {"step": row["step"] + starts[-1]} for row in read_metrics(path)]
    figure = Figure(figsize=(9, 4), layout="constrained")
    losses, quality = figure.subplots(1, 2)
    for axes, names in (
        (losses, ("mask", "iou_error", "dense")),
        (quality, ("confident", "oracle", "box", "last")),
    ):
        for name in names:
            found = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*_smoothed(found), strict=True) if found else ((), ()), label=name)
        for start in starts[1:]:
            axes.axvline(start, color="grey", linewidth=0.8, linestyle=":")
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel("step")
        axes.legend()
        axes.grid(alpha=0.3)
    losses.set_yscale("log")
    losses.set_title("losses")
    quality.set_title("mean IoU of training prompts")
    with replacing(picture) as partial:
        figure.savefig(partial, dpi=120, format=picture.suffix.removeprefix("."))


def _smoothed(found: list[tuple[float, float]], rate: float = 0.15) -> list[tuple[float, float]]:
    """Exponentially smoothed values, for a curve that can be read."""
    out: list[tuple[float, float]] = []
    for step, value in found:
        out.append((step, value if not out else out[-1][1] + rate * (value - out[-1][1])))
    return out
