"""One thread: the latest request wins, quick work goes first, all can be given up, nothing stays."""

from __future__ import annotations

import errno
import gc
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pytest

from napari_sam._napari.workers import PRIORITY, InferenceWorker, in_plain_words
from napari_sam.files import refused
from napari_sam.progress import Progress
from napari_sam.session.jobs import Kind

pytestmark = pytest.mark.gui


@dataclass(frozen=True, eq=False)
class Job:
    kind: str
    run: Any = field(repr=False)


class Steps:
    """A long computation whose steps the test lets through one by one."""

    def __init__(self, count: int, seconds: float = 0.0) -> None:
        self.count, self.seconds = count, seconds
        self.gate = threading.Semaphore(0)
        self.begun, self.closed, self.thread = 0, threading.Event(), None

    def run(self):
        self.thread = threading.current_thread()
        try:
            for number in range(self.count):
                self.begun = number + 1
                self.gate.acquire()
                time.sleep(self.seconds)
                yield Result(number + 1, self.count)
            return "finished"
        finally:
            self.closed.set()

    def let(self, count: int = 1) -> None:
        self.gate.release(count)


class Result(Progress):
    """A step that says something, and so is never left out."""


class Held:
    """A computation without steps that the test lets go."""

    def __init__(self, outcome: Any = None) -> None:
        self.outcome = outcome
        self.begun, self.gate = threading.Event(), threading.Event()

    def run(self):
        self.begun.set()
        assert self.gate.wait(10)
        return self.outcome


class Listener:
    """Everything that a worker says, and in which thread."""

    def __init__(self, worker: InferenceWorker) -> None:
        self.done, self.failed, self.cancelled, self.progress, self.busy = [], [], [], [], []
        self.threads = set()
        worker.done.connect(self.on_done)
        worker.failed.connect(self.on_failed)
        worker.cancelled.connect(self.on_cancelled)
        worker.progress.connect(self.on_progress)
        worker.busy_changed.connect(self.busy.append)

    def on_done(self, job, outcome):
        self.threads.add(threading.current_thread())
        self.done.append((job.kind, outcome))

    def on_failed(self, job, message):
        self.threads.add(threading.current_thread())
        self.failed.append((job.kind, message))

    def on_cancelled(self, job):
        self.cancelled.append(job.kind)

    def on_progress(self, job, step):
        self.threads.add(threading.current_thread())
        self.progress.append((job.kind, step.done))


@pytest.fixture
def worker(qapp):
    worker = InferenceWorker()
    yield worker
    assert worker.close()
    worker.deleteLater()


@pytest.fixture
def until(qtbot):
    """Wait until something is true, the window's events going on."""

    def wait(true, timeout=60_000):
        qtbot.waitUntil(lambda: bool(true()), timeout=timeout)

    wait.a_while = qtbot.wait
    return wait


@pytest.fixture
def heard(worker):
    return Listener(worker)


def test_outcome_arrives_in_the_thread_of_the_window(worker, heard, until):
    where = []
    worker.submit(Job("predict", lambda: where.append(threading.current_thread()) or 42))
    until(lambda: heard.done)
    assert heard.done == [("predict", 42)]
    assert where[0] is not threading.main_thread()
    assert heard.threads == {threading.main_thread()}
    assert heard.busy == [True, False]


def test_latest_of_a_kind_wins(worker, heard, until):
    first, last = Held("first"), Held("last")
    begun = []
    worker.submit(Job("predict", first.run))
    assert first.begun.wait(5)
    for number in range(50):
        worker.submit(Job("predict", lambda n=number: begun.append(n)))
    worker.submit(Job("predict", last.run))
    first.gate.set()
    last.gate.set()
    until(lambda: heard.done)
    assert heard.done == [("predict", "last")]
    assert begun == []


def test_kinds_do_not_replace_each_other(worker, heard, until):
    held = Held()
    worker.submit(Job("load", held.run))
    assert held.begun.wait(5)
    worker.submit(Job("embed", lambda: "embedding"))
    worker.submit(Job("hover", lambda: "hover"))
    worker.submit(Job("predict", lambda: "mask"))
    held.gate.set()
    until(lambda: len(heard.done) == 4)
    assert [kind for kind, _ in heard.done] == ["load", "predict", "hover", "embed"]


