"""Prompts anywhere on a plane of any size: a crop is cut around them, as large as the object needs.

Models that bring every picture to one size (official SAM: 1024 pixels) do not see small cells in a huge
plane. In a crop around the prompt they do, and the result is a mask of the plane like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.candidates import Candidate, Candidates
from napari_sam.masks import Box, Mask
from napari_sam.prompts import Point, Prompts
from napari_sam.store import Embeddings, embed_once
from napari_sam.tile_grid import check_plane
from napari_sam.tiling.tile import Read

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor

SIDE = 1024
"""Side of a crop in pixels, unless the prompt or the object is larger."""
FILL = 0.5
"""Part of a crop's side that a prompt may take."""
STEP = 4
"""Crops begin at multiples of this part of their side, so that clicks near each other share one."""
WIDER = 3
"""How many times a crop is doubled for an object that runs out of it."""


@dataclass(frozen=True, eq=False, slots=True)
class CropOffer:
    """Candidates that were found in a crop.

    Parameters
    ----------
    box : Box
        The crop; give it back with the next click on the same object.
    candidates : Candidates
        As the predictor gave them, in pixels of the crop.
    """

    box: Box
    candidates: Candidates

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The candidates' masks, in pixels of the plane."""
        return tuple(c.mask.shift(int(self.box.y0), int(self.box.x0)) for c in self.candidates)

    @property
    def best(self) -> Mask:
        """The preferred mask, in pixels of the plane."""
        return self.masks[self.candidates.preferred]


def crop_around(
    prompts: Prompts, shape: tuple[int, int], *, side: int = SIDE, current: Box | None = None
) -> Box:
    """Crop of a plane for some prompts.

    Parameters
    ----------
    prompts : Prompts
        In pixels of the plane.
    shape : tuple of int
        (H, W) of the plane.
    side : int
        Least side of the crop in pixels.
    current : Box, optional
        The crop in use, which is kept as long as all prompts lie well inside.

    Returns
    -------
    Box
        Square, or what the plane leaves of it; the prompts' points, negative ones too, lie in it.

    Raises
    ------
    ValueError
        If the shape is not that of a plane.
    """
    check_plane(shape)
    extent = extent_of(prompts)
    if current is not None and lies_well_inside(prompts, current, shape):
        return current
    side = max(side, int(np.ceil(max(extent.height, extent.width) / FILL)))
    step = max(side // STEP, 1)
    starts = []
    for middle, size in zip(extent.centre, shape, strict=True):
        start = round((middle - side / 2) / step) * step
        starts.append(max(min(start, size - side), 0))
    y, x = starts
    return Box(y, x, y + side, x + side).clip(shape)


def predict_anywhere(
    predictor: Predictor,
    read: Read,
    shape: tuple[int, int],
    prompts: Prompts,
    *,
    previous: CropOffer | None = None,
    chosen: Candidate | None = None,
    side: int = SIDE,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
) -> CropOffer:
    """Candidates for one object anywhere on a plane that is not read whole.

    A mask that runs out of its crop is looked for again in one of twice the side.

    Parameters
    ----------
    predictor : Predictor
    read : callable
        Gives the picture of a box of the plane (`napari_sam.tiling.rgb_reader`).
    shape : tuple of int
        (H, W) of the plane.
    prompts : Prompts
        In pixels of the plane.
    previous : CropOffer, optional
        What was offered before the last click.
    chosen : Candidate, optional
        Which of ``previous`` the person kept; its logits are given to the decoder.
    side : int
        Least side of a crop in pixels.
    diameter : float, optional
        Typical object diameter in pixels, for models that scale by it.
    kept : sequence of Embeddings
        Where embeddings of crops are looked for and kept: a click near the last one costs no new one.

    Returns
    -------
    CropOffer

    Raises
    ------
    PromptError
        If the prompts ask for nothing or lie outside the plane.
    """
    check_plane(shape)
    prompts.require_inside(shape)
    current = previous.box if previous is not None else None
    box = crop_around(prompts, shape, side=side, current=current)
    before = chosen if box == current else None
    for _ in range(WIDER + 1):
        embedding = embed_once(predictor, read(box), *kept, diameter=diameter)
        offer = CropOffer(box, predictor.predict(embedding, move_prompts(prompts, box), previous=before))
        wider = crop_around(prompts, shape, side=2 * int(max(box.height, box.width)))
        if wider == box or not runs_out(offer.best, box, shape):
            break
        box, before = wider, None
    return offer


def lies_well_inside(prompts: Prompts, crop: Box, shape: tuple[int, int]) -> bool:
    """Whether prompts leave an eighth of a crop on every side that is no edge of the plane."""
    extent = extent_of(prompts)
    margin = max(crop.height, crop.width) / 8
    return (
        extent.y0 >= crop.y0 + margin * (crop.y0 > 0)
        and extent.x0 >= crop.x0 + margin * (crop.x0 > 0)
        and extent.y1 <= crop.y1 - margin * (crop.y1 < shape[0])
        and extent.x1 <= crop.x1 - margin * (crop.x1 < shape[1])
    )


def runs_out(mask: Mask, crop: Box, shape: tuple[int, int]) -> bool:
    """Whether a mask of the plane reaches an edge of the crop that is no edge of the plane."""
    if not mask.pixels.size:
        return False
    return (
        (mask.box.y0 <= crop.y0 > 0)
        or (mask.box.x0 <= crop.x0 > 0)
        or (crop.y1 <= mask.box.y1 and crop.y1 < shape[0])
        or (crop.x1 <= mask.box.x1 and crop.x1 < shape[1])
    )


def move_prompts(prompts: Prompts, crop: Box) -> Prompts:
    """Bring prompts of the plane into pixels of a crop."""
    dy, dx = crop.y0, crop.x0
    box = prompts.box
    return Prompts(
        tuple(Point(p.y - dy, p.x - dx, p.positive) for p in prompts.points),
        None if box is None else Box(box.y0 - dy, box.x0 - dx, box.y1 - dy, box.x1 - dx),
        None if prompts.mask is None else prompts.mask.shift(-int(dy), -int(dx)),
    )


def extent_of(prompts: Prompts) -> Box:
    """Smallest box around everything that was said, negative points too."""
    return Box.union([prompts.extent, *(Box.around(p.y, p.x) for p in prompts.points)])
