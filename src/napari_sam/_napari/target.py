"""The Labels layer that objects go into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam._napari.commit import CommitError, commit_labels, commit_mask, commit_through, take_back
from napari_sam._napari.coordinates import PlaneIndex, layer_shape
from napari_sam._napari.large import IN_MEMORY
from napari_sam._napari.large_labels import add_large_labels, folder_of
from napari_sam._napari.layers import add_labels_layer, is_filling
from napari_sam.levels import FULL, Factors, mask_to_full
from napari_sam.masks import Mask, Overlap
from napari_sam.session import Annotation, NotNowError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_sam._napari.commit import Committed


class StorageError(CommitError, OSError):
    """Labels on disk that cannot be read or written just now: the same may go well later."""


class FillingError(CommitError, NotNowError):
    """Labels that somebody else writes into just now."""


def make_target(
    viewer: ViewerModel,
    image: Image,
    folder: Path,
    channel_axis: int | None,
    tell: Callable[[str], None],
) -> Labels:
    """Add a Labels layer for objects: in memory, or in a folder for an image whose planes are large.

    Raises
    ------
    CommitError
        If the folder cannot be written to.
    """
    if prod(layer_shape(image)[-2:]) <= IN_MEMORY:
        return add_labels_layer(viewer, image, channel_axis=channel_axis)
    try:
        layer = add_large_labels(viewer, image, folder, channel_axis=channel_axis)
    except OSError as error:
        raise CommitError(
            f"This image is large, and its labels cannot be kept in {folder} ({error.strerror or error}). "
            "Choose another folder under Segment all > Labels in."
        ) from error
    tell(f"This image is large: its labels are kept on disk, in {folder_of(layer)}")
    return layer


def write_into(
    viewer: ViewerModel,
    layer: Labels,
    plane: PlaneIndex,
    factors: Factors,
    overlap: Overlap,
    objects: Sequence[Annotation],
    *,
    least: float = 0.0,
    tell: Callable[[str], None] | None = None,
) -> Callable[[], None]:
    """Write objects into a layer as one undo step.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Labels
    plane : PlaneIndex
        The plane of the image.
    factors : tuple of float
        Full-resolution pixels per pixel of the masks.
    overlap : {"keep", "replace"}
        Who gets the pixels that belong to another object.
    objects : sequence of Annotation
    least : float
        Part of a mask that must be left to write, where there are several; see `commit_labels`.
    tell : callable, optional
        Told how many masks were left out.

    Returns
    -------
    callable
        Takes the objects out again.

    Raises
    ------
    CommitError
        If nothing is left to write, or the layer cannot be written to.
    """
    _check_there(viewer, layer)
    shape = layer_shape(layer)
    full = [_at_full_resolution(one, factors) for one in objects]
    with _in_words(layer):
        if len(full) == 1 and not least:
            done = commit_mask(layer, plane, full[0].mask, overlap=overlap, record=full[0].record)
        else:
            records = [one.record for one in full]
            masks = [one.mask for one in full]
            done = commit_labels(layer, plane, masks, overlap=overlap, records=records, least=least)
    if tell is not None and 0 in done.labels:
        tell(
            f"{done.labels.count(0)} of {len(done.labels)} masks were left out: other objects take them, or "
            "most of them."
        )
    return partial(_take_out, viewer, layer, shape, done)


def write_through(
    viewer: ViewerModel,
    layer: Labels,
    masks: Mapping[PlaneIndex, Mask],
    overlap: Overlap,
    record: Mapping[str, Any],
    *,
    count: Callable[[int], None] | None = None,
) -> Callable[[], None]:
    """Write one object into all its planes; returns what takes it out again. See `write_into`.

    ``count`` is told on how many planes anything of it was left to write.
    """
    _check_there(viewer, layer)
    shape = layer_shape(layer)
    with _in_words(layer):
        done = commit_through(layer, masks, overlap=overlap, record=record)
    if count is not None:
        count(len(done))
    return partial(_take_out, viewer, layer, shape, *done)


def _take_out(viewer: ViewerModel, layer: Labels, shape: tuple[int, ...], *done: Committed) -> None:
    _check_there(viewer, layer, "undo")
    if layer_shape(layer) != shape:
        raise ValueError(
            f"the labels {layer.name!r} had the shape {shape} and have {layer_shape(layer)} now."
        )
    with _in_words(layer):
        take_back(layer, *done)


@contextmanager
def _in_words(layer: Labels) -> Iterator[None]:
    """Say of labels on disk why they could not be read or written."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The labels {layer.name!r} could not be written where they are kept "
            f"({error.strerror or error}). Make room, or connect the drive, and try again."
        ) from error


def _check_there(viewer: ViewerModel, layer: Labels, then: str = "try again") -> None:
    """Refuse a layer that was removed meanwhile, or that somebody else writes into; ``then`` it may go."""
    if layer not in viewer.layers:
        raise ValueError(f"the layer {layer.name!r} was removed.")
    if is_filling(layer):
        raise FillingError(f"the layer {layer.name!r} is still being filled. Wait until it is, then {then}.")


def _at_full_resolution(one: Annotation, factors: Factors) -> Annotation:
    """Annotation of a lower level in full-resolution pixels."""
    if factors == FULL:
        return one
    mask = mask_to_full(one.mask, factors)
    return replace(one, mask=mask, record={**one.record, "area": mask.area, "pixel_size": factors[0]})