def test_every_kind_of_the_session_has_its_place():
    assert set(get_args(Kind)) == set(PRIORITY)


def test_jobs_that_all_count_are_queued(worker, heard, until):
    for number in range(3):
        worker.submit(Job("export", lambda n=number: n), replace=False)
    until(lambda: len(heard.done) == 3)
    assert heard.done == [("export", 0), ("export", 1), ("export", 2)]


def test_a_click_does_not_wait_for_the_stack(worker, heard, until):
    steps = Steps(3)
    worker.submit(Job("stack", steps.run))
    steps.let()
    until(lambda: heard.progress == [("stack", 1)])
    worker.submit(Job("predict", lambda: "mask"))
    steps.let()
    until(lambda: heard.done == [("predict", "mask")])
    steps.let()
    until(lambda: len(heard.done) == 2)
    assert heard.done[1] == ("stack", "finished")
    assert heard.progress == [("stack", 1), ("stack", 2), ("stack", 3)]


def test_cancel_between_two_steps(worker, heard, until):
    steps = Steps(100)
    worker.submit(Job("everything", steps.run))
    steps.let()
    until(lambda: heard.progress)
    worker.cancel("everything")
    assert heard.cancelled == ["everything"]
    assert not worker.busy
    steps.let(100)
    assert steps.closed.wait(5)
    until.a_while(20)
    assert steps.begun <= 2
    assert heard.progress == [("everything", 1)]
    assert heard.done == heard.failed == []
    assert heard.busy == [True, False]


def test_cancel_of_one_kind_leaves_the_others(worker, heard, until):
    held = Held("embedding")
    worker.submit(Job("embed", held.run))
    worker.submit(Job("hover", lambda: "hover"))
    worker.cancel("hover")
    held.gate.set()
    until(lambda: heard.done)
    assert heard.done == [("embed", "embedding")]
    assert heard.cancelled == ["hover"]
    worker.cancel()
    assert heard.cancelled == ["hover"]


def test_outcome_that_is_on_its_way_is_not_delivered_after_cancel(worker, heard, until):
    over = threading.Event()
    worker.submit(Job("predict", over.set))
    assert over.wait(5)
    time.sleep(0.05)  # the outcome is in the window's queue by now
    worker.cancel()
    until.a_while(50)
    assert heard.done == []


def test_a_newer_job_gives_up_the_older_at_its_next_step(worker, heard, until):
    old, new = Steps(100), Steps(1)
    worker.submit(Job("everything", old.run))
    old.let()
    until(lambda: heard.progress)
    worker.submit(Job("everything", new.run))
    old.let(100)
    new.let()
    until(lambda: heard.done)
    assert old.closed.is_set()
    assert old.begun <= 2
    assert heard.done == [("everything", "finished")]
    assert heard.cancelled == []


def test_failure_is_told_and_the_thread_goes_on(worker, heard, until):
    def fail():
        raise ValueError("Expected a plane, found a line. Choose an image.")

    def fail_later():
        yield Progress(0, 1)
        raise OSError("The file is gone.")

    worker.submit(Job("predict", fail))
    worker.submit(Job("everything", fail_later))
    until(lambda: len(heard.failed) == 2)
    assert heard.failed == [
        ("predict", "Expected a plane, found a line. Choose an image."),
        ("everything", "The file is gone."),
    ]
    worker.submit(Job("predict", lambda: 1))
    until(lambda: heard.done)
    assert heard.busy[-1] is False


def test_mistakes_of_ours_are_logged_and_told(worker, heard, until, caplog):
    worker.submit(Job("predict", lambda: {}["missing"]))
    until(lambda: heard.failed)
    assert "inside the plugin (KeyError: 'missing')" in heard.failed[0][1]
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_lack_of_memory_in_plain_words(error):
    assert "not enough memory" in in_plain_words(error)


def test_what_a_disk_refuses_is_said_as_in_the_terminal():
    full = OSError(errno.ENOSPC, "No space left on device", "cells.tif")
    assert in_plain_words(full).startswith("The disk is full: cells.tif cannot be written. Make room")
    assert in_plain_words(full) == refused.in_plain_words(full, resumable=False)


def test_progress_without_news_is_thinned_out(worker, heard, until):
    def steps():
        for number in range(10_000):
            yield Progress(number, 10_000)
        return "end"

    worker.submit(Job("everything", steps))
    until(lambda: heard.done)
    assert 1 <= len(heard.progress) < 1000


