"""Segment images one after the other, so that no finished work is ever lost."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from napari_sam.export import ExportError, Format, export, format_of
from napari_sam.export.formats import is_file_name
from napari_sam.files import ImageFile, open_image
from napari_sam.files.pairs import MADE_SUFFIX
from napari_sam.files.refused import in_plain_words
from napari_sam.folder.ahead import embedded
from napari_sam.folder.cluster import Cluster, Piece, pieces_of, run_pieces
from napari_sam.folder.image import segment_image
from napari_sam.folder.manifest import (
    MANIFEST,
    Report,
    add_to_manifest,
    known_as,
    read_manifest,
    read_writers,
    stamp,
    stamp_output,
)
from napari_sam.folder.names import distinct_names, names_in
from napari_sam.folder.ours import labels_at, objection, placing, refuse_sources, unmark
from napari_sam.folder.work import forget_others, work_folder
from napari_sam.predictor import Predictor
from napari_sam.progress import Notice, Progress, Steps
from napari_sam.recipe import Recipe
from napari_sam.store import Embeddings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One image and where its labels go.

    Parameters
    ----------
    source : Path
    outputs : tuple of Path
        One for each format.
    """

    source: Path
    outputs: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDone(Progress):
    """An image is finished, or has failed."""

    report: Report


class _Made(NamedTuple):
    """What a result depends on besides the image: codes of the settings and of the model, and the axes."""

    recipe: str
    model: str
    axes: str


