"""What is read and written while a person goes through a folder; jobs that run in the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_sam.progress import Progress, Steps
from napari_sam.store import embed_once

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.folder.annotate import AnnotationFolder, Entry, Snapshot, Stamp
    from napari_sam.folder.opened import Opened
    from napari_sam.predictor import Predictor
    from napari_sam.session.work import Kept


class Look(NamedTuple):
    """How the dock looks at an image: see `napari_sam.folder.opened.Opened.picture`."""

    picks: Sequence[int | None] | None
    rule: str
    diameter: float | None


class OnDisk(NamedTuple):
    """What the labels of an image are on disk: their code, the number of objects, and the file's stamp.

    ``told`` is the stamp of somebody else's labels of which it was said that they are there.
    """

    digest: bytes
    objects: int
    stamp: Stamp
    told: Stamp | None = None


class Saved(NamedTuple):
    """What became of a snapshot: its objects, or why it could not be written; it may be on disk already."""

    snapshot: Snapshot
    objects: int = 0
    error: str = ""
    written: bool = False


class Outcome(NamedTuple):
    """What a job of saving did.

    Parameters
    ----------
    saved : list of Saved
    noted : mapping
        States that were written.
    trouble : str
        Why the states could not be written; empty if they were.
    """

    saved: list[Saved]
    noted: Mapping[int, Entry]
    trouble: str = ""


class Read(NamedTuple):
    """An image that was read, and what its labels are on disk."""

    opened: Opened
    on_disk: OnDisk


@dataclass(frozen=True, slots=True)
class Broken:
    """An image that cannot be opened, and why."""

    error: str


@dataclass(eq=False, slots=True)
class Ledger:
    """What is on disk of the work on a folder, and what is not yet.

    Parameters
    ----------
    folder : AnnotationFolder
    pending : dict of int to Snapshot
        Labels that are not on disk yet.
    on_disk : dict of Path to OnDisk
        What was read or written last, by file of labels.
    noted : dict of int to Entry
        States that are not on disk yet.
    open : str
        Name of the image that was open last.
    news : list of str
        What a person should know of what was written.
    """

    folder: AnnotationFolder
    pending: dict[int, Snapshot] = field(default_factory=dict)
    on_disk: dict[Path, OnDisk] = field(default_factory=dict)
    noted: dict[int, Entry] = field(default_factory=dict)
    open: str = ""
    news: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether something is not on disk yet."""
        return bool(self.pending or self.noted)

    def change(self, number: int, **changes: Any) -> None:
        """Change the state of an image."""
        entry = replace(self.folder.entries[number], **changes)
        self.folder.entries[number] = self.noted[number] = entry

    def saving(self) -> Callable[[], Outcome]:
        """Return the job that writes what is not on disk yet."""
        snapshots, noted = list(self.pending.values()), dict(self.noted)
        return partial(save_all, self.folder, snapshots, self.on_disk, noted, self.open, self.news)

    def take_over(self, other: Ledger) -> None:
        """Take what another one of the same images could not write, where no labels are in its place."""
        if other.folder.images != self.folder.images:
            return
        same = other.folder.labels == self.folder.labels
        if same:
            self.on_disk = other.on_disk  # one of its jobs may be writing still
        numbers = {entry.name: number for number, entry in enumerate(self.folder.entries)}
        for old in list(other.pending):
            new = numbers.get(other.folder.entries[old].name)
            if new is not None and (same or not self.folder.entries[new].labels.exists()):
                drawn = replace(other.pending.pop(old), number=new)
                known = self.on_disk.get(self.folder.entries[new].labels)
                if known is not None and known.digest == drawn.digest():
                    continue  # nothing was drawn: what is on disk by now counts
                self.pending[new] = drawn
                self.change(new, state=other.folder.entries[old].state)


def open_folder(images: str, labels: str) -> Steps[AnnotationFolder]:
    """List the images of a folder and how far the work on them is."""
    yield Progress(0, 1, "Reading the folder")
    from napari_sam.folder.annotate import AnnotationFolder

    return AnnotationFolder(images, labels)


