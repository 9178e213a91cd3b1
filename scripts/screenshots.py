"""Redo the pictures of the documentation: drive the real window, save what it shows.

Run by ``make screenshots``. Every picture is one scene below; a scene opens a window of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

# Nobody's own settings: the pictures must not depend on them, nor change them.
os.environ["NAPARI_CONFIG"] = ""

import napari
import numpy as np
import tifffile
from PIL import Image
from qtpy.QtWidgets import QApplication, QDialog, QMenu, QWidget

from napari_sam._napari import samples
from napari_sam._napari.driver import DriveError, Driver

if TYPE_CHECKING:
    from napari_sam._napari.samples import LayerData

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = 1280, 800
LIMIT = 300_000
"""Bytes that a picture may take."""


@contextmanager
def window(theme: str, sample: Callable[[], list[LayerData]]) -> Iterator[Driver]:
    """Open a window of a theme with a sample and the dock, the image fitted into what is left."""
    viewer = napari.Viewer(title="napari", show=True)
    try:
        viewer.theme = theme
        viewer.window.resize(*SIZE)
        for data, keywords, _ in sample():
            viewer.add_image(data, **keywords)
        driver = Driver(viewer)
        driver.rest(0.5)
        viewer.reset_view()
        driver.wait_ready()
        yield driver
    finally:
        viewer.close()


def overview() -> None:
    """Coins clicked and committed one by one, and three candidates for the next."""
    with window("dark", samples.coins) as driver:
        for spot in ((54, 38), (57, 100), (51, 155), (51, 215), (125, 45), (125, 103), (127, 154)):
            driver.click(*spot)
            driver.press(driver.dock.commit_panel.commit)
        driver.click(193, 212)
        save(driver, "overview")


def candidates() -> None:
    """Drawn cells: a click, three candidates."""
    with window("dark", samples.cells_2d) as driver:
        driver.click(*middle_cell(driver))
        save(driver, "candidates")


def middle_cell(driver: Driver) -> tuple[float, float]:
    """Pixel (y, x) of the cell that is nearest to the middle of the plane, as the model sees it."""
    seeds = driver.session.predictor.seeds(driver.session.embedding).points
    height, width = driver.session.rgb.shape[:2]
    y, x = min(seeds, key=lambda p: (p[0] - height / 2) ** 2 + (p[1] - width / 2) ** 2)
    return float(y), float(x)


def everything() -> None:
    """Every object of a plane, with the sliders."""
    with window("light", samples.coins) as driver:
        fold(driver, "Prompts", "Candidates", "Commit")
        driver.show_section("Segment all")
        panel = driver.dock.everything_panel
        driver.press(panel.run)
        driver.wait("automatic masks", lambda: driver.session.sifted is not None and idle(driver))
        panel.predicted_iou.setValue(600)
        save(driver, "everything")


def stack() -> None:
    """A stack, plane by plane, linked; and the Export section."""
    with window("light", samples.cells_3d) as driver:
        fold(driver, "Prompts", "Candidates", "Commit")
        driver.show_section("Stack")
        driver.show_section("Export")
        driver.press(driver.dock.stack_panel.run)
        driver.wait("the stack", lambda: driver.dock.stack_panel.text.text() and idle(driver), seconds=300)
        save(driver, "stack")


def follow() -> None:
    """One object through a stack: the strip, and the plane of least confidence."""
    with window("dark", samples.cells_3d) as driver:
        fold(driver, "Prompts", "Candidates", "Commit")
        driver.show_section("Stack")
        driver.click(*middle_cell(driver))
        panel = driver.dock.stack_panel.follow
        driver.press(panel.run)
        driver.wait("the object", lambda: driver.dock.stack.following and idle(driver), seconds=300)
        driver.press(panel.weakest)
        driver.wait("the weakest plane", lambda: idle(driver))
        save(driver, "follow")


def folder() -> None:
    """A folder of images gone through: two are done, one is being worked on, one cannot be opened."""
    with TemporaryDirectory() as place, window("dark", samples.coins) as driver:
        images = Path(place) / "slides"
        images.mkdir()
        cells = samples.cells_2d()[0][0]
        for number in range(6):
            tifffile.imwrite(images / f"well_A{number + 1}.tif", np.roll(cells, 90 * number, axis=1))
        (images / "well_A4.tif").write_bytes(b"interrupted")
        fold(driver, "Image and model", "Prompts")
        driver.viewer.layers.clear()
        driver.show_section("Folder of images")
        annotator, panel = driver.dock.many.annotator, driver.dock.many.folder_panel
        annotator.begin(str(images))
        for number in range(2):
            to_image(driver, number)
            for spot in cells_of(driver, 9 - 2 * number):
                driver.click(*spot)
                driver.press(driver.dock.commit_panel.commit)
            driver.press(panel.finish)
        to_image(driver, 2)
        annotator.work.go(3)
        driver.wait("the broken image", lambda: "✕" in panel.images.item(3).text())
        for spot in cells_of(driver, 5)[:-1]:
            driver.click(*spot)
            driver.press(driver.dock.commit_panel.commit)
        driver.click(*cells_of(driver, 6)[-1])
        panel.say("")
        driver.rest(2)
        panel.show_folder(str(images), "slides/labels")
        driver.dock.scroll_to(driver.dock.sections["Folder of images"])
        save(driver, "folder")


def to_image(driver: Driver, number: int) -> None:
    """Wait until an image of the folder is on show and ready for clicks."""
    work = driver.dock.many.annotator.work
    driver.wait("the image", lambda: work.current == number and driver.session.status.phase == "ready")
    driver.rest(0.5)


def cells_of(driver: Driver, count: int) -> list[tuple[float, float]]:
    """Pixels (y, x) of some cells, as the model sees them, that lie well inside the image."""
    height, width = driver.session.rgb.shape[:2]
    seeds = driver.session.predictor.seeds(driver.session.embedding).points
    inside = [(y, x) for y, x in seeds if 30 < y < height - 30 and 30 < x < width - 30]
    return [(float(y), float(x)) for y, x in sorted(inside, key=lambda p: p[0] + p[1] / 3)[:count]]


def preferences() -> None:
    """The plugin's page of the Preferences."""
    with window("dark", samples.coins) as driver:
        action(driver.dock.window(), "Preferences").trigger()
        driver.rest(1)
        dialog = next(d for d in top_levels(QDialog) if d.isVisible())
        choose_page(dialog, "Segment Anything")
        driver.rest(1)
        path = FOLDER / "preferences.png"
        dialog.grab().save(str(path))
        shrink(path)
        dialog.close()
        driver.rest(0.2)


