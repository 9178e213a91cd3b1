"""Labels layers of planes that are too large for memory: pyramids in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_sam._napari.coordinates import PlaneIndex, layer_shape
from napari_sam._napari.layers import MARK, Frame, add_layer_on_top, mark, place_preview, twin, twin_ndim
from napari_sam.axes import Axes
from napari_sam.export.napari_writer import layer_axes
from napari_sam.masks import Box
from napari_sam.session.large import file_name
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
    return "folder" in layer.metadata.get(MARK, {}) and not layer.metadata[MARK].get("filling")


def folder_of(layer: Labels) -> Path | None:
    """Where the pyramid of a layer lies."""
    folder = layer.metadata.get(MARK, {}).get("folder")
    return Path(folder) if folder is not None else None


def finest(layer: Labels) -> Any:
    """The layer's data at full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


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


def add_filling_labels(
    viewer: ViewerModel, image: Image, plane: PlaneIndex, path: Path, factors: tuple[float, float]
) -> Labels:
    """Add a Labels layer that shows the labels of one plane while a run fills them.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
    plane : PlaneIndex
        The plane of the image that is segmented.
    path : Path
        Label pyramid of the plane, (y, x) as displayed.
    factors : tuple of float
        The image's full-resolution pixels per pixel of the labels.
    """
    levels = LabelPyramid(path).levels
    flat = plane.ndim == 2 and not plane.flipped
    geometry = twin(image)
    origin = {"translate": geometry["translate"], "scale": np.array(geometry["scale"], float)}
    layer = Labels(
        levels if flat else [PlaneOfMany(level, plane) for level in levels],
        multiscale=True,
        name=f"{image.name}: all objects",
        metadata=mark("labels", image, folder=str(path), filling=True, **origin),
        **geometry,
    )
    place_preview(layer, plane, Frame(Box(0, 0, *levels[0].shape), float(np.mean(factors))))
    layer.editable = False
    return add_layer_on_top(viewer, layer, activate=False)


class PlaneOfMany:
    """A plane on disk as an array with the axes of its image, one pixel thick along all others.

    Parameters
    ----------
    array : array, shape (H, W)
        Read anew each time: it changes while it is shown.
    plane : PlaneIndex
    """

    def __init__(self, array: Any, plane: PlaneIndex) -> None:
        self._array, self._plane = array, plane
        shape = [1] * plane.ndim
        shape[plane.rows], shape[plane.columns] = array.shape
        self.shape, self.dtype, self.ndim = tuple(shape), array.dtype, plane.ndim

    def __getitem__(self, where: Any) -> NDArray[Any]:
        where = where if isinstance(where, tuple) else (where,)
        where = (*where, *(slice(None) for _ in range(self.ndim - len(where))))
        rows, columns = (self._plane.rows, self._plane.columns)
        part = np.asarray(self._array[where[rows], where[columns]])
        part = part.T if self._plane.flipped else part
        others = tuple(w for axis, w in enumerate(where) if axis not in (rows, columns))
        shown = np.expand_dims(part, tuple(a for a in range(self.ndim) if a not in (rows, columns)))
        rest = iter(others)
        return shown[tuple(slice(None) if a in (rows, columns) else next(rest) for a in range(self.ndim))]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[()], dtype)


def _axes(image: Image, ndim: int) -> Axes:
    """Axes of a layer on an image."""
    attributes = {
        "scale": image.scale[-ndim:],
        "units": image.units[-ndim:],
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
            digest.update(np.asarray(data[(*lead, slice(y, y + 32), slice(x, x + 32))]).tobytes())
    return digest.hexdigest()
