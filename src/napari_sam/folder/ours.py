"""Which files a run may replace: what a run before it has written for the same image, as it left it.

Everything else that bears an output's name stays: images, labels that were drawn or corrected by hand, labels
of another image, labels that lie in the OME-Zarr of an image. Between a file and the image's line in the
manifest a run may be killed; a mark beside the output says until then which labels it has written there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from napari_sam.export import ExportError, format_of
from napari_sam.export.atomic import before_placing, free_name
from napari_sam.export.formats import without_suffix
from napari_sam.files.find import identity
from napari_sam.files.pairs import MADE_SUFFIX
from napari_sam.folder.manifest import MANIFEST, STATE_FILE, Report, known_as, read_writers, stamp_output


def images_among(files: Sequence[Path], named: Iterable[Path], out: Path) -> tuple[list[Path], list[Path]]:
    """Tell images from label images that lie among them.

    Parameters
    ----------
    files : sequence of Path
    named : iterable of Path
        Those that a person gave by name: they are images, whatever they are called, if no other is given.
    out : Path
        Folder of the labels.

    Returns
    -------
    images, labels : list of Path
        What a run has written, by its manifest in ``out`` or beside the file, or what is called as labels are
        that are made here and lies beside its image.
    """
    folders = dict.fromkeys([out, *(file.parent for file in files)])
    written = {output for folder in folders for output in read_writers(folder / MANIFEST)}
    names = {(file.parent, without_suffix(file)) for file in files}
    images: list[Path] = []
    labels: list[Path] = []
    for file in files:
        name = without_suffix(file)
        made = name.endswith(MADE_SUFFIX) and (file.parent, name.removesuffix(MADE_SUFFIX)) in names
        (labels if made or known_as(file) in written else images).append(file)
    if not images and set(files) <= set(named):
        return labels, images
    return images, labels


def refuse_sources(sources: Sequence[Path], outputs: Iterable[Path], what: str = "one of the images") -> None:
    """Refuse to write over an image that is to be segmented, or over another file that is read.

    Labels may be added to the OME-Zarr of an image: it stays as it is.

    Parameters
    ----------
    sources : sequence of Path
    outputs : iterable of Path
    what : str
        What a source is, for the message.

    Raises
    ------
    ExportError
        If one of the outputs is one of the sources.
    """
    images = {identity(source) for source in sources} - {None}
    for output in outputs:
        if identity(output) in images and not _takes_labels(output):
            raise ExportError(
                f"Labels would be written over {output}, which is {what}. "
                "Choose another folder or another name for the labels."
            )


def objection(source: Path, outputs: Sequence[Path], before: Mapping[str, Report], *, named: bool) -> str:
    """Say why an image's labels may not be written; nothing if they may.

    Parameters
    ----------
    source : Path
        The image.
    outputs : sequence of Path
    before : mapping of str to Report
        Who wrote a file last (`napari_sam.folder.manifest.read_writers`).
    named : bool
        Whether a person gave the file's name: one of which nothing is known may then be replaced, but not
        labels within an image, for it is the image that has the name.
    """
    for output in outputs:
        place = labels_at(output)
        if place.exists():
            may = named and place == output
            why = _objection(known_as(source), output, place, before.get(known_as(output)), may)
            if why:
                return (
                    f"{place} is there already and {why}. Choose another place for the labels, or add "
                    "--overwrite to replace it."
                )
    return ""


@contextmanager
def placing(source: Path, output: Path) -> Iterator[list[Path]]:
    """Mark what is exported to an output within this block as the labels of an image.

    The mark is made when the labels are complete and not yet in place: whenever the run is killed, it knows
    what it has written, and takes nothing else for it.

    Parameters
    ----------
    source, output : Path

    Yields
    ------
    list of Path
        Filled with the tables of the dock that told of the objects before: a new object of the same number is
        another one, so that they are kept under another name.
    """
    place = labels_at(output)
    aside: list[Path] = []

    def tell(beside: Path) -> None:
        before = stamp_output(place)
        stamps = [before] if (known_as(source), before) in _marked(output) else []
        mark(source, output, [*stamps, stamp_output(beside)])
        if place.suffix.lower() in (".tif", ".tiff") and features_of(output).is_file():
            aside.append(free_name(features_of(output)))
            features_of(output).replace(aside[-1])

    with before_placing(tell):
        yield aside


def mark(source: Path, output: Path, stamps: Iterable[tuple[int, int]]) -> None:
    """Say beside an output that it holds labels of an image, if it has one of some stamps."""
    noted = {"source": known_as(source), "written": list(stamps)}
    _mark_of(output).write_text(json.dumps(noted), encoding="utf-8")


def unmark(outputs: Iterable[Path]) -> None:
    """Take the marks away: the manifest says now what they said."""
    for output in outputs:
        _mark_of(output).unlink(missing_ok=True)


def _objection(source: str, output: Path, place: Path, last: Report | None, named: bool) -> str:
    """Why one file may not be replaced."""
    state = _state(output)
    if state == "done":
        return f"is marked as done ({STATE_FILE})"
    found = stamp_output(place)
    if (source, found) in _marked(output):
        return ""
    by_hand = f"was worked on in the dock ({STATE_FILE})" if state == "in work" else ""
    if last is None:
        return by_hand or ("" if named else "was not written by this run or one before it")
    if last.source != source:
        return f"was not written by this run: it holds the labels of {last.source}"
    # Lines of earlier versions do not say what the files were like.
    stamps = dict(zip(last.outputs, last.written, strict=False))
    known = stamps.get(known_as(output))
    if known is None:
        return by_hand
    return "" if known == found else "was changed after it was written"


def _state(output: Path) -> str:
    """How far the work on a labels file is, where its folder is gone through by hand."""
    try:
        noted = json.loads((output.parent / STATE_FILE).read_text(encoding="utf-8"))
        entries = noted["images"].values()
        return next((str(e["state"]) for e in entries if e["labels"] == output.name), "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _mark_of(output: Path) -> Path:
    return output.with_name(f".{output.name}.writing")


def _marked(output: Path) -> set[tuple[str, tuple[int, int]]]:
    """The image of which an output holds labels although no manifest says so yet, with each of their stamps.

    Marks of earlier versions say nothing of what the files are like, and hence nothing here.
    """
    try:
        noted = json.loads(_mark_of(output).read_text(encoding="utf-8"))
        return {(str(noted["source"]), (int(size), int(time))) for size, time in noted["written"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def labels_at(output: Path) -> Path:
    """Place at which the labels of an output lie: itself, but in the OME-Zarr of an image a folder in it."""
    if not output.is_dir():
        return output
    from napari_sam.export import ome_zarr

    return ome_zarr.labels_at(output)


def features_of(labels: Path) -> Path:
    """Table in which the dock keeps what is known of the objects of a label image."""
    return labels.with_suffix(".features.csv")


def _takes_labels(path: Path) -> bool:
    """Whether labels are added to what is at a path."""
    if format_of(path).name != "ome-zarr":
        return False
    from napari_sam.export.ome_zarr import holds_image

    return holds_image(path)
