"""Images given as label images that are none: masks, classes of pixels, greys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.files.image_file import ImageFileError
from napari_sam.label_ids import numbered_anew

CLASSES = 3
"""So many ids in all planes may be classes of pixels."""
LEAST_PARTS = 3
"""From so many separate parts on, in plane after plane, one id is hardly one object."""
FEW_PLANES = 3
"""In less planes that hold something, chance has a say: a vessel may well lie in three pieces."""
MANY_PARTS = 10
"""From so many separate parts on, one id is not one object, be it in a single plane."""
SPECK = 4
"""Pixels that a place has at least in which an id is counted to lie."""
UNLIKE = 0.1
"""Share of neighbouring pixels, none of them background, that differ: in labels of cells side by side .04 at
most, in images .14 and more."""
GREYS = 256
"""A picture of 8 bits has no more greys."""
LEAST_PIXELS = 4
"""Pixels of a plane for each of its ids, of which objects have more."""


class Parts(NamedTuple):
    """In how many separate parts the ids of a label image lie."""

    ids: int
    """How many ids there are; of more than `CLASSES` it does not matter how many more."""
    counts: list[int]
    """For each plane that holds an object, the parts of the id that has most; none above `CLASSES` ids."""
    scattered: bool = False
    """Whether the ids lie about as the greys of an image do."""


def parts_of(planes: Iterable[NDArray[np.integer]]) -> Parts:
    """Count the separate parts in which the ids of a label image lie, if these are few.

    Parameters
    ----------
    planes : iterable of ndarray of int, shape (H, W)
        0 is background.
    """
    ids: set[int] = set()
    counts: list[int] = []
    greys: list[bool] = []
    for plane in planes:
        own = [i for i in np.unique(plane).tolist() if i]
        ids.update(own)
        if own and len(ids) <= CLASSES:
            counts.append(max(_places(plane == i) for i in own))
        elif own:
            greys.append(len(own) > CLASSES and _is_grey(plane))
            if len(greys) == FEW_PLANES or not greys[-1]:
                break
    return Parts(len(ids), [] if greys else counts, bool(greys) and all(greys))


def _places(inside: NDArray[np.bool_]) -> int:
    """In how many separate places an id lies; specks of a brush are none."""
    pieces, _ = ndimage.label(inside, np.ones((3, 3)))
    return int(np.count_nonzero(np.bincount(pieces.ravel())[1:] >= SPECK))


def _is_grey(plane: NDArray[np.integer]) -> bool:
    """Whether the ids of a plane, of which there are several, lie about as the greys of an image do.

    Most greys lie in several places, and on average in a great many; of more than 8 bits there may be so many
    greys that hardly a pixel is like another. Objects lie in one piece each, or are cut up, as the processes
    of cells in a plane of a volume are; but their pixels are like their neighbours, but for those at an edge.
    """
    from skimage.measure import label

    within = unlike = 0
    for one, other in ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])):
        both = (one != 0) & (other != 0)
        within += int(np.count_nonzero(both))
        unlike += int(np.count_nonzero(both & (one != other)))
    if unlike < UNLIKE * within:
        return False
    (ids,) = numbered_anew([plane])
    pieces = label(ids, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    owners = np.zeros(int(pieces.max()) + 1, np.int32)
    owners[pieces.ravel()] = ids.ravel()
    places = np.bincount(owners[1:])[1:]
    many = len(places) > max(GREYS, plane.size // LEAST_PIXELS)
    return bool(many or (np.median(places) >= LEAST_PARTS and places.mean() >= MANY_PARTS))


def refuse_masks(parts: Mapping[Path, Parts]) -> None:
    """Refuse labels that only tell what pixels are of: all objects of a kind would count as one an image.

    Masks tell objects from background; classes of pixels, as ilastik gives them, have background among them;
    an image tells neither.

    Parameters
    ----------
    parts : mapping of Path to Parts
        `parts_of` each label image. Now and then a single object lies in pieces, and a mask holds a single
        object: the middle of all planes decides. Among label images of many objects each is looked at by
        itself.

    Raises
    ------
    ImageFileError
    """
    for path, own in parts.items():
        if own.scattered:
            raise ImageFileError(
                "Expected a label image, in which each object has a number of its own, found numbers that "
                f"lie about as the greys of an image do in {path}. Is it an image? Save the labels as they "
                "are, no picture of them, and scale them without interpolation."
            )
    ids = max((of_image.ids for of_image in parts.values()), default=0)
    if ids > CLASSES:
        for path, own in parts.items():
            if own.ids == 1 and _typical(own.counts) >= MANY_PARTS:
                others = ", while other label images have a number for each"
                raise _no_objects(path, own, "a single one", others, "this is a mask")
        return
    counts = [count for of_image in parts.values() for count in of_image.counts]
    if not counts:
        return
    few = len(counts) < FEW_PLANES
    if _typical(counts) < (MANY_PARTS if few or ids > 1 else LEAST_PARTS):
        return
    path = max(parts, key=lambda image: max(parts[image].counts, default=0))
    filled = sum(bool(of_image.counts) for of_image in parts.values())
    others = f", and so in the {filled - 1} other label images" if filled > 1 else ""
    if ids > 1:
        found, kind = f"{ids} for all, one of them", "these are classes of pixels"
        raise _no_objects(path, parts[path], found, others, kind, " of their class")
    raise _no_objects(path, parts[path], "a single one", others, "this is a mask")


def _typical(counts: Sequence[int]) -> float:
    """Parts in the middle of all planes; of a few planes the least."""
    return min(counts) if len(counts) < FEW_PLANES else float(np.median(counts))


def _no_objects(path: Path, parts: Parts, found: str, others: str, kind: str, of: str = "") -> ImageFileError:
    """Return the error of labels that do not tell one object from another."""
    return ImageFileError(
        f"Expected a number of its own for each object, found {found} in {max(parts.counts)} separate "
        f"places in {path}{others}: {kind}. Give each object its own number, in Fiji with Analyze "
        "Particles (Count Masks) or MorphoLibJ's Connected Components Labeling, in Python with "
        f"skimage.measure.label{of}."
    )
