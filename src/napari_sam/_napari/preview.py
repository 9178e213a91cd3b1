"""Masks on the canvas before they are committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam._napari.coordinates import PlaneIndex
from napari_sam._napari.layers import add_preview_layer, place_preview, preview_shape, remove_layer
from napari_sam.masks import Box, Mask

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

COLOURS = ("#ffc400", "#00b8d9", "#ff6f91", "#7bd88f", "#b388ff", "#ff9e5e", "#5c9dff", "#d4e157")
"""The first is that of the thumbnails; neighbours among many objects differ."""


NOWHERE = Box(0, 0, 0, 0)


@dataclass(frozen=True, eq=False, slots=True)
class Backdrop:
    """Many masks of one plane as a picture.

    Parameters
    ----------
    image : Image
    plane : PlaneIndex
    picture : ndarray of uint8, shape (H, W)
        0 where no mask is, else the number of a colour from 1; see `colour_numbers`.
    """

    image: Image
    plane: PlaneIndex
    picture: NDArray[np.uint8]


def colour_numbers(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Colours of a label image, one for each id, in turn."""
    lookup = 1 + np.arange(-1, labels.max(initial=0), dtype=np.int64) % len(COLOURS)
    lookup[0] = 0
    return lookup.astype(np.uint8)[labels]


class MaskPreview:
    """A layer that shows masks of one plane; made when it is first needed, again if someone removes it.

    One layer shows both the chosen candidates and, behind them, the automatic masks of a plane.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._image: Image | None = None
        self._layer: Labels | None = None
        self._plane: PlaneIndex | None = None
        self._drawn = NOWHERE
        self._behind: Backdrop | None = None
        self._painted: Backdrop | None = None

    @property
    def layer(self) -> Labels | None:
        """The layer, if there is one in the viewer."""
        return self._layer if self._layer is not None and self._layer in self._viewer.layers else None

    def set_behind(self, backdrop: Backdrop | None) -> None:
        """Choose what lies behind the masks, on its own plane; seen at the next `show`."""
        self._behind = backdrop

    def show(self, image: Image, plane: PlaneIndex, masks: Sequence[Mask], opacity: float = 0.5) -> None:
        """Show masks on a plane of an image, and nothing else but what lies behind them there.

        Parameters
        ----------
        image : Image
        plane : PlaneIndex
        masks : sequence of Mask
            In pixels of the plane; the first lies on top.
        opacity : float
            Of masks that lie on the bare image.
        """
        behind = self._behind
        if behind is not None and (behind.image is not image or behind.plane != plane):
            behind = None
        if not masks and behind is None:
            self.clear()
            return
        layer = self._layer_for(image, plane)
        canvas = _as_plane(layer, plane)
        self._wipe(canvas, behind)
        for number, mask in reversed(list(enumerate(masks))):
            box = mask.box.clip(canvas.shape)
            canvas[box.slices][mask.crop(box)] = 1 + number % len(COLOURS)
        boxes = [mask.box for mask in masks if mask.pixels.size]
        self._drawn = Box.union(boxes).clip(canvas.shape) if boxes else NOWHERE
        layer.opacity = opacity if behind is None else 0.5
        layer.visible = True
        layer.refresh(extent=False)

    def prepare(self, image: Image, plane: PlaneIndex) -> None:
        """Make the layer, hidden: napari takes its time for a layer, which no click needs to wait for."""
        if self.layer is None or image is not self._image:
            self._layer_for(image, plane).visible = False

    def clear(self) -> None:
        """Show nothing; the layer stays, hidden, for the next time."""
        layer = self.layer
        if layer is not None and self._plane is not None and layer.visible:
            self._wipe(_as_plane(layer, self._plane), None)
            layer.visible = False

    def raise_to_top(self) -> None:
        """Put the layer above all others."""
        layers = self._viewer.layers
        if self.layer is not None and layers[-1] is not self.layer:
            layers.move(layers.index(self.layer), len(layers))

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        remove_layer(self._viewer, self.layer)
        self._layer = self._image = self._plane = self._painted = None
        self._drawn = NOWHERE

    def _wipe(self, canvas: np.ndarray, behind: Backdrop | None) -> None:
        """Bring what lies behind to light again; only where masks were drawn, if it is still the same."""
        where = self._drawn.slices if behind is self._painted else (slice(None), slice(None))
        canvas[where] = 0 if behind is None else behind.picture[where]
        self._painted, self._drawn = behind, NOWHERE

    def _layer_for(self, image: Image, plane: PlaneIndex) -> Labels:
        """The layer, at the place of a plane."""
        layer = self.layer
        fits = layer is not None and image is self._image and layer.data.shape == preview_shape(image, plane)
        if not fits:
            self.remove()
            layer = add_preview_layer(self._viewer, image, plane)
            colours = dict(enumerate(COLOURS, start=1))
            layer.colormap = DirectLabelColormap(
                color_dict={None: "transparent", 0: "transparent", **colours}
            )
            self._layer, self._image = layer, image
        elif plane != self._plane:
            place_preview(layer, plane)
        self._plane = plane
        return layer


def _as_plane(layer: Labels, plane: PlaneIndex) -> np.ndarray:
    """View (H, W) of the layer's pixels in display order."""
    flat = layer.data[tuple(slice(None) if axis in plane.axes else 0 for axis in range(plane.ndim))]
    return flat.T if plane.flipped else flat
