"""The parts of the dock for more than the plane on show: embeddings on disk, settings for many images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QWidget

from napari_sam._napari.annotator import Annotator
from napari_sam._napari.panels.folder_panel import FolderPanel
from napari_sam._napari.panels.settings_panel import SettingsPanel
from napari_sam._napari.panels.store_panel import StorePanel
from napari_sam._napari.settings_file import SettingsFile
from napari_sam._napari.store_run import StoreRun

if TYPE_CHECKING:
    from napari_sam._napari.panels.image_panel import ImagePanel
    from napari_sam._napari.widget import SegmentAnythingDock
    from napari_sam._napari.workbench import Workbench


class ManyImages:
    """Panels, and what connects them.

    Parameters
    ----------
    bench : Workbench
    image_panel : ImagePanel
    """

    def __init__(self, bench: Workbench, image_panel: ImagePanel) -> None:
        self.store_panel = StorePanel()
        self.settings_panel = SettingsPanel()
        self.folder_panel = FolderPanel()
        self.store = StoreRun(bench, self.store_panel, image_panel)
        self.annotator: Annotator | None = None

    @property
    def annotating(self) -> bool:
        """Whether a folder is gone through."""
        return self.annotator is not None and self.annotator.work.current is not None

    @property
    def actions(self) -> dict[str, Callable[[], None]]:
        """What the shortcuts of a folder do."""
        panel = self.folder_panel
        return {
            "next image": panel.next_requested.emit,
            "previous image": panel.previous_requested.emit,
            "finish image": panel.done_requested.emit,
        }

    def close(self) -> None:
        """Save what is not saved yet."""
        if self.annotator is not None:
            self.annotator.close()
            self.annotator = None

    @property
    def sections(self) -> dict[str, tuple[QWidget, bool]]:
        """Panels by the title of their section, and whether they are open at first."""
        return {
            "Embeddings on disk": (self.store_panel, False),
            "Settings file": (self.settings_panel, False),
            "Folder of images": (self.folder_panel, False),
        }

    def begin(self, dock: SegmentAnythingDock) -> None:
        """Take up what was chosen earlier; the dock is complete now."""
        self.settings = SettingsFile(dock)
        self.annotator = Annotator(dock, self.folder_panel)
        self.annotator.work.opened.connect(lambda _: dock.adapt_shortcuts())
        self.store.open_preferred()
