"""Writing objects into a Labels layer: one undo step each, and never over a neighbour unasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam._napari.coordinates import PlaneIndex, layer_shape, lies_on
from napari_sam._napari.ids import next_label, note_label
from napari_sam._napari.label_pixels import (
    CommitError,
    Patch,
    check_writable,
    grow,
    read_box,
    write_patches,
)
from napari_sam._napari.large_labels import is_stored
from napari_sam._napari.layers import is_filling, twin_plane
from napari_sam.masks import Box, Mask, Overlap, paint

if TYPE_CHECKING:
    import pandas as pd
    from napari.layers import Image, Labels


@dataclass(frozen=True, eq=False)
class Committed:
    """What a commit changed, enough to take it back.

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
        What to store about the object in the layer's features; its ``area`` is set to what was written.

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
    least: float = 0.0,
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
        What to store about each mask; its ``area`` is set to what was written.
    least : float
        Part of a mask, 0 to 1, that must be left to write: of those that belong to other objects for the
        most part nothing is written.

    Raises
    ------
    CommitError
        If nothing is left to write, or the layer cannot be written to.
    """
    records = [{}] * len(masks) if records is None else records
    done = _commit(labels_layer, plane, masks, None, overlap, records, least)
    if done is None:
        raise CommitError(
            f"Nothing is left to write of {len(masks)} masks: other objects take them, or most of them. "
            "Let the new objects replace them, or lower the filters."
        )
    return done


def commit_through(
    labels_layer: Labels,
    masks: Mapping[PlaneIndex, Mask],
    *,
    overlap: Overlap = "keep",
    record: Mapping[str, Any] | None = None,
) -> tuple[Committed, ...]:
    """Write one object into all its planes, with one id and as one undo step.

    Parameters
    ----------
    labels_layer : Labels
    masks : mapping of PlaneIndex to Mask
        The object on each plane of the image.
    overlap : {"keep", "replace"}
        Whether pixels of other objects stay theirs. Planes on which nothing is left are passed over.
    record : mapping, optional
        What to store about the object in the layer's features; its ``area`` and its number of ``planes`` are
        set to what was written.

    Returns
    -------
    tuple of Committed
        One for each plane that was written, for `take_back`.

    Raises
    ------
    CommitError
        If nothing is left to write on any plane, or the layer cannot be written to.
    """
    label = next_label(labels_layer)
    prepared = [_prepare(labels_layer, p, [m], [label], overlap, [record or {}]) for p, m in masks.items()]
    ready = [done for done in prepared if done is not None]
    if not ready:
        raise CommitError(
            f"Nothing is left to write on {len(masks)} planes: all of it is taken by other objects. "
            "Let the new object replace them."
        )
    rows = ready[0].rows
    written = {"area": sum(done.area for done in ready), "planes": len(ready)}
    rows = rows.assign(**{name: value for name, value in written.items() if name in rows})
    ready = [replace(done, rows=rows if number == 0 else rows.iloc[:0]) for number, done in enumerate(ready)]
    _carry_out(labels_layer, ready)
    return tuple(ready)


def write_plane(
    labels_layer: Labels,
    plane: PlaneIndex,
    labels: NDArray[np.integer],
    records: pd.DataFrame | None = None,
    *,
    refresh: bool = True,
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
    refresh : bool
        Whether the layer is drawn anew; else it is for the caller to do.
    """
    plane = twin_plane(plane, labels_layer.ndim)
    check_writable(labels_layer)
    grow(labels_layer, int(labels.max(initial=0)))
    values = labels.astype(labels_layer.data.dtype)
    labels_layer.data[plane.slices] = values.T if plane.flipped else values
    note_label(labels_layer, int(labels.max(initial=0)))
    if refresh:
        labels_layer.refresh(extent=False)
    if records is not None and len(records):
        store_rows(labels_layer, records)


