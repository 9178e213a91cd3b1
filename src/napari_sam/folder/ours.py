"""Which files a run may replace: what a run before it has written for the same image, as it left it.

Everything else that bears an output's name stays: images, labels that were drawn or corrected by hand, labels
of another image. Between the first file and the image's line in the manifest a run may be killed; a mark
beside each output says until then whose labels it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from napari_sam.export import ExportError, format_of
from napari_sam.export.formats import without_suffix
from napari_sam.files.pairs import MADE_SUFFIX
from napari_sam.folder.manifest import MANIFEST, STATE_FILE, Report, known_as, read_writers, stamp_output

NAMES = "surrogateescape"
"""How bytes of a file's name that are no text are written and read again, as they are."""


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


def refuse_sources(sources: Sequence[Path], outputs: Iterable[Path]) -> None:
    """Refuse to write over an image that is to be segmented.

    Labels may be added to the OME-Zarr of an image: it stays as it is.

    Raises
    ------
    ExportError
        If one of the outputs is one of the sources.
    """
    images = {_identity(source) for source in sources} - {None}
    for output in outputs:
        if _identity(output) in images and not _takes_labels(output):
            raise ExportError(
                f"Labels would be written over {output}, which is one of the images. "
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
        Whether a person gave the file's name: one of which nothing is known may then be replaced.
    """
    for output in outputs:
        if output.exists():
            why = _objection(known_as(source), output, before.get(known_as(output)), named)
            if why:
                return (
                    f"{output} is there already and {why}. Choose another place for the labels, or add "
                    "--overwrite to replace it."
                )
    return ""


def mark(source: Path, outputs: Sequence[Path]) -> None:
    """Say beside each output that its labels are those of this image, before they are written."""
    for output in outputs:
        _mark_of(output).write_text(known_as(source), encoding="utf-8", errors=NAMES)


def unmark(outputs: Sequence[Path]) -> None:
    """Take the marks away: the manifest says now what they said."""
    for output in outputs:
        _mark_of(output).unlink(missing_ok=True)


def _objection(source: str, output: Path, last: Report | None, named: bool) -> str:
    """Why one file may not be replaced."""
    state = _state(output)
    if state == "done":
        return f"is marked as done ({STATE_FILE})"
    if _marked(output) == source:
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
    return "" if known == stamp_output(output) else "was changed after it was written"


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


def _marked(output: Path) -> str:
    """The image of which an output holds labels, although no manifest says so yet."""
    try:
        return _mark_of(output).read_text(encoding="utf-8", errors=NAMES)
    except (OSError, ValueError):
        return ""


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file is on its disk, whatever its name: links, upper and lower case."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _takes_labels(path: Path) -> bool:
    """Whether labels are added to what is at a path."""
    if format_of(path).name != "ome-zarr":
        return False
    from napari_sam.export.ome_zarr import holds_image

    return holds_image(path)
