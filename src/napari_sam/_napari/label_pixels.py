"""Pixels of a Labels layer: read and set box by box, in planes that lie either way round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam._napari.coordinates import PlaneIndex, finest
from napari_sam._napari.ids import note_label
from napari_sam._napari.large_labels import is_stored, put
from napari_sam.masks import Box

if TYPE_CHECKING:
    from napari.layers import Labels

COPIED = 2**29
"""Bytes of labels that are copied before they are written to a file."""
_DTYPES = (np.uint8, np.uint16, np.uint32, np.uint64)
_SIGNED = (np.int8, np.int16, np.int32, np.int64)


class CommitError(ValueError):
    """Objects that cannot be written; the message says why and what to do."""


def read_box(layer: Labels, plane: PlaneIndex, box: Box) -> NDArray[np.integer]:
    """Ids inside a box of a plane, as a copy in the order (y, x); the first of several channels speaks."""
    crop = np.array(finest(layer)[_region(plane, box, 0)])
    return crop.T if plane.flipped else crop


class Patch(NamedTuple):
    """Pixels of a plane to set: ``values`` of a box, ``where`` they count."""

    plane: PlaneIndex
    box: Box
    values: NDArray[np.integer]
    where: NDArray[np.bool_]


def write_patches(layer: Labels, patches: Sequence[Patch]) -> None:
    """Set pixels of planes, as one undo step where napari has them."""
    patches = [patch for patch in patches if patch.where.any()]
    if not patches:
        return
    if not is_stored(layer) and _fancy(layer.data):
        places, values = zip(*(part for patch in patches for part in _pixels(layer, patch)), strict=True)
        indices = tuple(np.concatenate(axis) for axis in zip(*places, strict=True))
        with layer.block_history():
            layer.data_setitem(indices, np.concatenate(values))
        return
    # dask has no assignment by lists of positions, and a pyramid has several levels: the box is read, changed
    # and put back, and the session's own undo is the only one.
    for plane, box, values, where in patches:
        crop = read_box(layer, plane, box)
        crop[where] = values[where]
        crop = crop.T if plane.flipped else crop
        note_label(layer, int(values[where].max()))  # first: what is half written has its id for itself
        if is_stored(layer):
            put(layer, _region(plane, box, None), _open_axes(plane), crop)
        else:
            layer.data[_region(plane, box, None)] = crop
    layer.refresh(extent=False)


def _pixels(layer: Labels, patch: Patch) -> Iterator[tuple[list[NDArray[np.intp]], NDArray[Any]]]:
    """Positions and values of a patch; again at each position of an axis that the plane has all of."""
    plane, box = patch.plane, patch.box
    rows, columns = np.nonzero(patch.where)
    picked = patch.values[rows, columns].astype(layer.data.dtype)
    indices = [np.full(rows.size, i or 0) for i in plane.index]
    indices[plane.rows] = rows + int(box.y0)
    indices[plane.columns] = columns + int(box.x0)
    open_axes = _open_axes(plane)
    for positions in product(*(range(layer.data.shape[a]) for a in open_axes)):
        for axis, position in zip(open_axes, positions, strict=True):
            indices[axis] = np.full(rows.size, position)
        yield list(indices), picked


def _open_axes(plane: PlaneIndex) -> list[int]:
    """Axes that the plane has all of, besides its own two."""
    return [a for a, i in enumerate(plane.index) if i is None and a not in plane.axes]


def _region(plane: PlaneIndex, box: Box, channel: int | None) -> tuple[int | slice, ...]:
    """Slices of a box of a plane; axes without a position at ``channel``, or all along."""
    everywhere = slice(None) if channel is None else channel
    region: list[int | slice] = [everywhere if i is None else i for i in plane.index]
    region[plane.rows], region[plane.columns] = box.slices
    return tuple(region)


def _fancy(data: Any) -> bool:
    """Whether an array takes lists of positions, which napari's undo needs."""
    return isinstance(data, np.ndarray) or not hasattr(data, "dask")


def as_now(layer: Labels) -> tuple[Any, dict[str, Any], str]:
    """Layer as data, attributes and type, as it is at this moment: what is edited later does not change it.

    Pixels on disk, and more than `COPIED` bytes in memory, are not copied.
    """
    data, attributes, kind = layer.as_layer_data_tuple()
    if isinstance(data, np.ndarray) and data.nbytes <= COPIED:
        data = data.copy()
    return data, attributes | {"features": attributes["features"].copy()}, kind


def check_writable(layer: Labels) -> None:
    """Refuse arrays that cannot be changed, before anything is changed."""
    data = finest(layer)
    if isinstance(data, np.ndarray) and not data.flags.writeable:
        raise CommitError(
            f"The layer {layer.name!r} is read-only. Duplicate it or make a new layer, and choose that."
        )
    if getattr(data, "read_only", False):
        raise CommitError(f"The store of the layer {layer.name!r} was opened read-only. Open it for writing.")


def grow(layer: Labels, highest: int) -> None:
    """Give the layer a dtype that holds an id."""
    dtype = np.dtype(layer.data.dtype)
    if dtype.kind != "b" and highest <= np.iinfo(dtype).max:
        return
    if not hasattr(layer.data, "astype"):
        raise CommitError(
            f"The layer {layer.name!r} stores {dtype} and cannot hold the id {highest}. "
            "Make a new Labels layer, or store the labels with a larger type."
        )
    # Ids below 0, which another program may have written, keep their place in signed numbers.
    larger = next(
        d for d in (*(_SIGNED if dtype.kind == "i" else ()), *_DTYPES) if highest <= np.iinfo(d).max
    )
    visible = layer.visible
    # A hidden layer keeps the slice of its old dtype, which would refuse the new id.
    layer.visible = True
    layer.data = layer.data.astype(larger)
    layer.visible = visible
