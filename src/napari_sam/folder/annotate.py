"""A folder of images that a person works through: labels of each in a folder, and how far the work is.

What is in the labels folder is all there is to know: ``NAME_labels.tif`` for each image, what is stored
about its objects in ``NAME_labels.features.csv``, and `STATE_FILE`. Names are relative, so that the folders
may move to another machine. Each file is replaced as a whole: whatever interrupts the work, the last saved
state stays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import copy2
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import Axes
from napari_sam.export import export
from napari_sam.export.atomic import free_name, replacing
from napari_sam.export.formats import without_suffix
from napari_sam.files import ImageFileError, find_images, open_image
from napari_sam.files.alike import spelled
from napari_sam.files.image_file import in_words
from napari_sam.folder.manifest import MANIFEST, STATE_FILE, read_manifest, stamp_output
from napari_sam.folder.names import numbered
from napari_sam.folder.opened import Opened, read_whole
from napari_sam.folder.ours import features_of, unmark
from napari_sam.folder.run import plan

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["STATE_FILE", "AnnotationFolder", "Entry", "Snapshot", "Stamp", "State"]

FORMAT, VERSION = "napari-sam annotation", 1
State = Literal["new", "in work", "done", "broken"]
LONGEST = 215
"""Bytes of the name of a labels file at most, without its ending: most disks take 255, of which the table and
what lies beside it for a moment (``.NAME.features.csv.other1.partial``) need some."""
Stamp = tuple[int, int]
"""See `AnnotationFolder.stamp`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An image of the folder.

    Parameters
    ----------
    source : Path
    labels : Path
        Where its labels are.
    state : {"new", "in work", "done", "broken"}
    objects : int
    error : str
        Why it cannot be opened.
    """

    source: Path
    labels: Path
    state: State = "new"
    objects: int = 0
    error: str = ""

    @property
    def name(self) -> str:
        """File name of the image."""
        return self.source.name

    @property
    def features(self) -> Path:
        """Where the table of its objects is."""
        return features_of(self.labels)


@dataclass(frozen=True, eq=False, slots=True)
class Snapshot:
    """Labels of an image as they were at a moment.

    Parameters
    ----------
    number : int
        Which image of the folder.
    labels : ndarray of int
    features : DataFrame, optional
    axes : Axes
    """

    number: int
    labels: NDArray[np.integer]
    features: DataFrame | None
    axes: Axes

    def digest(self) -> bytes:
        """Return a code that changes with every pixel and every entry of the table, not with the dtype."""
        plain = np.ascontiguousarray(self.labels, dtype=np.uint32)
        digest = hashlib.blake2b(repr(plain.shape).encode(), digest_size=16)
        digest.update(plain.reshape(-1).view(np.uint8).data)
        if self.features is not None and len(self.features):
            digest.update(self.features.to_csv(index=False).encode())
        return digest.digest()


class Written(NamedTuple):
    """What was saved: the number of objects, and where labels are that somebody else had written."""

    objects: int
    aside: Path | None = None


class AnnotationFolder:
    """The images of a folder, with state and labels in another folder; one thread at a time writes there.

    Parameters
    ----------
    images, labels : str or Path
        Folders; that of the labels is made if it is missing.

    Raises
    ------
    ImageFileError
        If there is no such folder, it holds no image, or the labels folder cannot be made.
    """

    def __init__(self, images: str | Path, labels: str | Path) -> None:
        self.images, self.labels = Path(images).expanduser().absolute(), Path(labels).expanduser().absolute()
        if not self.images.is_dir():
            raise ImageFileError(f"There is no folder {self.images}.")
        try:
            self.labels.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageFileError(
                f"The folder {self.labels} for the labels cannot be made ({error.strerror or error}). "
                "Choose one in which you may write."
            ) from error
        noted = self._read()
        sources = find_images([self.images])
        # A copy from another machine may spell names otherwise, which look the same.
        ours = {other: name for name, other in self._noted_as(noted["images"], sources).items()}
        known: Mapping[str, Any] = {ours.get(name, name): about for name, about in noted["images"].items()}
        current = str(noted.get("current", ""))
        self.current = ours.get(current, current)
        names: dict[str, str] = {}
        for source in sources:
            noted_name = known[source.name]["labels"] if source.name in known else None
            # Earlier versions let two images share a file: it stays with the first.
            if noted_name is not None and noted_name not in names.values():
                names[source.name] = noted_name
        planned = {job.source: job.outputs[0] for job in plan(sources, self.labels)}
        written = {path.resolve() for path in planned.values()}
        # Labels that lie beside their images are no images.
        sources = [s for s in sources if s.resolve() not in written and s.name not in names.values()]
        counts = self._counts()
        for source in (s for s in sources if s.name not in names):
            stems = [without_suffix(name) for name in names.values()]
            (stem,) = numbered([without_suffix(planned[source])], stems)
            names[source.name] = f"{stem}.tif"
        there = spelled(names.values(), os.listdir(self.labels))
        names = {image: there.get(name, name) for image, name in names.items()}
        self.entries = [
            self._entry(s, self.labels / names[s.name], known.get(s.name), counts) for s in sources
        ]
        if not self.entries:
            raise ImageFileError(f"Expected images in {self.images}, found nothing but labels.")

    @property
    def first(self) -> int:
        """The image to begin with: the one that was open last, else the first that is not done."""
        names = [entry.name for entry in self.entries]
        if self.current in names:
            return names.index(self.current)
        return next((i for i, e in enumerate(self.entries) if e.state in ("new", "in work")), 0)

    def open(self, number: int) -> Opened:
        """Read an image and its labels.

        Raises
        ------
        ImageFileError
            If one of them cannot be read, or they do not fit together.
        """
        entry = self._named(number)
        opened = read_whole(entry.source)
        labels = features = None
        if entry.labels.exists():
            labels = _read_labels(entry.labels, opened)
            features = _read_features(entry.features, labels)
        return replace(opened, labels=labels, features=features)

    def stamp(self, number: int) -> Stamp:
        """Return what tells whether the labels on disk are those that were read or written last."""
        return stamp_output(self._named(number).labels)

    def owes(self, number: int) -> bool:
        """Whether an image that is done lacks its labels: empty ones tell others that nothing is in it."""
        entry = self.entries[number]
        return entry.state == "done" and not entry.objects and not entry.labels.exists()

    def save(self, snapshot: Snapshot, known: Stamp | None = None) -> Written:
        """Write an image's labels and table.

        An image that has neither labels nor a file stays without one, until it is done.

        Parameters
        ----------
        snapshot : Snapshot
        known : tuple, optional
            `stamp` of the labels that were read or written last. Others were written by somebody else
            meanwhile: they are kept in a file beside.

        Returns
        -------
        Written

        Raises
        ------
        ExportError
            If they cannot be written; the files that were there stay as they were.
        """
        entry = self.entries[snapshot.number]
        ids = np.unique(snapshot.labels)
        table = _rows_of(snapshot.features, ids)
        there = entry.labels.exists()
        if not there and not ids.any() and not self.owes(snapshot.number):
            return Written(0)
        changed = there and known is not None and self.stamp(snapshot.number) != known
        aside = _keep_aside(entry.labels) if changed else None
        # A table that is not read here (from a spreadsheet, say) is not thrown away either.
        theirs = entry.features.exists() and (changed or not _is_table(entry.features))
        if theirs and (changed or table is not None):
            _keep_aside(entry.features)
        if table is not None:
            with replacing(entry.features) as beside:
                table.to_csv(beside, index=False)
        export(snapshot.labels, entry.labels, format="tiff", axes=snapshot.axes)
        if table is None and (changed or not theirs):
            entry.features.unlink(missing_ok=True)
        # They are not those of a run that was killed any more.
        unmark([entry.labels])
        return Written(int(np.count_nonzero(ids)), aside)

    def note(self, entries: Sequence[Entry], current: str) -> None:
        """Write how far the work on some images is; what the file says about others stays.

        Raises
        ------
        ExportError
            If the file cannot be written.
        """
        noted = self._read()
        names = self._noted_as(noted["images"], [entry.source for entry in self.entries])
        for entry in entries:
            about = {k: v for k, v in asdict(entry).items() if k in ("state", "objects", "error")}
            noted["images"].pop(names.get(entry.name), None)
            noted["images"][entry.name] = {**about, "labels": entry.labels.name}
        noted["current"] = current
        with replacing(self.labels / STATE_FILE) as beside:
            # In ASCII: a name that is no UTF-8 cannot be written otherwise.
            beside.write_text(json.dumps(noted, indent=1), encoding="utf-8")

    def _named(self, number: int) -> Entry:
        """Entry of an image whose labels can have a file."""
        entry = self.entries[number]
        if trouble := _name_trouble(entry.source, entry.labels):
            raise ImageFileError(trouble)
        return entry

    def _read(self) -> dict[str, Any]:
        """What the state file says."""
        path = self.labels / STATE_FILE
        fresh: dict[str, Any] = {"format": FORMAT, "version": VERSION, "current": "", "images": {}}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return fresh
        except (OSError, ValueError) as error:
            raise ImageFileError(
                f"{path} cannot be read ({in_words(error)}). Repair or remove it."
            ) from error
        if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
            raise ImageFileError(
                f"Expected the state of a folder's annotation (version {VERSION}) in {path}, found something "
                "else. Choose another folder for the labels."
            )
        return {**fresh, **found}

    @staticmethod
    def _noted_as(noted: Mapping[str, Any], sources: Sequence[Path]) -> dict[str, str]:
        """Name of each image as the state file spells it, where it is there."""
        return spelled([source.name for source in sources], noted)

    def _counts(self) -> dict[str, int]:
        """Objects by labels file of what ``napari-sam segment`` has written here."""
        reports = read_manifest(self.labels / MANIFEST).values()
        return {Path(output).name: report.objects for report in reports for output in report.outputs}

    @staticmethod
    def _entry(source: Path, labels: Path, known: Any, counts: Mapping[str, int]) -> Entry:
        """Entry of an image; one that was broken gets another chance."""
        if trouble := _name_trouble(source, labels):
            return Entry(source=source, labels=labels, state="broken", error=trouble)
        state: State = "in work" if labels.exists() else "new"
        objects = counts.get(labels.name, 0) if state == "in work" else 0
        with suppress(TypeError, KeyError, ValueError):
            objects = int(known["objects"])
            if known["state"] in ("done", "in work"):
                state = known["state"]
        return Entry(source=source, labels=labels, state=state, objects=objects)


def _name_trouble(source: Path, labels: Path) -> str:
    """Say that a disk may refuse the files of an image's labels; nothing where their names fit."""
    excess = len(os.fsencode(without_suffix(labels))) - LONGEST
    if excess <= 0:
        return ""
    return (
        f"The name {source.name[:20]}… is too long for the files of its labels. Rename the image: at least "
        f"{excess} letters less."
    )


