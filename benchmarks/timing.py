"""Measure two ways of doing the same thing in turn, and what the machine can do at best."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.aside import Aside
from napari_sam.model.linear import Linear


class Times(NamedTuple):
    """Medians in seconds, and the most memory that our side took above what it had before.

    The memory is in MB, and None where the system does not tell (it does on Linux).
    """

    ours_s: float
    reference_s: float
    peak_mb: float | None


@dataclass(frozen=True)
class Row:
    """One step that a person waits for.

    Parameters
    ----------
    ours_s, reference_s, peak_mb
        See `Times`.
    error : float
        How far our answer is from the reference's; what it means depends on the row.
    operations : float, optional
        What the reference computes in this step, in units of 10**12 multiplications and additions.
    arithmetic : str
        What ours computes with: the name of a peak of `machine`.
    """

    ours_s: float
    reference_s: float
    peak_mb: float | None
    error: float
    operations: float | None = None
    arithmetic: str = "fp32"

    @property
    def ratio(self) -> float:
        """How many times faster we are."""
        return self.reference_s / self.ours_s

    def as_record(self, peaks: Mapping[str, float]) -> dict[str, Any]:
        """Return the row as it stands in the file of results.

        Parameters
        ----------
        peaks : mapping
            TFLOP/s that a large matrix product reaches, by arithmetic, measured in the same run.
        """
        record = {
            "ours_s": self.ours_s,
            "reference_s": self.reference_s,
            "ratio": self.ratio,
            "error": self.error,
            "peak_mb": self.peak_mb,
        }
        if self.operations is not None:
            achieved = self.operations / self.ours_s
            record |= {
                "tflops": achieved,
                "of_peak": achieved / peaks[self.arithmetic],
                "reference_of_peak": self.operations / self.reference_s / peaks["fp32"],
            }
        return record


REST = 0.05
"""Seconds between the two sides: the threads of one spin for some milliseconds after it has answered, on
the processors that the other is about to use."""


def in_turn(
    ours: Callable[[], Any], reference: Aside | None, *, repeat: int, ours_repeat: int = 1, warm: bool = True
) -> tuple[Times, Any, Any]:
    """Time two functions in turn, so that a busy moment of the machine hits both.

    Parameters
    ----------
    ours : callable
    reference : Aside or None
        None where only ours is asked for.
    repeat : int
        Turns.
    ours_repeat : int
        How many times ours runs in each turn, where it takes next to nothing.
    warm : bool
        Whether both run once before they are timed: the first call of anything packs or allocates.

    Returns
    -------
    times : Times
    ours, reference
        What the last calls returned.
    """
    if warm:
        ours()
    if warm and reference is not None:
        reference.run(answer=False)
    quick: list[float] = []
    slow: list[float] = []
    found = expected = None
    peak = 0.0
    for turn in range(repeat):
        forget_peak()
        before = memory_mb()
        time.sleep(REST)
        for _ in range(ours_repeat):
            start = time.perf_counter()
            found = ours()
            quick.append(time.perf_counter() - start)
        peak = max(peak, memory_mb(peak=True) - before)
        if reference is not None:
            time.sleep(REST)
            seconds, expected = reference.run(answer=turn == repeat - 1)
            slow.append(seconds)
    times = Times(
        statistics.median(quick), statistics.median(slow or [0.0]), peak if _STATUS.exists() else None
    )
    return times, found, expected


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


SIZE = 2048
"""Side of the matrices whose product tells what the machine can do."""


def peaks() -> dict[str, float]:
    """Most operations a second that a large product of packed weights reaches here, in TFLOP/s."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        layer = Linear(SIZE, SIZE, bias=False).requires_grad_(False).to(dtype)
        layer.pack()
        found[name] = roofline(layer, torch.randn(SIZE, SIZE, dtype=dtype))
        product = torch.randn(SIZE, SIZE, dtype=dtype)
        found[name] = max(found[name], roofline(partial(torch.mm, product), product))
    return found


def roofline(product: Callable[[torch.Tensor], Any], x: torch.Tensor, repeat: int = 5) -> float:
    """Operations a second of a product of two matrices of side `SIZE`, in TFLOP/s."""
    best = np.inf
    with torch.inference_mode():
        for _ in range(repeat):
            start = time.perf_counter()
            product(x)
            best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best / 1e12


INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
"""Features of a processor that decide how quick it is at these steps; machines are compared by them."""


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
        "instructions": [f for f in INSTRUCTIONS if f" {f} " in f"{flags} "],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "peak_tflops": peaks(),
    }
