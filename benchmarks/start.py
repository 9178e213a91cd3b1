"""What is felt in the window, without a reference to compare with: ``python -m benchmarks.start``.

How long the command line, the dock and the model take to come up, and the small steps of the work: filter
the automatic masks again, show the candidates, write a mask. Needs a screen (``scripts/with-screen.sh``).
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# Nobody's own settings: the numbers must not depend on them.
os.environ["NAPARI_CONFIG"] = ""

import napari
import numpy as np
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication
from skimage import data

import napari_sam

if TYPE_CHECKING:
    from napari_sam._napari.commit import Committed
    from napari_sam.everything.result import AutomaticResult

REPEAT = 9


class Clock:
    """Seconds since it was made: on the wall, and of the processor in all threads of this process."""

    def __init__(self) -> None:
        self._start = np.array([time.perf_counter(), time.process_time()])

    def read(self) -> np.ndarray:
        """Return both."""
        return np.array([time.perf_counter(), time.process_time()]) - self._start


class FirstPaint(QObject):
    """Reads a clock when a widget is first painted."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.at = np.full(2, np.nan)

    def eventFilter(self, _: QObject, event: QEvent) -> bool:
        """Look out for the first paint event."""
        if event.type() == QEvent.Type.Paint and np.isnan(self.at[0]):
            self.at = self._clock.read()
        return False


def report(what: str, seconds: np.ndarray, goal: float) -> None:
    """Print one line; on a busy machine the processor's time says more than the wall's."""
    wall, processor = 1000 * seconds
    aim = "" if np.isnan(goal) else f"   goal {1000 * goal:>5.0f} ms"
    print(f"{what:<58}{wall:>7.0f} ms {processor:>7.0f} ms processor{aim}", flush=True)


def median(act: Callable[[int], object], undo: Callable[[], object] = int) -> np.ndarray:
    """Medians of the time that an act takes, the first left out; it is told which time it is."""
    times = []
    for turn in range(REPEAT + 1):
        clock = Clock()
        act(turn)
        times.append(clock.read())
        undo()
    return np.median(times[1:], axis=0)


def show_help(_: int) -> None:
    """Start the command line in a process of its own."""
    code = "from napari_sam.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, "--help"], check=True, stdout=subprocess.DEVNULL)


def start_window() -> None:
    """Open the dock beside a plane and wait for the model."""
    from napari_sam._napari.driver import Driver

    viewer = napari.Viewer(show=True)
    viewer.add_image(data.coins(), name="coins")
    QApplication.processEvents()
    assert "torch" not in sys.modules, "napari itself has imported torch: the numbers mean something else"
    clock = Clock()
    driver = Driver(viewer)
    painted = FirstPaint(clock)
    driver.dock.installEventFilter(painted)
    driver.wait("the dock to be painted", lambda: np.isfinite(painted.at[0]))
    report("dock open, after napari is up", painted.at, 1)
    driver.wait("the image to be taken up", lambda: driver.dock.bench.image is not None)
    report("image taken up, the window answers again", clock.read(), np.nan)
    driver.wait("the model", lambda: driver.session.predictor is not None)
    report("built-in model ready, after the dock was asked for", clock.read(), 2)
    driver.wait_ready()
    report("first plane embedded, its diameter estimated", clock.read(), np.nan)
    work(viewer)
    viewer.close()


def work(viewer: napari.Viewer) -> None:
    """Time the small steps."""
    from napari_sam._napari.commit import commit_mask, take_back
    from napari_sam._napari.coordinates import PlaneIndex
    from napari_sam._napari.panels.candidate_panel import CandidatePanel
    from napari_sam.candidates import Candidate, Candidates
    from napari_sam.geometry import Frame, Window
    from napari_sam.prompts import Point, Prompts
    from napari_sam.session.offers import Offer
    from napari_sam.session.work import Filters, sift

    result = found_masks(1000)
    thresholds = np.linspace(0.5, 0.9, REPEAT + 1)
    step = median(lambda i: sift(result, Filters(thresholds[i], 0.5), "built-in"))
    report(f"filter {len(result)} automatic masks again, to the labels that are shown", step, 0.05)

    window = Window(Frame.longest_side((1024, 1024), 1024), (0, 0), 4, (256, 256))
    y, x = np.mgrid[:256, :256]
    logits = [(r - np.hypot(y - 128, x - 128)).astype(np.float32) for r in (9, 14, 22)]
    rgb = np.repeat(data.camera().repeat(2, 0).repeat(2, 1)[:, :, None], 3, 2)
    panel = CandidatePanel()

    offered = tuple(Candidate(plane, window, 0.9, 1 + k) for k, plane in enumerate(logits))
    offer = Offer(Prompts((Point(512, 512),)), Candidates(offered, 1), 1, "built-in")
    panel.show_offer(offer, rgb, 1)  # masks and stability, which the worker computes, are there from here on
    step = median(lambda _: panel.show_offer(offer, rgb, 1))
    report("row of three thumbnails on a 1024 x 1024 plane", step, 0.02)

    labels = viewer.add_labels(np.zeros((2048, 2048), np.int32))
    mask, plane = result.found.proposals[0].mask.unpack(), PlaneIndex((None, None), 0, 1)
    done: list[Committed] = []

    def take_it_back() -> None:
        take_back(labels, done.pop())
        QApplication.processEvents()

    step = median(lambda _: done.append(commit_mask(labels, plane, mask)), take_it_back)
    report("write a mask into a 2048 x 2048 labels layer", step, 0.03)


def found_masks(count: int) -> AutomaticResult:
    """Return the result of an automatic run that found so many discs on a plane of 2048 x 2048."""
    from napari_sam.everything import AutomaticSettings
    from napari_sam.everything.found import Found, Proposal
    from napari_sam.everything.result import AutomaticResult
    from napari_sam.masks import Box, Mask

    rng = np.random.default_rng(0)
    side = int(np.ceil(count**0.5))
    proposals = []
    for k in range(count):
        radius = rng.uniform(12, 34)
        y, x = np.mgrid[-34:35, -34:35]
        at = (np.array(divmod(k, side)) * (2048 - 80) / side + 2).astype(int)
        mask = Mask.from_plane(np.hypot(y, x) < radius, *at.tolist())
        point = (at[0] + 34.0, at[1] + 34.0)
        quality, stable = rng.uniform(0.5, 1, 2)
        proposals.append(Proposal(mask.pack(), quality, stable, mask.area, point, k, 2, 0))
    settings = AutomaticSettings(pred_iou_thresh=0.5, stability_score_thresh=0.5, prompts="seeds")
    lost = np.zeros((0, 2), np.int64)
    found = Found((2048, 2048), tuple(proposals), (Box(0, 0, 2048, 2048),), count, lost)
    return AutomaticResult(found, settings, seeded=True)


if __name__ == "__main__":
    compileall.compile_dir(Path(napari_sam.__file__).parent, quiet=1)  # as it is when it was installed
    report("napari-sam --help", median(show_help), 0.5)
    start_window()
