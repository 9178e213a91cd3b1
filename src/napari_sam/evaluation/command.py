"""The command ``napari-sam evaluate``."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NoReturn

import typer

from napari_sam.evaluation.outputs import evaluated_files, refuse_no_picture, refuse_output, write_output

__all__ = ["evaluate_command"]

_log = logging.getLogger(__name__)


def evaluate_command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with images/ and labels/ of the same names, or the image of a stack; "
            "'drawn' for drawn images."
        ),
    ],
    model: Annotated[str, typer.Option(help="Model name, or file of weights.")] = "built-in",
    diameter: Annotated[
        float | None, typer.Option(help="Diameter of the objects in pixels; estimated if not given.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here (JSON).")] = None,
    prompted_only: Annotated[
        bool, typer.Option(help="Leave out automatic segmentation, e.g. for incomplete labels.")
    ] = False,
    worst: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of the ten worst objects here (PNG).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take at most so many images.")] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Measure groups of images as well: a column of index.csv in the folder."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    labels: Annotated[Path | None, typer.Option(help="Labels of a stack, one id through all planes.")] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="Letters of the axes of the images, where the files do not say them: 'TZYX'."),
    ] = None,
    movie: Annotated[
        bool, typer.Option("--movie", help="Planes are frames; the folder's labels have the ids of tracks.")
    ] = False,
    min_planes: Annotated[
        int, typer.Option(min=1, help="Leave out objects of a stack that are in fewer planes.")
    ] = 1,
) -> None:
    """Measure how well a model segments your images, against your labels."""
    from napari_sam.files.find import is_zarr

    sources = list(evaluated_files(folder, labels))
    refuse_output(json_file, "--json", ".json", sources)
    refuse_output(worst, "--worst", ".png", sources)
    refuse_no_picture(worst, "--worst")
    if worst is not None and find_spec("matplotlib") is None:
        raise typer.BadParameter(
            'The sheet needs matplotlib: pip install "napari-sam-cells[training]"', param_hint="--worst"
        )
    if labels is not None and folder.is_dir() and not is_zarr(folder):
        raise typer.BadParameter(
            f"{folder} is a folder, and --labels is for one stack. Name the image of the stack; a folder has "
            "its labels in labels/, beside images/.",
            param_hint="--labels",
        )
    if labels is None and folder.is_file():
        raise typer.BadParameter(
            f"{folder} is a file, and its labels are not named. Name them with --labels, or evaluate a "
            "folder that holds images/ and labels/.",
            param_hint="FOLDER",
        )
    if labels is not None or movie:
        unused = {"--worst": worst, "--prompted-only": prompted_only or None, "--limit": limit, "--by": by}
        for option, given in unused.items():
            if given is not None:
                raise typer.BadParameter("This is for folders of planes.", param_hint=option)
        _evaluate_stack(folder, labels, axes, movie, model, device, diameter, min_planes, json_file)
        return
    if min_planes > 1:
        raise typer.BadParameter(
            "This is for stacks: give --labels, or --movie for a folder of frames.", param_hint="--min-planes"
        )
    from tqdm import tqdm

    from napari_sam.evaluation.prompted import LEAST_AREA
    from napari_sam.evaluation.report import (
        drawn_planes,
        evaluate,
        grouped,
        read_planes,
        summary,
        table,
    )
    from napari_sam.evaluation.sheet import worst_objects, write_sheet
    from napari_sam.files.groups import INDEX, read_groups
    from napari_sam.predictor import load_model

    try:
        drawn = str(folder) == "drawn" and not folder.exists()
        planes = list(drawn_planes(limit or 20) if drawn else read_planes(folder, limit, axes))
        groups = read_groups(folder / INDEX, by, [plane.name for plane in planes]) if by else []
        predictor = load_model(model, device=device)
    except ValueError as error:
        _fail(error)
    steps = evaluate(predictor, planes, diameter=diameter, automatic=not prompted_only)
    results = list(tqdm(steps, total=len(planes), unit="image", disable=None))
    numbers = summary(results)
    rows = {folder.name: numbers}
    if groups:
        numbers["groups"] = grouped(results, groups)
        rows |= {f"{folder.name}: {name}": own for name, own in numbers["groups"].items()}
    typer.echo(table(rows))
    if numbers["n_small"]:
        typer.echo(f"Left out: {numbers['n_small']} objects of fewer than {LEAST_AREA} pixels.")
    if json_file:
        _write_numbers(numbers, json_file)
    if worst:
        with TemporaryDirectory() as aside:
            sheet = Path(aside) / "sheet.png"  # drawn as its ending says, which a name beside has not
            write_sheet(worst_objects(planes, results, 10), sheet)
            _write(worst, lambda place: shutil.copyfile(sheet, place))


def _evaluate_stack(
    image: Path,
    labels: Path | None,
    axes: str | None,
    movie: bool,
    model: str,
    device: str,
    diameter: float | None,
    min_planes: int,
    json_file: Path | None,
) -> None:
    """Measure a stack or movie as a whole."""
    from tqdm import tqdm

    from napari_sam.evaluation.report import read_planes
    from napari_sam.evaluation.stacks import evaluate_stack, movie_of, read_stack
    from napari_sam.linking import MOVIE
    from napari_sam.predictor import load_model
    from napari_sam.progress import Progress, finish

    try:
        stack = movie_of(read_planes(image, axes=axes)) if labels is None else read_stack(image, labels, axes)
        predictor = load_model(model, device=device)
        steps = evaluate_stack(
            predictor,
            stack.pictures,
            stack.truth,
            link=replace(MOVIE if movie else stack.link, min_length=min_planes),
            diameter=diameter,
            depth=stack.depth,
        )
        with tqdm(total=len(stack.pictures), unit="plane", disable=None) as bar:

            def report(step: Progress) -> None:
                bar.update(step.done - bar.n)

            score = finish(steps, report)
    except ValueError as error:
        _fail(error)
    volume = score.volume
    typer.echo(
        f"planes  AP50 {score.planes:.3f}\n"
        f"whole   AP50 {volume.ap[0]:.3f}  AP75 {volume.ap[5]:.3f}  PQ {volume.pq:.3f}  "
        f"({volume.truth} true, {volume.found} found)\n"
        f"links   precision {score.link_precision:.3f}  recall {score.link_recall:.3f}"
    )
    if json_file:
        _write_numbers(score.numbers(), json_file)


def _write_numbers(numbers: dict[str, Any], file: Path) -> None:
    """Write what was measured as JSON."""
    _write(file, lambda place: place.write_text(json.dumps(numbers, indent=2) + "\n"))


def _write(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file, or say why it cannot be written."""
    try:
        write_output(file, write)
    except ValueError as error:
        _fail(error)


def _fail(error: ValueError) -> NoReturn:
    """Say what is wrong with the images or the model, and end."""
    _log.debug("It happened here:", exc_info=True)
    typer.echo(str(error), err=True)
    raise typer.Exit(1) from None
