"""What the commands print: progress, results, the list of models."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from napari_sam.folder import Report
    from napari_sam.progress import Progress, Steps

DONE, FAILED, STOPPED = 0, 1, 130
"""Exit codes; a mistake of usage is 2."""


@contextmanager
def places_shown() -> Iterator[None]:
    """Within this block, show where an error happened that is said in a sentence and not raised."""
    log, handler = logging.getLogger("napari_sam"), logging.StreamHandler()
    level = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def list_models(everything: bool) -> None:
    """Print the models as a table."""
    from napari_sam.weights.fetch import find_downloaded
    from napari_sam.weights.registry import entries

    rows = [("NAME", "LICENCE", "SIZE", "WHERE", "FOR")]
    rows.append(("built-in", "BSD-3-Clause", "", "in the package", "Cells and nuclei, small and quick"))
    for entry in entries(without_licence=everything):
        size = "" if entry.size is None else f"{entry.size / 1e6:.0f} MB"
        where = str(find_downloaded(entry) or "to download")
        rows.append((entry.name, entry.licence or "none stated", size, where, entry.purpose))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show(steps: Steps[Any], unit: str, tell: Any) -> Any:
    """Run to the end with a progress bar, where there is a terminal."""
    from tqdm import tqdm

    from napari_sam.progress import Notice, finish

    with tqdm(unit=unit, disable=None, leave=False) as bar:

        def report(step: Progress) -> None:
            bar.total = step.total
            bar.set_postfix_str(step.message, refresh=False)
            bar.update(step.done - bar.n)
            if isinstance(step, Notice):
                tell_beside(step.message)
            tell(step)

        try:
            return finish(steps, report)
        except KeyboardInterrupt:
            bar.close()
            stop("Stopped. What was finished is kept.", STOPPED)


def tell_beside(text: str) -> None:
    """Print what is no result to the error stream, without tearing the progress bar."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def tell_report(report: Report) -> None:
    """Print what became of an image, without tearing the progress bar."""
    from tqdm import tqdm

    if report.note:
        tell_beside(f"{report.source}: {report.note}")
    if report.status == "failed":
        tell_beside(f"{report.source}: failed. {report.error}")
    elif report.status == "kept":
        tqdm.write(f"{report.source}: done before")
    else:
        files = ", ".join(os.path.relpath(path) for path in report.outputs)
        tqdm.write(f"{report.source}: {report.objects} objects in {report.seconds:.1f} s -> {files}")


def stop(text: str, code: int) -> NoReturn:
    """Say why, and end with an exit code."""
    typer.echo(text, err=True)
    sys.exit(code)
