"""The command line, ``napari-sam``: thin, and quick to start, for it imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from napari_sam.evaluation.command import evaluate_command
from napari_sam.training.command import train_command

if TYPE_CHECKING:
    from napari_sam.folder import Report
    from napari_sam.predictor import Predictor
    from napari_sam.progress import Progress, Steps
    from napari_sam.recipe import Recipe

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
DEBUG = "NAPARI_SAM_DEBUG"

app = typer.Typer(
    name="napari-sam",
    help="Segment cells with Segment Anything: click in napari, or whole folders from here.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[
    str, typer.Option("--model", "-m", help="Name of a model (see `napari-sam models`), or its file.")
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
AxesOption = Annotated[
    str | None, typer.Option("--axes", help="Letters of the axes, where the files do not say them: 'TZYX'.")
]
Images = Annotated[
    list[str],
    typer.Argument(help="Images, folders, or patterns in quotes: 'data/*.tif'.", metavar="IMAGE"),
]


def main() -> None:
    """Run the command line; every error is one sentence, and the exit code says how it went."""
    try:
        app()
    except KeyboardInterrupt:
        _stop("Stopped. What was finished is kept.", STOPPED)
    # Whatever goes wrong, a person at a terminal gets a sentence and not a traceback.
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        plain = isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("napari_sam")
        text = " ".join(str(error).split()) or type(error).__name__
        kind = "" if plain else f"unexpected {type(error).__name__}: "
        hint = "" if plain else f" Set {DEBUG}=1 to see where it happened."
        _stop(f"Error: {kind}{text}{hint}", FAILED)


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Segment cells with Segment Anything: click in napari, or whole folders from here."""
    if version:
        import napari_sam

        typer.echo(f"napari-sam-cells {napari_sam.__version__}")
        raise typer.Exit(DONE)


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for what the demo writes.")] = None,
    drive: Annotated[
        bool, typer.Option("--drive", help="Click by itself, write the results and close.")
    ] = False,
) -> None:
    """Open napari with the dock and a sample image, ready to click."""
    from napari_sam._napari.demo import run_demo

    run_demo(out, drive)


@app.command()
def models(
    download: Annotated[str | None, typer.Option(metavar="NAME", help="Download this model.")] = None,
    file: Annotated[
        Path | None, typer.Option("--from", help="With --download: take this file, without a network.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also models whose publisher states no licence.")
    ] = False,
) -> None:
    """List the models, or download one."""
    if download is None:
        _list_models(everything)
        return
    from napari_sam.weights.fetch import fetch, find_downloaded, use_file
    from napari_sam.weights.registry import find_entry

    try:
        entry = find_entry(download)
        path = use_file(entry, file) if file is not None else find_downloaded(entry)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--download") from error
    if path is None:
        from tqdm import tqdm

        with tqdm(total=entry.size, unit="B", unit_scale=True, desc=entry.name, disable=None) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total or None
                bar.update(done - bar.n)

            path = fetch(entry, progress=show)
    typer.echo(f"{entry.name} lies at {path}. Licence: {entry.licence or 'none stated'}.")


