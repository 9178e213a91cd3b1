"""The plane that is shown, as a picture for the encoder: any dtype, colours, channels, axes, lazy data."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image

from napari_sam._napari.coordinates import PlaneError, PlaneIndex, plane_index
from napari_sam._napari.source import Source, Windows
from napari_sam.image import RGB, Contrast
from napari_sam.masks import Box

if TYPE_CHECKING:
    from napari.components import ViewerModel

ContrastMode = Literal["displayed", "percentiles", "range", "tiles"]
"""The layer's contrast window and gamma, percentiles of the plane, its darkest and brightest pixel, or, where
a plane is read in tiles, those of each tile, as micro-sam does."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Which channels become red, green and blue.

    Parameters
    ----------
    red, green, blue : int, Image or None
        With ``axis``, a position on it. Without, another image layer of the same shape, as napari makes one
        for each channel of a file. None leaves the colour black.
    axis : int, optional
        The axis of the layer that holds the channels.
    """

    red: int | Image | None
    green: int | Image | None
    blue: int | Image | None
    axis: int | None = None

    @property
    def colours(self) -> tuple[int | Image | None, int | Image | None, int | Image | None]:
        """Red, green and blue."""
        return self.red, self.green, self.blue

    @property
    def layers(self) -> tuple[Image, ...]:
        """Other image layers among the colours."""
        return tuple(colour for colour in self.colours if isinstance(colour, Image))


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of an image layer, not read yet.

    Parameters
    ----------
    index : PlaneIndex
        Which plane of the layer, in full-resolution pixels. An axis of channels that are shown together has
        no position.
    layer_id : hashable
        `napari.layers.Layer.unique_id` of the layer.
    shape : tuple of int
        (H, W) of what `read` gives.
    factors : tuple of float
        Full-resolution pixels per pixel of what `read` gives, down and to the right; 1 but for a lower level
        of a pyramid.
    sources : tuple of (Source or None)
        One for all colours, or one each for red, green and blue.
    """

    index: PlaneIndex
    layer_id: Hashable
    shape: tuple[int, int]
    factors: tuple[float, float]
    sources: tuple[Source | None, ...]

    def read(self, box: Box | None = None) -> RGB:
        """Read the pixels, or those of a whole-pixel box of them, from any thread.

        Returns
        -------
        ndarray of uint8, shape (H, W, 3)

        Raises
        ------
        ImageError
            If the pixels are no real numbers or none is finite.
        """
        if len(self.sources) == 1 and self.sources[0] is not None:
            return self.sources[0].read(box)
        # Colours that come from the same place are read once.
        read: dict[int, RGB] = {}
        shape = self.shape if box is None else (int(box.height), int(box.width))
        picture = np.zeros((*shape, 3), np.uint8)
        for colour, source in enumerate(self.sources):
            if source is not None:
                if id(source) not in read:
                    read[id(source)] = source.read(box)
                picture[..., colour] = read[id(source)][..., 0]
        return picture

    def windows(self) -> tuple[Windows | None, ...]:
        """Contrast of each source that holds for all of it, as `with_windows` takes it; reads blocks."""
        found: dict[int, Windows | None] = {}
        for source in self.sources:
            if source is not None and id(source) not in found:
                found[id(source)] = source.windows()
        return tuple(None if s is None else found[id(s)] for s in self.sources)

    def with_windows(self, windows: Sequence[Windows | None]) -> Plane:
        """Return this plane with other contrasts, one for each source."""
        moved: dict[int, Source] = {}
        for source, window in zip(self.sources, windows, strict=True):
            if source is not None and id(source) not in moved:
                moved[id(source)] = replace(source, contrast=window)
        return replace(self, sources=tuple(None if s is None else moved[id(s)] for s in self.sources))


def current_plane(
    viewer: ViewerModel,
    layer: Image,
    channels: Channels | None = None,
    *,
    contrast: ContrastMode = "displayed",
    level: int = 0,
) -> Plane:
    """Take the plane of an image layer that the viewer shows now.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Image
        Any dtype; RGB(A); numpy, dask, zarr or a multiscale pyramid of these; any number of axes.
    channels : Channels, optional
        Which channels become red, green and blue; as a grey or RGB picture if not given.
    contrast : {"displayed", "percentiles", "range", "tiles"}
        See `ContrastMode`.
    level : int
        Level of a pyramid, 0 for full resolution.

    Raises
    ------
    PlaneError
        If no plane of the layer is shown, a channel or level does not exist, or channel layers do not fit.
    """
    index = plane_index(viewer, layer)
    data, scales = _level(layer, level)
    if channels is None or layer.rgb:
        sources: tuple[Source | None, ...] = (_source(layer, data, scales, index, contrast),)
    elif channels.axis is None:
        sources = _of_layers(viewer, layer, channels, contrast, level)
    else:
        sources = _of_axis(layer, data, scales, index, channels, contrast)
        open_axis = (*index.index[: channels.axis], None, *index.index[channels.axis + 1 :])
        index = PlaneIndex(open_axis, index.rows, index.columns)
    shape = (int(data.shape[index.rows]), int(data.shape[index.columns]))
    return Plane(index, layer.unique_id, shape, (scales[index.rows], scales[index.columns]), sources)


