"""Get a model's file: find it on this machine, download it, or take a file the user has.

A download is written beside its place under another name and moved there, in one step, only when
its hash is right. What an interrupted or cancelled download leaves is continued by the next one. Of several
that want the same file at once one downloads, and the others wait for it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

import pooch
import requests

from napari_sam.locks import take_lock

from .folders import cache_folder, micro_sam_folder
from .registry import Entry

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all); 0 in all while the size is unknown."""
Cancelled = Callable[[], bool]
"""Asked between chunks whether to stop."""

CHUNK = 1 << 16
TIMEOUT = (15.0, 30.0)
"""Seconds to wait for a connection, and for the next bytes."""
ATTEMPTS = 3
"""How often one address is tried; each attempt continues where the last one stopped."""
LOOK_AGAIN = 0.2
"""Seconds between looking whether another has finished downloading."""
BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
"""A download that ended early, which may be continued."""


class DownloadError(RuntimeError):
    """A model could not be downloaded; the message says what to do."""


class DownloadCancelled(Exception):
    """The download was cancelled; what has arrived is kept and continued next time."""


def find_downloaded(entry: Entry) -> Path | None:
    """The model's file on this machine, if there is one.

    Looks in our own folder, where only verified files are put, and in micro-sam's, whose file is
    used where it lies if its hash is right.
    """
    ours = _ours(entry)
    if ours is not None:
        return ours
    theirs = micro_sam_folder() / entry.name
    if theirs.is_file() and entry.size in (None, theirs.stat().st_size) and _verified(theirs, entry):
        return theirs
    return None


def fetch(entry: Entry, *, progress: Progress | None = None, cancelled: Cancelled | None = None) -> Path:
    """Return the model's file, downloading it if it is not on this machine yet.

    Parameters
    ----------
    entry : Entry
    progress : callable, optional
        Called with (bytes done, bytes in all), also while another process or thread downloads the file.
    cancelled : callable, optional
        Asked between chunks and while waiting for another; when it says yes, the download stops.

    Returns
    -------
    Path
        A file whose hash is the published one.

    Raises
    ------
    DownloadError
        If no address gave the file, or what came is not the published file.
    DownloadCancelled
        If ``cancelled`` said so.
    """
    found = find_downloaded(entry)
    if found is not None:
        return found
    target = cache_folder() / entry.file
    progress, cancelled = progress or _silent, cancelled or _never
    problems = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _own_part(target, entry, progress, cancelled) as part:
            found = _ours(entry)  # another may have downloaded it meanwhile
            if found is not None:
                return found
            for url in entry.urls:
                try:
                    _download(url, entry, part, progress, cancelled)
                    os.replace(part, target)
                except (OSError, DownloadError) as error:  # what requests raises is an OSError too
                    problems.append(f"{url}: {_in_words(error)}")
                    continue
                return target
    except OSError as error:
        problems.append(_in_words(error))
    raise DownloadError(
        f"Expected to download the model {entry.name}, but found: {'; '.join(problems)}. "
        "Check the network and try again, or download the file elsewhere and choose it here."
    )


def use_file(entry: Entry, path: Path) -> Path:
    """Take a file that the user has for a model of the registry, without a network.

    Parameters
    ----------
    entry : Entry
    path : Path
        The published file under any name; it is copied to our folder.

    Returns
    -------
    Path
        The copy.

    Raises
    ------
    ValueError
        If it is not the published file.
    """
    if not path.is_file():
        raise ValueError(f"Expected the file of the model {entry.name}, but found nothing at {path}.")
    if not _verified(path, entry):
        raise ValueError(
            f"Expected the published file of the model {entry.name}, but the hash of {path.name} is "
            "another one: it is damaged, or another model. Open it as a checkpoint of your own instead."
        )
    target = cache_folder() / entry.file
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = target.with_name(f"{target.name}.{uuid4().hex}.copy")
    try:
        shutil.copyfile(path, copy)
        os.replace(copy, target)
    finally:
        copy.unlink(missing_ok=True)
    return target


