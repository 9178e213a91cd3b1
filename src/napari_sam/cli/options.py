"""Options that several commands share, and what their words mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from napari_sam.axes import Axes
    from napari_sam.files import ImageFile
    from napari_sam.predictor import Predictor
    from napari_sam.recipe import Recipe

Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Name of a model (see `napari-sam models`), or its file.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Diameter = Annotated[
    float | None,
    typer.Option("--diameter", "-d", min=1, help="Typical diameter of the objects in pixels."),
]
Channels = Annotated[
    str | None,
    typer.Option(help="Which channels are red, green and blue, counted from 0; '-' for none: '2,0,-'."),
]
ContrastOption = Annotated[
    str | None,
    typer.Option(
        "--contrast",
        help="Percentiles of the whole 'stack' (the default) or of each 'plane', or each plane's 'range'.",
    ),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", "-s", help="YAML file of settings, as the dock saves it; options here win."),
]
AxesOption = Annotated[
    str | None, typer.Option("--axes", help="Letters of the axes, where the files do not say them: 'TZYX'.")
]
Images = Annotated[
    list[str],
    typer.Argument(help="Images, folders, or patterns in quotes: 'data/*.tif'.", metavar="IMAGE"),
]


def read_table(path: Path) -> Any:
    """Read the features of objects."""
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} cannot be read ({error}).", param_hint="--features") from error


def read_recipe(
    path: Path | None,
    changes: dict[str, Any],
    automatic: dict[str, Any],
    channels: str | None,
    contrast: str | None = None,
) -> Recipe:
    """Settings of a file, with those of the command line put over them."""
    from dataclasses import replace

    from napari_sam.recipe import Recipe, RecipeError, load_recipe

    try:
        recipe = Recipe() if path is None else load_recipe(path)
    except RecipeError as error:
        raise typer.BadParameter(str(error), param_hint="--settings") from error
    given = {name: value for name, value in changes.items() if value is not None}
    if channels is not None:
        given["channels"] = _channels(channels)
    if contrast is not None:
        if contrast not in ("stack", "plane", "range"):
            text = f"Expected stack, plane or range, found {contrast!r}."
            raise typer.BadParameter(text, param_hint="--contrast")
        given["contrast"] = contrast
    chosen = {name: value for name, value in automatic.items() if value is not None}
    return replace(recipe, **given, automatic={**recipe.automatic, **chosen})


def _channels(text: str) -> tuple[int | None, ...]:
    """``(2, 0, None)`` of ``"2,0,-"``; one number is for all three colours."""
    from napari_sam.recipe import read_channels

    words = [word.strip() for word in text.split(",")]
    try:
        picks = [None if w == "-" else int(w) if w.isdigit() else w for w in words]
        return read_channels(picks)
    except ValueError as error:
        text = f"Expected one or three channels such as '2,0,-', found {text!r}."
        raise typer.BadParameter(text) from error


def read_numbers(text: str) -> list[float]:
    """Numbers of ``"2,0.5,0.5"``."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"Expected numbers such as '2,0.5,0.5', found {text!r}.") from error


def resized(axes: Axes, spacing: str | None, units: str | None) -> Axes:
    """Axes with the pixel size and the units of the command line, one for space or one for each axis.

    Raises
    ------
    AxesError
        If they do not fit the axes; if a unit of time is given for space, or another one for time.
    """
    from napari_sam.axes import SECONDS, Axes, AxesError

    sizes = None if spacing is None else read_numbers(spacing)
    words = None if units is None else [word.strip() for word in units.split(",")]
    found = axes.resized(
        sizes[0] if sizes is not None and len(sizes) == 1 else sizes,
        words[0] if words is not None and len(words) == 1 else words,
    )
    for letter, unit in zip(found.names, found.units, strict=True):
        # Any other unit of time would be lost; one of space is written as it is called.
        wrong = unit not in (*SECONDS, "pixel") if letter == "T" else unit in SECONDS
        if units is not None and wrong:
            kind = "time, such as s," if letter == "T" else "length, such as um,"
            raise AxesError(f"Expected a unit of {kind} for the axis {letter}, found {unit}.")
    if sizes is None or len(sizes) == 1 or (words is not None and len(words) > 1):
        return found
    # A number that is given for the time between frames is one of time: without a unit it would be lost.
    timed = (
        "second" if letter == "T" and unit == "pixel" else unit
        for letter, unit in zip(found.names, found.units, strict=True)
    )
    return Axes(found.names, found.spacing, tuple(timed))


def open_picture(image: Path, labels: ImageFile, axes: str | None) -> ImageFile:
    """Open the image that was labelled.

    Raises
    ------
    ImageFileError
        If it cannot be read, or is of another shape than its labels.
    """
    from napari_sam.files import ImageFileError, open_beside

    opened = open_beside(image, labels, axes=axes)
    if opened.shape == labels.shape:
        return opened
    opened.close()
    raise ImageFileError(
        f"Expected an image of the labels' shape {labels.shape}, but for channels; found {image.name} of the "
        f"shape {tuple(opened.array.shape)}, its axes taken for {opened.names}. Choose the image that was "
        "labelled, or say with --image-axes what its axes are, for example CYX."
    )


def load(model: str, device: str) -> Predictor:
    """Load a model; a name or device that does not exist is a mistake of usage."""
    from napari_sam.predictor import load_model
    from napari_sam.predictor.load import choose_device

    try:
        choose_device(device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error
    try:
        return load_model(model, device=device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
