"""Masks as values: boxes, crops, overlap, suppression, clean-up, run lengths, label images.

A mask is kept as a crop with its place in the plane, so that the memory of a thousand masks depends
on the objects and not on the plane. All coordinates are image pixels, (y, x), half-open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Bool = NDArray[np.bool_]

EIGHT = np.ones((3, 3), bool)
"""Neighbours over edges and corners."""


class Box(NamedTuple):
    """Half-open box in image pixels: rows ``[y0, y1)``, columns ``[x0, x1)``."""

    y0: float
    x0: float
    y1: float
    x1: float

    @property
    def height(self) -> float:
        """Number of rows."""
        return self.y1 - self.y0

    @property
    def width(self) -> float:
        """Number of columns."""
        return self.x1 - self.x0

    @property
    def empty(self) -> bool:
        """Whether nothing lies in the box, as where two that do not meet are intersected."""
        return self.height <= 0 or self.width <= 0

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box (y, x) with pixel centres at integers."""
        return (self.y0 + self.y1 - 1) / 2, (self.x0 + self.x1 - 1) / 2

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as slices of a plane; the box must hold whole numbers."""
        return slice(int(self.y0), int(self.y1)), slice(int(self.x0), int(self.x1))

    @staticmethod
    def around(y: float, x: float) -> Box:
        """Box of the single pixel at ``(y, x)``."""
        return Box(y, x, y + 1, x + 1)

    @staticmethod
    def union(boxes: Iterable[Box]) -> Box:
        """Smallest box that holds all of ``boxes`` (at least one)."""
        y0, x0, y1, x1 = zip(*boxes, strict=True)
        return Box(min(y0), min(x0), max(y1), max(x1))

    def clip(self, shape: tuple[int, int]) -> Box:
        """Whole-pixel box inside a plane of ``shape`` (H, W) that covers this box."""
        height, width = shape
        return Box(
            min(max(floor(self.y0), 0), height),
            min(max(floor(self.x0), 0), width),
            min(max(ceil(self.y1), 0), height),
            min(max(ceil(self.x1), 0), width),
        )

    def shift(self, dy: float, dx: float) -> Box:
        """Return the same box moved."""
        return Box(self.y0 + dy, self.x0 + dx, self.y1 + dy, self.x1 + dx)

    def intersect(self, other: Box) -> Box:
        """Overlap of two boxes; it is `empty` where there is none."""
        return Box(
            max(self.y0, other.y0), max(self.x0, other.x0), min(self.y1, other.y1), min(self.x1, other.x1)
        )


@dataclass(frozen=True, eq=False, slots=True)
class Mask:
    """A boolean mask of one object.

    Parameters
    ----------
    y0, x0 : int
        Position of the crop's first pixel in the plane.
    pixels : ndarray of bool, shape (h, w)
        The crop. Tight around the object unless the object is empty (then ``(0, 0)``).
    """

    y0: int
    x0: int
    pixels: Bool

    @property
    def box(self) -> Box:
        """Half-open box of the crop."""
        h, w = self.pixels.shape
        return Box(self.y0, self.x0, self.y0 + h, self.x0 + w)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.pixels))

    @staticmethod
    def from_plane(plane: NDArray[np.generic], y0: int = 0, x0: int = 0) -> Mask:
        """Tight mask of the non-zero pixels of an array placed at ``(y0, x0)``.

        Parameters
        ----------
        plane : ndarray, shape (H, W)
            Any dtype; non-zero is inside.
        y0, x0 : int
            Position of ``plane[0, 0]``.
        """
        plane = np.asarray(plane)
        inside: Bool = plane.view(np.bool_) if plane.dtype == np.bool_ else plane != 0
        mask = Mask.of_own(inside, y0, x0)
        # A copy, also of the whole: a mask does not change with the array that it was made of.
        return Mask(mask.y0, mask.x0, mask.pixels.copy())

    @staticmethod
    def of_own(inside: Bool, y0: int = 0, x0: int = 0) -> Mask:
        """Tight mask in an array of its own, of which no part is written to any more.

        Parameters
        ----------
        inside : ndarray of bool, shape (H, W)
        y0, x0 : int
            Position of ``inside[0, 0]``.
        """
        rows = np.flatnonzero(inside.any(1))
        if rows.size == 0:
            return Mask(y0, x0, np.zeros((0, 0), bool))
        cols = np.flatnonzero(inside[rows[0] : rows[-1] + 1].any(0))
        crop = inside[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        return Mask(y0 + int(rows[0]), x0 + int(cols[0]), crop)

    @staticmethod
    def union(masks: Sequence[Mask]) -> Mask:
        """Mask of every pixel that is in one of ``masks`` (at least one)."""
        filled = [m for m in masks if m.pixels.size] or list(masks[:1])
        box = Box.union(m.box for m in filled)
        out = np.zeros((int(box.height), int(box.width)), bool)
        for m in filled:
            y, x = m.y0 - int(box.y0), m.x0 - int(box.x0)
            out[y : y + m.pixels.shape[0], x : x + m.pixels.shape[1]] |= m.pixels
        return Mask(int(box.y0), int(box.x0), out)

    def to_plane(self, shape: tuple[int, int]) -> Bool:
        """Full boolean plane of ``shape`` (H, W); parts outside the plane are dropped."""
        return self.crop(Box(0, 0, *shape))

    def crop(self, box: Box) -> Bool:
        """Boolean array of what lies in a whole-pixel ``box``, which may reach outside the mask."""
        out = np.zeros((int(box.height), int(box.width)), bool)
        both = self.box.intersect(box)
        if not both.empty:
            inner = Box(both.y0 - box.y0, both.x0 - box.x0, both.y1 - box.y0, both.x1 - box.x0)
            own = Box(both.y0 - self.y0, both.x0 - self.x0, both.y1 - self.y0, both.x1 - self.x0)
            out[inner.slices] = self.pixels[own.slices]
        return out

    def shift(self, dy: int, dx: int) -> Mask:
        """Return the same mask moved by whole pixels."""
        return Mask(self.y0 + dy, self.x0 + dx, self.pixels)

    def pack(self) -> PackedMask:
        """Return the mask as places where it begins and ends, a small part of its pixels' memory."""
        flat = np.concatenate([[False], self.pixels.ravel(), [False]])
        height, width = self.pixels.shape
        ends = np.flatnonzero(flat[1:] != flat[:-1])
        return PackedMask(self.y0, self.x0, height, width, ends.astype(np.min_scalar_type(flat.size)))


