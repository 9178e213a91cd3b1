"""Labels layers of planes that are too large for memory: pyramids in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_sam._napari.coordinates import PlaneIndex, layer_shape
from napari_sam._napari.layers import (
    Frame,
    add_layer_on_top,
    mark,
    place_preview,
    said_of,
    twin,
    twin_ndim,
)
from napari_sam._napari.source import read_pixels
from napari_sam.axes import Axes
from napari_sam.export.napari_writer import layer_axes
from napari_sam.levels import FULL
from napari_sam.masks import Box
from napari_sam.session.large import file_name
from napari_sam.spacing import pixel_spacing
from napari_sam.tiling.pyramid import LabelPyramid
from napari_sam.weights.folders import cache_folder

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray

SIDE = 768
"""Side of a chunk in pixels."""
HIGHEST = "highest"
"""Note of a store: the highest id in it."""


def usual_folder() -> Path:
    """Where the labels of large images are kept unless the person chooses: beside the models."""
    return cache_folder().parent / "labels"


def is_stored(layer: Labels) -> bool:
    """Whether a layer is such a pyramid, and finished: what is drawn into it stays."""
    said = said_of(layer)
    return "folder" in said and said.get("by_hand", True)


def folder_of(layer: Labels) -> Path | None:
    """Where the pyramid of a layer lies."""
    folder = said_of(layer).get("folder")
    return Path(folder) if folder is not None else None


def put(layer: Labels, region: Sequence[int | slice], open_axes: Sequence[int], crop: NDArray[Any]) -> None:
    """Change a region on all levels; it is the same all along ``open_axes``."""
    pyramid = LabelPyramid(folder_of(layer))
    lead = layer.ndim - pyramid.levels[0].ndim
    shape = layer_shape(layer)
    for positions in product(*(range(shape[axis]) for axis in open_axes)):
        at = list(region)
        for axis, position in zip(open_axes, positions, strict=True):
            at[axis] = position
        pyramid.put(at[lead:], crop)


def highest_stored(layer: Labels) -> int | None:
    """Highest id of a stored pyramid; None for other layers, and where it is not known."""
    folder = folder_of(layer)
    found = LabelPyramid(folder).notes.get(HIGHEST) if folder is not None else None
    return None if found is None else int(found)


def store_highest(layer: Labels, label: int) -> None:
    """Take note of an id in the store itself, for the next time that it is opened."""
    folder = folder_of(layer)
    if folder is not None:
        pyramid = LabelPyramid(folder)
        notes = pyramid.notes
        if label > notes.get(HIGHEST, 0):
            pyramid.notes = {**notes, HIGHEST: label}


def add_large_labels(
    viewer: ViewerModel, image: Image, folder: Path, *, channel_axis: int | None = None
) -> Labels:
    """Add a Labels layer of the image's shape that lies on disk.

    Objects that were written for the same image earlier are in it.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
    folder : Path
        Where its store is made.
    channel_axis : int, optional
        See `napari_sam._napari.layers.add_labels_layer`.
    """
    ndim = twin_ndim(image, channel_axis)
    shape = layer_shape(image)[-ndim:]
    open_now = {folder_of(layer) for layer in viewer.layers if isinstance(layer, Labels)}
    stem, number = f"{file_name(image.name)}-{_digest(image)}", 1
    while (path := folder / f"{stem}-{number}.ome.zarr") in open_now:
        number += 1
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        LabelPyramid.create(path, shape, SIDE, _axes(image, ndim)).notes = {HIGHEST: 0, "complete": True}
    layer = Labels(
        LabelPyramid(path).levels,
        multiscale=True,
        name=f"{image.name}: objects",
        metadata=mark("labels", image, folder=str(path)),
        **twin(image, ndim),
    )
    return add_layer_on_top(viewer, layer, activate=False)


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """Part of an image that has labels of its own on disk: a plane, or all planes along an axis.

    Parameters
    ----------
    image : Image
    plane : PlaneIndex
        The plane, or any of those along the axis.
    factors : tuple of float
        The image's full-resolution pixels per pixel of the labels, down and to the right.
    along : int, optional
        Axis of the image; its planes are the first axis of the labels.
    """

    image: Image
    plane: PlaneIndex
    factors: tuple[float, float] = FULL
    along: int | None = None

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of the image that the labels have, in their order."""
        return self.plane.axes if self.along is None else (self.along, *self.plane.axes)

    @property
    def in_order(self) -> bool:
        """Whether these are all axes of the image, in its order."""
        return self.axes == tuple(range(self.plane.ndim))

    @property
    def pixels(self) -> Axes:
        """Distances between the labels' pixels, and their units."""
        image, factors = self.image, (*(1.0 for _ in self.axes[:-2]), *self.factors)
        spacing = pixel_spacing(image)
        attributes = {
            "scale": spacing and [spacing[a] * f for a, f in zip(self.axes, factors, strict=True)],
            "units": spacing and [image.units[a] for a in self.axes],
            "axis_labels": [image.axis_labels[a] for a in self.axes],
        }
        return layer_axes(len(self.axes), attributes)


