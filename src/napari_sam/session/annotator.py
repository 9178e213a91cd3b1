"""Working through a folder of images: previous, next, jump, done; saved on every occasion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.session.folder_jobs import (
    Broken,
    Ledger,
    Look,
    Outcome,
    Read,
    open_entry,
    open_folder,
    prefetch,
    save_each,
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
    may_leave : callable
        Asked before another image is turned to.
    """

    changed = Signal()
    """The list, the state of an image, or which one is open."""
    opened = Signal(object)
    """An image is to be shown: `napari_sam.folder.opened.Opened`."""
    said = Signal(str)

    def __init__(
        self,
        session: AnnotationSession,
        snapshot: Callable[[int], Snapshot | None],
        look: Callable[[], Look],
        may_leave: Callable[[], bool] = lambda: True,
    ) -> None:
        self._session, self._snapshot, self._look = session, snapshot, look
        self._may_leave = may_leave
        self._ledger: Ledger | None = None
        self._left: list[Ledger] = []
        """Folders that were left before everything was on disk."""
        self._shown: tuple[Ledger, int] | None = None
        """The image on show: until the first one of another folder is there, still that of the last."""
        self._way, self._going_on = 1, True
        self._ahead: tuple[int, Read] | None = None
        self._reading = 0
        """The image that is being read, while one is."""
        session.job_failed.connect(self._on_failed)

    @property
    def folder(self) -> AnnotationFolder | None:
        """The folder that is gone through."""
        return self._ledger.folder if self._ledger is not None else None

    @property
    def current(self) -> int | None:
        """Which image of the folder is on show."""
        return self.on_show if self._shown is not None and self._shown[0] is self._ledger else None

    @property
    def on_show(self) -> int | None:
        """Number of the image on show, in this folder or in the one before."""
        return self._shown[1] if self._shown is not None else None

    @property
    def turned_to(self) -> int | None:
        """The image that was turned to last: it is being read, or on show."""
        return self._reading if "open" in self._session.running else self.current

    @property
    def entries(self) -> Sequence[Entry]:
        """The images, in the order in which they are gone through."""
        return self.folder.entries if self.folder is not None else ()

    @property
    def unsaved(self) -> bool:
        """Whether something is not on disk yet."""
        return any(ledger.pending for ledger in self._ledgers())

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
            self._change(self._ledger, self.current, state="done" if done else "in work")
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
        if self._shown is not None:
            ledger, number = self._shown
            if ledger.folder.entries[number].state == "new":
                self._change(ledger, number, state="in work")

    def keep(self, snapshot: Snapshot | None = None) -> None:
        """Write the labels on show, and all that is not on disk yet.

        Parameters
        ----------
        snapshot : Snapshot, optional
            The labels, if they are not on show any more.
        """
        self._note(snapshot)
        ledgers = [ledger for ledger in self._ledgers() if ledger]
        if ledgers:
            jobs = [ledger.saving() for ledger in ledgers]
            self._session.request("save", partial(save_each, jobs), partial(self._take_saved, ledgers))

    def close(self) -> tuple[str, str]:
        """Write everything now; returns why something could not be written, and what else is to be known."""
        self._note()
        self._session.cancel("save")
        troubles, news = [], []
        for ledger in self._ledgers():
            if ledger:
                done = ledger.saving()()
                troubles += [*(s.error for s in done.saved), done.trouble]
            news += ledger.news
        self._ledger, self._shown, self._ahead = None, None, None
        self._left.clear()
        return " ".join(filter(None, troubles)), " ".join(news)

    # --- inside --------------------------------------------------------------------------------------

    def _ledgers(self) -> list[Ledger]:
        """Ledgers of all that may not be on disk: those left, that of the image on show, and the present."""
        shown = self._shown[0] if self._shown is not None else None
        return [x for x in dict.fromkeys([*self._left, shown, self._ledger]) if x is not None]

    def _note(self, snapshot: Snapshot | None = None) -> None:
        """Note the labels on show as not on disk yet."""
        if self._shown is not None:
            ledger, number = self._shown
            snapshot = snapshot or self._snapshot(number)
            if snapshot is not None:
                ledger.pending[number] = snapshot

    def _turn(self, number: int, *, on: bool) -> None:
        """Turn to an image; if it cannot be opened, go on to the next one where ``on``."""
        here = self.turned_to
        if not 0 <= number < len(self.entries) or number == here:
            return
        if number == self.current:
            self._stay()
        elif self._may_leave():
            self.keep()
            self._way = 1 if here is None or number > here else -1
            self._going_on = on
            self._open(number)

    def _stay(self) -> None:
        """Go on with the image on show: the one that was turned to is not wanted any more."""
        self._session.cancel("open")
        self.changed.emit()
        self._prefetch()

    def _step(self, way: int) -> None:
        here = self.turned_to
        if here is None:
            return
        number = self._beyond(here, way)
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
        if self._ledger is None:
            return
        self._session.cancel("prefetch")
        ahead, self._ahead = self._ahead, None
        # What is not on disk yet is shown as it was drawn.
        unsaved = self._ledger.pending.get(number)
        fresh = ahead is not None and ahead[1].on_disk.stamp == self._ledger.folder.stamp(ahead[0])
        if unsaved is None and ahead is not None and ahead[0] == number and fresh:
            self._session.cancel("open")
            self._take(number, ahead[1])
        else:
            self._reading = number
            run = partial(open_entry, self._ledger.folder, number, unsaved)
            self._session.request("open", run, partial(self._take, number))

    def _take_folder(self, folder: AnnotationFolder) -> None:
        self._note()
        ledger = Ledger(folder)
        for other in self._ledgers():
            ledger.take_over(other)
        self._left = [other for other in self._ledgers() if other]
        self._ledger, self._ahead = ledger, None
        self.changed.emit()
        self._way, self._going_on = 1, True
        self._open(folder.first)

    def _take(self, number: int, found: Read | Broken) -> None:
        ledger = self._ledger
        assert ledger is not None
        if isinstance(found, Broken):
            self._change(ledger, number, state="broken", error=found.error)
            self.said.emit(found.error)
            other = self._beyond(number, self._way) if self._going_on else None
            if other is None and self.current is None:
                other = self._beyond(number, -self._way)
            if other is not None and other != self.current:
                self._open(other)
            else:
                self.keep()
            return
        # What was drawn while this image was read, on the same image perhaps.
        self._note()
        if self._shown is not None and self._shown[0] is not ledger:
            ledger.take_over(self._shown[0])
            self._left = [other for other in self._ledgers() if other and other is not ledger]
        opened, unsaved = found.opened, ledger.pending.get(number)
        entry = self.entries[number]
        self._shown, ledger.open = (ledger, number), entry.name
        objects = found.on_disk.objects
        if unsaved is None:
            ledger.on_disk[entry.labels] = found.on_disk
        else:
            opened = replace(opened, labels=unsaved.labels, features=unsaved.features)
            objects = opened.objects
        state = "new" if entry.state == "broken" else entry.state
        if state == "new" and objects:
            state = "in work"
        self.opened.emit(opened)
        if opened.note:
            self.said.emit(f"{entry.source.name}: {opened.note}")
        # Noted also where nothing changed: this is the image that is open now.
        self._change(ledger, number, state=state, objects=objects, error="")
        self.keep()
        self._prefetch()

    def _prefetch(self) -> None:
        """Read the next image and embed its plane in the middle while the person works on this one."""
        number = None if self.current is None else self._beyond(self.current, self._way)
        if self._ledger is not None and number is not None and number not in self._ledger.pending:
            session = self._session
            args = (self._ledger.folder, number, session.predictor, session.cache, self._look())
            session.request("prefetch", partial(prefetch, *args), partial(self._take_ahead, number))

    def _take_ahead(self, number: int, found: Read | Broken) -> None:
        if isinstance(found, Broken):
            self._change(self._ledger, number, state="broken", error=found.error)
            self._prefetch()
        elif number != self.current:
            self._ahead = number, found

    def _on_failed(self, kind: str, message: str) -> None:
        """Say why a folder cannot be used."""
        if kind == "list":
            self.said.emit(message)

    def _change(self, ledger: Ledger | None, number: int, **changes: Any) -> None:
        if ledger is not None:
            ledger.change(number, **changes)
            if ledger is self._ledger:
                self.changed.emit()

    def _take_saved(self, ledgers: Sequence[Ledger], outcomes: Sequence[Outcome]) -> None:
        for ledger, outcome in zip(ledgers, outcomes, strict=True):
            trouble = outcome.trouble
            for one in outcome.saved:
                number = one.snapshot.number
                if one.error:
                    trouble = f"{one.error} Nothing is lost: it is tried again."
                    continue
                if ledger.pending.get(number) is one.snapshot:
                    del ledger.pending[number]
                entry = ledger.folder.entries[number]
                state = "in work" if entry.state == "new" and one.objects else entry.state
                if (one.objects, state) != (entry.objects, entry.state):
                    self._change(ledger, number, objects=one.objects, state=state)
            trouble, ledger.news[:] = " ".join([trouble, *ledger.news]).strip(), []
            if trouble:
                self.said.emit(trouble)
            if not outcome.trouble:
                written = outcome.noted
                ledger.noted = {n: e for n, e in ledger.noted.items() if written.get(n) is not e}
        self._left = [ledger for ledger in self._left if ledger]
