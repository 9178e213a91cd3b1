"""What must not be broken off in the middle, nor be done by two at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from napari_sam.locks import take_lock

__all__ = ["interrupts_held", "only_writer"]

LOCK = ".training.lock"


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl+C wait until the block is finished; a second one does not wait.

    Python tells only the main thread of signals: elsewhere there is nothing to be held.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []

    def hold(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))
        if len(came) > 1:
            handler(number, frame)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        handler(*came[0])


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder; the lock ends with the process, however that ends.

    Where a disk knows no locks, as some that are shared over a network, nothing keeps them out.

    Raises
    ------
    ValueError
        If another training writes there.
    """
    lock = take_lock(folder / LOCK)
    if lock is None:
        raise ValueError(
            f"Another training writes into {folder}. Wait until it is finished, or choose another output."
        )
    try:
        yield
    finally:
        lock.release()