def remove(entry: Entry) -> None:
    """Delete the model's file, and what unfinished downloads left, from our own folder.

    A download that goes on meanwhile is left alone.
    """
    target = cache_folder() / entry.file
    target.unlink(missing_ok=True)
    if not target.parent.is_dir():
        return
    lock = take_lock(_lock_of(target))
    if lock is None:
        return
    try:
        for left in target.parent.glob(f"{escape(target.name)}.*"):
            left.unlink(missing_ok=True)
    finally:
        lock.release()


def _ours(entry: Entry) -> Path | None:
    """The model's file in our own folder, where only verified files are put."""
    ours = cache_folder() / entry.file
    return ours if ours.is_file() and entry.size in (None, ours.stat().st_size) else None


def _lock_of(target: Path) -> Path:
    """The file that stands for the right to download another."""
    return target.with_name(f".{target.name}.lock")


@contextmanager
def _own_part(target: Path, entry: Entry, progress: Progress, cancelled: Cancelled) -> Iterator[Path]:
    """Give a file to download to, in which nobody else writes meanwhile; wait for who does.

    Where the disk knows no locks nobody is waited for: each has a file of its own name. It is what an earlier
    download left, which one alone can rename, and is given the common name again when it is not completed.
    """
    part = target.with_name(f"{target.name}.part")
    while (lock := take_lock(_lock_of(target))) is None:
        with suppress(FileNotFoundError):
            progress(part.stat().st_size, entry.size or 0)
        if cancelled():
            raise DownloadCancelled(f"The download of {entry.name} was cancelled.")
        time.sleep(LOOK_AGAIN)
    try:
        if lock.is_locked:
            yield part
            return
        own = target.with_name(f"{target.name}.{uuid4().hex}.part")
        with suppress(FileNotFoundError):
            part.rename(own)
        try:
            yield own
        finally:
            with suppress(FileNotFoundError):
                os.replace(own, part)
    finally:
        lock.release()


def _download(url: str, entry: Entry, part: Path, progress: Progress, cancelled: Cancelled) -> None:
    """Complete the file ``part`` from one address and verify it."""
    resumed = part.exists()
    for attempt in range(ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, entry, part, progress, cancelled)
            break
        except BROKEN:
            gained = part.exists() and part.stat().st_size > before
            if attempt == ATTEMPTS - 1 or not gained:
                raise
    if _verified(part, entry):
        return
    part.unlink()
    if not resumed:
        raise DownloadError("a file whose hash is not the published one, which was deleted")
    # What an earlier download left may have been the wrong part: start from nothing, once.
    _download(url, entry, part, progress, cancelled)


def _continue(url: str, entry: Entry, part: Path, progress: Progress, cancelled: Cancelled) -> None:
    """Append to ``part`` what is missing, or start it again where the server cannot continue."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing, or the part is no part of this file: the hash will tell
        answer.raise_for_status()
        continued = answer.status_code == requests.codes.partial_content
        if not continued:
            done = 0
        total = done + int(answer.headers.get("Content-Length", 0)) or entry.size or 0
        with part.open("ab" if continued else "wb") as file:
            progress(done, total)
            for chunk in answer.iter_content(CHUNK):
                if cancelled():
                    raise DownloadCancelled(f"The download of {entry.name} was cancelled.")
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if done < total:
        raise requests.ConnectionError(f"the connection ended after {done} of {total} bytes")


def _verified(path: Path, entry: Entry) -> bool:
    """Whether the file has the strongest of the published hashes."""
    algorithm, expected = next(iter(entry.hashes.items()))
    return str(pooch.file_hash(str(path), alg=algorithm)) == expected


def _in_words(error: Exception) -> str:
    """Say what went wrong, without a library's inner names."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, BROKEN):
        return "the connection failed or broke off"
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be written ({error.strerror})"
    return str(error)


def _silent(done: int, total: int) -> None:
    """Report progress to nobody."""


def _never() -> bool:
    """Never cancel."""
    return False
