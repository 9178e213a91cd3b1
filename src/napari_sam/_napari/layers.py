"""Layers that lie on an image: its geometric twins, which have the image's pixels as data coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Labels, Points, Shapes
from napari.utils.transforms import Affine

from napari_sam._napari.coordinates import PlaneIndex, layer_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

Role = Literal["points", "shapes", "labels", "preview"]

MARK = "napari_sam"
"""Key of a layer's metadata that says what the layer is for."""

POSITIVE, NEGATIVE = "+", "-"
SIGN_COLOURS = {POSITIVE: "#2ecc40", NEGATIVE: "#ff4136"}


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
    axes = np.arange(image_layer.ndim)[-ndim:]
    own = Affine(
        scale=image_layer.scale,
        translate=image_layer.translate,
        rotate=image_layer.rotate,
        shear=image_layer.shear,
    )
    if ndim < image_layer.ndim:
        own = own.set_slice(list(axes))
    block = np.ix_([*axes, image_layer.ndim], [*axes, image_layer.ndim])
    return {
        "scale": own.scale,
        "translate": own.translate,
        "rotate": own.rotate,
        "shear": own.shear,
        "affine": np.asarray(image_layer.affine)[block],
        "units": image_layer.units[-ndim:],
        "axis_labels": image_layer.axis_labels[-ndim:],
    }


def own_layers(viewer: ViewerModel, role: Role | None = None) -> list[Layer]:
    """Layers of a viewer that were made here, by the mark in their metadata and not by name."""
    marks = ((layer, layer.metadata.get(MARK)) for layer in viewer.layers)
    return [layer for layer, mark in marks if mark is not None and role in (None, mark["role"])]


def add_points_layer(viewer: ViewerModel, image_layer: Image, *, channel_axis: int | None = None) -> Points:
    """Add a layer of clicks, each with its sign as a feature and a colour.

    The next click is positive; `napari_sam._napari.binding.set_sign` changes that.
    """
    ndim = twin_ndim(image_layer, channel_axis)
    layer = Points(
        np.empty((0, ndim)),
        ndim=ndim,
        name=f"{image_layer.name}: clicks",
        features={"sign": np.empty(0, dtype=object)},
        feature_defaults={"sign": POSITIVE},
        face_color="sign",
        face_color_cycle=dict(SIGN_COLOURS),
        border_color="white",
        border_width=0.12,
        size=_click_size(image_layer, ndim),
        metadata=_mark("points"),
        **twin(image_layer, ndim),
    )
    return _add_on_top(viewer, layer)


def add_shapes_layer(viewer: ViewerModel, image_layer: Image, *, channel_axis: int | None = None) -> Shapes:
    """Add a layer for boxes, outlines and scribbles."""
    ndim = twin_ndim(image_layer, channel_axis)
    layer = Shapes(
        ndim=ndim,
        name=f"{image_layer.name}: boxes",
        edge_color="#ffdc00",
        face_color="transparent",
        edge_width=_line_width(image_layer, ndim),
        metadata=_mark("shapes"),
        **twin(image_layer, ndim),
    )
    return _add_on_top(viewer, layer)


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
        metadata=_mark("labels"),
        **twin(image_layer, ndim),
    )
    return _add_on_top(viewer, layer, activate=False)


def add_preview_layer(viewer: ViewerModel, image_layer: Image, plane: PlaneIndex) -> Labels:
    """Add the layer that shows the chosen candidate before it is committed.

    It holds one plane only, at the place of that plane: memory does not grow with the stack.
    """
    layer = Labels(
        np.zeros(preview_shape(image_layer, plane), np.uint8),
        name=f"{image_layer.name}: preview",
        opacity=0.5,
        metadata=_mark("preview"),
        **twin(image_layer),
    )
    place_preview(layer, image_layer, plane)
    layer.editable = False
    return _add_on_top(viewer, layer, activate=False)


def place_preview(preview: Labels, image_layer: Image, plane: PlaneIndex) -> None:
    """Move a preview to another plane of its image."""
    start = np.array([0.0 if i is None else i for i in plane.index])
    # A layer that is one pixel thick is moved by where the image has that pixel.
    moved = np.asarray(image_layer.data_to_world(start)) - np.asarray(image_layer.data_to_world(start * 0))
    linear = np.asarray(image_layer.affine)[:-1, :-1]
    preview.translate = np.asarray(image_layer.translate) + np.linalg.solve(linear, moved)


def preview_shape(image_layer: Image, plane: PlaneIndex) -> tuple[int, ...]:
    """Shape of a preview: one pixel thick along the axes that are not displayed."""
    shape = layer_shape(image_layer)
    return tuple(shape[axis] if axis in plane.axes else 1 for axis in range(len(shape)))


def remove_layer(viewer: ViewerModel, layer: Layer | None) -> None:
    """Remove a layer if it is still there."""
    if layer is not None and layer in viewer.layers:
        viewer.layers.remove(layer)


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


def _mark(role: Role) -> dict[str, dict[str, str]]:
    """Metadata that says what the layer is for."""
    return {MARK: {"role": role}}


def _add_on_top(viewer: ViewerModel, layer: Any, *, activate: bool = True) -> Any:
    """Add a layer; the active layer stays active unless the new one is to be worked in."""
    active = viewer.layers.selection.active
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
