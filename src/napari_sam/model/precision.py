"""What this machine computes quickest, and keeping its memory warm."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def choose_dtype(precision: str = "auto", device: torch.device | str = "cpu") -> torch.dtype:
    """Turn a precision into the type to compute in.

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16"}
        "auto" takes bf16 where the processor or GPU has instructions for it, else fp32.
    device : torch.device or str

    Raises
    ------
    ValueError
        If the precision has another name.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"Expected the precision auto, fp32 or bf16, but found {precision!r}.")
    if precision == "auto":
        return torch.bfloat16 if has_bf16(torch.device(device)) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 numbers in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        known = capabilities()
        return known.get("avx512_bf16", False) or known.get("amx_bf16", False)
    return False


def has_matrix_unit() -> bool:
    """Whether the processor has a matrix unit (AMX), which torch's fused attention uses."""
    return capabilities().get("amx_bf16", False)


@cache
def capabilities() -> dict[str, bool]:
    """The processor's features by name, empty where torch cannot tell."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    return {} if ask is None else {name: value is True for name, value in ask().items()}


_lock = threading.Lock()
_to_restore: dict[int, int] = {}
"""Number of threads of each thread that computes in one for the time being."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: for small work several cost more than they bring, most on a busy machine.

    Uses may be nested, and may overlap in several threads.
    """
    # Torch's setting is each thread's own, and that of threads which begin after it: a thread that has
    # one already must not set it.
    me = threading.get_ident()
    with _lock:
        outermost = me not in _to_restore
        own = torch.get_num_threads()
        if outermost:
            # A thread that began meanwhile has the one thread of the others, not a number of its own.
            _to_restore[me] = own if own > 1 else max(_to_restore.values(), default=1)
        if own > 1:
            torch.set_num_threads(1)
    try:
        yield
    finally:
        if outermost:
            with _lock:
                if (before := _to_restore.pop(me)) > 1:
                    torch.set_num_threads(before)


@cache
def keep_heap() -> bool:
    """Stop the C library from giving freed memory back at every layer; True where it could.

    By default each large activation is mapped and unmapped, and the page faults cost as much
    as the arithmetic. Only glibc has these two settings; elsewhere nothing is done.
    """
    trim_threshold, mmap_max = -1, -4
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(mmap_max, 0)) and bool(libc.mallopt(trim_threshold, 2**31 - 1))
