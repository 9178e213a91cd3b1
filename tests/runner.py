"""Runs a session's jobs on the spot, when the test says so."""

from __future__ import annotations

from inspect import isgenerator

from napari_sam.progress import finish
from napari_sam.session import AnnotationSession, Job


class QueueRunner:
    """Collects jobs and runs them in `drain`, the latest of a kind only, as the worker does."""

    def __init__(self, session: AnnotationSession) -> None:
        self.session = session
        self.queue: list[Job] = []
        self.cancelled: list[str] = []
        session.job_requested.connect(self.queue.append)
        session.cancel_requested.connect(self.cancelled.append)

    def run(self, job: Job) -> None:
        try:
            outcome = job.run()
            if isgenerator(outcome):
                outcome = finish(outcome, lambda step: self.session.receive_progress(job, step))
        except Exception as error:  # noqa: BLE001  (as the worker does)
            self.session.receive_failure(job, str(error))
        else:
            self.session.receive(job, outcome)

    def drain(self) -> None:
        """Run until nothing is asked for any more."""
        while self.queue:
            self.step()

    def step(self) -> None:
        """Run what was asked for first."""
        self.run(self.queue.pop(0))
