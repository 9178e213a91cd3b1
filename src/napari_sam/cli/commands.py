"""The command line, ``napari-sam``: thin, and quick to start, for it imports what it needs when it runs."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.cli.options import (
    AxesOption,
    Channels,
    ContrastOption,
    Device,
    Diameter,
    Images,
    Model,
    SettingsOption,
    load,
    open_picture,
    read_recipe,
    read_table,
    resized,
)
from napari_sam.cli.show import DONE, FAILED, list_models, places_shown, show, stop, tell_report
from napari_sam.cli.track import track_command
from napari_sam.evaluation.command import evaluate_command
from napari_sam.training.command import train_command

if TYPE_CHECKING:
    from napari_sam.progress import Progress

DEBUG = "NAPARI_SAM_DEBUG"

_log = logging.getLogger(__name__)

app = typer.Typer(
    name="napari-sam",
    help="Segment cells with Segment Anything: click in napari, or whole folders from here.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; every error is one sentence, and the exit code says how it went."""
    # A file may have a name that the terminal, or the log that it writes to, cannot show.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debug = os.environ.get(DEBUG, "0") not in ("", "0")
    try:
        with places_shown() if debug else nullcontext():
            app()
    # Whatever goes wrong, a person at a terminal gets a sentence and not a traceback.
    except Exception as error:
        if debug:
            raise
        plain = isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("napari_sam")
        from napari_sam.files.refused import in_plain_words

        text = in_plain_words(error)
        kind = "" if plain else f"unexpected {type(error).__name__}: "
        hint = "" if plain else f" Set {DEBUG}=1 to see where it happened."
        stop(f"Error: {kind}{text}{hint}", FAILED)


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

    report = run_demo(out, drive)
    if report is not None:
        typer.echo(str(report))


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
        if file is not None:
            message = f"Say with --download which model {file} is: --download NAME --from {file}"
            raise typer.BadParameter(message, param_hint="--from")
        list_models(everything)
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
    model: Model = None,
    device: Device = "auto",
    diameter: Diameter = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", help="tiff, ome-tiff, png, imagej, geojson, coco, ome-zarr, table; repeat it."
        ),
    ] = None,
    channels: Channels = None,
    contrast: ContrastOption = None,
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
    settings: SettingsOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do only what the manifest does not say is done.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace labels that others wrote or changed, too."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine that share the planes.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler whose workers share the planes.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Store of 'napari-sam embed': what is in it is not encoded again.")
    ] = None,
) -> None:
    """Segment every object in images, stacks and folders.

    One line for each image goes to manifest.jsonl in the output folder as soon as it is finished. An image
    that fails is reported and the next one follows; the exit code is then 1. Labels that were drawn or
    corrected by hand are not replaced.
    """
    recipe = read_recipe(
        settings,
        {"model": model, "diameter": diameter, "link": link},
        {
            "pred_iou_thresh": predicted_iou,
            "stability_score_thresh": stability,
            "min_area": min_area,
            "max_area": max_area,
        },
        channels,
        contrast,
    )
    sources = _find_images(images, out)
    predictor = load(recipe.model, device)
    from napari_sam.export import ExportError
    from napari_sam.folder import (
        MANIFEST,
        FileDone,
        NamedModel,
        plan,
        refuse_sources,
        segment_files,
        shared_out,
    )
    from napari_sam.recipe import RecipeError

    manifest = out / MANIFEST
    try:
        jobs = plan(sources, out, formats)
        refuse_sources(sources, [output for job in jobs for output in job.outputs])
        recipe.settings(predictor)
    except (ExportError, RecipeError) as error:
        raise typer.BadParameter(str(error)) from error
    one_file = [job.outputs for job in jobs] == [(out,)]
    if one_file and resume:
        typer.echo("--resume is for a folder of labels; one file is always made anew.", err=True)

    def tell(step: Progress) -> None:
        if isinstance(step, FileDone):
            tell_report(step.report)

    with shared_out(workers, scheduler, NamedModel(recipe.model, device)) as cluster:
        steps = segment_files(
            predictor,
            jobs,
            recipe,
            manifest=None if one_file else manifest,
            resume=resume,
            axes=axes,
            cluster=cluster,
            store=store,
            overwrite=overwrite,
        )
        reports = show(steps, "plane" if len(jobs) == 1 else "image", tell)
    raise typer.Exit(FAILED if any(r.status == "failed" for r in reports) else DONE)


