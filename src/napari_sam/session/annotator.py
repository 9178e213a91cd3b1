"""Working through a folder of images: previous, next, jump, done; saved on every occasion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.session.folder_jobs import (
    Broken,
    Look,
    OnDisk,
    Outcome,
    Read,
    open_entry,
    open_folder,
    prefetch,
    save_all,
)

if TYPE_CHECKING:
    from napari_sam.folder.annotate import AnnotationFolder, Entry, Snapshot
    from napari_sam.session.annotation import AnnotationSession


class FolderAnnotator:
    """One person's way through a folder.

    Nothing is lost by going on: what was drawn on an image is noted before the next one is shown, and stays
    noted until it is on disk.

    Parameters
    ----------
    session : AnnotationSession
        Its jobs read and write.
    snapshot : callable
        Gives the labels of the image on show, None if there are none; called with the image's number.
    look : callable
        Gives the `Look` with which the next image is embedded ahead of time.
    """

    changed = Signal()
    """The list, the state of an image, or which one is open."""
    opened = Signal(object)
    """An image is to be shown: `napari_sam.folder.annotate.Opened`."""
    said = Signal(str)

    def __init__(
        self,
        session: AnnotationSession,
        snapshot: Callable[[int], Snapshot | None],
        look: Callable[[], Look],
    ) -> None:
        self._session, self._snapshot, self._look = session, snapshot, look
        self.folder: AnnotationFolder | None = None
        self.current: int | None = None
        self._way, self._going_on = 1, True
        self._pending: dict[int, Snapshot] = {}
        self._on_disk: dict[int, OnDisk] = {}
        self._noted: dict[int, Entry] = {}
        self._ahead: tuple[int, Read] | None = None
        self._why = ""
        session.failed.connect(self._on_failed)
        session.finished.connect(self._on_finished)

    @property
    def entries(self) -> Sequence[Entry]:
        """The images, in the order in which they are gone through."""
        return self.folder.entries if self.folder is not None else ()

    @property
    def unsaved(self) -> bool:
        """Whether something is not on disk yet."""
        return bool(self._pending)

    # --- what the person asks for --------------------------------------------------------------------

    def begin(self, images: str, labels: str) -> None:
        """Take up a folder of images, with the labels in another; work goes on where it was left."""
        self.keep()
        self._session.request("list", partial(open_folder, images, labels), self._take_folder)

    def go(self, number: int) -> None:
        """Turn to an image; if it cannot be opened, the one on show stays."""
        self._turn(number, on=False)

    def next(self) -> None:
        """Turn to the next image that can be opened."""
        self._step(1)

    def previous(self) -> None:
        """Turn to the image before that can be opened."""
        self._step(-1)

    def mark(self, done: bool) -> None:
        """Say that the image on show is done, or is not."""
        if self.current is not None:
            self._change(self.current, state="done" if done else "in work")
            self.keep()

    def finish(self) -> None:
        """Say that the image on show is done and turn to the next that is not."""
        if self.current is None:
            return
        self.mark(True)
        count = len(self.entries)
        after = [(self.current + i) % count for i in range(1, count)]
        left = next((n for n in after if self.entries[n].state in ("new", "in work")), None)
        if left is None:
            self.said.emit("All images are done.")
        else:
            self._turn(left, on=True)

    def touch(self) -> None:
        """Note that the labels on show were changed; `keep` follows soon."""
        if self.current is not None and self.entries[self.current].state == "new":
            self._change(self.current, state="in work")

    def keep(self, snapshot: Snapshot | None = None) -> None:
        """Write the labels on show, and all that is not on disk yet.

        Parameters
        ----------
        snapshot : Snapshot, optional
            The labels, if they are not on show any more.
        """
        if self.folder is None:
            return
        if snapshot is None and self.current is not None:
            snapshot = self._snapshot(self.current)
        if snapshot is not None:
            self._pending[snapshot.number] = snapshot
        if self._pending or self._noted:
            self._session.request("save", self._saving(self.folder), self._take_saved)

    def close(self) -> str:
        """Write everything now; returns why something could not be written, or nothing."""
        if self.folder is None:
            return ""
        if self.current is not None:
            snapshot = self._snapshot(self.current)
            if snapshot is not None:
                self._pending[snapshot.number] = snapshot
        self._session.cancel("save")
        troubles = ""
        if self._pending or self._noted:
            done = self._saving(self.folder)()
            troubles = " ".join([*(s.error for s in done.saved if s.error), done.trouble]).strip()
        self.folder, self.current = None, None
        self._pending, self._noted, self._ahead = {}, {}, None
        return troubles

    # --- inside --------------------------------------------------------------------------------------

    def _turn(self, number: int, *, on: bool) -> None:
        """Turn to an image; if it cannot be opened, go on to the next one where ``on``."""
        if not 0 <= number < len(self.entries) or number == self.current:
            return
        self.keep()
        self._way = 1 if self.current is None or number > self.current else -1
        self._going_on = on
        self._open(number)

    def _step(self, way: int) -> None:
        if self.current is None:
            return
        number = self._beyond(self.current, way)
        if number is None:
            self.keep()
            self.said.emit("This is the last image." if way > 0 else "This is the first image.")
        else:
            self._turn(number, on=True)

    def _beyond(self, number: int, way: int) -> int | None:
        """The next image on a way that is not known to be broken."""
        numbers = range(number + way, len(self.entries) if way > 0 else -1, way)
        return next((n for n in numbers if self.entries[n].state != "broken"), None)

    def _open(self, number: int) -> None:
        if self.folder is None:
            return
        self._session.cancel("prefetch")
        ahead, self._ahead = self._ahead, None
        # What is not on disk yet is shown as it was drawn.
        unsaved = self._pending.get(number)
        if unsaved is None and ahead is not None and ahead[0] == number:
            self._session.cancel("open")
            self._take(number, ahead[1])
        else:
            run = partial(open_entry, self.folder, number, unsaved)
            self._session.request("open", run, partial(self._take, number))

    def _take_folder(self, folder: AnnotationFolder) -> None:
        self.folder, self.current, self._ahead = folder, None, None
        self._on_disk, self._noted = {}, {}
        self.changed.emit()
        self._way, self._going_on = 1, True
        self._open(folder.first)

    def _take(self, number: int, found: Read | Broken) -> None:
        if isinstance(found, Broken):
            self._change(number, state="broken", error=found.error)
            self.said.emit(found.error)
            other = self._beyond(number, self._way) if self._going_on else None
            if other is None and self.current is None:
                other = self._beyond(number, -self._way)
            if other is not None and other != self.current:
                self._open(other)
            else:
                self.keep()
            return
        self.current = number
        if number not in self._pending:
            self._on_disk[number] = OnDisk(found.digest, found.objects)
        entry = self.entries[number]
        state = "new" if entry.state == "broken" else entry.state
        if state == "new" and found.objects:
            state = "in work"
        self.opened.emit(found.opened)
        # Noted also where nothing changed: this is the image that is open now.
        self._change(number, state=state, objects=found.objects, error="")
        self.keep()
        self._prefetch()

    def _prefetch(self) -> None:
        """Read the next image and embed its plane in the middle while the person works on this one."""
        number = None if self.current is None else self._beyond(self.current, self._way)
        if self.folder is not None and number is not None and number not in self._pending:
            session = self._session
            args = (self.folder, number, session.predictor, session.cache, self._look())
            session.request("prefetch", partial(prefetch, *args), partial(self._take_ahead, number))

    def _take_ahead(self, number: int, found: Read | Broken) -> None:
        if isinstance(found, Broken):
            self._change(number, state="broken", error=found.error)
            self._prefetch()
        elif number != self.current:
            self._ahead = number, found

    def _on_failed(self, message: str) -> None:
        """Keep the reason until it is told what failed."""
        self._why = message

    def _on_finished(self, kind: str, outcome: Any) -> None:
        """Say why a folder cannot be used."""
        if kind == "list" and outcome is None and self._why:
            self.said.emit(self._why)
        self._why = ""

    def _change(self, number: int, **changes: Any) -> None:
        if self.folder is not None:
            entry = replace(self.folder.entries[number], **changes)
            self.folder.entries[number] = self._noted[number] = entry
            self.changed.emit()

    def _saving(self, folder: AnnotationFolder) -> Callable[[], Outcome]:
        name = self.entries[self.current].name if self.current is not None else ""
        snapshots = list(self._pending.values())
        return partial(save_all, folder, snapshots, self._on_disk, dict(self._noted), name)

    def _take_saved(self, outcome: Outcome) -> None:
        trouble = outcome.trouble
        for one in outcome.saved:
            number = one.snapshot.number
            if one.error:
                trouble = f"{one.error} Nothing is lost: it is tried again."
                continue
            if self._pending.get(number) is one.snapshot:
                del self._pending[number]
            entry = self.entries[number]
            state = "in work" if entry.state == "new" and one.objects else entry.state
            if (one.objects, state) != (entry.objects, entry.state):
                self._change(number, objects=one.objects, state=state)
        if outcome.trouble or trouble:
            self.said.emit(trouble)
        if not outcome.trouble:
            written = outcome.noted
            self._noted = {n: e for n, e in self._noted.items() if written.get(n) is not e}
