"""Measure two ways of doing the same thing in turn, and what the machine can do at best."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Row:
    """One step that a person waits for.

    Parameters
    ----------
    ours_s, reference_s : float
        Medians in seconds.
    error : float
        How far our answer is from the reference's; what it means depends on the row.
    peak_mb : float or None
        Most memory our side took above what it had before, where the system tells (Linux).
    """

    ours_s: float
    reference_s: float
    error: float
    peak_mb: float | None = None

    @property
    def ratio(self) -> float:
        """How many times faster we are."""
        return self.reference_s / self.ours_s

    def as_record(self) -> dict[str, Any]:
        """Return the row as it stands in the file of results."""
        return {**asdict(self), "ratio": self.ratio}


def in_turn(
    ours: Callable[[], Any], reference: Callable[[], Any], *, repeat: int, reference_repeat: int | None = None
) -> tuple[float, float, Any, Any, float | None]:
    """Time two functions in turn, so that a busy moment of the machine hits both.

    Returns
    -------
    ours_s, reference_s : float
        Medians.
    ours, reference
        What the last calls returned.
    peak_mb : float or None
        Memory that our side took at most.
    """
    ours()  # the first call of anything compiles, packs or allocates
    times: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    peak = 0.0
    for turn in range(repeat):
        forget_peak()
        before = memory_mb()
        for side, function in enumerate((ours, reference)):
            if side == 1 and reference_repeat is not None and turn >= reference_repeat:
                continue
            start = time.perf_counter()
            results[side] = function()
            times[side].append(time.perf_counter() - start)
            if side == 0:
                peak = max(peak, memory_mb(peak=True) - before)
    ours_s, reference_s = (statistics.median(t) for t in times)
    return ours_s, reference_s, *results, peak if _STATUS.exists() else None


_STATUS = Path("/proc/self/status")


def memory_mb(*, peak: bool = False) -> float:
    """Resident memory of this process in MB, now or at most since `forget_peak`; 0 where not told."""
    if not _STATUS.exists():
        return 0.0
    wanted = "VmHWM:" if peak else "VmRSS:"
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith(wanted))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Start to measure the peak of the memory anew, where the system can."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of what was expected."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def roofline(precision: torch.dtype, size: int = 2048, repeat: int = 5) -> float:
    """Most operations a second that a large matrix product reaches here, in TFLOP/s."""
    a, b = (torch.randn(size, size).to(precision) for _ in range(2))
    best = np.inf
    for _ in range(repeat):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e12


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    flags = ""
    if info.exists():
        lines = info.read_text().splitlines()
        names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
        flags = next((x for x in lines if x.startswith("flags")), "")
        cpu = names[0] if names else cpu
    return {
        "processor": cpu,
        "bf16": [f for f in ("amx_bf16", "avx512_bf16") if f in flags],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "peak_fp32_tflops": roofline(torch.float32),
        "peak_bf16_tflops": roofline(torch.bfloat16),
    }
