"""All masks that the prompts of a plane gave, kept so that they can be filtered again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.masks import Box, Mask, PackedMask, clean_mask
from napari_sam.overlap import Neighbours, close_pairs

Reason = Literal[
    "predicted IoU",
    "stability",
    "cut off",
    "outside the region",
    "smallest area",
    "largest area",
    "duplicates",
]
REASONS: tuple[Reason, ...] = (
    "predicted IoU",
    "stability",
    "cut off",
    "outside the region",
    "smallest area",
    "largest area",
    "duplicates",
)
"""Why a mask is removed, in the order in which the filters look at it."""


class Proposal(NamedTuple):
    """One mask that a prompt gave.

    ``predicted_iou`` is what `Predictor.judge` makes of the decoder's, ``point`` the prompt (y, x) in image
    pixels, ``prompt`` its number, ``level`` the decoder's output (1 to 3, sub-part to whole), ``crop`` the
    number of the crop in which it was seen.
    """

    mask: PackedMask
    predicted_iou: float
    stability: float
    area: int
    point: tuple[float, float]
    prompt: int
    level: int
    crop: int


class Cleaned(NamedTuple):
    """A mask without small holes and islands, and whether that changed it."""

    mask: PackedMask
    area: int
    changed: bool


@dataclass(frozen=True, eq=False)
class Found:
    """Masks of one plane before the filters that can be moved.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the plane.
    proposals : tuple of Proposal
    crops : tuple of Box
        Parts of the plane that were seen; the first is all of it.
    prompts : int
        Number of prompts.
    lost : ndarray of int, shape (M, 2)
        Prompt, and index into `REASONS`, of every mask that was not kept.
    """

    shape: tuple[int, int]
    proposals: tuple[Proposal, ...]
    crops: tuple[Box, ...]
    prompts: int
    lost: NDArray[np.int64]
    _near: dict[tuple[int, float], Neighbours] = field(default_factory=dict, repr=False)
    _cleaned: dict[tuple[int, int], Cleaned] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.proposals)

    @cached_property
    def predicted_iou(self) -> NDArray[np.float32]:
        """Predicted IoU of every mask."""
        return np.array([p.predicted_iou for p in self.proposals], np.float32)

    @cached_property
    def stability(self) -> NDArray[np.float32]:
        """Stability of every mask."""
        return np.array([p.stability for p in self.proposals], np.float32)

    @cached_property
    def area(self) -> NDArray[np.int64]:
        """Pixels of every mask."""
        return np.array([p.area for p in self.proposals], np.int64)

    @cached_property
    def prompt(self) -> NDArray[np.int64]:
        """Number of the prompt of every mask."""
        return np.array([p.prompt for p in self.proposals], np.int64)

    @cached_property
    def crop(self) -> NDArray[np.int64]:
        """Number of the crop of every mask."""
        return np.array([p.crop for p in self.proposals], np.int64)

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        """First and last pixel (y0, x0, y1, x1) of every mask, as the reference measures boxes."""
        return last_pixel_boxes([p.mask for p in self.proposals])

    def near(self, crop: int | None, threshold: float) -> Neighbours:
        """Masks of one crop, or of all of them, whose boxes overlap by more than ``threshold``."""
        key = (-1 if crop is None else crop, threshold)
        if key not in self._near:
            boxes = self.boxes
            if crop is not None and len(self.crops) > 1:
                # Boxes of other crops are moved out of reach, so that indices stay the same.
                boxes = boxes + np.where(self.crop == crop, 0, 4 * max(self.shape))[:, None]
                boxes[self.crop != crop, 2:] = boxes[self.crop != crop, :2]
            self._near[key] = close_pairs(boxes, threshold)
        return self._near[key]

    def cleaned(self, index: int, min_region: int) -> Cleaned:
        """Mask without holes and islands smaller than ``min_region``."""
        key = (index, min_region)
        if key not in self._cleaned:
            proposal = self.proposals[index]
            mask, changed = clean_mask(proposal.mask.unpack(), min_region, self.shape)
            same = proposal.mask, proposal.area
            self._cleaned[key] = Cleaned(*((mask.pack(), mask.area) if changed else same), changed)
        return self._cleaned[key]


def last_pixel_boxes(masks: list[PackedMask]) -> NDArray[np.float64]:
    """First and last pixel (y0, x0, y1, x1) of masks."""
    boxes = [(m.y0, m.x0, m.y0 + m.height - 1, m.x0 + m.width - 1) for m in masks]
    return np.array(boxes, np.float64).reshape(-1, 4)


def cut_to(mask: Mask, region: Mask | Box | None) -> Mask | None:
    """What a region leaves of a mask; nothing if less than half of it lies there.

    A box says where to look: an object that reaches out of it stays whole. A mask says which pixels are
    free: the others are taken away.
    """
    if region is None:
        return mask
    area = mask.area
    if isinstance(region, Mask):
        mask = Mask.from_plane(mask.pixels & region.crop(mask.box), mask.y0, mask.x0)
        inside = mask.area
    else:
        inside = int(np.count_nonzero(mask.crop(mask.box.intersect(region)))) if _meet(mask, region) else 0
    return mask if 2 * inside >= area else None


def _meet(mask: Mask, box: Box) -> bool:
    """Whether a mask's box and a box share pixels."""
    both = mask.box.intersect(box)
    return both.height > 0 and both.width > 0