def iter_planes(
    viewer: ViewerModel,
    layer: Image,
    axis: int,
    channels: Channels | None = None,
    *,
    contrast: ContrastMode = "displayed",
    level: int = 0,
) -> tuple[Plane, ...]:
    """List the planes along one axis of an image layer, the other sliders staying where they are.

    Raises
    ------
    PlaneError
        If the axis is one that the viewer displays, does not exist or holds the channels; and as
        `current_plane`.
    """
    here = current_plane(viewer, layer, channels, contrast=contrast, level=level)
    free = [a for a, position in enumerate(here.index.index) if position is not None]
    if axis not in free:
        raise PlaneError(
            f"Expected an axis to walk along, one of {free}, found {axis}: an axis on display or of channels "
            "is not walked along."
        )
    data, scales = _level(layer, level)
    last = int(data.shape[axis]) - 1
    return tuple(
        _moved(here, axis, position, min(round(position / scales[axis]), last))
        for position in range(stack_size(layer, axis))
    )


class Pictures(Sequence[RGB]):
    """The pictures of planes, each read when it is asked for.

    Parameters
    ----------
    planes : sequence of Plane
    """

    def __init__(self, planes: Sequence[Plane]) -> None:
        self._planes = tuple(planes)

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self._planes)

    def __getitem__(self, index: Any) -> Any:
        """Read one plane, or choose several without reading them."""
        return Pictures(self._planes[index]) if isinstance(index, slice) else self._planes[index].read()


def stack_size(layer: Image, axis: int) -> int:
    """Count the planes of a layer along an axis."""
    return int(_level(layer, 0)[0].shape[axis])


def _moved(plane: Plane, axis: int, position: int, at_level: int) -> Plane:
    """Return the same plane at another position of an axis, ``at_level`` in the level that is read."""
    moved: dict[int, Source] = {}
    for source in plane.sources:
        if source is not None and id(source) not in moved:
            slices = (*source.slices[:axis], at_level, *source.slices[axis + 1 :])
            moved[id(source)] = replace(source, slices=slices)
    sources = tuple(None if s is None else moved[id(s)] for s in plane.sources)
    return replace(plane, index=plane.index.moved(axis, position), sources=sources)


def _level(layer: Image, level: int) -> tuple[Any, tuple[float, ...]]:
    """Array of a pyramid's level, and full-resolution pixels per pixel of it along each axis."""
    levels = layer.data if layer.multiscale else [layer.data]
    if not 0 <= level < len(levels):
        raise PlaneError(
            f"The layer {layer.name!r} has {len(levels)} resolution levels: expected 0 to {len(levels) - 1}, "
            f"found {level}."
        )
    full, data = levels[0].shape[: layer.ndim], levels[level].shape[: layer.ndim]
    return levels[level], tuple(f / d for f, d in zip(full, data, strict=True))


def _source(
    layer: Image, data: Any, scales: tuple[float, ...], index: PlaneIndex, contrast: ContrastMode
) -> Source:
    """How to read one plane of a layer."""
    slices = tuple(
        slice(None) if i is None else min(round(i / scale), int(size) - 1)
        for i, scale, size in zip(index.index, scales, data.shape, strict=False)
    )
    if contrast in ("range", "tiles"):
        stretch: Literal["plane", "tile"] = "plane" if contrast == "range" else "tile"
        return Source(data, slices, index.flipped, None, colours=bool(layer.rgb), stretch=stretch)
    if layer.rgb:
        return Source(data, slices, index.flipped, _colour_window(data.dtype, contrast), colours=True)
    if contrast == "percentiles":
        return Source(data, slices, index.flipped, None)
    window = Contrast(*(float(limit) for limit in layer.contrast_limits))
    return Source(data, slices, index.flipped, window, float(layer.gamma))


def _colour_window(dtype: np.dtype, contrast: ContrastMode) -> Contrast | None:
    """Contrast window of an RGB layer: napari shows its whole range and has no sliders for it."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b" or dtype == np.uint8:
        return Contrast(0, 255)
    if contrast == "percentiles":
        return None
    return Contrast(0, 1) if dtype.kind == "f" else Contrast(0, float(np.iinfo(dtype).max))


def _of_axis(
    layer: Image,
    data: Any,
    scales: tuple[float, ...],
    index: PlaneIndex,
    channels: Channels,
    contrast: ContrastMode,
) -> tuple[Source | None, ...]:
    """Red, green and blue from an axis of the layer."""
    axis = channels.axis
    if axis is None or not 0 <= axis < layer.ndim or axis in index.axes:
        raise PlaneError(
            f"Axis {axis} cannot hold the channels of {layer.name!r}: it does not exist or is on display."
        )
    size = int(data.shape[axis])
    picked: dict[int, Source] = {}
    for colour in channels.colours:
        if colour is None:
            continue
        if not isinstance(colour, int) or not 0 <= colour < size:
            raise PlaneError(f"Expected channel numbers from 0 to {size - 1}, found {colour!r}.")
        picked[colour] = _source(layer, data, scales, index.moved(axis, colour), contrast)
    return tuple(None if c is None else picked[c] for c in channels.colours)


def _of_layers(
    viewer: ViewerModel, layer: Image, channels: Channels, contrast: ContrastMode, level: int
) -> tuple[Source | None, ...]:
    """Red, green and blue from several layers, each with its own contrast window."""
    shape = _level(layer, level)[0].shape
    picked: dict[int, Source] = {}
    for other in channels.colours:
        if other is None:
            continue
        if isinstance(other, int) or getattr(other, "rgb", True):
            raise PlaneError(f"Expected grey image layers for red, green and blue, found {other!r}.")
        data, scales = _level(other, level)
        if data.shape != shape:
            raise PlaneError(
                f"The layer {other.name!r} has shape {data.shape}, {layer.name!r} has {shape}. "
                "Choose channels of the same image."
            )
        picked[id(other)] = _source(other, data, scales, plane_index(viewer, other), contrast)
    return tuple(None if c is None else picked[id(c)] for c in channels.colours)
