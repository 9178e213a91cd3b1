"""Writing objects into a Labels layer: one undo step each, and never over a neighbour unasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_sam._napari.coordinates import PlaneIndex, layer_shape, lies_on
from napari_sam._napari.ids import next_label, note_label
from napari_sam._napari.large_labels import finest, is_stored, put
from napari_sam._napari.layers import twin_plane
from napari_sam.masks import Box, Mask, Overlap, paint

if TYPE_CHECKING:
    from napari.layers import Image, Labels

_DTYPES = (np.uint8, np.uint16, np.uint32, np.uint64)


class CommitError(ValueError):
    """Objects that cannot be written; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Committed:
    """What a commit changed, enough to take it back or do it again.

    Parameters
    ----------
    labels : tuple of int
        Ids that were written, in the order of the masks; 0 for a mask of which nothing was left to write.
    plane : PlaneIndex
        The plane in the Labels layer.
    box : Box
        Where ``written`` lies in the plane.
    written : ndarray of bool, shape (h, w)
        The pixels that were written.
    before, after : ndarray of int, shape (h, w)
        Ids in ``box`` before and after.
    rows : DataFrame
        What was stored in the layer's features about these ids.
    """

    labels: tuple[int, ...]
    plane: PlaneIndex
    box: Box
    written: NDArray[np.bool_]
    before: NDArray[np.integer]
    after: NDArray[np.integer]
    rows: pd.DataFrame

    @property
    def label(self) -> int:
        """Id of the first object that was written."""
        return next(label for label in self.labels if label)

    @property
    def area(self) -> int:
        """Number of pixels that were written."""
        return int(np.count_nonzero(self.written))


def commit_mask(
    labels_layer: Labels,
    plane: PlaneIndex,
    mask: Mask,
    *,
    overlap: Overlap = "keep",
    label: int | None = None,
    record: Mapping[str, Any] | None = None,
) -> Committed:
    """Write one object as one undo step.

    Parameters
    ----------
    labels_layer : Labels
        A twin of the image, in memory or backed by zarr or dask. Its dtype grows when the id needs it.
    plane : PlaneIndex
        The plane of the image. An axis without a position (channels) gets the object all along.
    mask : Mask
        In pixels of the plane (y, x).
    overlap : {"keep", "replace"}
        Whether pixels of other objects stay theirs.
    label : int, optional
        The object's id; the next free one if not given.
    record : mapping, optional
        What to store about the object in the layer's features.

    Raises
    ------
    CommitError
        If nothing of the mask is left to write, or the layer cannot be written to.
    """
    first = next_label(labels_layer) if label is None else label
    done = _commit(labels_layer, plane, [mask], [first], overlap, [record or {}])
    if done is None:
        where = "lies outside the image" if overlap == "replace" else "is taken by other objects"
        raise CommitError(f"The whole mask {where}. Choose another candidate, or let it replace the others.")
    return done


def commit_labels(
    labels_layer: Labels,
    plane: PlaneIndex,
    masks: Sequence[Mask],
    *,
    overlap: Overlap = "keep",
    records: Sequence[Mapping[str, Any]] | None = None,
) -> Committed:
    """Write many objects as one undo step, the first mask on top of the next.

    Parameters
    ----------
    labels_layer : Labels
    plane : PlaneIndex
    masks : sequence of Mask
        Best first: a pixel goes to the first that claims it. Ids count from the next free one, and skip
        masks of which nothing is left.
    overlap : {"keep", "replace"}
        Whether pixels of the objects that are there already stay theirs.
    records : sequence of mapping, optional
        What to store about each mask.

    Raises
    ------
    CommitError
        If nothing is left to write, or the layer cannot be written to.
    """
    records = [{}] * len(masks) if records is None else records
    done = _commit(labels_layer, plane, masks, None, overlap, records)
    if done is None:
        raise CommitError(
            f"Nothing is left to write of {len(masks)} masks: all of it is taken by other objects. "
            "Let the new objects replace them, or lower the filters."
        )
    return done


