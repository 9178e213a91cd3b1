"""Files and folders that are either there as a whole or not at all."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from napari_sam.export.formats import ExportError
from napari_sam.locks import alone_at

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

    What was at ``path`` before stays until then; a folder that a run had moved aside when it was killed is
    brought back first.

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
    busy = ExportError(
        f"{path} is being written by another program or run at this moment. Wait until it is done, or "
        "choose another name."
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_at(path, busy):
            try:
                if folder:
                    _bring_back(path)
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


def _move(source: Path, target: Path) -> None:
    """Put a file or folder in place of another."""
    if not target.is_dir():
        os.replace(source, target)
        return
    # A folder cannot be replaced in one step: the old one steps aside, and comes back if that fails.
    try:
        os.replace(target, _aside(target))
        os.replace(source, target)
    finally:
        _bring_back(target)


def _bring_back(path: Path) -> None:
    """Put a folder that has stepped aside back if nothing has taken its place; else it is done with."""
    aside = _aside(path)
    if path.exists():
        remove(aside)
    elif aside.exists():
        os.replace(aside, path)


def _aside(path: Path) -> Path:
    """Name of a folder while another takes its place."""
    return path.with_name(f".{path.name}.old")


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