SCENES = (overview, candidates, everything, stack, follow, folder, preferences)


def save(driver: Driver, name: str) -> None:
    """Save the window without the mouse's traces."""
    shrink(driver.picture(FOLDER / f"{name}.png"))


def shrink(path: Path) -> None:
    """Write a picture in fewer bytes; a photograph that takes too many is reduced to 256 colours.

    Raises
    ------
    DriveError
        If it is still too large for a document.
    """
    with Image.open(path) as picture:
        full = picture.convert("RGB")
    full.save(path, optimize=True)
    if path.stat().st_size > LIMIT:
        full.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > LIMIT:
        raise DriveError(f"{path.name} takes {path.stat().st_size} bytes, expected at most {LIMIT}.")


def fold(driver: Driver, *titles: str) -> None:
    """Fold sections, so that what is shown fits into the window."""
    for title in titles:
        driver.dock.sections[title].set_expanded(False)
    driver.rest(0.2)


def idle(driver: Driver) -> bool:
    """Whether nothing is being computed."""
    return not driver.session.running


def top_levels(kind: type[QWidget]) -> list[QWidget]:
    """Windows of a kind."""
    return [widget for widget in QApplication.topLevelWidgets() if isinstance(widget, kind)]


def action(main: QWidget, text: str) -> object:
    """An entry of the window's menus by the beginning of its text."""
    for menu in main.findChildren(QMenu):
        for entry in menu.actions():
            if entry.text().replace("&", "").startswith(text):
                return entry
    raise DriveError(f"The menus have no entry {text!r}.")


def choose_page(dialog: QWidget, title: str) -> None:
    """Turn to a page of the Preferences."""
    from qtpy.QtWidgets import QListWidget

    for pages in dialog.findChildren(QListWidget):
        for row in range(pages.count()):
            if title.lower() in pages.item(row).text().lower():
                pages.setCurrentRow(row)
                return
    raise DriveError(f"The Preferences have no page {title!r}.")


def main() -> None:
    """Make all pictures, or those that are named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = set(sys.argv[1:]) or {scene.__name__ for scene in SCENES}
    for scene in SCENES:
        if scene.__name__ in wanted:
            scene()
            print(FOLDER / f"{scene.__name__}.png", flush=True)


if __name__ == "__main__":
    main()
