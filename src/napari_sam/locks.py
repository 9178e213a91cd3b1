"""What only one may do at a time, of all threads and processes."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What a disk says that knows no locks."""


def take_lock(path: Path) -> FileLock | None:
    """Take the lock that a file stands for; it ends with the process, however that ends.

    Parameters
    ----------
    path : Path
        An empty file that is made for the purpose, and stays.

    Returns
    -------
    FileLock, optional
        To be released; None if another has it. Where a disk knows no locks, as some that are shared over a
        network, it is not locked (``is_locked``), and nothing keeps others out.

    Raises
    ------
    OSError
        If the file cannot be made.
    """
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        if path.exists():
            return None
        # It could not be made: because another has just removed it, or for a reason that this says.
        path.touch()
        return take_lock(path)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return lock


@contextmanager
def alone_at(place: Path, refusal: Exception) -> Iterator[None]:
    """Keep others from a place, such as the name of a result, as long as this block lasts.

    Parameters
    ----------
    place : Path
        File or folder; the folder that it lies in is there.
    refusal : Exception
        What is raised if another is there.
    """
    lock = take_lock(place.with_name(f".{place.name}.lock"))
    if lock is None:
        raise refusal
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