def open_entry(folder: AnnotationFolder, number: int, unsaved: Snapshot | None = None) -> Read | Broken:
    """Read an image and its labels, or those that are not on disk yet."""
    from napari_sam.folder.annotate import Snapshot

    try:
        stamp = folder.stamp(number)
        opened = folder.open(number)
    # One bad image, whatever is wrong with it, must not end the work on the others.
    except Exception as error:  # noqa: BLE001
        from napari_sam.files.image_file import in_words

        return Broken(in_words(error))
    labels = np.zeros(opened.shape, np.uint16) if opened.labels is None else opened.labels
    digest = Snapshot(number, labels, opened.features, opened.axes).digest()
    on_disk = OnDisk(digest, opened.objects, stamp)
    if unsaved is not None:
        opened = replace(opened, labels=unsaved.labels, features=unsaved.features)
    return Read(opened, on_disk)


def prefetch(
    folder: AnnotationFolder, number: int, predictor: Predictor | None, kept: Kept, look: Look
) -> Steps[Read | Broken]:
    """Read an image and keep the embedding of its plane in the middle."""
    yield Progress(0, 2, "Reading the next image")
    found = open_entry(folder, number)
    yield Progress(1, 2, "Embedding the next image")
    if predictor is not None and not isinstance(found, Broken):
        # What is wrong with its pixels is said when it is on show.
        with suppress(ValueError, OSError):
            picture = found.opened.picture(found.opened.middle, look.picks, look.rule)
            embed_once(predictor, picture, kept, diameter=look.diameter)
    return found


def save_each(jobs: Sequence[Callable[[], Outcome]]) -> list[Outcome]:
    """Save what is not on disk of several folders; see `Ledger.saving`."""
    return [job() for job in jobs]


def _looked_at_again(folder: AnnotationFolder, number: int, known: OnDisk) -> OnDisk:
    """Know labels again of which only the time of the file has changed, as a backup may do."""
    if folder.stamp(number) in (known.stamp, known.told):
        return known
    now = open_entry(folder, number)
    return now.on_disk if isinstance(now, Read) and now.on_disk.digest == known.digest else known


_SAVING = Lock()
"""One save at a time: who closes the window while the worker saves must know what that has written."""


def save_all(
    folder: AnnotationFolder,
    snapshots: Sequence[Snapshot],
    on_disk: MutableMapping[Path, OnDisk],
    noted: Mapping[int, Entry],
    current: str,
    news: list[str],
) -> Outcome:
    """Write labels that differ from what was written last, then the state; one failure hinders no other.

    What was written is entered in ``on_disk`` at once, and what is to be told in ``news``: the outcome of a
    request that is overtaken by the next one is never seen, and the next one must know what is on disk.
    """
    with _SAVING:
        saved = [_save_one(folder, snapshot, on_disk, news) for snapshot in snapshots]
        entries = dict(noted)
        for number, objects in ((one.snapshot.number, one.objects) for one in saved if one.written):
            entry = entries.get(number, folder.entries[number])
            state = "in work" if entry.state == "new" and objects else entry.state
            entries[number] = replace(entry, objects=objects, state=state)
        try:
            folder.note(list(entries.values()), current)
        except (OSError, ValueError) as error:
            return Outcome(saved, noted, str(error))
        return Outcome(saved, noted)


def _save_one(
    folder: AnnotationFolder, snapshot: Snapshot, on_disk: MutableMapping[Path, OnDisk], news: list[str]
) -> Saved:
    """Write the labels of an image, unless they are what is on disk; empty ones once it is done."""
    number = snapshot.number
    digest, labels = snapshot.digest(), folder.entries[number].labels
    known = on_disk.get(labels)
    if known is not None:
        known = on_disk[labels] = _looked_at_again(folder, number, known)
    if known is not None and known.digest == digest and not folder.owes(number):
        now = folder.stamp(number)
        if now not in (known.stamp, known.told):
            news.append(f"Somebody else has written {labels.name} since it was opened: open it again.")
            on_disk[labels] = known._replace(told=now)
        return Saved(snapshot, known.objects)
    try:
        objects, aside = folder.save(snapshot, None if known is None else known.stamp)
    except (OSError, ValueError) as error:
        return Saved(snapshot, error=str(error))
    on_disk[labels] = OnDisk(digest, objects, folder.stamp(number))
    if aside is not None:
        news.append(
            f"Somebody else has written {labels.name} since it was opened: those labels are now in "
            f"{aside.name}, yours in their place."
        )
    return Saved(snapshot, objects, written=True)
