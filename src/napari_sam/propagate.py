"""Follow one object through Z or T from what was said about it on one or several planes.

A plane on which something was said is an *anchor*. From every anchor the object is followed in both
directions: the mask of a plane prompts the next one. Between two anchors both sides meet in the middle;
beyond the outer ones the object is followed until it ends. The stretches between anchors do not depend on
each other, so a correction on one plane costs only the stretches that it touches.

A plane that is too large to be read (`napari_sam.tiling.large_plane.LargePlane`) is looked at around the mask
of the plane before, as finely as the object's size allows; of any other all is looked at.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage as ndi

from napari_sam.appearance import Look, look_of
from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.progress import Steps
from napari_sam.prompts import Point, PromptError, Prompts
from napari_sam.propagation import (
    Anchor,
    PlaneFollowed,
    PlaneMask,
    Propagation,
    PropagationSettings,
    Stretch,
)
from napari_sam.store import Embeddings

if TYPE_CHECKING:
    from napari_sam.candidates import Candidates
    from napari_sam.predictor import Predictor
    from napari_sam.store import Planes
    from napari_sam.tiling.large_plane import LargePlane
    from napari_sam.tiling.seen import StoredTiles
    from napari_sam.tiling.whole_plane import AnyPlane


class _Run(NamedTuple):
    """What all steps of a run need."""

    predictor: Predictor
    planes: Planes | Sequence[LargePlane]
    settings: PropagationSettings
    kept: Sequence[Embeddings]
    diameter: float | None
    spacing: tuple[float, float]
    tiles: StoredTiles | None

    def plane(self, number: int) -> AnyPlane:
        """A plane, to be looked at in parts if it is large."""
        from napari_sam.tiling.large_plane import LargePlane
        from napari_sam.tiling.whole_plane import WholePlane

        plane = self.planes[number]
        return plane if isinstance(plane, LargePlane) else WholePlane(plane)

    def look(self, number: int, mask: Mask) -> Look:
        """How an object looks on a plane; nothing is encoded."""
        plane = self.plane(number)
        sight = plane.around(Prompts(mask=mask))
        return look_of(plane.read(sight), sight.mask_to_picture(mask))


def propagate_object(
    predictor: Predictor,
    planes: Planes | Sequence[LargePlane],
    anchors: Mapping[int, Anchor],
    settings: PropagationSettings | None = None,
    *,
    previous: Propagation | None = None,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
    spacing: tuple[float, float] = (1.0, 1.0),
    tiles: StoredTiles | None = None,
) -> Steps[Propagation]:
    """Follow one object through a stack.

    Parameters
    ----------
    predictor : Predictor
    planes : sequence of (ndarray of uint8, shape (H, W, 3)) or of LargePlane
        Pictures as of `napari_sam.image.plane_to_rgb`, asked for one by one; or planes that are never read
        whole.
    anchors : mapping of int to Prompts or Mask
        What is known about the object, by plane.
    settings : PropagationSettings, optional
    previous : Propagation, optional
        The result before the last correction: stretches of which both anchors are the same (equal prompts,
        the very same mask) are taken from it.
    diameter : float, optional
        Typical object diameter in image pixels, for models that scale by it.
    kept : sequence of Embeddings
        Where embeddings are looked for and kept, the quickest first.
    spacing : tuple of float
        Distance between pixels down and to the right, in any unit: what is the middle of an object depends on
        it where pixels are not square, as in a stack that is looked at from the side.
    tiles : StoredTiles, optional
        Tiles of large planes that were encoded before: an object that one of them holds costs no encoding.

    Yields
    ------
    Progress
        A `PlaneFollowed` after each plane. Closing the generator cancels.

    Returns
    -------
    Propagation

    Raises
    ------
    PromptError
        If there is no anchor, one is not a plane of the stack, or one asks for nothing.
    """
    run = _Run(predictor, planes, settings or PropagationSettings(), kept, diameter, spacing, tiles)
    total = len(planes)
    if not anchors:
        raise PromptError("Nothing says which object is meant. Click it or draw a box on one plane at least.")
    outside = [plane for plane in anchors if not 0 <= plane < total]
    if outside:
        raise PromptError(f"Expected prompts on planes 0 to {total - 1}, found some on plane {outside[0]}.")
    places = sorted(anchors)
    done: dict[int, PlaneMask] = {}
    stretches: dict[Stretch, tuple[PlaneMask, ...]] = {}
    changed: list[Stretch] = []

    def news(one: PlaneMask) -> PlaneFollowed:
        done[one.plane] = one
        known = {place: anchors[place] for place in places if place in done}
        so_far = Propagation(dict(sorted(done.items())), known, dict(stretches))
        return PlaneFollowed(len(done), total, f"plane {one.plane}", found=one, so_far=so_far)

    # What is unchanged comes first: whatever is told later, and kept if the run is given up, has it.
    for stretch in [(None, places[0]), *pairwise(places), (places[-1], None)]:
        if previous is not None and _unchanged(stretch, anchors, previous.anchors, previous.stretches):
            stretches[stretch] = previous.stretches[stretch]
            done |= {one.plane: one for one in stretches[stretch]}
        else:
            changed.append(stretch)
    for place in places:
        if previous is not None and previous.anchors.get(place) == anchors[place]:
            done[place] = previous.planes[place]
    for place in places:
        if place not in done:
            yield news(_anchor(run, place, anchors[place]))
    for stretch in changed:
        found: list[PlaneMask] = []
        for one in _stretch(run, stretch, done, total):
            found.append(one)
            yield news(one)
        stretches[stretch] = tuple(found)
    return Propagation(dict(sorted(done.items())), dict(anchors), stretches)


def _unchanged(
    stretch: Stretch,
    anchors: Mapping[int, Anchor],
    before: Mapping[int, Anchor],
    stretches: Mapping[Stretch, tuple[PlaneMask, ...]],
) -> bool:
    """Whether a stretch lies between the same anchors as before."""
    return stretch in stretches and all(end is None or anchors[end] == before[end] for end in stretch)


def _anchor(run: _Run, plane: int, anchor: Anchor) -> PlaneMask:
    """The object on a plane on which something was said about it."""
    if isinstance(anchor, Mask):
        if not anchor.area:
            raise PromptError(f"The mask on plane {plane} is empty. Paint the object or remove it there.")
        return PlaneMask(plane, anchor, 1.0, 1.0, plane)
    from napari_sam.tiling.seen import predict_around

    _, offered = predict_around(
        run.predictor, run.plane(plane), anchor, diameter=run.diameter, kept=run.kept, tiles=run.tiles
    )
    best = offered.best
    if not best.area:
        raise PromptError(f"The model finds no object at the prompt on plane {plane}. Prompt it elsewhere.")
    return PlaneMask(plane, best.mask, best.predicted_iou, 1.0, plane)


def _stretch(
    run: _Run, stretch: Stretch, done: Mapping[int, PlaneMask], total: int
) -> Generator[PlaneMask, None, None]:
    """The planes strictly between two anchors, or beyond the outer one."""
    left, right = stretch
    if left is None and right is not None:
        yield from _follow(run, done[right], range(right - 1, -1, -1))
    elif right is None and left is not None:
        yield from _follow(run, done[left], range(left + 1, total))
    elif left is not None and right is not None:
        middle = (left + right) // 2
        near, far = done[left], done[right]
        for near in _follow(run, near, range(left + 1, middle + 1)):  # noqa: B020
            yield near
        # Where one side loses the object before the middle, the other goes on to there.
        for far in _follow(run, far, range(right - 1, near.plane, -1)):  # noqa: B020
            yield far
        if near.plane == middle:
            yield from _follow(run, done[left], range(middle + 1, far.plane), near)


def _follow(
    run: _Run, anchor: PlaneMask, places: range, start: PlaneMask | None = None
) -> Generator[PlaneMask, None, None]:
    """Follow the object along ``places`` until it ends, from its anchor or from where it has come since."""
    if not places:
        return
    look = run.look(anchor.plane, anchor.mask)
    before = start or anchor
    for place in places:
        found = _next(run, before, place, look)
        if found is None:
            return
        yield found
        before = found


def _next(run: _Run, before: PlaneMask, place: int, look: Look) -> PlaneMask | None:
    """The object on the neighbouring plane, or None where it has ended."""
    from napari_sam.tiling.seen import predict_around

    plane, settings = run.plane(place), run.settings
    prompts = _prompts(before.mask, run, plane.shape)

    def choose(offered: Candidates) -> int:
        if not prompts.ambiguous:
            return offered.preferred
        # Of part and whole, the one that goes on best from the plane before.
        return int(np.argmax([c.predicted_iou * mask_iou(before.mask, c.mask) for c in offered]))

    seen, offered = predict_around(
        run.predictor,
        plane,
        prompts,
        Prompts(mask=before.mask),
        choose=choose,
        diameter=run.diameter,
        kept=run.kept,
        tiles=run.tiles,
    )
    chosen = offered[choose(offered)]
    overlap = mask_iou(before.mask, chosen.mask)
    if (
        chosen.area < settings.min_area
        or overlap < settings.min_iou
        or not 1 / settings.max_growth <= chosen.area / before.mask.area <= settings.max_growth
        or chosen.predicted_iou < settings.min_predicted_iou
    ):
        return None
    local = chosen.picture_mask
    likeness = look.likeness(look_of(seen.picture, local))
    if likeness < settings.min_likeness:
        return None
    clicked = run.predictor.predict(seen.embedding, Prompts((deepest_point(local, run.spacing),)))
    agreement = max(mask_iou(local, candidate.mask) for candidate in clicked)
    return PlaneMask(place, chosen.mask, chosen.predicted_iou, overlap, before.anchor, likeness, agreement)


def _prompts(mask: Mask, run: _Run, shape: tuple[int, int]) -> Prompts:
    """Prompts for the next plane out of a mask."""
    settings = run.settings
    (y0, x0, y1, x1), m = mask.box, settings.margin
    return Prompts(
        points=(deepest_point(mask, run.spacing),) if settings.point else (),
        box=Box(max(y0 - m, 0), max(x0 - m, 0), min(y1 + m, shape[0]), min(x1 + m, shape[1]))
        if settings.box
        else None,
        mask=mask if settings.mask else None,
    )


def deepest_point(mask: Mask, spacing: tuple[float, float] = (1.0, 1.0)) -> Point:
    """The pixel of a mask that is farthest from its rim, as a positive point.

    Parameters
    ----------
    mask : Mask
    spacing : tuple of float
        Distance between pixels down and to the right, in any unit.
    """
    depth = ndi.distance_transform_edt(np.pad(mask.pixels, 1), sampling=spacing)
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return Point(float(y - 1 + mask.y0), float(x - 1 + mask.x0))