def write_plane(
    labels_layer: Labels,
    plane: PlaneIndex,
    labels: NDArray[np.integer],
    records: pd.DataFrame | None = None,
) -> None:
    """Set a whole plane to a label image, without an undo step: a stack that fills plane by plane.

    Parameters
    ----------
    labels_layer : Labels
    plane : PlaneIndex
    labels : ndarray of int, shape (H, W)
        Ids as they are to be stored.
    records : DataFrame, optional
        Rows for the layer's features with a column ``index`` of ids; rows of the same ids are replaced.
    """
    plane = twin_plane(plane, labels_layer.ndim)
    _check_writable(labels_layer)
    _grow(labels_layer, int(labels.max(initial=0)))
    values = labels.astype(labels_layer.data.dtype)
    labels_layer.data[plane.slices] = values.T if plane.flipped else values
    note_label(labels_layer, int(labels.max(initial=0)))
    labels_layer.refresh(extent=False)
    if records is not None and len(records):
        _store(labels_layer, records)


def take_back(labels_layer: Labels, done: Committed) -> None:
    """Undo a commit, whatever else was painted since: only pixels that still hold its ids change."""
    now = _read(labels_layer, done.plane, done.box)
    mine = done.written & (now == done.after)
    _write(labels_layer, done.plane, done.box, done.before, mine)
    _drop(labels_layer, done.rows)


def do_again(labels_layer: Labels, done: Committed) -> None:
    """Write again what `take_back` took back; pixels that others have taken since stay theirs."""
    now = _read(labels_layer, done.plane, done.box)
    _grow(labels_layer, max(done.labels))
    _write(labels_layer, done.plane, done.box, done.after, done.written & (now == done.before))
    if len(done.rows):
        _store(labels_layer, done.rows)


def check_target(labels_layer: Labels, image_layer: Image, *, channel_axis: int | None = None) -> None:
    """Refuse a Labels layer that does not lie on the image pixel by pixel.

    Raises
    ------
    CommitError
        If its shape or geometry differ, it is a pyramid or cannot be written to.
    """
    name, shape = labels_layer.name, layer_shape(image_layer)
    fitting = {shape} | ({shape[1:]} if channel_axis == 0 or shape[0] == 1 else set())
    if labels_layer.multiscale and not is_stored(labels_layer):
        raise CommitError(f"The layer {name!r} is a pyramid, which cannot be painted. Make a new layer.")
    own = layer_shape(labels_layer)
    if own not in fitting or len(own) < 2:
        raise CommitError(
            f"The layer {name!r} has shape {own}, the image {image_layer.name!r} has {shape}. "
            "Choose labels of the same shape or make a new layer."
        )
    if not lies_on(labels_layer, image_layer):
        raise CommitError(
            f"The layer {name!r} has another scale, position or unit than {image_layer.name!r}: objects "
            "would not lie where they were clicked. Give it the image's geometry or make a new layer."
        )
    _check_writable(labels_layer)


def _commit(
    layer: Labels,
    plane: PlaneIndex,
    masks: Sequence[Mask],
    labels: list[int] | None,
    overlap: Overlap,
    records: Sequence[Mapping[str, Any]],
) -> Committed | None:
    """Write masks with given ids, or count ids from the next free one; None if there is nothing to write."""
    plane = twin_plane(plane, layer.ndim)
    _check_writable(layer)
    shape = layer_shape(layer)
    size = (shape[plane.rows], shape[plane.columns])
    boxes = [box for mask in masks if (box := mask.box.clip(size)).height > 0 and box.width > 0]
    if not boxes:
        return None
    box = Box.union(boxes)
    before = _read(layer, plane, box)
    # Masks are painted by rank first: what is hidden entirely gets no id.
    ranks = np.zeros(before.shape, np.int32)
    if overlap == "keep":
        ranks[before != 0] = -1
    for rank, mask in enumerate(masks, start=1):
        paint(ranks, mask.shift(-int(box.y0), -int(box.x0)), rank)
    np.maximum(ranks, 0, out=ranks)
    visible = np.bincount(ranks.ravel(), minlength=len(masks) + 1)[1:] > 0
    if not visible.any():
        return None
    if labels is None:
        start = next_label(layer)
        labels = [int(n) for n in np.where(visible, start + np.cumsum(visible) - 1, 0)]
    _grow(layer, max(labels))
    lookup = np.array([0, *labels], dtype=layer.data.dtype)
    written = ranks > 0
    after = np.where(written, lookup[ranks], before)
    _write(layer, plane, box, after, written)
    rows = pd.DataFrame(
        [{"index": n, **r} for n, r, seen in zip(labels, records, visible, strict=True) if seen and r]
    )
    if len(rows):
        _store(layer, rows)
    return Committed(tuple(labels), plane, box, written, before, after, rows)


def _read(layer: Labels, plane: PlaneIndex, box: Box) -> NDArray[np.integer]:
    """Ids inside a box of a plane, as a copy in the order (y, x); the first of several channels speaks."""
    crop = np.array(finest(layer)[_region(plane, box, 0)])
    return crop.T if plane.flipped else crop


