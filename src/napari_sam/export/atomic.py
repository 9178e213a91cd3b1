"""Files and folders that are either there as a whole or not at all."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from napari_sam.export.formats import ExportError
from napari_sam.locks import take_lock

_tell: ContextVar[Callable[[Path], None] | None] = ContextVar("tell", default=None)


@contextmanager
def before_placing(tell: Callable[[Path], None]) -> Iterator[None]:
    """Within this block, hear of each result that is complete, just before it is put in place.

    Parameters
    ----------
    tell : callable
        Gets the file or folder beside, which keeps its bytes and times when it is put in place.
    """
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


@contextmanager
def replacing(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Give a name beside ``path`` to write to, and put the result in place only if all went well.

    What was at ``path`` before stays until then.

    Parameters
    ----------
    path : Path
        Where the result is to lie; its folder is made when it is missing.
    folder : bool
        Whether the result is a folder.

    Raises
    ------
    ExportError
        If a folder lies where a file should, another writes there at this moment, the place cannot be written
        to, or the disk is full.
    """
    if path.exists() and path.is_dir() != folder:
        found, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise ExportError(f"{path} is a {found}, and a {wanted} is to be written. Choose another name.")
    beside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            try:
                remove(beside)  # what a run that was killed has left
                yield beside
                tell = _tell.get()
                if tell is not None:
                    tell(beside)
                _move(beside, path)
            finally:
                remove(beside)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"{path} could not be written ({reason}). Choose another folder or make room."
        ) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others from writing to a place: two would mix what they write, or take it from each other."""
    lock = take_lock(path.with_name(f".{path.name}.lock"))
    if lock is None:
        raise ExportError(
            f"{path} is being written by another program or run at this moment. Wait until it is done, or "
            "choose another name."
        )
    file = Path(lock.lock_file)
    try:
        yield
    finally:
        # While it is still held, so that it is not another's that is removed; not every system lets go of it.
        try:
            file.unlink()
            lock.release()
        except OSError:
            lock.release()
            with suppress(OSError):
                file.unlink()


def _move(source: Path, target: Path) -> None:
    """Put a file or folder in place of another."""
    if not target.is_dir():
        os.replace(source, target)
        return
    # A folder cannot be replaced in one step: the old one steps aside, and comes back if that fails.
    aside = target.with_name(f".{target.name}.old")
    remove(aside)
    os.replace(target, aside)
    try:
        os.replace(source, target)
    except OSError:
        os.replace(aside, target)
        raise
    remove(aside)


def free_name(path: Path) -> Path:
    """Name beside a file that nothing has and that is no image's, to keep the file under."""
    names = (path.with_name(f"{path.name}.other{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
