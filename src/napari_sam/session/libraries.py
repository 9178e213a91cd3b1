"""Load torch's libraries so that the window stays live meanwhile."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

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
