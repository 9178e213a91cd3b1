"""The parts of the dock for more than the plane on show: embeddings on disk, settings for many images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QWidget

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
        self.store = StoreRun(bench, self.store_panel, image_panel)

    @property
    def sections(self) -> dict[str, tuple[QWidget, bool]]:
        """Panels by the title of their section, and whether they are open at first."""
        return {
            "Embeddings on disk": (self.store_panel, False),
            "Settings file": (self.settings_panel, False),
        }

    def begin(self, dock: SegmentAnythingDock) -> None:
        """Take up what was chosen earlier; the dock is complete now."""
        self.settings = SettingsFile(dock)
        self.store.open_preferred()
