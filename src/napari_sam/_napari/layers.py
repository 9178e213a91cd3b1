"""Layers that lie on an image: its geometric twins, which have the image's pixels as data coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Labels, Points, Shapes
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_sam._napari.coordinates import (
    PlaneIndex,
    is_tilted,
    layer_shape,
    shown_affine,
    unit_factors,
)
from napari_sam._napari.signs import CLICK_COLOURS, LINE_COLOURS, POSITIVE
from napari_sam.export.napari_writer import MARK
from napari_sam.masks import Box, Mask

if TYPE_CHECKING:
    import pint
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

_removing: set[int] = set()
"""Viewers of which a layer is being removed."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Part of a plane that a layer covers, every ``step``-th pixel of it.

    Parameters
    ----------
    box : Box
        Whole-pixel box of the plane.
    step : int or float
        Pixels of the plane per pixel of the layer; a whole number where masks are thinned out.
    """

    box: Box
    step: float = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the layer."""
        return ceil(self.box.height / self.step), ceil(self.box.width / self.step)

    def holds(self, box: Box) -> bool:
        """Whether a box of the plane lies inside."""
        return box.intersect(self.box) == box

    def place(self, box: Box) -> Box:
        """Pixels of the layer whose first pixel of the plane lies in a box of the plane."""
        y0, x0, y1, x1 = box.shift(-self.box.y0, -self.box.x0)
        return Box(*(ceil(v / self.step) for v in (y0, x0, y1, x1)))

    def thin(self, mask: Mask, box: Box) -> NDArray[np.bool_]:
        """What of a mask is in a box of the plane, in pixels of the layer."""
        step = int(self.step)
        y, x = (-int(v) % step for v in (box.y0 - self.box.y0, box.x0 - self.box.x0))
        return mask.crop(box)[y::step, x::step]


Role = Literal["points", "shapes", "labels", "preview"]


def twin(image_layer: Layer, ndim: int | None = None) -> dict[str, Any]:
    """Geometry of a layer, as keywords for another layer with the same data coordinates.

    Parameters
    ----------
    image_layer : Layer
    ndim : int, optional
        Number of axes of the twin: the last ones of the layer. All if not given.
    """
    ndim = image_layer.ndim if ndim is None else ndim
    if ndim > image_layer.ndim:
        raise ValueError(f"A twin has at most the {image_layer.ndim} axes of its layer, found {ndim}.")
    last = slice(image_layer.ndim - ndim, None)
    keep = [*range(image_layer.ndim - ndim, image_layer.ndim), image_layer.ndim]
    return {
        "scale": image_layer.scale[last],
        "translate": image_layer.translate[last],
        "rotate": image_layer.rotate[last, last],
        "shear": _last_shear(image_layer.shear, image_layer.ndim, ndim),
        "affine": np.asarray(image_layer.affine)[np.ix_(keep, keep)],
        "units": image_layer.units[last],
        "axis_labels": image_layer.axis_labels[last],
    }


