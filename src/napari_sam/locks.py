"""What only one may do at a time, of all threads and processes."""

from __future__ import annotations

import errno
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
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return lock
