"""What a disk refuses, in plain words."""

from __future__ import annotations

import errno

_WORDS = {
    errno.ENOSPC: "The disk is full: {path} cannot be written. Make room",
    errno.EDQUOT: "Your share of the disk is used up: {path} cannot be written. Make room",
    errno.EFBIG: "{path} cannot be written: the system allows no larger file here. Choose another folder",
    errno.EROFS: "{path} cannot be written: the disk is read-only. Choose another folder",
    errno.EACCES: "{path} cannot be opened: you have no permission. Choose another folder or ask for it",
    errno.EPERM: "{path} cannot be changed: you have no permission. Choose another folder or ask for it",
    errno.ENOENT: "{path} is not there, or a folder on the way to it is not. Check the name",
    errno.ENOTDIR: "{path} cannot be reached: on the way to it is a file, no folder. Choose another place",
    errno.EISDIR: "{path} is a folder, where a file was expected. Choose another name",
    errno.ENAMETOOLONG: "{path} is too long a name for the disk. Choose a shorter one",
    errno.EIO: "The disk failed at {path}. Check it, or choose another",
}


def in_plain_words(error: BaseException, *, resumable: bool = True) -> str:
    """Say what went wrong in one sentence or two; of what a disk refuses, what to do.

    Parameters
    ----------
    error : BaseException
    resumable : bool
        Whether what was being done goes on from where it stopped when it is started again.

    Examples
    --------
    >>> in_plain_words(OSError(28, "No space left on device", "out/a.tif"))
    'The disk is full: out/a.tif cannot be written. Make room and start again: what is finished is kept.'
    >>> in_plain_words(ValueError("Expected a plane."))
    'Expected a plane.'
    """
    if isinstance(error, OSError) and error.errno in _WORDS:
        place = str(error.filename) if error.filename else "the output"
        end = " and start again: what is finished is kept" if resumable else ""
        return f"{_WORDS[error.errno].format(path=place)}{end}."
    text = " ".join(str(error).split())
    return text or type(error).__name__
