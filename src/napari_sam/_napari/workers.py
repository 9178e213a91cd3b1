"""One thread for everything that takes longer than a frame, so that the window never waits.

A thread of our own and not `napari.qt.threading`: those workers run several at a time, cannot be reordered
or dropped once they wait, and leave an entry in napari's task table for good, one for every click.

Neither the number of torch's threads nor the thread's priority is changed: torch and numpy let go of the
interpreter while they compute, and with as many threads of torch as there are cores the window's longest
pause was the same as with one less, and the same with a lower priority.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from qtpy.QtCore import QObject, Qt, Signal

from napari_sam.files import refused
from napari_sam.progress import Progress

_log = logging.getLogger(__name__)

_ORDER = (
    *("predict", "filter", "hover", "save", "store", "load", "list", "open", "embed"),
    *("export", "everything", "follow", "track", "stack", "index", "precompute", "prefetch"),
)
PRIORITY = {kind: rank for rank, kind in enumerate(_ORDER)}
"""Who goes first. A long computation rests between two steps while something quicker is wanted."""

_FRAME = 1 / 30
"""Seconds between two reports of progress that say nothing but how far it is."""


class Job(Protocol):
    """What a worker is given: see `napari_sam.session.jobs.Job`."""

    @property
    def kind(self) -> str:
        """What it is for; a newer job of a kind replaces an older one."""

    def run(self) -> Any:
        """Return the outcome, or a generator of `Progress` that returns it."""


class InferenceWorker(QObject):
    """Runs jobs one step at a time in one background thread.

    All methods are to be called from the thread of the window, in which all signals arrive. Nothing arrives
    about a job after it was cancelled, replaced by a newer one of its kind, or the worker was closed.

    Parameters
    ----------
    parent : QObject, optional
    behind : InferenceWorker, optional
        One that goes first: between two steps this one rests while that one has anything to do.
    """

    progress = Signal(object, object)
    """(job, Progress) after a step of a long job."""
    done = Signal(object, object)
    """(job, outcome)"""
    failed = Signal(object, str)
    """(job, message in plain words)"""
    cancelled = Signal(object)
    """(job) that was cancelled by `cancel`."""
    busy_changed = Signal(bool)
    """Whether there is anything to do."""

    _arrived = Signal(object)

    def __init__(self, parent: QObject | None = None, behind: InferenceWorker | None = None) -> None:
        super().__init__(parent)
        self._arrived.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        self._queue = _Queue()
        self._alive: list[_Task] = []
        self._thread = threading.Thread(
            target=_work,
            args=(self._queue, weakref.ref(self), None if behind is None else behind._queue.idle),
            name="napari-sam" if behind is None else "napari-sam-behind",
            daemon=True,
        )
        # Also when the window was not closed in order: nothing runs on when the interpreter ends.
        self._stop = weakref.finalize(self, _stop, self._queue, self._thread, 1.0)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job waits or runs."""
        return bool(self._alive)

    def submit(self, job: Job, *, replace: bool = True) -> None:
        """Queue a job.

        Parameters
        ----------
        job : Job
        replace : bool
            Whether older jobs of the same kind are dropped: those that wait are not begun, one that runs
            is given up at its next step, and its outcome is not reported.
        """
        if self._queue.closed:
            return
        if replace:
            self._drop(job.kind)
        task = _Task(job)
        self._alive.append(task)
        self._queue.put(task)
        if len(self._alive) == 1:
            self.busy_changed.emit(True)

    def cancel(self, kind: str | None = None) -> None:
        """Give up all jobs, or those of one kind."""
        dropped = self._drop(kind)
        for task in dropped:
            self.cancelled.emit(task.job)
        if dropped and not self._alive:
            self.busy_changed.emit(False)

    def close(self, limit: float = 2.0) -> bool:
        """Give up everything and end the thread.

        Parameters
        ----------
        limit : float
            Seconds to wait for a step that is under way.

        Returns
        -------
        bool
            Whether the thread has ended. If not it will after its step, and report nothing.
        """
        self._drop(None)
        self._stop.detach()
        return _stop(self._queue, self._thread, limit)

    def _drop(self, kind: str | None) -> list[_Task]:
        """Forget jobs of a kind, wherever they are."""
        dropped = [task for task in self._alive if kind in (None, task.job.kind)]
        self._alive = [task for task in self._alive if task not in dropped]
        self._queue.drop(dropped)
        return dropped

    def _deliver(self, news: _News) -> None:
        """Tell what happened, in the window's thread, unless nobody waits for it any more."""
        if news.task not in self._alive:
            return
        if news.what == "progress":
            self.progress.emit(news.task.job, news.value)
            return
        self._alive.remove(news.task)
        if news.what == "done":
            self.done.emit(news.task.job, news.value)
        else:
            self.failed.emit(news.task.job, news.value)
        if not self._alive:
            self.busy_changed.emit(False)


