"""Planes that are too large to be read whole: which these are, and what of them is in view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam._napari.coordinates import PlaneError, visible_box
from napari_sam._napari.planes import (
    Channels,
    ContrastMode,
    Plane,
    current_plane,
    iter_planes,
)
from napari_sam._napari.source import Windows
from napari_sam.image import RGB
from napari_sam.levels import FULL, box_to_level
from napari_sam.masks import Box
from napari_sam.session import View
from napari_sam.tiling.large_plane import LARGE, LargePlane, Level

if TYPE_CHECKING:
    from napari.components import ViewerModel

IN_MEMORY = LARGE
"""Pixels from which on a plane is looked at in parts, if it lies in memory."""
ON_DISK = 2048**2
"""The same for a plane that does not, or that has coarser levels."""
REST = 250
"""Milliseconds that the view must rest before what it shows is encoded."""


def is_large(image: Image, plane: Plane) -> bool:
    """Whether a plane is looked at in parts."""
    at_hand = not image.multiscale and isinstance(image.data, np.ndarray)
    return prod(plane.shape) > (IN_MEMORY if at_hand else ON_DISK)


def large_plane(
    viewer: ViewerModel, image: Image, channels: Channels | None, contrast: ContrastMode, level: int | None
) -> LargePlane:
    """Take the plane on show as one that is read by boxes.

    Parameters
    ----------
    viewer, image, channels, contrast
        See `napari_sam._napari.planes.current_plane`.
    level : int, optional
        The only level to read; all if not given.
    """
    numbers = range(len(image.data) if image.multiscale else 1) if level is None else [level]
    return _of_levels([current_plane(viewer, image, channels, contrast=contrast, level=k) for k in numbers])


def large_planes(
    viewer: ViewerModel,
    image: Image,
    axis: int,
    channels: Channels | None,
    contrast: ContrastMode,
    level: int | None = None,
) -> list[LargePlane]:
    """Take the planes along an axis as ones that are read by boxes.

    Parameters
    ----------
    viewer, image, axis, channels, contrast
        See `napari_sam._napari.planes.iter_planes`.
    level : int, optional
        The only level to read; all if not given.
    """
    numbers = range(len(image.data) if image.multiscale else 1) if level is None else [level]
    levels = [iter_planes(viewer, image, axis, channels, contrast=contrast, level=k) for k in numbers]
    return [_of_levels(planes) for planes in zip(*levels, strict=True)]


def _of_levels(planes: Sequence[Plane]) -> LargePlane:
    """One plane, out of what it is on each level."""
    levels = _Levels(planes)
    finest = planes[0].factors
    return LargePlane(
        tuple(
            Level(
                plane.shape,
                (plane.factors[0] / finest[0], plane.factors[1] / finest[1]),
                partial(levels.read, number),
            )
            for number, plane in enumerate(planes)
        )
    )


class _Levels:
    """Reads the levels of a plane with one contrast, which is found at the first reading, in the worker."""

    def __init__(self, planes: Sequence[Plane]) -> None:
        self._planes = planes
        self._windows: tuple[Windows | None, ...] | None = None

    def read(self, level: int, box: Box) -> RGB:
        """Read a box of a level."""
        if self._windows is None:
            self._windows = self._planes[-1].windows()
        return self._planes[level].with_windows(self._windows).read(box)


class Lookout(QObject):
    """Chooses what is encoded of the plane on show: all of it, or of a large one what the canvas shows.

    Parameters
    ----------
    viewer : ViewerModel
    """

    moved = Signal(object)
    """The canvas came to rest where what is encoded does not serve; with the new `View`."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._image: Image | None = None
        self._factors = FULL
        self.view: View | None = None
        self._rest = QTimer(self, singleShot=True, interval=REST)
        self._rest.timeout.connect(self._on_rest)
        for emitter in self._emitters():
            emitter.connect(self._on_move)

    def close(self) -> None:
        """Watch nothing any more."""
        self.forget()
        for emitter in self._emitters():
            emitter.disconnect(self._on_move)

    def forget(self) -> None:
        """There is no large plane to look at."""
        self._rest.stop()
        self._image = self.view = None

    def turn_to(
        self,
        image: Image,
        plane: Plane,
        channels: Channels | None,
        contrast: ContrastMode,
        level: int | None,
    ) -> Callable[[], RGB]:
        """Turn to a plane.

        Parameters
        ----------
        image, channels, contrast, level
            See `large_plane`.
        plane : Plane

        Returns
        -------
        callable
            Gives the picture to encode; a `View` if the plane is large.
        """
        self.forget()
        if not is_large(image, plane):
            return plane.read
        whole = large_plane(self._viewer, image, channels, contrast, level)
        self._image, self._factors = image, plane.factors
        self.view = View(whole, whole.in_view(*self.shown()))
        return self.view

    def shown(self) -> tuple[Box, float]:
        """Part of the large plane on the canvas, and how many of its pixels go to one of the screen."""
        box = box_to_level(Box(*visible_box(self._viewer, self._image)), self._factors)
        return box, max(box.height, box.width) / max(self._viewer.canvas.size)

    def _emitters(self) -> tuple[Any, ...]:
        camera = self._viewer.scene.camera.events
        return camera.center, camera.zoom, self._viewer.canvas.events.size

    def _on_move(self, event: object = None) -> None:
        if self.view is not None:
            self._rest.start()

    def _on_rest(self) -> None:
        """See whether what is encoded still serves."""
        if self.view is None:
            return
        try:
            box, scale = self.shown()
        except PlaneError:  # a volume is on show
            return
        whole, sight = self.view.plane, self.view.sight
        if whole.serves(sight, box, scale):
            return
        wanted = whole.in_view(box, scale)
        if wanted != sight:
            self.view = View(whole, wanted)
            self.moved.emit(self.view)
