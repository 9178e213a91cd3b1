"""The object that is followed as one layer through all planes: what is seen of it in 3D and from the side."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_sam._napari.coordinates import PlaneIndex
from napari_sam._napari.layers import Frame, add_layer_on_top, mark, place_preview, remove_layer, twin
from napari_sam._napari.preview import COLOURS
from napari_sam.masks import Box, Mask

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

MOST = 2**25
"""Voxels of the layer at most; larger objects are shown more coarsely."""


class FollowedVolume:
    """A Labels layer that holds the box around an object in a stack, and nothing else of it.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._image: Image | None = None
        self._layer: Labels | None = None

    def show(self, image: Image, axis: int, masks: Mapping[PlaneIndex, Mask]) -> None:
        """Show an object.

        Parameters
        ----------
        image : Image
        axis : int
            The axis of the image along which its planes lie.
        masks : mapping of PlaneIndex to Mask
            In full-resolution pixels.
        """
        masks = {plane: mask for plane, mask in masks.items() if mask.pixels.size}
        if not masks:
            self.clear()
            return
        first = min(masks, key=lambda plane: plane.index[axis])
        start = first.index[axis]
        count = max(plane.index[axis] for plane in masks) - start + 1
        box = Box.union([mask.box for mask in masks.values()])
        frame = Frame(box, max(1, ceil(sqrt(count * box.height * box.width / MOST))))
        volume = np.zeros((count, *frame.shape), np.uint8)
        for plane, mask in masks.items():
            part = volume[plane.index[axis] - start][frame.place(mask.box).slices]
            part[frame.thin(mask, mask.box)] = 1
        axes = (axis, *first.axes)
        volume = volume.transpose(np.argsort(axes))
        self._put(image, first, frame, np.expand_dims(volume, tuple(set(range(first.ndim)) - set(axes))))

    def clear(self) -> None:
        """Take the layer out of the viewer."""
        remove_layer(self._viewer, self._layer)
        self._layer = self._image = None

    def _put(self, image: Image, first: PlaneIndex, frame: Frame, volume: np.ndarray) -> None:
        """Put pixels into the layer, the first of them at the corner of a frame."""
        if self._layer is None or self._layer not in self._viewer.layers or self._image is not image:
            self.clear()
            self._layer, self._image = _add_layer(self._viewer, image, volume), image
        else:
            self._layer.data = volume
        place_preview(self._layer, first, frame)


def _add_layer(viewer: ViewerModel, image: Image, volume: np.ndarray) -> Labels:
    """Add the layer, as the image lies: it is looked at and not clicked in."""
    geometry = twin(image)
    origin = {"translate": geometry["translate"], "scale": np.array(geometry["scale"], float)}
    layer = Labels(
        volume,
        name=f"{image.name}: followed",
        colormap=DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", 1: COLOURS[0]}),
        metadata=mark("preview", image, **origin),
        **geometry,
    )
    layer.editable = False
    return add_layer_on_top(viewer, layer, activate=False)