def test_steps_with_news_all_arrive(worker, heard, until):
    steps = Steps(200)
    steps.let(200)
    worker.submit(Job("stack", steps.run))
    until(lambda: heard.done)
    assert [done for _, done in heard.progress] == list(range(1, 201))


def test_close_in_the_middle_of_a_long_run(qapp):
    worker = InferenceWorker()
    steps = Steps(1000, seconds=0.01)
    steps.let(1000)
    worker.submit(Job("everything", steps.run))
    while steps.begun < 3:
        time.sleep(0.005)
    assert worker.close()
    assert steps.begun < 900
    assert steps.closed.is_set()
    assert not steps.thread.is_alive()
    worker.submit(Job("predict", lambda: 1))
    assert not worker.busy
    assert worker.close()


def test_close_does_not_wait_for_ever(qapp):
    worker = InferenceWorker()
    held = Held()
    worker.submit(Job("embed", held.run))
    assert held.begun.wait(5)
    start = time.monotonic()
    assert not worker.close(limit=0.1)
    assert time.monotonic() - start < 10
    held.gate.set()
    assert worker.close(limit=5)


def test_nothing_runs_on_when_the_worker_was_dropped_without_closing(qapp):
    worker = InferenceWorker()
    steps = Steps(10_000)
    steps.let(5)
    worker.submit(Job("everything", steps.run))
    while steps.begun < 3:
        time.sleep(0.005)
    gone = weakref.ref(worker)
    steps.let(10_000)
    del worker
    gc.collect()
    assert gone() is None
    assert steps.closed.wait(5)
    steps.thread.join(5)
    assert not steps.thread.is_alive()


def test_window_deleted_by_qt_while_a_job_runs(qapp, qtbot):
    from qtpy.QtCore import QObject

    parent = QObject()
    worker = InferenceWorker(parent)
    held = Held()
    worker.submit(Job("embed", held.run))
    assert held.begun.wait(5)
    parent.deleteLater()
    qtbot.wait(20)
    held.gate.set()
    assert worker.close(limit=5)


class Heartbeat:
    """Longest time that the window's event loop took for one turn, as a part of the time that passed."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.longest = 0.0
        self._begun = self._last = time.perf_counter()
        self._timer = QTimer(interval=5)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def stop(self) -> float:
        self._timer.stop()
        return self.longest / (time.perf_counter() - self._begun)


def test_window_stays_live_while_the_worker_computes(worker, heard, until):
    """One long step of numpy and torch, as an encoder and the clean-up of masks make it."""
    torch = pytest.importorskip("torch")

    def compute():
        weights = torch.rand(768, 768)
        tokens = torch.rand(2048, 768)
        for _ in range(24):
            with torch.inference_mode():
                tokens = torch.nn.functional.gelu(tokens @ weights) / 30
            plane = np.random.default_rng(0).random((512, 512))
            np.sort(plane[plane > 0.5])
        return float(tokens.sum())

    beat = Heartbeat()
    worker.submit(Job("everything", compute))
    until(lambda: heard.done)
    # Of work that held the window it would be nearly all.
    assert beat.stop() < 0.5


def test_the_worker_behind_works_beside_but_begins_no_step_while_the_first_is_busy(worker, until):
    behind = InferenceWorker(behind=worker)
    told = Listener(behind)
    ahead, held = Steps(3), Held()
    behind.submit(Job("precompute", ahead.run))
    until(lambda: ahead.begun == 1)
    # A step is under way: a click is answered meanwhile, in the other thread.
    heard = Listener(worker)
    worker.submit(Job("predict", lambda: "mask"))
    until(lambda: heard.done == [("predict", "mask")])
    worker.submit(Job("embed", held.run))
    until(held.begun.is_set)
    ahead.let(3)
    until(lambda: told.progress)
    until.a_while(300)
    assert told.progress == [("precompute", 1)], "the next step waits"
    held.gate.set()
    until(lambda: told.done == [("precompute", "finished")])
    # Given up while it waits for the first one.
    again = Held()
    worker.submit(Job("embed", again.run))
    waiting = Held()
    behind.submit(Job("prefetch", waiting.run))
    behind.cancel("prefetch")
    assert behind.close()
    assert not waiting.begun.is_set()
    again.gate.set()
    behind.deleteLater()
