"""Run work in a process of its own and kill it (signal 9) at a random moment, again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing import get_context

import numpy as np

# The server has loaded what is slow to import; every run is a fresh copy of it.
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["torch", "zarr", "scipy.ndimage", "pandas", "napari_sam.store", "tests.fakes"]
)


def kill_until_done(
    work: Callable[..., None], args: Sequence[object], *, kills: int, longest: float, seed: int = 0
) -> int:
    """Start ``work`` and kill it after up to ``longest`` seconds, ``kills`` times; then let it finish.

    Returns the number of runs that really were killed on the way.
    """
    rng = np.random.default_rng(seed)
    killed = 0
    for _ in range(kills):
        process = _CONTEXT.Process(target=work, args=tuple(args))
        process.start()
        process.join(float(rng.uniform(0, longest)))
        process.kill()
        process.join()
        killed += process.exitcode == -9
    process = _CONTEXT.Process(target=work, args=tuple(args))
    process.start()
    process.join()
    assert process.exitcode == 0
    return killed