class _News(NamedTuple):
    """What the thread has to say about a task."""

    task: _Task
    what: str
    value: Any


class _Task:
    """A job on its way: waiting, then perhaps a generator between two steps."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.priority = PRIORITY.get(job.kind, len(_ORDER))
        self.dropped = False
        self._steps: Generator[Any, None, Any] | None = None
        self._reported = 0.0

    def step(self) -> _News | None:
        """Do the next bit of work; None if there is nothing worth telling yet."""
        try:
            if self._steps is None:
                outcome = self.job.run()
                if not isinstance(outcome, Generator):
                    return _News(self, "done", outcome)
                self._steps = outcome
            step = next(self._steps)
        except StopIteration as end:
            return _News(self, "done", end.value)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is told to the person
            if not isinstance(error, ValueError | OSError):
                _log.exception("A job of kind %r failed", self.job.kind)
            return _News(self, "failed", in_plain_words(error))
        now = time.monotonic()
        if type(step) is Progress and now - self._reported < _FRAME:
            return None
        self._reported = now
        return _News(self, "progress", step)

    def close(self) -> None:
        """Let a generator that was given up clean up after itself."""
        if self._steps is not None:
            with suppress(Exception):
                self._steps.close()


class _Queue:
    """Tasks for the thread, the most urgent first; a task stays in the queue until it has ended."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tasks: list[_Task] = []
        self.closed = False
        self.idle = threading.Event()
        self.idle.set()

    def put(self, task: _Task) -> None:
        with self._changed:
            self._tasks.append(task)
            self.idle.clear()
            self._changed.notify()

    def drop(self, tasks: list[_Task]) -> None:
        with self._changed:
            for task in tasks:
                task.dropped = True
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            for task in self._tasks:
                task.dropped = True
            self._changed.notify()

    def take(self) -> _Task | None:
        """Wait for the next task to work on, closing those that were dropped; None at the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self.closed)
                dropped = [task for task in self._tasks if task.dropped]
                self._tasks = [task for task in self._tasks if not task.dropped]
                self._note_idle()
                # The sort is stable: among equals the one that came first.
                ready = min(self._tasks, key=lambda task: task.priority, default=None)
                closed = self.closed
            for task in dropped:
                task.close()
            if closed:
                return None
            if ready is not None:
                return ready

    def remove(self, task: _Task) -> None:
        with self._changed:
            if task in self._tasks:
                self._tasks.remove(task)
            self._note_idle()

    def _note_idle(self) -> None:
        if not self._tasks:
            self.idle.set()


def in_plain_words(error: BaseException) -> str:
    """Say what went wrong so that a person who does not program can act on it."""
    text = str(error).strip()
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return "There is not enough memory. Choose a smaller model or plane, or close other programs."
    if isinstance(error, OSError) and text:
        return refused.in_plain_words(error, resumable=False)
    if isinstance(error, ValueError) and text:
        return text
    return f"Something went wrong inside the plugin ({type(error).__name__}: {text}). Please report it."


def _work(queue: _Queue, owner: weakref.ref[InferenceWorker], before: threading.Event | None) -> None:
    """Run tasks to the end of the queue, each step when ``before`` is set; the thread's body."""
    while (task := queue.take()) is not None:
        if before is not None and not before.wait(0.1):
            continue  # meanwhile the task may have been dropped
        news = task.step()
        if news is None:
            continue
        if news.what != "progress":
            queue.remove(task)
        worker = owner()
        # The window may be gone already, the object with it.
        with suppress(RuntimeError):
            if worker is not None:
                worker._arrived.emit(news)
        del worker, news, task


def _stop(queue: _Queue, thread: threading.Thread, limit: float) -> bool:
    """End the thread; whether it did within ``limit`` seconds."""
    queue.close()
    if thread is not threading.current_thread():
        thread.join(limit)
    return not thread.is_alive()
