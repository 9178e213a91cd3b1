"""What the menu Layers > Segment and the command palette offer: each opens the dock and uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image
from napari.utils.notifications import show_warning

# napari gives a command its viewer by the type that it reads from the annotation.
from napari.viewer import Viewer

from napari_sam._napari.settings import PLUGIN

if TYPE_CHECKING:
    from napari_sam._napari.widget import SegmentAnythingDock

WIDGET = "Segment Anything"


def open_dock(viewer: Viewer) -> None:
    """Open the dock, or bring it to the front."""
    show_dock(viewer)


def segment_everything_command(viewer: Viewer) -> None:
    """Segment every object of the plane that is shown."""
    dock = _dock_with_image(viewer)
    if dock is not None:
        dock.segment_everything()


def segment_stack_command(viewer: Viewer) -> None:
    """Segment every plane of the stack that is shown."""
    dock = _dock_with_image(viewer)
    if dock is not None:
        dock.segment_stack()


def annotate_folder_command(viewer: Viewer) -> None:
    """Choose a folder of images and label them one by one."""
    dock = show_dock(viewer)
    section = dock.sections["Folder of images"]
    section.set_expanded(True)
    dock.scroll_to(section)
    dock.many.folder_panel.choose.click()


def show_dock(viewer: Viewer) -> SegmentAnythingDock:
    """Open the dock in a viewer's window if it is not there, show it, and return it."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    dock.show()
    dock.raise_()
    return widget


def _dock_with_image(viewer: Viewer) -> Any:
    """The dock, if there is an image for it to work on."""
    if not any(isinstance(layer, Image) for layer in viewer.layers):
        show_warning(
            "There is no image to segment. Open one first, or choose File > Open Sample > Segment Anything."
        )
        return None
    return show_dock(viewer)