def _find_images(places: list[str], out: Path) -> list[Path]:
    """List the images that are meant; labels among them are left out, which is said.

    Raises
    ------
    BadParameter
        If a place does not exist, or there is no image but labels.
    """
    from napari_sam.files import ImageFileError, find_images
    from napari_sam.folder import images_among

    try:
        files = find_images(places)
    except ImageFileError as error:
        raise typer.BadParameter(str(error), param_hint="IMAGE") from error
    found, labels = images_among(files, [Path(place).expanduser() for place in places], out)
    if not found:
        raise typer.BadParameter("Expected images, found nothing but labels.", param_hint="IMAGE")
    if labels:
        names = ", ".join(path.name for path in labels[:3]) + (", …" if len(labels) > 3 else "")
        typer.echo(f"{len(labels)} label image(s) left out: {names}", err=True)
    return found


@app.command()
def embed(
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the store; one store may serve all.")],
    model: Model = None,
    device: Device = "auto",
    diameter: Diameter = None,
    channels: Channels = None,
    contrast: ContrastOption = None,
    axes: AxesOption = None,
    settings: SettingsOption = None,
    max_gb: Annotated[
        float | None, typer.Option(min=0.01, help="Disk space of the store; the oldest make room.")
    ] = None,
) -> None:
    """Embed images and stacks ahead of time.

    Every click in them is then instant. The same command goes on where it stopped, whatever stopped it.
    """
    from napari_sam.files import open_image

    recipe = read_recipe(settings, {"model": model, "diameter": diameter}, {}, channels, contrast)
    sources = _find_images(images, out)
    predictor = load(recipe.model, device)
    from napari_sam.folder.ahead import embed_image
    from napari_sam.store import EmbeddingStore

    store = EmbeddingStore(out, None if max_gb is None else int(max_gb * 1e9))
    failed = False
    for source in sources:
        try:
            with open_image(source, axes=axes) as image:
                result = show(embed_image(predictor, image, recipe, store), "plane", lambda step: None)
            if image.note:
                typer.echo(f"{source}: {image.note}", err=True)
            done = f"{result.computed} {result.unit}s embedded, {result.found} were there already"
            typer.echo(f"{source}: {done}")
        except ValueError as error:
            failed = True
            _log.debug("%s failed:", source, exc_info=True)
            typer.echo(f"{source}: failed. {error}", err=True)
    raise typer.Exit(FAILED if failed else DONE)


@app.command()
def export(
    labels: Annotated[
        Path, typer.Argument(help="Label image: TIFF, PNG, NumPy array, OME-Zarr (also that of an image).")
    ],
    out: Annotated[
        list[Path], typer.Option("--out", "-o", help="File to write; its ending says the format. Repeat it.")
    ],
    format_name: Annotated[
        str | None, typer.Option("--format", "-f", help="Format, where the ending does not say it.")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Pixel size, one number or one for each axis: '2,0.5,0.5'.")
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="Unit of the pixel size, one or one for each axis: 's,um,um'.")
    ] = None,
    axes: AxesOption = None,
    features: Annotated[
        Path | None, typer.Option(help="CSV with a column 'index' or 'label', e.g. of predicted IoUs.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="The labelled image, for its intensities.")] = None,
    image_axes: Annotated[
        str | None, typer.Option(help="Letters of the axes of --image, as --axes says those of the labels.")
    ] = None,
    link: Annotated[
        bool, typer.Option("--link/--no-link", help="Ids go through a stack, or are each plane's own.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace labels that lie in the OME-Zarr of an image, too.")
    ] = False,
) -> None:
    """Write a label image for Fiji, QuPath and Python.

    Of the OME-Zarr of an image, the labels that lie in it are taken.
    """
    from contextlib import ExitStack

    from napari_sam.axes import AxesError
    from napari_sam.export import ExportError, format_of
    from napari_sam.export import export as write
    from napari_sam.export.formats import refuse_other_endings
    from napari_sam.files import ImageFileError, open_labels

    with ExitStack() as stack:
        try:
            for path in out:
                format_of(path, format_name)
                if format_name is not None:
                    refuse_other_endings(path, format_name)
                if path.is_dir() and not overwrite:
                    from napari_sam.export.ome_zarr import refuse_labels_within

                    refuse_labels_within(path)
            if image is not None or features is not None:
                from napari_sam.folder import refuse_sources

                refuse_sources([image] if image is not None else [], out)
                refuse_sources([features] if features is not None else [], out, "the table of --features")
            found = stack.enter_context(open_labels(labels, axes=axes))
            if found.note:
                typer.echo(f"{labels}: {found.note}", err=True)
            array = found.labels()
            pictured = None if image is None else stack.enter_context(open_picture(image, found, image_axes))
            known = resized(found.axes, spacing, units)
        except (ExportError, AxesError, ImageFileError) as error:
            raise typer.BadParameter(str(error)) from error
        for path in out:
            written = write(
                array,
                path,
                format=format_name,
                axes=known,
                features=None if features is None else read_table(features),
                image=None if pictured is None else pictured.intensities(),
                image_name=(image or labels).name,
                linked=link,
            )
            typer.echo(str(written))


app.command("track")(track_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
