"""What the session asks a runner to compute: one value, whichever thread runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from psygnal import Signal

from napari_sam.progress import Progress

Kind = Literal[
    "load",
    "embed",
    "predict",
    "hover",
    "everything",
    "filter",
    "stack",
    "export",
    "follow",
    "track",
    "store",
    "index",
    "precompute",
    "list",
    "open",
    "prefetch",
    "save",
]


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """Heavy work, ready to run.

    Parameters
    ----------
    kind : str
        What it is for. A newer job of a kind replaces an older one.
    generation : int
        Number of the job among those of its kind; all but the latest are ignored when they come back.
    run : callable
        Does the work without touching the session or the window. Returns the outcome, or a generator of
        `napari_sam.progress.Progress` that returns it and may be closed at any step.
    """

    kind: Kind
    generation: int
    run: Callable[[], Any]


Take = Callable[[Any], None]


class JobDesk:
    """Where work is asked for and comes back: of each kind, only the latest job counts.

    A runner connects to `job_requested` and `cancel_requested`, does the work in a thread of its own, and
    calls `receive`, `receive_failure` and `receive_progress` on the thread that owns the desk.
    """

    job_requested = Signal(Job)
    cancel_requested = Signal(str)
    started = Signal(str)
    """A kind of work was asked for."""
    progressed = Signal(str, object)
    """A kind of work came a step further; with its `Progress`."""
    finished = Signal(str, object)
    """A kind of work is over; with its outcome, or None if it failed or was given up."""
    failed = Signal(str)
    """Something went wrong; why, in plain words."""
    job_failed = Signal(str, str)
    """A kind of work failed; with the reason, which `failed` tells too."""

    def __init__(self) -> None:
        self._latest: dict[Kind, int] = {}
        self._waiting: dict[Kind, Take | None] = {}

    @property
    def running(self) -> frozenset[Kind]:
        """Kinds of work that was asked for and is not back yet."""
        return frozenset(self._waiting)

    def request(self, kind: Kind, run: Callable[[], Any], take: Take | None = None) -> None:
        """Ask for work, which replaces the earlier work of its kind.

        Parameters
        ----------
        kind : str
        run : callable
            See `Job`.
        take : callable, optional
            Called with the outcome.
        """
        self._latest[kind] = self._latest.get(kind, 0) + 1
        self._waiting[kind] = take
        self.started.emit(kind)
        self.job_requested.emit(Job(kind, self._latest[kind], run))

    def cancel(self, kind: Kind) -> None:
        """Give up work of a kind; does nothing where there is none."""
        if kind in self._waiting:
            del self._waiting[kind]
            self.cancel_requested.emit(kind)
            self.finished.emit(kind, None)

    def close(self) -> None:
        """Give up all work; whatever comes back later is ignored."""
        for kind in self.running:
            self.cancel(kind)

    def receive(self, job: Job, outcome: Any) -> None:
        """Take the outcome of a job."""
        if self._is_awaited(job):
            take = self._waiting.pop(job.kind)
            if take is not None:
                take(outcome)
            self.finished.emit(job.kind, outcome)

    def receive_failure(self, job: Job, message: str) -> None:
        """Take the reason, in plain words, why a job failed."""
        if self._is_awaited(job):
            del self._waiting[job.kind]
            self.failed.emit(message)
            self.job_failed.emit(job.kind, message)
            self.finished.emit(job.kind, None)

    def receive_progress(self, job: Job, progress: Progress) -> None:
        """Take word of how far a job is."""
        if self._is_awaited(job):
            self.progressed.emit(job.kind, progress)

    def _is_awaited(self, job: Job) -> bool:
        return job.kind in self._waiting and job.generation == self._latest[job.kind]
