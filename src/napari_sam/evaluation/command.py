"""The command ``napari-sam evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate_command"]


def evaluate_command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with images/ and labels/ of the same names; or 'drawn', for drawn images."
        ),
    ],
    model: Annotated[str, typer.Option(help="Model name, or file of weights.")] = "built-in",
    diameter: Annotated[
        float | None, typer.Option(help="Diameter of the objects in pixels; estimated if not given.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    prompted_only: Annotated[
        bool, typer.Option(help="Leave out automatic segmentation, e.g. for incomplete labels.")
    ] = False,
    worst: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of the ten worst objects here (PNG).")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Take at most so many images.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Measure how well a model segments your images, against your labels."""
    from tqdm import tqdm

    from napari_sam.evaluation.report import drawn_planes, evaluate, read_planes, summary, table
    from napari_sam.evaluation.sheet import worst_objects, write_sheet
    from napari_sam.predictor import load_model

    try:
        drawn = str(folder) == "drawn" and not folder.exists()
        planes = list(drawn_planes(limit or 20) if drawn else read_planes(folder, limit))
        predictor = load_model(model, device=device)
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    steps = evaluate(predictor, planes, diameter=diameter, automatic=not prompted_only)
    results = list(tqdm(steps, total=len(planes), unit="image", disable=None))
    numbers = summary(results)
    if json_file:
        json_file.write_text(json.dumps(numbers, indent=2) + "\n")
    if worst:
        write_sheet(worst_objects(planes, results, 10), worst)
    typer.echo(table({folder.name: numbers}))
