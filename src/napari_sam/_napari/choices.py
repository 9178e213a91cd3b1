"""What the dock offers to choose from: models, channels, levels, axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_sam._napari.coordinates import layer_shape
from napari_sam._napari.large import ON_DISK
from napari_sam._napari.panels.image_panel import ChannelOptions
from napari_sam._napari.planes import Channels
from napari_sam.axes import SECONDS, unit_name
from napari_sam.weights.registry import entries

if TYPE_CHECKING:
    from napari.components import ViewerModel

MOST_CHANNELS = 32
"""An axis longer than this holds planes or times, not channels."""


def models() -> list[tuple[str, str, str]]:
    """List the models as (text, name, licence and authors), the built-in one first."""
    return [
        ("built-in: cells, no download", "built-in", "Licence: BSD-3-Clause, as the plugin's."),
        *(
            (
                f"{entry.name}: {entry.purpose}",
                entry.name,
                f"{entry.attribution}. Licence: {entry.licence}.",
            )
            for entry in entries()
        ),
    ]


def channel_options(viewer: ViewerModel, image: Image | None) -> ChannelOptions:
    """Tell what may become red, green and blue of an image, and its resolution levels."""
    if image is None:
        return ChannelOptions()
    levels: list[tuple[str, int | None]] = []
    if image.multiscale:
        levels = [
            (" × ".join(str(n) for n in level.shape[: image.ndim]), number)
            for number, level in enumerate(image.data)
        ]
        if prod(sorted(layer_shape(image))[-2:]) > ON_DISK:  # whichever axes the viewer shows
            levels.insert(0, ("as in view", None))
    if image.rgb:
        return ChannelOptions(levels=tuple(levels))
    shape = layer_shape(image)
    axes = tuple(
        (axis_name(image, axis), axis, size)
        for axis, size in enumerate(shape[:-2])
        if 2 <= size <= MOST_CHANNELS
    )
    grey = tuple(
        (layer.name, layer)
        for layer in viewer.layers
        if isinstance(layer, Image) and not layer.rgb and layer_shape(layer) == shape
    )
    return ChannelOptions(axes, grey, tuple(levels))


def channels_of(picked: tuple[Any, tuple[Any, Any, Any]]) -> Channels | None:
    """Turn what was picked in the panel into channels."""
    source, (red, green, blue) = picked
    if source is None:
        return None
    return Channels(red, green, blue, axis=None if source == "layers" else int(source))


def stack_axes(
    viewer: ViewerModel, image: Image | None, channel_axis: int | None
) -> list[tuple[str, int, int]]:
    """List the axes to walk along as (name, number, size): those that are not on display."""
    return [] if image is None or viewer.dims.ndisplay != 2 else _across(viewer, image, channel_axis)


def why_no_axes(viewer: ViewerModel, image: Image | None, channel_axis: int | None) -> str:
    """Say why there is no axis to walk along, and what to do about it; nothing if there is one."""
    if image is None:
        return "There is no image yet. Open one."
    if not _across(viewer, image, channel_axis):
        return "This image has one plane only."
    if viewer.dims.ndisplay != 2:
        return (
            "napari shows this image in 3D. Planes are chosen and segmented in the 2D view: go back to it "
            "with the button below the list of layers."
        )
    return ""


def _across(viewer: ViewerModel, image: Image, channel_axis: int | None) -> list[tuple[str, int, int]]:
    """Axes across the planes that the 2D view shows; those of several positions, without the channels."""
    lead = viewer.dims.ndim - image.ndim
    shown = {axis - lead for axis in viewer.dims.order[-2:]}
    return [
        (axis_name(image, axis), axis, size)
        for axis, size in enumerate(layer_shape(image))
        if axis not in shown and axis != channel_axis and size > 1
    ]


def is_time(image: Image, axis: int) -> bool:
    """Whether an axis is time, by its label or its unit."""
    return axis_name(image, axis).lower() in ("t", "time", "frame") or (
        unit_name(image.units[axis]) in SECONDS
    )


def axis_name(image: Image, axis: int) -> str:
    """Name of an axis for a person: its label, if it has one, else its number."""
    label = str(image.axis_labels[axis])
    return f"axis {axis}" if label.lstrip("-").isdigit() else label
