"""The manifest: one line for each image, written when it is finished."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from napari_sam.files.tiff import files_of_image

MANIFEST = "manifest.jsonl"
TIFF = (".tif", ".tiff", ".btf")
"""Endings of the files whose image may lie in several."""
STATE_FILE = "annotation.json"
"""How far a person is who goes through the folder (`napari_sam.folder.annotate`)."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one image; a line of the manifest.

    Parameters
    ----------
    source : str
        The image, by the name that `known_as` gives it.
    status : {"done", "failed", "kept"}
        ``"kept"`` where it was finished before.
    outputs : tuple of str
        Names of the files that were written; of an image that failed, those before the one that failed.
    seconds : float
    planes, objects : int
        What was found.
    error : str
        Why it failed.
    recipe : str
        Code of the settings (`Recipe.digest`).
    size, modified : int, float
        The image's bytes and time, by which a changed image is noticed.
    written : tuple of (int, int)
        The same of each output (`stamp_output`); empty in lines of earlier versions.
    model : str
        Code of the model's weights; empty in lines of earlier versions.
    axes : str
        Letters of the image's axes, where they were given.
    note : str
        What a person should know of the image (`ImageFile.note`).
    """

    source: str
    status: Literal["done", "failed", "kept"]
    outputs: tuple[str, ...]
    seconds: float = 0.0
    planes: int = 0
    objects: int = 0
    error: str = ""
    recipe: str = ""
    size: int = -1
    modified: float = -1.0
    written: tuple[tuple[int, int], ...] = ()
    model: str = ""
    axes: str = ""
    note: str = ""


def add_to_manifest(path: Path, report: Report) -> None:
    """Write one more line, in one piece."""
    line = json.dumps(asdict(report)) + "\n"
    with path.open("ab+") as file:
        # A line that an interruption cut off must not swallow this one.
        if file.tell() and not _ends_line(file):
            line = "\n" + line
        file.write(line.encode())
        # It is on disk before the marks beside the outputs are taken away.
        file.flush()
        os.fsync(file.fileno())


def _ends_line(file: BinaryIO) -> bool:
    """Whether the last character of a file that is not empty ends a line."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_manifest(path: Path) -> dict[str, Report]:
    """Read the last line about each image; a line that was cut off by an interruption is left out."""
    return {report.source: report for report in _lines(path)}


def read_writers(path: Path) -> dict[str, Report]:
    """Read who wrote each output last: the last line that names it, by its name (`known_as`)."""
    return {output: report for report in _lines(path) for output in report.outputs}


def _lines(path: Path) -> Iterator[Report]:
    """Read the lines that are whole, with the files by the names that they have now."""
    if not path.is_file():
        return
    here = Path(known_as(path)).parent
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            entry["outputs"] = tuple(entry["outputs"])
            entry["written"] = tuple((size, time) for size, time in entry.get("written", ()))
            report = Report(**entry)
        except (ValueError, TypeError, KeyError):
            continue
        yield _as_moved(report, here)


def known_as(path: Path | str) -> str:
    """The name under which a file is noted: the same by whatever path or link it is reached."""
    path = Path(path)
    # A link to a file is a file of its own: two images may be the same pixels.
    return str(Path(os.path.realpath(path.parent), path.name))


def _as_moved(report: Report, here: Path) -> Report:
    """A line with today's names: a folder may have been moved, together with its images or without them."""
    outputs = tuple(map(known_as, report.outputs))
    if not outputs or any(os.path.exists(output) for output in outputs):
        return replace(report, source=known_as(report.source), outputs=outputs)
    moved = tuple(str(here / Path(output).name) for output in outputs)
    if not all(os.path.exists(output) for output in moved):
        return replace(report, source=known_as(report.source), outputs=outputs)
    source = report.source
    if not os.path.exists(source):
        beside = here / os.path.relpath(source, Path(report.outputs[0]).parent)
        source = str(beside) if beside.exists() else source
    return replace(report, source=known_as(source), outputs=moved)


def stamp_output(output: Path) -> tuple[int, int]:
    """Bytes and time in nanoseconds of a file, or of all files in a folder together; (-1, -1) of neither."""
    files = [p for p in output.rglob("*") if p.is_file()] if output.is_dir() else [output]
    try:
        found = [file.stat() for file in files]
    except OSError:
        return -1, -1
    return sum(f.st_size for f in found), max((f.st_mtime_ns for f in found), default=-1)


def stamp(source: Path) -> tuple[int, float]:
    """Bytes and time of an image, of all its files together; impossible ones where it has vanished.

    Of an image whose planes lie in several files those that are there count: one that is added changes it.
    Labels that lie in an OME-Zarr are not the image.
    """
    try:
        files = [file.stat() for file in _files_of(source)]
    except OSError:
        return -1, -1.0
    return sum(f.st_size for f in files), max((f.st_mtime for f in files), default=-1.0)


def _files_of(source: Path) -> Iterator[Path]:
    """The file of an image, or all in which its planes lie; of a folder all but for its labels."""
    if not source.is_dir():
        yield source
        parts = files_of_image(source) if source.suffix.lower() in TIFF else set()
        yield from (part for part in parts - {source} if part.exists())
        return
    for folder, below, names in os.walk(source):
        if Path(folder) == source and "labels" in below:
            below.remove("labels")
        yield from (Path(folder, name) for name in names)
