"""The reference in a process of its own, where nothing of ours is in force.

Ours changes how the C library keeps its heap, and that setting belongs to a process. The reference
is measured as its users run it, so it gets a process with the settings that every process starts with.
Both sides are still run in turn: while one computes, the other waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

Job = Callable[[], Any]


class Aside:
    """A function that lives in another process.

    Parameters
    ----------
    make : callable
        Called there, once, with ``arguments``; returns the function, which takes no arguments. It must be
        importable by name.
    arguments
        What ``make`` is called with.
    """

    def __init__(self, make: Callable[..., Job], *arguments: Any) -> None:
        context = get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, make, arguments, torch.get_num_threads()), daemon=True
        )
        self._process.start()
        there.close()

    def __enter__(self) -> Aside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def run(self, *, answer: bool = True) -> tuple[float, Any]:
        """Run the function; return the seconds it took there and, if asked for, its answer."""
        try:
            self._pipe.send(answer)
            seconds, found = self._pipe.recv()
        except EOFError:
            raise RuntimeError(
                "The reference's process has ended, most likely for want of memory. "
                "Close other programs, or choose fewer rows with --rows."
            ) from None
        if isinstance(found, Exception):
            raise found
        return seconds, found


def _serve(pipe: Connection, make: Callable[..., Job], arguments: tuple[Any, ...], threads: int) -> None:
    """Run the function each time it is asked for."""
    torch.set_num_threads(threads)
    job: Job | None = None
    while True:
        try:
            answer = pipe.recv()
        except EOFError:
            return
        try:
            with torch.inference_mode():
                if job is None:
                    job = make(*arguments)
                start = time.perf_counter()
                found = job()
                seconds = time.perf_counter() - start
        except Exception as error:  # noqa: BLE001 -- handed to the other side, which raises it
            seconds, found = 0.0, error
        pipe.send((seconds, found if answer or isinstance(found, Exception) else None))