def shown_twin(viewer: ViewerModel, image_layer: Layer, ndim: int | None = None) -> dict[str, Any]:
    """Geometry of a layer to click in: a `twin` as far as the eye can see.

    napari takes a click to be in the layer's own units, and through the whole of the layer's transform. What
    it draws is in the units of the viewer, which are another layer's where those are smaller, and without
    the parts of the transform that tilt the plane (a deskewed stack). Only a layer in the viewer's units and
    without these parts is hit where it was clicked. Its data coordinates are the image's pixels nonetheless.
    """
    geometry = twin(image_layer, ndim)
    own = geometry["units"]
    units = _units_of_others(viewer)
    shown = own if units is None or len(units) < len(own) else units[-len(own) :]
    tilted = is_tilted(viewer, image_layer)
    if shown == own and not tilted:
        return geometry
    factors = np.diag([*unit_factors(own, shown), 1.0])
    if not tilted:
        return {**geometry, "affine": factors @ geometry["affine"], "units": shown}
    ndim = len(own)
    flat = {
        "scale": np.ones(ndim),
        "translate": np.zeros(ndim),
        "rotate": np.eye(ndim),
        "shear": np.zeros(ndim * (ndim - 1) // 2),
    }
    keep = [*range(image_layer.ndim - ndim, image_layer.ndim), image_layer.ndim]
    affine = shown_affine(viewer, image_layer)[np.ix_(keep, keep)]
    return {**geometry, **flat, "affine": factors @ affine, "units": shown}


def _units_of_others(viewer: ViewerModel) -> tuple[pint.Unit, ...] | None:
    """Units that the viewer would show without the layers that follow it: else they would hold it back."""
    others = [layer for layer in viewer.layers if role_of(layer) in (None, "labels")]
    return viewer.layers.get_extent(others).units


def said_of(layer: Layer) -> dict[str, Any]:
    """What a layer's mark says; nothing without one, nor if the layer is somebody's copy of a marked one.

    napari's copies have the very same mark: what is said of the one is not meant for the other.
    """
    said: dict[str, Any] = layer.metadata.get(MARK, {})
    return said if said.get("layer") == layer.unique_id else {}


def own_layers(viewer: ViewerModel, image_layer: Layer, role: Role | None = None) -> list[Layer]:
    """Layers that were made here for an image, by the mark in their metadata and not by name."""
    return [layer for layer in viewer.layers if is_own(layer, image_layer, role)]


def is_own(layer: Layer, image_layer: Layer, role: Role | None = None) -> bool:
    """Whether a layer was made here for an image: its last axes are the image's pixels."""
    said = said_of(layer)
    return said.get("image") == image_layer.unique_id and role in (None, said["role"])


def role_of(layer: Layer) -> Role | None:
    """What a layer was made for here; None for the person's own."""
    return said_of(layer).get("role")


def set_linked(layer: Labels, linked: bool) -> None:
    """Note whether an id is the same object on all planes, or another one on each."""
    # Copies that napari has made share the mark itself.
    layer.metadata[MARK] = {**layer.metadata.get(MARK, {}), "linked": linked}


def set_filling(layer: Labels, filling: bool) -> None:
    """Note that planes are still being written into labels: nobody else is to draw in them meanwhile."""
    said_of(layer)["filling"] = filling
    layer.editable = not filling and not layer.multiscale


def is_filling(layer: Layer) -> bool:
    """Whether planes are still being written into labels."""
    return bool(said_of(layer).get("filling"))


def realign(viewer: ViewerModel, image_layer: Layer) -> None:
    """Put all layers that were made for an image where the image is now."""
    for layer in own_layers(viewer, image_layer):
        said = said_of(layer)
        if said["role"] == "labels":
            geometry = twin(image_layer, layer.ndim)
        else:
            geometry = shown_twin(viewer, image_layer, layer.ndim)
        if "plane" in said:
            said["translate"], said["scale"] = geometry.pop("translate"), geometry.pop("scale")
        for name, value in geometry.items():
            if not _equal(getattr(layer, name), value):
                setattr(layer, name, value)
        if "plane" in said:
            place_preview(layer, said["plane"], said["frame"])


def add_points_layer(viewer: ViewerModel, image_layer: Image, *, channel_axis: int | None = None) -> Points:
    """Add a layer of clicks, each with its sign as a feature and a colour.

    The next click is positive; `napari_sam._napari.signs.set_next_sign` changes that.
    """
    ndim = twin_ndim(image_layer, channel_axis)
    layer = Points(
        np.empty((0, ndim)),
        ndim=ndim,
        name=f"{image_layer.name}: clicks",
        features={"sign": np.empty(0, dtype=object)},
        feature_defaults={"sign": POSITIVE},
        face_color="sign",
        face_color_cycle=dict(CLICK_COLOURS),
        border_color="white",
        border_width=0.12,
        size=_click_size(image_layer, ndim),
        metadata=mark("points", image_layer),
        **shown_twin(viewer, image_layer, ndim),
    )
    return add_layer_on_top(viewer, layer)


def add_shapes_layer(viewer: ViewerModel, image_layer: Image, *, channel_axis: int | None = None) -> Shapes:
    """Add a layer for boxes, outlines and scribbles."""
    ndim = twin_ndim(image_layer, channel_axis)
    layer = Shapes(
        ndim=ndim,
        name=f"{image_layer.name}: boxes",
        features={"sign": np.empty(0, dtype=object)},
        feature_defaults={"sign": POSITIVE},
        edge_color=LINE_COLOURS[POSITIVE],
        face_color="transparent",
        edge_width=_line_width(image_layer, ndim),
        metadata=mark("shapes", image_layer),
        **shown_twin(viewer, image_layer, ndim),
    )
    return add_layer_on_top(viewer, layer)


def add_labels_layer(
    viewer: ViewerModel,
    image_layer: Image,
    *,
    name: str | None = None,
    channel_axis: int | None = None,
    dtype: np.dtype | type = np.uint16,
) -> Labels:
    """Add an empty Labels layer of the image's shape.

    Parameters
    ----------
    viewer : ViewerModel
    image_layer : Image
    name : str, optional
    channel_axis : int, optional
        Axis of channels, over which an object is the same. The labels do without it where it comes first.
    dtype : dtype
        It grows by itself when the ids need it (see `napari_sam._napari.commit`).
    """
    ndim = twin_ndim(image_layer, channel_axis)
    layer = Labels(
        np.zeros(layer_shape(image_layer)[-ndim:], dtype),
        name=name or f"{image_layer.name}: objects",
        metadata=mark("labels", image_layer),
        **twin(image_layer, ndim),
    )
    return add_layer_on_top(viewer, layer, activate=False)


def add_preview_layer(
    viewer: ViewerModel, image_layer: Image, plane: PlaneIndex, frame: Frame | None = None
) -> Labels:
    """Add the layer that shows the chosen candidate before it is committed.

    It holds one plane only, or a part of it, at the place of that plane: memory does not grow with the stack.
    """
    geometry = shown_twin(viewer, image_layer)
    origin = {"translate": geometry["translate"], "scale": np.array(geometry["scale"], float)}
    layer = Labels(
        np.zeros(preview_shape(image_layer, plane, frame), np.uint8),
        name=f"{image_layer.name}: preview",
        opacity=0.5,
        metadata=mark("preview", image_layer, **origin),
        **geometry,
    )
    place_preview(layer, plane, frame)
    layer.editable = False
    return add_layer_on_top(viewer, layer, activate=False)


def place_preview(preview: Labels, plane: PlaneIndex, frame: Frame | None = None) -> None:
    """Move a preview to another plane of its image, or another part of the plane."""
    said = preview.metadata[MARK]  # it may not be in the viewer yet
    said["plane"], said["frame"] = plane, frame
    start = np.array([0.0 if i is None else i for i in plane.index])
    steps = np.ones(len(start))
    if frame is not None:
        steps[list(plane.axes)] = frame.step
        # The middle of the first pixel of the layer.
        start[list(plane.axes)] = np.array(frame.box[:2]) + (frame.step - 1) / 2
    scale = said["scale"] * steps
    if not np.array_equal(preview.scale, scale):
        preview.scale = scale
    moved = np.subtract(preview.data_to_world(start / steps), preview.data_to_world(start * 0))
    linear = np.asarray(preview.affine)[:-1, :-1]
    # The affine comes after the translation, hence its inverse here.
    translate = said["translate"] + np.linalg.solve(linear, moved)
    if not np.array_equal(preview.translate, translate):
        preview.translate = translate


def preview_shape(image_layer: Image, plane: PlaneIndex, frame: Frame | None = None) -> tuple[int, ...]:
    """Shape of a preview: one pixel thick along the axes that are not displayed."""
    shape = list(layer_shape(image_layer))
    if frame is not None:
        shape[plane.rows], shape[plane.columns] = frame.shape
    return tuple(n if axis in plane.axes else 1 for axis, n in enumerate(shape))


def remove_layer(viewer: ViewerModel, layer: Layer | None) -> None:
    """Remove a layer if it is still there."""
    if layer is not None and layer in viewer.layers:
        if id(viewer) in _removing and layer in viewer.layers.selection:
            QTimer.singleShot(0, partial(_remove, viewer, layer))
        else:
            viewer.layers.remove(layer)


def _remove(viewer: ViewerModel, layer: Layer) -> None:
    if layer in viewer.layers:
        viewer.layers.remove(layer)


@contextmanager
def while_removing(viewer: ViewerModel) -> Iterator[None]:
    """While napari removes a layer: others that are selected are removed a moment later.

    napari may be about to remove all that are selected, and stumbles over one that is gone.
    """
    _removing.add(id(viewer))
    try:
        yield
    finally:
        _removing.discard(id(viewer))


def twin_ndim(image_layer: Layer, channel_axis: int | None) -> int:
    """Number of axes of a twin: without the channels where they come first.

    napari matches axes from the last one, so that a layer without the first axis lies on all of it.
    """
    return image_layer.ndim - 1 if channel_axis == 0 and image_layer.ndim > 2 else image_layer.ndim


def twin_plane(plane: PlaneIndex, ndim: int) -> PlaneIndex:
    """The same plane in a twin with the last ``ndim`` axes."""
    lead = plane.ndim - ndim
    if lead == 0:
        return plane
    if lead < 0 or min(plane.axes) < lead:
        raise ValueError(f"A layer with {ndim} axes does not hold the plane {plane.index}.")
    return PlaneIndex(plane.index[lead:], plane.rows - lead, plane.columns - lead)


def mark(role: Role, image_layer: Layer, **more: Any) -> dict[str, dict[str, Any]]:
    """Metadata that says what a layer is for; it holds from `add_layer_on_top` on."""
    return {MARK: {"role": role, "image": image_layer.unique_id, **more}}


def _last_shear(shear: np.ndarray, full: int, ndim: int) -> np.ndarray:
    """Shear among the last axes: of a matrix its corner, of a vector the entries of that corner."""
    if shear.ndim == 2:
        return shear[full - ndim :, full - ndim :]
    return shear[np.triu_indices(full, 1)[0] >= full - ndim]


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of a layer's geometry are the same."""
    if isinstance(other, tuple):
        return bool(one == other)
    return np.array_equal(np.asarray(one), np.asarray(other))


def add_layer_on_top(viewer: ViewerModel, layer: Any, *, activate: bool = True) -> Any:
    """Add a layer with a `mark`; the active one stays active unless the new one is to be worked in."""
    active = viewer.layers.selection.active
    layer.metadata[MARK]["layer"] = layer.unique_id
    viewer.add_layer(layer)
    if not activate and active is not None and active in viewer.layers:
        viewer.layers.selection.active = active
    return layer


def _click_size(image_layer: Layer, ndim: int) -> float:
    """Diameter of a click in pixels: visible at a glance, small against a cell."""
    return float(np.clip(max(layer_shape(image_layer)[-ndim:][-2:]) / 80, 3, 20))


def _line_width(image_layer: Layer, ndim: int) -> float:
    """Width of an outline in pixels."""
    return float(np.clip(max(layer_shape(image_layer)[-ndim:][-2:]) / 400, 0.5, 4))
