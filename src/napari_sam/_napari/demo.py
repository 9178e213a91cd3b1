"""The main job, shown: a sample image, the dock, and without a screen also the clicks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sam._napari.driver import DOCK, DriveError, Driver

CLICK = (193.0, 212.0)
"""A coin of the sample image, in pixels (y, x)."""


@dataclass(frozen=True)
class DemoReport:
    """What the driven demo did.

    Parameters
    ----------
    offered : tuple of str
        The three candidates in words.
    automatic : int
        Objects that were found automatically.
    files : dict of str to Path
        What was written, by its description.
    """

    offered: tuple[str, ...]
    automatic: int
    files: dict[str, Path]

    def __str__(self) -> str:
        """Return the report for a person at a terminal."""
        lines = ["One click, three candidates:", *(f"  {text}" for text in self.offered)]
        lines += [f"Segment all: {self.automatic} objects", "Written:"]
        return "\n".join([*lines, *(f"  {what}: {path}" for what, path in self.files.items())])


def run_demo(out: Path | None = None, drive: bool = False) -> DemoReport | None:
    """Open napari with a sample image and the dock, ready to click.

    Parameters
    ----------
    out : Path, optional
        Folder for what the driven demo writes; ``demo`` if not given.
    drive : bool
        Click, commit, segment all and export by itself, then close.

    Returns
    -------
    DemoReport or None
        What was done; None where the person did it.

    Raises
    ------
    DriveError
        If a step of the driven demo did not succeed.
    """
    import napari
    from qtpy.QtWidgets import QApplication
    from skimage import data

    viewer = napari.Viewer(title="napari-sam")
    viewer.window.resize(1280, 800)
    viewer.add_image(data.coins(), name="coins")
    if not drive:
        viewer.window.add_plugin_dock_widget(DOCK)
        # The dock takes its place at the next event; the whole image is to be seen beside it.
        QApplication.processEvents()
        viewer.reset_view()
        napari.run()
        return None
    folder = Path(out or "demo").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _drive(Driver(viewer), folder)
    finally:
        viewer.close()


def _drive(driver: Driver, folder: Path) -> DemoReport:
    """Do the main job in the window."""
    dock, session = driver.dock, driver.session
    driver.wait_ready()
    driver.viewer.reset_view()
    driver.click(*CLICK)
    offered = tuple(
        f"{n}: predicted IoU {c.predicted_iou:.2f}, stability {c.stability:.2f}, {c.area} pixels"
        for n, c in enumerate(session.offers[0].candidates, start=1)
    )
    clicked = driver.picture(folder / "candidates.png")
    driver.press(dock.commit_panel.commit)
    layer = dock.commit_panel.target.layer
    if layer is None or not np.any(layer.data):
        raise DriveError("The chosen candidate was not written into the labels.")
    driver.show_section("Segment all")
    driver.press(dock.everything_panel.run)
    driver.wait("automatic masks", lambda: session.sifted is not None and "everything" not in session.running)
    found = len(session.sifted)
    if not found:
        raise DriveError("No object was found automatically.")
    window = driver.picture(folder / "window.png")
    driver.press(dock.everything_panel.accept)
    files = {
        "label image": driver.export(layer, folder / "labels.tif", "tiff"),
        "ROIs for Fiji": driver.export(layer, folder / "rois.zip", "imagej"),
        "outlines for QuPath": driver.export(layer, folder / "outlines.geojson", "geojson"),
        "table": driver.export(layer, folder / "table.csv", "table"),
        "the window after the click": clicked,
        "the window with every object": window,
    }
    return DemoReport(offered, found, files)