def _write(
    layer: Labels, plane: PlaneIndex, box: Box, values: NDArray[np.integer], where: NDArray[np.bool_]
) -> None:
    """Set the pixels ``where`` of a box to ``values``, as one undo step where napari has them."""
    rows, columns = np.nonzero(where)
    if rows.size == 0:
        return
    picked = values[rows, columns].astype(layer.data.dtype)
    open_axes = [a for a, i in enumerate(plane.index) if i is None and a not in plane.axes]
    if is_stored(layer):
        crop = _read(layer, plane, box)
        crop[rows, columns] = picked
        put(layer, _region(plane, box, None), open_axes, crop.T if plane.flipped else crop)
        note_label(layer, int(picked.max()))
        layer.refresh(extent=False)
        return
    if _fancy(layer.data):
        indices = [np.full(rows.size, i or 0) for i in plane.index]
        indices[plane.rows] = rows + int(box.y0)
        indices[plane.columns] = columns + int(box.x0)
        with layer.block_history():
            for positions in product(*(range(layer.data.shape[a]) for a in open_axes)):
                for axis, position in zip(open_axes, positions, strict=True):
                    indices[axis] = np.full(rows.size, position)
                layer.data_setitem(tuple(indices), picked)
        return
    # dask has no assignment by lists of positions: the box is read, changed and put back, and the
    # session's own undo is the only one.
    crop = _read(layer, plane, box)
    crop[rows, columns] = picked
    layer.data[_region(plane, box, None)] = crop.T if plane.flipped else crop
    note_label(layer, int(picked.max()))
    layer.refresh(extent=False)


def _region(plane: PlaneIndex, box: Box, channel: int | None) -> tuple[int | slice, ...]:
    """Slices of a box of a plane; axes without a position at ``channel``, or all along."""
    everywhere = slice(None) if channel is None else channel
    region: list[int | slice] = [everywhere if i is None else i for i in plane.index]
    region[plane.rows], region[plane.columns] = box.slices
    return tuple(region)


def _fancy(data: Any) -> bool:
    """Whether an array takes lists of positions, which napari's undo needs."""
    return isinstance(data, np.ndarray) or not hasattr(data, "dask")


def _check_writable(layer: Labels) -> None:
    """Refuse arrays that cannot be changed, before anything is changed."""
    data = finest(layer)
    if isinstance(data, np.ndarray) and not data.flags.writeable:
        raise CommitError(
            f"The layer {layer.name!r} is read-only. Duplicate it or make a new layer, and choose that."
        )
    if getattr(data, "read_only", False):
        raise CommitError(f"The store of the layer {layer.name!r} was opened read-only. Open it for writing.")


def _grow(layer: Labels, highest: int) -> None:
    """Give the layer a dtype that holds an id."""
    dtype = np.dtype(layer.data.dtype)
    if dtype.kind != "b" and highest <= np.iinfo(dtype).max:
        return
    if not hasattr(layer.data, "astype"):
        raise CommitError(
            f"The layer {layer.name!r} stores {dtype} and cannot hold the id {highest}. "
            "Make a new Labels layer, or store the labels with a larger type."
        )
    larger = next(d for d in _DTYPES if highest <= np.iinfo(d).max)
    visible = layer.visible
    # A hidden layer keeps the slice of its old dtype, which would refuse the new id.
    layer.visible = True
    layer.data = layer.data.astype(larger)
    layer.visible = visible


def _store(layer: Labels, rows: pd.DataFrame) -> None:
    """Add rows to the features, instead of those of the same ids; other columns stay."""
    old = _with_index(layer.features)
    kept = old[~old["index"].isin(rows["index"])]
    layer.features = rows if kept.empty else pd.concat([kept, rows], ignore_index=True)


def _drop(layer: Labels, rows: pd.DataFrame) -> None:
    """Take rows out of the features, unless another object has got the id since."""
    if len(rows):
        old = _with_index(layer.features)
        layer.features = old[~old["index"].isin(rows["index"])].reset_index(drop=True)


def _with_index(features: pd.DataFrame) -> pd.DataFrame:
    """Features with a column of ids; without one napari takes the row's number as the id."""
    if "index" in features:
        return features
    if features.shape[1] == 0:
        return pd.DataFrame({"index": np.empty(0, np.int64)})
    return features.assign(index=np.arange(len(features)))
