"""Which image the dock works on, and when its picture changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari.layers import Image
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam._napari.layers import while_removing

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import Event, EventEmitter

PAUSE = 400
"""Milliseconds after the last change of the contrast before the plane is embedded again."""


class ImageFollower(QObject):
    """Watches a viewer's layers and sliders on behalf of one image.

    Parameters
    ----------
    viewer : ViewerModel
    """

    image_changed = Signal(object)
    """Another image, or None."""
    plane_changed = Signal()
    """The sliders moved, or axes were swapped."""
    picture_changed = Signal()
    """Contrast or pixels of what is seen changed, and rested for a while."""
    layers_changed = Signal()
    """Layers were added, removed, renamed or moved."""
    active_changed = Signal()
    """Another layer is active."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.image: Image | None = None
        self.following = True
        self._seen: tuple[Image, ...] = ()
        self._sliced: WeakKeyDictionary[Image, tuple[object, ...]] = WeakKeyDictionary()
        self._pause = QTimer(self, singleShot=True, interval=PAUSE)
        self._pause.timeout.connect(self.picture_changed)
        for emitter, slot in self._links():
            emitter.connect(slot)

    def start(self) -> None:
        """Turn to the active image, else to the topmost."""
        active = self.viewer.layers.selection.active
        self.turn_to(active if isinstance(active, Image) else self._topmost())

    def turn_to(self, image: Image | None) -> None:
        """Turn to another image."""
        if image is self.image:
            return
        self.image = image
        self.watch([image] if image is not None else [])
        self.image_changed.emit(image)

    def watch(self, images: Iterable[Image]) -> None:
        """Watch these for another picture: the image itself, or the layers that are its colours."""
        before, self._seen = self._seen, tuple(dict.fromkeys(images))
        self._sliced = WeakKeyDictionary({image: self._slice_of(image) for image in self._seen})
        for emitter in _picture_events(before):
            emitter.disconnect(self._on_picture)
        for emitter in _slice_events(before):
            emitter.disconnect(self._on_slice)
        for emitter in _picture_events(self._seen):
            emitter.connect(self._on_picture)
        for emitter in _slice_events(self._seen):
            emitter.connect(self._on_slice)

    def close(self) -> None:
        """Watch nothing any more."""
        self._pause.stop()
        self.watch([])
        self.image = None
        for emitter, slot in self._links():
            emitter.disconnect(slot)

    def _links(self) -> list[tuple]:
        """Events of the viewer, and what is done about them."""
        layers, dims = self.viewer.layers, self.viewer.dims
        return [
            (layers.events.inserted, self._on_layers),
            (layers.events.removed, self._on_removed),
            (layers.events.reordered, self._on_layers),
            (layers.events.renamed, self._on_layers),
            (layers.selection.events.active, self._on_active),
            (dims.events.current_step, self._on_dims),
            (dims.events.order, self._on_dims),
            (dims.events.ndisplay, self._on_dims),
            (dims.events.ndim, self._on_dims),
        ]

    def _topmost(self) -> Image | None:
        return next((x for x in reversed(self.viewer.layers) if isinstance(x, Image)), None)

    def _on_layers(self, event: Event | None = None) -> None:
        if self.image is None:
            self.turn_to(self._topmost())
        self.layers_changed.emit()

    def _on_removed(self, event: Event) -> None:
        removed: Layer = event.value
        if removed is self.image:
            with while_removing(self.viewer):
                self.turn_to(self._topmost())
        self.layers_changed.emit()

    def _on_active(self, event: Event | None = None) -> None:
        active = self.viewer.layers.selection.active
        if self.following and isinstance(active, Image):
            self.turn_to(active)
        self.active_changed.emit()

    def _on_dims(self, event: Event | None = None) -> None:
        self.plane_changed.emit()

    def _on_picture(self, event: Event | None = None) -> None:
        self._pause.start()

    def _on_slice(self, event: Event) -> None:
        """A layer was drawn anew: its array was written to, unless only the sliders have moved."""
        image: Image = event.source
        before, self._sliced[image] = self._sliced.get(image), self._slice_of(image)
        if before == self._sliced[image]:
            self._on_picture()

    def _slice_of(self, image: Image) -> tuple[object, ...]:
        """Where the sliders of an image's own axes are, which are the last ones, and how the axes lie."""
        dims = self.viewer.dims
        return dims.current_step[-image.ndim :], dims.order, dims.ndisplay


def _picture_events(images: Iterable[Image]) -> list[EventEmitter]:
    """Events after which images look different."""
    return [e for i in images for e in (i.events.contrast_limits, i.events.gamma, i.events.data)]


def _slice_events(images: Iterable[Image]) -> list[EventEmitter]:
    """Events of ``layer.refresh()``; pyramids are sliced at every move of the camera and left out."""
    return [image.events.set_data for image in images if not image.multiscale]