def _rows_of(features: DataFrame | None, ids: NDArray[np.integer]) -> DataFrame | None:
    """Rows of a table that tell of objects that are there; None if there is none."""
    if features is not None and "index" in features:
        features = features[features["index"].isin(ids[ids != 0])]
    return None if features is None or features.empty else features


def _keep_aside(path: Path) -> Path:
    """Copy labels that would be replaced to a name that is free and no image's."""
    aside = free_name(path)
    with replacing(aside) as beside:
        copy2(path, beside)
    return aside


def _read_labels(path: Path, opened: Opened) -> NDArray[np.integer]:
    """Read the labels of an image, in its shape."""
    with open_image(path) as image:
        if image.note:
            # It would be lost when what is drawn is saved.
            raise ImageFileError(
                f"There is more in the labels {path.name} than labels of this image: {image.note} Move that "
                "file away, or choose another folder for the labels."
            )
        labels = image.label_ids()
    if [n for n in labels.shape if n > 1] != [n for n in opened.shape if n > 1]:
        raise ImageFileError(
            f"The labels {path.name} have the shape {labels.shape}, the image has {opened.shape}. "
            "Move that file away, or choose another folder for the labels."
        )
    top = labels.max(initial=0)
    return labels.reshape(opened.shape).astype(np.uint16 if top < 2**16 else np.uint32)


def _is_table(path: Path) -> bool:
    """Whether a file is such a table as is written here."""
    import pandas as pd

    try:
        return "index" in pd.read_csv(path, nrows=1)
    except (OSError, ValueError):
        return False


def _read_features(path: Path, labels: NDArray[np.integer]) -> DataFrame | None:
    """Read what is stored about the objects that there are; None where it is missing or unreadable."""
    import pandas as pd

    try:
        table = pd.read_csv(path)
        return table[table["index"].isin(np.unique(labels))].reset_index(drop=True)
    except (OSError, ValueError, KeyError):
        return None