def add_filling_labels(viewer: ViewerModel, part: Part, path: Path) -> Labels:
    """Add a Labels layer that shows the labels of a part of an image while a run fills them.

    Parameters
    ----------
    viewer : ViewerModel
    part : Part
    path : Path
        Its label pyramid, in the order of its axes.
    """
    image, levels = part.image, LabelPyramid(path).levels
    geometry = twin(image)
    origin = {"translate": geometry["translate"], "scale": np.array(geometry["scale"], float)}
    layer = Labels(
        levels if part.in_order else [InImage(level, part) for level in levels],
        multiscale=True,
        name=f"{image.name}: {'all objects' if part.along is None else 'stack'}",
        metadata=mark("labels", image, folder=str(path), by_hand=False, **origin),
        **geometry,
    )
    first = part.plane if part.along is None else part.plane.moved(part.along, 0)
    place_preview(layer, first, Frame(Box(0, 0, *levels[0].shape[-2:]), float(np.mean(part.factors))))
    layer.editable = False
    return add_layer_on_top(viewer, layer, activate=False)


class InImage:
    """Labels of a part of an image as an array with all axes of the image, one pixel thick along the others.

    Parameters
    ----------
    array : array
        Read anew each time: it changes while it is shown.
    part : Part
    """

    def __init__(self, array: Any, part: Part) -> None:
        self._array, self._axes = array, part.axes
        self._others = tuple(axis for axis in range(part.plane.ndim) if axis not in part.axes)
        shape = np.ones(part.plane.ndim, int)
        shape[list(part.axes)] = array.shape
        self.shape, self.dtype, self.ndim = tuple(shape.tolist()), array.dtype, part.plane.ndim
        self.size = int(array.size)

    def __getitem__(self, where: Any) -> NDArray[Any]:
        where = where if isinstance(where, tuple) else (where,)
        where = (*where, *(slice(None) for _ in range(self.ndim - len(where))))
        # Only what is asked for is read; the axes that are given as numbers are dropped at the end.
        spans = [
            w if isinstance(w, slice) else slice(int(w) % n, int(w) % n + 1)
            for w, n in zip(where, self.shape, strict=True)
        ]
        read = np.asarray(self._array[tuple(spans[axis] for axis in self._axes)])
        shown = np.expand_dims(read.transpose(np.argsort(self._axes)), self._others)
        kept = tuple(spans[axis] if axis in self._others else slice(None) for axis in range(self.ndim))
        return shown[kept][tuple(slice(None) if isinstance(w, slice) else 0 for w in where)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[()], dtype)


def _axes(image: Image, ndim: int) -> Axes:
    """Axes of a layer on an image."""
    spacing = pixel_spacing(image)
    attributes = {
        "scale": spacing and spacing[-ndim:],
        "units": spacing and image.units[-ndim:],
        "axis_labels": image.axis_labels[-ndim:],
    }
    return layer_axes(ndim, attributes)


def _digest(image: Image) -> str:
    """What tells an image from others of its name: file, size and some of its pixels."""
    data = image.data[-1] if image.multiscale else image.data
    shape = data.shape
    height, width = shape[image.ndim - 2], shape[image.ndim - 1]
    lead = tuple(n // 2 for n in shape[: image.ndim - 2])
    digest = hashlib.blake2b(digest_size=4)
    digest.update(repr((layer_shape(image), str(data.dtype), image.source.path)).encode())
    for y in np.linspace(0, max(height - 32, 0), 3).astype(int):
        for x in np.linspace(0, max(width - 32, 0), 3).astype(int):
            digest.update(read_pixels(data, (*lead, slice(y, y + 32), slice(x, x + 32))).tobytes())
    return digest.hexdigest()
