"""Which thread does which job of the session, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_sam._napari.workers import InferenceWorker

if TYPE_CHECKING:
    from napari_sam.session import AnnotationSession, Job

AHEAD = {"precompute", "prefetch"}
"""Work for later, which a second thread does: a click does not wait until an encoder has ended."""

SETTLE = 100
"""Milliseconds that a plane must stay on show before it is embedded: who scrolls wants the last one."""


class Dispatch(QObject):
    """Gives the jobs that a session asks for to two workers, and tells it what comes of them.

    Parameters
    ----------
    session : AnnotationSession
    parent : QObject, optional

    Attributes
    ----------
    worker : InferenceWorker
        Does what is waited for.
    behind : InferenceWorker
        Does what is for later, between the other's jobs.
    """

    def __init__(self, session: AnnotationSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.worker = InferenceWorker(self)
        self.behind = InferenceWorker(self, behind=self.worker)
        self._settling: Job | None = None
        self._settle = QTimer(self, singleShot=True, interval=SETTLE)
        self._settle.timeout.connect(self._submit_settled)
        session.job_requested.connect(self._submit)
        session.cancel_requested.connect(self._cancel)
        for one in (self.worker, self.behind):
            one.done.connect(session.receive)
            one.failed.connect(session.receive_failure)
            one.progress.connect(session.receive_progress)

    def close(self) -> None:
        """End both workers; nothing arrives any more."""
        self._settle.stop()
        self.behind.close(0.0)
        self.worker.close()
        self.behind.close()

    def _submit(self, job: Job) -> None:
        """Give a job to a worker; an embedding waits until the sliders rest."""
        if job.kind == "embed":
            self._settling = job
            self._settle.start()
        else:
            self._place(job.kind).submit(job)

    def _submit_settled(self) -> None:
        if self._settling is not None:
            self.worker.submit(self._settling)
            self._settling = None

    def _cancel(self, kind: str) -> None:
        if kind == "embed":
            self._settle.stop()
            self._settling = None
        self._place(kind).cancel(kind)

    def _place(self, kind: str) -> InferenceWorker:
        return self.behind if kind in AHEAD else self.worker