def take_back(labels_layer: Labels, *done: Committed) -> None:
    """Undo commits, whatever else was painted since: only pixels that still hold their ids change."""
    patches = []
    for one in done:
        now = read_box(labels_layer, one.plane, one.box)
        patches.append(Patch(one.plane, one.box, one.before, one.written & (now == one.after)))
    write_patches(labels_layer, patches)
    for one in done:
        _drop(labels_layer, one.rows)


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
    if is_filling(labels_layer):
        raise CommitError(
            f"The layer {name!r} is still being filled. Wait until all planes are there, or make a new layer."
        )
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
    check_writable(labels_layer)


def _commit(
    layer: Labels,
    plane: PlaneIndex,
    masks: Sequence[Mask],
    labels: list[int] | None,
    overlap: Overlap,
    records: Sequence[Mapping[str, Any]],
    least: float = 0.0,
) -> Committed | None:
    """Write masks with given ids, or count ids from the next free one; None if there is nothing to write."""
    done = _prepare(layer, plane, masks, labels, overlap, records, least)
    if done is not None:
        _carry_out(layer, [done])
    return done


def _carry_out(layer: Labels, prepared: Sequence[Committed]) -> None:
    """Write what was prepared, all at once."""
    grow(layer, max(label for one in prepared for label in one.labels))
    write_patches(layer, [Patch(one.plane, one.box, one.after, one.written) for one in prepared])
    for one in prepared:
        if len(one.rows):
            store_rows(layer, one.rows)


def _prepare(
    layer: Labels,
    plane: PlaneIndex,
    masks: Sequence[Mask],
    labels: list[int] | None,
    overlap: Overlap,
    records: Sequence[Mapping[str, Any]],
    least: float = 0.0,
) -> Committed | None:
    """Find out what a commit would change; nothing is changed yet."""
    import pandas as pd

    plane = twin_plane(plane, layer.ndim)
    check_writable(layer)
    shape = layer_shape(layer)
    size = (shape[plane.rows], shape[plane.columns])
    boxes = [box for mask in masks if (box := mask.box.clip(size)).height > 0 and box.width > 0]
    if not boxes:
        return None
    box = Box.union(boxes)
    before = read_box(layer, plane, box)
    # Masks are painted by rank first: what is hidden entirely gets no id.
    ranks = np.zeros(before.shape, np.int32)
    if overlap == "keep":
        ranks[before != 0] = -1
    for rank, mask in enumerate(masks, start=1):
        moved = mask.shift(-int(box.y0), -int(box.x0))
        left = paint(ranks, moved, rank)
        if np.count_nonzero(left) < least * mask.area:
            ranks[moved.box.clip(before.shape).slices][left] = 0
    np.maximum(ranks, 0, out=ranks)
    areas = np.bincount(ranks.ravel(), minlength=len(masks) + 1)[1:]
    visible = areas > 0
    if not visible.any():
        return None
    if labels is None:
        start = next_label(layer)
        labels = [int(n) for n in np.where(visible, start + np.cumsum(visible) - 1, 0)]
    lookup = np.array([0, *labels], np.promote_types(before.dtype, np.min_scalar_type(max(labels))))
    written = ranks > 0
    after = np.where(written, lookup[ranks], before)
    rows = pd.DataFrame(
        [
            {"index": n, **r, **({"area": int(area)} if "area" in r else {})}
            for n, r, area in zip(labels, records, areas, strict=True)
            if area and r
        ]
    )
    return Committed(tuple(labels), plane, box, written, before, after, rows)


def store_rows(layer: Labels, rows: pd.DataFrame) -> None:
    """Add rows to the features, instead of those of the same ids; other columns stay."""
    import pandas as pd

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
    import pandas as pd

    if "index" in features:
        return features
    if features.shape[1] == 0:
        return pd.DataFrame({"index": np.empty(0, np.int64)})
    return features.assign(index=np.arange(len(features)))
