"""How long the window hesitates while the built-in model works: ``python -m benchmarks.window``.

Needs a screen (``scripts/with-screen.sh`` gives a virtual one).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# Nobody's own settings: the numbers must not depend on them.
os.environ["NAPARI_CONFIG"] = ""

import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from skimage import data

from napari_sam._napari.driver import Driver


class Gaps:
    """The longest time between two beats of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()
        self._timer = QTimer(interval=2)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def stop(self) -> float:
        """Return the longest gap in milliseconds."""
        self._timer.stop()
        return 1000 * self.longest


def longest_gap(act: Callable[[], None], done: Callable[[], bool], seconds: float = 120) -> float:
    """Longest gap in milliseconds from an act until something is true."""
    gaps, end = Gaps(), time.monotonic() + seconds
    act()
    while not done() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.001)
    return gaps.stop()


def main() -> None:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    layer = viewer.add_image(data.coins(), name="coins")
    driver = Driver(viewer)
    driver.wait_ready()
    driver.rest(1)
    session, worker = driver.session, driver.dock.bench.dispatch.worker

    def at_rest() -> bool:
        return not worker.busy and session.status.phase == "ready"

    for turn in range(3):
        before = session.embedding
        high = layer.contrast_limits[1] - 3
        embed = longest_gap(
            lambda high=high: setattr(layer, "contrast_limits", (1, high)),
            lambda before=before: session.embedding is not before and at_rest(),
        )
        driver.rest(0.5)
        everything = longest_gap(
            driver.dock.segment_everything,
            lambda: session.sifted is not None and "everything" not in session.running,
        )
        session.drop_automatic()
        driver.rest(0.5)
        print(f"run {turn + 1}: embedding {embed:.0f} ms, segment all {everything:.0f} ms", flush=True)
    viewer.close()


if __name__ == "__main__":
    main()