@app.command()
def segment(
    images: Images,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for the labels; or, for one image, the file to write."),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name of a model (see `napari-sam models`), or its file."),
    ] = None,
    device: Device = "auto",
    diameter: Diameter = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", help="tiff, png, imagej, geojson, coco, ome-zarr, table; repeat it."),
    ] = None,
    channels: Channels = None,
    axes: AxesOption = None,
    predicted_iou: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least predicted IoU of a mask.")
    ] = None,
    stability: Annotated[float | None, typer.Option(min=0, max=1, help="Least stability of a mask.")] = None,
    min_area: Annotated[float | None, typer.Option(min=0, help="Smallest object in pixels.")] = None,
    max_area: Annotated[float | None, typer.Option(min=1, help="Largest object in pixels.")] = None,
    link: Annotated[
        bool | None, typer.Option("--link/--no-link", help="One id for an object through a stack.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", help="YAML file of settings; options here win.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do only what the manifest does not say is done.")
    ] = False,
) -> None:
    """Segment every object in images, stacks and folders.

    One line for each image goes to manifest.jsonl in the output folder as soon as it is finished. An image
    that fails is reported and the next one follows; the exit code is then 1.
    """
    from napari_sam.files import ImageFileError, find_images

    recipe = _recipe(
        settings,
        {"model": model, "diameter": diameter, "link": link},
        {
            "pred_iou_thresh": predicted_iou,
            "stability_score_thresh": stability,
            "min_area": min_area,
            "max_area": max_area,
        },
        channels,
    )
    try:
        sources = find_images(images)
    except ImageFileError as error:
        raise typer.BadParameter(str(error), param_hint="IMAGE") from error
    predictor = _load(recipe.model, device)
    from napari_sam.export import ExportError
    from napari_sam.folder import MANIFEST, FileDone, plan, read_manifest, segment_files
    from napari_sam.recipe import RecipeError

    manifest = out / MANIFEST
    # Labels that an earlier run wrote beside the images are not images.
    written = {name for report in read_manifest(manifest).values() for name in report.outputs}
    sources = [path for path in sources if str(path.absolute()) not in written]
    try:
        jobs = plan(sources, out, formats or ["tiff"])
        recipe.settings(predictor)
    except (ExportError, RecipeError) as error:
        raise typer.BadParameter(str(error)) from error
    one_file = [job.outputs for job in jobs] == [(out,)]

    def tell(step: Progress) -> None:
        if isinstance(step, FileDone):
            _tell(step.report)

    steps = segment_files(
        predictor, jobs, recipe, manifest=None if one_file else manifest, resume=resume, axes=axes
    )
    reports = _show(steps, "plane" if len(jobs) == 1 else "image", tell)
    raise typer.Exit(FAILED if any(r.status == "failed" for r in reports) else DONE)


@app.command()
def embed(
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the store; one store may serve all.")],
    model: Model = "built-in",
    device: Device = "auto",
    diameter: Diameter = None,
    channels: Channels = None,
    axes: AxesOption = None,
    max_gb: Annotated[
        float | None, typer.Option(min=0.01, help="Disk space of the store; the oldest make room.")
    ] = None,
) -> None:
    """Embed images and stacks ahead of time.

    Every click in them is then instant. The same command goes on where it stopped, whatever stopped it.
    """
    from napari_sam.files import ImageFileError, find_images, open_image

    recipe = _recipe(None, {"model": model, "diameter": diameter}, {}, channels)
    try:
        sources = find_images(images)
    except ImageFileError as error:
        raise typer.BadParameter(str(error), param_hint="IMAGE") from error
    predictor = _load(recipe.model, device)
    from napari_sam.folder import Pictures
    from napari_sam.store import EmbeddingStore, embed_stack

    store = EmbeddingStore(out, None if max_gb is None else int(max_gb * 1e9))
    failed = False
    for source in sources:
        try:
            with open_image(source, axes=axes) as image:
                steps = embed_stack(predictor, Pictures(image, recipe), store, diameter=diameter)
                result = _show(steps, "plane", lambda step: None)
            typer.echo(f"{source}: {result.computed} planes embedded, {result.found} were there already")
        except ValueError as error:
            failed = True
            typer.echo(f"{source}: failed. {error}", err=True)
    raise typer.Exit(FAILED if failed else DONE)


