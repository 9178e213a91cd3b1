"""Load torch and what needs it quickly, and so that the window stays live meanwhile."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Thread

SELDOM = 200_000
"""So many new objects make Python look for those that nobody needs any more; 700 or 2,000 otherwise."""

_lock = Lock()
_usual: list[tuple[int, int, int]] = []

SUFFIX = {"linux": ".so", "darwin": ".dylib"}


def load_torch_libraries() -> None:
    """Load torch's shared libraries without holding the interpreter's lock.

    ``import torch`` holds the lock while the dynamic linker works through some hundred megabytes, for a
    second or more in which a window cannot be drawn. Functions that are called by ctypes do not hold it; the
    import finds the libraries loaded. Does nothing where this is not possible.
    """
    suffix = SUFFIX.get(sys.platform)
    torch = find_spec("torch")
    if suffix is None or "torch" in sys.modules or torch is None or torch.origin is None:
        return
    folder = Path(torch.origin).parent / "lib"
    with suppress(OSError, AttributeError):
        dlopen = ctypes.CDLL(None).dlopen
        dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
        for name in ("libtorch_cpu", "libtorch_python"):
            path = folder / f"{name}{suffix}"
            if path.is_file():
                dlopen(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL)


def begin_to_load() -> None:
    """Load torch's shared libraries in a thread of its own, while the window is built.

    `load_torch_libraries` waits for what is under way.
    """
    Thread(target=load_torch_libraries, name="napari-sam-libraries", daemon=True).start()


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Within it, in whichever thread, Python seldom looks for objects that nobody needs any more.

    Importing torch and building the dock make some hundred thousand objects that stay. While they come,
    Python would look through all that the program holds again and again, napari's objects among them: a
    quarter of the time until the model is ready.
    """
    with _lock:
        _usual.append(gc.get_threshold() if not _usual else _usual[0])
        gc.set_threshold(SELDOM, *_usual[0][1:])
    try:
        yield
    finally:
        with _lock:
            usual = _usual.pop()
            if not _usual:
                gc.set_threshold(*usual)