class PackedMask(NamedTuple):
    """A mask in little memory.

    ``y0``, ``x0``, ``height`` and ``width`` are those of the crop; ``ends`` holds, in reading order, where in
    the flattened crop a run of the object begins, where it ends, where the next begins, and so on.
    """

    y0: int
    x0: int
    height: int
    width: int
    ends: NDArray[np.unsignedinteger]

    @property
    def box(self) -> Box:
        """Half-open box of the crop."""
        return Box(self.y0, self.x0, self.y0 + self.height, self.x0 + self.width)

    def unpack(self) -> Mask:
        """Return the mask."""
        flat = np.zeros(self.height * self.width + 1, np.int8)
        flat[self.ends[::2]] = 1
        flat[self.ends[1::2]] = -1
        np.add.accumulate(flat, out=flat)
        pixels = flat[:-1].view(np.bool_).reshape(self.height, self.width)
        return Mask(self.y0, self.x0, pixels)


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks, in [0, 1]; two empty masks give 0."""
    both = a.box.intersect(b.box)
    if both.empty:
        return 0.0
    common = int(np.count_nonzero(a.crop(both) & b.crop(both)))
    union = a.area + b.area - common
    return common / union if union else 0.0


def clean_mask(mask: Mask, min_area: int, shape: tuple[int, int] | None = None) -> tuple[Mask, bool]:
    """Fill holes, then drop islands, smaller than ``min_area`` pixels.

    The largest island stays even when it is small, as in the paper's automatic masks (appendix B).
    Neighbours count over edges and corners.

    Parameters
    ----------
    mask : Mask
    min_area : int
    shape : tuple of int, optional
        (H, W) of the plane. If given, a corner of the plane that the mask cuts off is a hole as well, as in
        the reference; if not, the background around the mask has no end.

    Returns
    -------
    cleaned : Mask
    changed : bool
        Whether a hole or an island was smaller; true as well for a mask that is one small island.
    """
    filled, had_holes = _fill_holes(mask, min_area, shape)
    cleaned, had_islands = _drop_islands(filled, min_area)
    return cleaned, had_holes or had_islands


def _fill_holes(mask: Mask, min_area: int, shape: tuple[int, int] | None) -> tuple[Mask, bool]:
    """Fill small regions of the background."""
    if not mask.pixels.size:
        return mask, False
    h, w = mask.pixels.shape
    room = [(min_area, min_area)] * 2
    if shape is not None:
        room = [(mask.y0, shape[0] - mask.y0 - h), (mask.x0, shape[1] - mask.x0 - w)]
    # The background beside the crop is added as it is where it could be small; else one row stands for it.
    far = [[space * length >= min_area for space in axis] for axis, length in zip(room, (w, h), strict=True)]
    pads = [[int(f) or r for f, r in zip(*pair, strict=True)] for pair in zip(far, room, strict=True)]
    pixels = np.pad(mask.pixels, pads)
    regions, _ = ndi.label(~pixels, structure=EIGHT)
    sizes = np.bincount(regions.ravel())
    sizes[0] = min_area
    for beyond, edge in zip(
        (*far[0], *far[1]), (regions[0], regions[-1], regions[:, 0], regions[:, -1]), strict=True
    ):
        if beyond:
            sizes[edge] = min_area
    small = sizes < min_area
    if not small.any():
        return mask, False
    return Mask.from_plane(pixels | small[regions], mask.y0 - pads[0][0], mask.x0 - pads[1][0]), True


def _drop_islands(mask: Mask, min_area: int) -> tuple[Mask, bool]:
    """Drop small parts of a mask, but not all of it."""
    parts, count = ndi.label(mask.pixels, structure=EIGHT)
    sizes = np.bincount(parts.ravel(), minlength=1)
    keep = sizes >= min_area
    keep[0] = False
    if not count or keep[1:].all():
        return mask, False
    if not keep.any():
        keep[1 + int(sizes[1:].argmax())] = True
    return Mask.from_plane(keep[parts], mask.y0, mask.x0), True


def rle_counts(mask: Mask, shape: tuple[int, int]) -> list[int]:
    """COCO run lengths of a mask: column-major, starting with a run of zeros.

    Parameters
    ----------
    mask : Mask
    shape : tuple of int
        (H, W) of the plane.
    """
    box = mask.box.clip(shape)
    changes = np.diff(np.pad(mask.crop(box), ((1, 1), (0, 0))), axis=0)
    cols, rows = np.nonzero(changes.T)
    place = (int(box.x0) + cols) * shape[0] + int(box.y0) + rows
    # A run that ends at the foot of a column and one that begins at the next one's head are one run.
    joined = np.flatnonzero(place[1:] == place[:-1])
    place = np.delete(place, np.concatenate([joined, joined + 1]))
    runs = np.diff(np.concatenate([[0], place, [shape[0] * shape[1]]]))
    return [int(r) for r in (runs[:-1] if len(runs) > 1 and runs[-1] == 0 else runs)]


def mask_from_rle(counts: Sequence[int], shape: tuple[int, int]) -> Mask:
    """Mask of COCO run lengths (inverse of `rle_counts`).

    Raises
    ------
    ValueError
        If the runs do not add up to the plane.
    """
    if sum(counts) != shape[0] * shape[1]:
        raise ValueError(f"Run lengths cover {sum(counts)} pixels, the plane has {shape[0] * shape[1]}.")
    values = np.arange(len(counts)) % 2 == 1
    return Mask.from_plane(np.repeat(values, counts).reshape(shape, order="F"))


Overlap = Literal["keep", "replace"]


def paint(labels: NDArray[np.integer], mask: Mask, value: int, overlap: Overlap = "keep") -> Bool:
    """Write one object into a label plane, in place.

    Parameters
    ----------
    labels : ndarray of int, shape (H, W)
    mask : Mask
    value : int
        The object's id, which must fit the dtype.
    overlap : {"keep", "replace"}
        Whether pixels that belong to a neighbour stay the neighbour's.

    Returns
    -------
    ndarray of bool
        The pixels of ``mask.box`` clipped to the plane that were written.
    """
    box = mask.box.clip((labels.shape[0], labels.shape[1]))
    view = labels[box.slices]
    inside = mask.crop(box)
    if overlap == "keep":
        inside &= view == 0
    view[inside] = value
    return inside


class Painted(NamedTuple):
    """Masks that lie side by side in a label image.

    ``labels``, of shape (H, W), holds 0 for background and ids that count from 1 in the order of painting.
    ``order[i]`` is the index of the mask with the id ``i + 1``, and ``masks[i]`` what is seen of it.
    """

    labels: NDArray[np.int32]
    order: list[int]
    masks: list[Mask]


def masks_to_labels(
    masks: Sequence[Mask],
    shape: tuple[int, int],
    *,
    order: Sequence[int] | None = None,
    min_visible: float = 0.0,
    min_area: float = 0.0,
) -> Painted:
    """Label image of possibly overlapping masks.

    Parameters
    ----------
    masks : sequence of Mask
    shape : tuple of int
        (H, W) of the plane.
    order : sequence of int, optional
        Indices of ``masks`` from the one on top to the one below; as given if not set. A pixel goes to the
        first mask that claims it.
    min_visible : float
        A mask of which less than this part is left by those above it is dropped.
    min_area : float
        The same for a mask of which fewer than so many pixels are left.

    Returns
    -------
    Painted
    """
    painted = Painted(np.zeros(shape, np.int32), [], [])
    for index in range(len(masks)) if order is None else order:
        mask = masks[index]
        box = mask.box.clip(shape)
        view = painted.labels[box.slices]
        free = mask.crop(box) & (view == 0)
        area, visible = mask.area, int(np.count_nonzero(free))
        if visible == 0 or visible < max(min_visible * area, min_area):
            continue
        painted.order.append(index)
        painted.masks.append(mask if visible == area else Mask.from_plane(free, int(box.y0), int(box.x0)))
        view[free] = len(painted.order)
    return painted


def masks_of_labels(labels: NDArray[np.integer]) -> dict[int, Mask]:
    """Masks of a label plane, shape (H, W), by id; 0 is background."""
    highest = int(labels.max(initial=0))
    ids: Sequence[int] | NDArray[np.integer] = range(1, highest + 1)
    if highest > labels.size:  # all up to it are looked for, those that are not there too
        ids = np.unique(labels[labels > 0])
        labels = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0)
    found = ndi.find_objects(labels.astype(np.int64, copy=False) if labels.dtype.kind != "i" else labels)
    return {
        int(i): Mask(s[0].start, s[1].start, labels[s] == k)
        for k, (i, s) in enumerate(zip(ids, found, strict=True), start=1)
        if s is not None
    }