@app.command()
def export(
    labels: Annotated[Path, typer.Argument(help="Label image: TIFF, PNG, NumPy array or OME-Zarr.")],
    out: Annotated[
        list[Path], typer.Option("--out", "-o", help="File to write; its ending says the format. Repeat it.")
    ],
    format_name: Annotated[
        str | None, typer.Option("--format", "-f", help="Format, where the ending does not say it.")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Pixel size, one number or one for each axis: '2,0.5,0.5'.")
    ] = None,
    units: Annotated[str | None, typer.Option(help="Unit of the pixel size, for example um.")] = None,
    axes: AxesOption = None,
    features: Annotated[
        Path | None, typer.Option(help="CSV with a column 'index' or 'label', e.g. of predicted IoUs.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="The labelled image, for its intensities.")] = None,
) -> None:
    """Write a label image for Fiji, QuPath and Python."""
    from dataclasses import replace

    from napari_sam.axes import AxesError, make_axes
    from napari_sam.export import ExportError, format_of
    from napari_sam.export import export as write
    from napari_sam.files import ImageFileError, open_image

    try:
        for path in out:
            format_of(path, format_name)
        found = open_image(labels, axes=axes)
        pictured = None if image is None else open_image(image)
        array = found.labels()
        known = found.axes
        if spacing is not None:
            sizes = _numbers(spacing)
            given = make_axes(len(known.names), known.names, sizes[0] if len(sizes) == 1 else sizes)
            known = replace(known, spacing=given.spacing)
        if units is not None:
            known = replace(known, units=make_axes(len(known.names), known.names, None, units).units)
    except (ExportError, AxesError, ImageFileError) as error:
        raise typer.BadParameter(str(error)) from error
    table = None
    if features is not None:
        import pandas as pd

        table = pd.read_csv(features)
    with found:
        for path in out:
            written = write(
                array,
                path,
                format=format_name,
                axes=known,
                features=table,
                image=None if pictured is None else pictured.intensities(),
                image_name=(image or labels).name,
            )
            typer.echo(str(written))
    if pictured is not None:
        pictured.close()


app.command("train")(train_command)
app.command("evaluate")(evaluate_command)


def _list_models(everything: bool) -> None:
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


def _recipe(
    path: Path | None, changes: dict[str, Any], automatic: dict[str, Any], channels: str | None
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
    chosen = {name: value for name, value in automatic.items() if value is not None}
    return replace(recipe, **given, automatic={**recipe.automatic, **chosen})


def _channels(text: str) -> tuple[int | None, ...]:
    """``(2, 0, None)`` of ``"2,0,-"``; one number is for all three colours."""
    words = [word.strip() for word in text.split(",")]
    if not all(word == "-" or word.isdigit() for word in words) or len(words) not in (1, 3):
        raise typer.BadParameter(f"Expected one or three channels such as '2,0,-', found {text!r}.")
    picks = tuple(None if word == "-" else int(word) for word in words)
    return picks * 3 if len(picks) == 1 else picks


def _numbers(text: str) -> list[float]:
    """Numbers of ``"2,0.5,0.5"``."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"Expected numbers such as '2,0.5,0.5', found {text!r}.") from error


def _load(model: str, device: str) -> Predictor:
    """Load a model; a name or device that does not exist is a mistake of usage."""
    from napari_sam.predictor import load_model

    try:
        return load_model(model, device=device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error


def _show(steps: Steps[Any], unit: str, tell: Any) -> Any:
    """Run to the end with a progress bar, where there is a terminal."""
    from tqdm import tqdm

    from napari_sam.progress import finish

    with tqdm(unit=unit, disable=None, leave=False) as bar:

        def report(step: Progress) -> None:
            bar.total = step.total
            bar.set_postfix_str(step.message, refresh=False)
            bar.update(step.done - bar.n)
            tell(step)

        return finish(steps, report)


def _tell(report: Report) -> None:
    """Print what became of an image, without tearing the progress bar."""
    from tqdm import tqdm

    if report.status == "failed":
        tqdm.write(f"{report.source}: failed. {report.error}", file=sys.stderr)
    elif report.status == "kept":
        tqdm.write(f"{report.source}: done before")
    else:
        files = ", ".join(os.path.relpath(path) for path in report.outputs)
        tqdm.write(f"{report.source}: {report.objects} objects in {report.seconds:.1f} s -> {files}")


def _stop(text: str, code: int) -> NoReturn:
    """Say why, and end with an exit code."""
    typer.echo(text, err=True)
    sys.exit(code)
