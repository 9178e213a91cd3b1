"""The mask under the mouse, before the click."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam._napari.coordinates import PlaneError, world_to_pixels
from napari_sam._napari.signs import NEGATIVE
from napari_sam.levels import to_level
from napari_sam.prompts import Point, Prompts

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sam._napari.workbench import Workbench


class Hover:
    """Asks for the mask under the mouse, where a click would ask for one too.

    Parameters
    ----------
    bench : Workbench
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._on = True
        bench.viewer.mouse_move_callbacks.append(self._on_move)
        bench.viewer.events.mouse_over_canvas.connect(self._on_left)

    def switch(self, on: bool) -> None:
        """Whether the mask under the mouse is shown."""
        self._on = on
        if not on:
            self._bench.session.end_hover()

    def close(self) -> None:
        """Watch the mouse no more."""
        viewer = self._bench.viewer
        viewer.events.mouse_over_canvas.disconnect(self._on_left)
        if self._on_move in viewer.mouse_move_callbacks:
            viewer.mouse_move_callbacks.remove(self._on_move)

    def _on_left(self, event: Any = None) -> None:
        if not self._bench.viewer.mouse_over_canvas:
            self._bench.session.end_hover()

    def _on_move(self, viewer: ViewerModel, event: Any) -> None:
        place = self._place(event)
        if place is None:
            self._bench.session.end_hover()
        else:
            self._bench.session.hover(*place)

    def _place(self, event: Any) -> tuple[float, float] | None:
        """Pixel (y, x) of the plane, as the model sees it, in which a click would be inside an object."""
        bench = self._bench
        image, plane, binding = bench.image, bench.plane, bench.binding
        if not self._on or image is None or plane is None or bench.tool != "point":
            return None
        if binding is None or binding.sign == NEGATIVE or image not in bench.viewer.layers:
            return None
        try:
            position = world_to_pixels(bench.viewer, image, event.position)
        except PlaneError:
            return None
        y, x = plane.index.project(position)[0].tolist()
        (point,) = to_level(Prompts((Point(y, x),)), plane.factors).points
        height, width = plane.shape
        inside = -0.5 <= point.y < height - 0.5 and -0.5 <= point.x < width - 0.5
        return (point.y, point.x) if inside else None