def plan(sources: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> list[Job]:
    """Say where the labels of each image go.

    Parameters
    ----------
    sources : sequence of Path
    out : Path
        A folder; for one image also the file itself, where it ends as one of the formats does. An OME-Zarr
        is a folder and counts as a file here.
    formats : sequence of str, optional
        Names of formats (`napari_sam.export.FORMATS`), TIFF if not given; of a file, its ending says it.

    Returns
    -------
    list of Job
        With the images' names and ``_labels`` at the end. Where a name comes up twice, those of the folders
        above, as far as they differ, are put in front of it, and the files' endings and numbers behind. Names
        that differ only in upper and lower case are one name, as on many disks. An image of which the
        manifest in the folder has labels there keeps their name.

    Raises
    ------
    ExportError
        If a format is unknown, or is not that of the file; if the file is to be that of several images, or
        is one of another kind.
    """
    chosen = [format_of(out, name) for name in formats or ("tiff",)]
    named = _named_format(out)
    if named is not None and len(sources) > 1:
        raise ExportError(
            f"There are {len(sources)} images, and {out.name} is one file. Name a folder for their labels."
        )
    if named is not None and sources:
        if formats and chosen != [named]:
            raise ExportError(
                f"Expected labels as {named.name}, as {out.name} ends, found {', '.join(formats)}. "
                "Give the file the ending of the format, or name a folder for the labels."
            )
        return [Job(sources[0], (out,))]
    endings = [known.suffixes[0] for known in chosen]
    names = distinct_names(sources, names_in(out / MANIFEST))
    return [
        Job(source, tuple(out / f"{name}{MADE_SUFFIX}{ending}" for ending in endings))
        for source, name in zip(sources, names, strict=True)
    ]


def _named_format(out: Path) -> Format | None:
    """Format of a file that is to be written; None if ``out`` is a folder for files."""
    try:
        found = format_of(out)
    except ExportError:
        if out.is_file() or (is_file_name(out) and not out.is_dir()):
            raise ExportError(
                f"{out} is a file, and of no format that labels are written in. Name a folder for the "
                "labels, or a file with the ending of a format, such as .tif."
            ) from None
        return None
    if not out.is_dir() or found.name != "ome-zarr":
        return None if out.is_dir() else found
    # Said now and not after all the work.
    if not any((out / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
        raise ExportError(f"{out} is a folder and no OME-Zarr. Choose another name.")
    return found


def segment_files(
    predictor: Predictor,
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    manifest: Path | None = None,
    resume: bool = False,
    axes: str | None = None,
    cluster: Cluster | None = None,
    store: Path | None = None,
    overwrite: bool = False,
) -> Steps[tuple[Report, ...]]:
    """Segment images one after the other; one that fails is reported and the next one follows.

    Parameters
    ----------
    predictor : Predictor
    jobs : sequence of Job
    recipe : Recipe
    manifest : Path, optional
        File that gets one line for each image as soon as it is finished.
    resume : bool
        Leave images alone that the manifest says are done, with the same settings, model and axes, and whose
        files are there.
    axes : str, optional
        Letters of the images' axes, where the files do not say them.
    cluster : Cluster, optional
        Workers that segment the planes and tiles of all images first; the labels are then put together and
        written here.
    store : Path, optional
        Store of embeddings that were made ahead of time (`embed_image`): planes and tiles that are in it are
        not encoded again. Nothing is written to it.
    overwrite : bool
        Replace also what lies at an output and is not known to come from an earlier run on the same image.
        An image whose labels may not be written is reported as failed; the manifest keeps what it says of it.

    Yields
    ------
    Progress
        A `FileDone` after each image, plain `Progress` in between, and a `Notice` where workers could not do
        what they were given. Closing the generator cancels: what is finished stays.

    Returns
    -------
    tuple of Report

    Raises
    ------
    ExportError
        If labels would be written over one of the images; nothing is done then.
    """
    refuse_sources([job.source for job in jobs], [output for job in jobs for output in job.outputs])
    if manifest is not None:
        manifest.parent.mkdir(parents=True, exist_ok=True)
    known = read_manifest(manifest) if manifest is not None and resume else {}
    writers = _writers(jobs, manifest)
    made = _Made(recipe.digest(), predictor.model_id, (axes or "").upper())

    def settled(job: Job) -> Report | None:
        """What is said of an image without a look at it: it is kept, or its labels may not be written."""
        source = known_as(job.source)
        try:
            if _is_kept(job, known, writers, made):
                before = known[source]
                return Report(before.source, "kept", before.outputs, 0.0, before.planes, before.objects)
            named = manifest is None
            why = "" if overwrite else objection(job.source, job.outputs, writers, named=named)
        # A name that the disk refuses, say: one such image must not end a night's work.
        except Exception as problem:  # noqa: BLE001
            _log.debug("%s failed:", job.source, exc_info=True)
            why = in_plain_words(problem)
        return Report(source, "failed", (), error=why) if why else None

    kept = embedded(store)
    reports: list[Report] = []
    if cluster is not None:
        left = [job for job in jobs if settled(job) is None]
        pieces = _pieces(predictor, left, recipe, axes, store)
        failed = yield from run_pieces(cluster, pieces)
        if failed:
            (piece, why), total = failed[0], len(pieces)
            where = f"{len(failed)} of {total} units failed on the workers and are done here"
            yield Notice(total, total, f"{where} ({piece}: {why})")
    for number, job in enumerate(jobs):
        report = settled(job)
        if report is None:
            steps = _segment_file(predictor, job, recipe, axes, kept)
            report = yield from _counted(steps, number, len(jobs), job.source.name)
            if manifest is not None:
                add_to_manifest(manifest, report)
        # Only now: a run that is killed before its line is written must know its files again.
        if manifest is not None or report.status != "failed":
            unmark(map(Path, report.outputs))
        if report.status != "failed":
            shutil.rmtree(_work_of(job, recipe, predictor, axes), ignore_errors=True)
        reports.append(report)
        yield FileDone(number + 1, len(jobs), job.source.name, report=report)
    return tuple(reports)


def _writers(jobs: Sequence[Job], manifest: Path | None) -> dict[str, Report]:
    """Who wrote the files that are there: the run's manifest says it, else those beside the outputs."""
    if manifest is not None:
        return read_writers(manifest)
    found: dict[str, Report] = {}
    for folder in dict.fromkeys(output.parent for job in jobs for output in job.outputs):
        found |= read_writers(folder / MANIFEST)
    return found


def _work_of(job: Job, recipe: Recipe, predictor: Predictor, axes: str | None) -> Path:
    """Where the finished planes of an image lie."""
    return work_folder(job.source, job.outputs[0], recipe, predictor.model_id, axes)


def _is_kept(job: Job, known: Mapping[str, Report], writers: Mapping[str, Report], made: _Made) -> bool:
    """Whether an image was segmented in this way, has not changed, and its files are there."""
    before = known.get(known_as(job.source))
    return (
        before is not None
        and before.status == "done"
        and before.recipe == made.recipe
        and before.model in ("", made.model)
        and before.axes == made.axes
        and before.outputs == tuple(map(known_as, job.outputs))
        and all(labels_at(output).exists() for output in job.outputs)
        # Another image's labels may have replaced this one's.
        and all(writers[output].source == before.source for output in before.outputs)
        and (before.size, before.modified) == stamp(job.source)
    )


def _pieces(
    predictor: Predictor, jobs: Sequence[Job], recipe: Recipe, axes: str | None, store: Path | None
) -> list[Piece]:
    """Everything that is left to do on some images; what cannot be opened is reported when its turn comes."""
    pieces: list[Piece] = []
    # Workers may run in another folder.
    store = None if store is None else store.absolute()
    for job in jobs:
        work = _work_of(job, recipe, predictor, axes)
        try:
            with open_image(job.source, axes=axes) as image:
                _refuse_shape(job, image)
                found = pieces_of(predictor, image, axes, recipe, work)
                pieces += [replace(piece, store=store) for piece in found]
        except Exception:  # noqa: BLE001
            continue
    return pieces


def _refuse_shape(job: Job, image: ImageFile) -> None:
    """Refuse an image whose labels one of the formats cannot hold, before all the work."""
    for output in job.outputs:
        format_of(output).check(image.shape)


def _segment_file(
    predictor: Predictor, job: Job, recipe: Recipe, axes: str | None, kept: Sequence[Embeddings]
) -> Steps[Report]:
    """Segment one image and write its labels; what goes wrong with it is said in the report."""
    started = time.monotonic()
    size, modified = stamp(job.source)
    planes = objects = 0
    error = note = ""
    written: list[Path] = []
    try:
        with open_image(job.source, axes=axes) as image:
            planes, note = len(image), image.note
            _refuse_shape(job, image)
            job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
            work = _work_of(job, recipe, predictor, axes)
            forget_others(work)
            steps = segment_image(predictor, image, recipe, job.outputs[0].parent, work=work, kept=kept)
            found = yield from steps
            objects = found.count
            for output in job.outputs:
                with_image = format_of(output).name in ("table", "geojson")
                with placing(job.source, output) as aside:
                    export(
                        found.labels,
                        output,
                        axes=found.axes,
                        origin=image.origin,
                        features=found.table if len(found.table) else None,
                        image=image.intensities() if with_image else None,
                        image_name=job.source.name,
                        linked=found.linked,
                    )
                written.append(output)
                for table in aside:
                    note = f"{note} The table of the objects that were there before is now {table}.".strip()
    # One bad image, whatever is wrong with it, must not end a night's work.
    except Exception as problem:  # noqa: BLE001
        _log.debug("%s failed:", job.source, exc_info=True)
        error = in_plain_words(problem)
    return Report(
        known_as(job.source),
        "failed" if error else "done",
        tuple(map(known_as, written)),
        round(time.monotonic() - started, 3),
        planes,
        objects,
        error,
        recipe.digest(),
        size,
        modified,
        tuple(stamp_output(labels_at(output)) for output in written),
        predictor.model_id,
        (axes or "").upper(),
        note,
    )


def _counted(steps: Steps[Report], number: int, total: int, name: str) -> Steps[Report]:
    """Put an image's steps in its place among all images; a single image keeps its own."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            report: Report = end.value
            return report
        if total == 1:
            yield step
        else:
            yield Progress(number, total, f"{name}: {step.message or f'{step.done} of {step.total}'}")
