"""Masks on the canvas before they are committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam._napari.coordinates import PlaneIndex, layer_shape, shows_several_planes
from napari_sam._napari.layers import (
    Frame,
    add_preview_layer,
    own_layers,
    place_preview,
    preview_shape,
    remove_layer,
)
from napari_sam.masks import Box, Mask

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

COLOURS = ("#ffc400", "#00b8d9", "#ff6f91", "#7bd88f", "#b388ff", "#ff9e5e", "#5c9dff", "#d4e157")
"""The first is that of the thumbnails; neighbours among many objects differ."""


NOWHERE = Box(0, 0, 0, 0)
WHOLE = 4096**2
"""Pixels of a plane up to which the layer covers all of it; of larger ones, what the masks need."""
SIDE = 4096
"""Pixels of the layer on a side at most; larger masks are shown more coarsely."""
ROOM = 256
"""The layer's edges lie at multiples of this, so that it need not follow every mask."""
IN_GRID = (
    "napari's grid shows the mask in a cell of its own. To see it on the image, leave the grid with the "
    "button below the list of layers."
)
PROJECTED = (
    "napari shows several planes of the image at once, the model sees the one at the slider alone. To see "
    "what it sees, set the layer's projection to none."
)


@dataclass(frozen=True, eq=False, slots=True)
class Backdrop:
    """Many masks of one plane as a picture.

    Parameters
    ----------
    image : Image
    plane : PlaneIndex
    picture : ndarray of uint8, shape (H, W)
        0 where no mask is, else the number of a colour from 1; see `colour_numbers`.
    frame : Frame, optional
        What part of the plane it shows; all of it if not given.
    """

    image: Image
    plane: PlaneIndex
    picture: NDArray[np.uint8]
    frame: Frame | None = None


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
        self._frame: Frame | None = None
        self._drawn = NOWHERE
        self._behind: Backdrop | None = None
        self._painted: Backdrop | None = None

    @property
    def layer(self) -> Labels | None:
        """The layer, if there is one in the viewer."""
        return self._layer if self._layer is not None and self._layer in self._viewer.layers else None

    def surprises(self) -> Iterator[str]:
        """Say, in words, what napari shows otherwise than one would think."""
        if self._apart:
            yield IN_GRID
        if self._image is not None and shows_several_planes(self._viewer, self._image):
            yield PROJECTED

    @property
    def _apart(self) -> bool:
        """Whether napari's grid shows the layer in another cell than its image."""
        layers, grid = self._viewer.layers, self._viewer.canvas.grid
        if not grid.enabled or self.layer is None or not self.layer.visible or self._image not in layers:
            return False
        cells = {grid.position(layers.index(one), layers) for one in (self.layer, self._image)}
        return len(cells) > 1

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
        boxes = [mask.box for mask in masks if mask.pixels.size]
        if behind is not None and behind.frame is not None and not all(map(behind.frame.holds, boxes)):
            behind = None  # shown again when these are committed
        frame = behind.frame if behind is not None else self._frame_for(image, plane, boxes)
        layer = self._layer_for(image, plane, frame)
        canvas = _as_plane(layer, plane)
        self._wipe(canvas, behind)
        frame = frame or Frame(Box(0, 0, *canvas.shape))
        for number, mask in reversed(list(enumerate(masks))):
            box = mask.box.intersect(frame.box)
            if not box.empty:
                inside = frame.thin(mask, box)
                canvas[frame.place(box).slices][inside] = 1 + number % len(COLOURS)
        both = [box.intersect(frame.box) for box in boxes]
        seen = [frame.place(box) for box in both if box.height > 0 and box.width > 0]
        self._drawn = Box.union(seen) if seen else NOWHERE
        opacity = opacity if behind is None else 0.5
        # Each of these makes napari cut and send the layer again, also where nothing changes.
        if layer.opacity != opacity:
            layer.opacity = opacity
        if layer.visible:
            layer.refresh(extent=False)
        else:
            layer.visible = True

    def prepare(self, image: Image, plane: PlaneIndex) -> None:
        """Make the layer, hidden: napari takes its time for a layer, which no click needs to wait for."""
        if self.layer is None or image is not self._image:
            self._layer_for(image, plane, self._frame_for(image, plane, [])).visible = False

    def clear(self) -> None:
        """Show nothing; the layer stays, hidden, for the next time."""
        layer = self.layer
        if layer is not None and self._plane is not None and layer.visible:
            self._wipe(_as_plane(layer, self._plane), None)
            layer.visible = False

    def raise_to_top(self) -> None:
        """Put the layer above all others but the prompts, which are not to be seen through it."""
        layers = self._viewer.layers
        if self.layer is None:
            return
        prompts = [
            one for role in ("points", "shapes") for one in own_layers(self._viewer, self._image, role)
        ]
        top = [self.layer, *prompts]
        if list(layers)[-len(top) :] != top:
            for layer in top:
                layers.move(layers.index(layer), len(layers))

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        remove_layer(self._viewer, self.layer)
        self._layer = self._image = self._plane = self._frame = self._painted = None
        self._drawn = NOWHERE

    def _wipe(self, canvas: np.ndarray, behind: Backdrop | None) -> None:
        """Bring what lies behind to light again; only where masks were drawn, if it is still the same."""
        where = self._drawn.slices if behind is self._painted else (slice(None), slice(None))
        canvas[where] = 0 if behind is None else behind.picture[where]
        self._painted, self._drawn = behind, NOWHERE

    def _frame_for(self, image: Image, plane: PlaneIndex, boxes: Sequence[Box]) -> Frame | None:
        """Part of a large plane that the layer is to cover; None for all of a plane."""
        shape = layer_shape(image)
        size = shape[plane.rows], shape[plane.columns]
        if size[0] * size[1] <= WHOLE:
            return None
        box = Box.union(boxes).clip(size) if boxes else Box(0, 0, 1, 1)
        step = max(1, -(-int(max(box.height, box.width)) // SIDE))
        if self._frame is not None and self._frame.step == step and self._frame.holds(box):
            return self._frame
        room = ROOM * step
        y0, x0 = (int(v) // room * room for v in box[:2])
        y1, x1 = (-(-int(v) // room) * room for v in box[2:])
        return Frame(Box(y0, x0, y1, x1).clip(size), step)

    def _layer_for(self, image: Image, plane: PlaneIndex, frame: Frame | None) -> Labels:
        """The layer, at the place of a plane."""
        layer = self.layer
        shape = preview_shape(image, plane, frame)
        fits = layer is not None and image is self._image
        if fits and frame is None:
            fits = self._frame is None and layer.data.shape == shape
        if not fits:
            self.remove()
            layer = add_preview_layer(self._viewer, image, plane, frame)
            colours = dict(enumerate(COLOURS, start=1))
            layer.colormap = DirectLabelColormap(
                color_dict={None: "transparent", 0: "transparent", **colours}
            )
            self._layer, self._image = layer, image
            self.raise_to_top()
        elif plane != self._plane or frame != self._frame:
            if layer.data.shape != shape:
                layer.data = np.zeros(shape, np.uint8)
            elif frame != self._frame:
                layer.data[...] = 0
            place_preview(layer, plane, frame)
        if frame != self._frame:
            self._painted, self._drawn = None, NOWHERE
        self._plane, self._frame = plane, frame
        return layer


def _as_plane(layer: Labels, plane: PlaneIndex) -> np.ndarray:
    """View (H, W) of the layer's pixels in display order."""
    flat = layer.data[tuple(slice(None) if axis in plane.axes else 0 for axis in range(plane.ndim))]
    return flat.T if plane.flipped else flat
