"""Prompts on a plane that is never read whole, each in a sight of it that is encoded.

A prompt outside of what is in view gets a sight of its own, and an object that runs out of one is looked at
again from further away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.candidates import Candidate, Candidates
from napari_sam.image import RGB
from napari_sam.masks import Mask
from napari_sam.prompts import Prompts
from napari_sam.store import Embeddings, embed_once
from napari_sam.tiling.crop import WIDER
from napari_sam.tiling.large_plane import LargePlane, Sight

if TYPE_CHECKING:
    from napari_sam.embedding import Embedding
    from napari_sam.predictor import Predictor


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """A sight that was read and encoded."""

    sight: Sight
    picture: RGB
    embedding: Embedding


@dataclass(frozen=True, eq=False)
class SeenCandidate(Candidate):
    """A candidate that was found in a sight; its mask lies in the plane.

    Parameters
    ----------
    raw : Candidate
        As the predictor gave it, in pixels of the picture.
    seen : Seen
    """

    raw: Candidate
    seen: Seen

    @cached_property
    def mask(self) -> Mask:
        """The mask in full-resolution pixels of the plane."""
        return self.seen.sight.to_plane(self.raw.mask)

    @property
    def picture(self) -> RGB:
        """The picture of the sight."""
        return self.seen.picture

    @property
    def picture_mask(self) -> Mask:
        """The mask in pixels of the picture."""
        return self.raw.mask


def see(
    predictor: Predictor,
    plane: LargePlane,
    sight: Sight,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
) -> Seen:
    """Read and encode what a sight covers.

    Parameters
    ----------
    predictor : Predictor
    plane : LargePlane
    sight : Sight
    diameter : float, optional
        Typical object diameter in full-resolution pixels.
    kept : sequence of Embeddings
        Where embeddings are looked for and kept.
    """
    picture = plane.read(sight)
    diameter = plane.diameter(predictor, sight, picture, diameter)
    return Seen(sight, picture, embed_once(predictor, picture, *kept, diameter=diameter))


def predict_seen(
    predictor: Predictor,
    plane: LargePlane,
    view: Seen,
    prompts: Sequence[Prompts],
    before: Sequence[Candidate | None],
    *,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
) -> list[Candidates]:
    """Candidates for objects anywhere on a plane.

    Parameters
    ----------
    predictor : Predictor
    plane : LargePlane
    view : Seen
        What is encoded; serves the prompts that lie well inside.
    prompts : sequence of Prompts
        In full-resolution pixels.
    before : sequence of (Candidate or None)
        The candidate chosen before the last click: an object stays in the sight in which it was found for as
        long as its clicks do, wherever the view is by then.
    diameter, kept
        See `see`.

    Returns
    -------
    list of Candidates
        Of `SeenCandidate`; of a mask that runs out of its sight, as seen in a wider one.
    """
    offers: list[tuple[Seen, Candidates] | None] = [None] * len(prompts)
    fresh = [
        i
        for i, wanted in enumerate(prompts)
        if not isinstance(before[i], SeenCandidate) and plane.holds(view.sight, wanted)
    ]
    if fresh:  # at once: many objects of one view
        local = [view.sight.to_picture(prompts[i]) for i in fresh]
        for i, found in zip(fresh, predictor.predict_each(view.embedding, local), strict=True):
            offers[i] = view, _placed(found, view)
    out: list[Candidates] = []
    for wanted, last, offered in zip(prompts, before, offers, strict=True):
        if offered is None:
            previous = None
            if isinstance(last, SeenCandidate) and plane.holds(last.seen.sight, wanted):
                seen, previous = last.seen, last.raw
            elif plane.holds(view.sight, wanted):
                seen = view
            else:
                scale = float(np.mean(view.sight.factors))
                seen = see(predictor, plane, plane.around(wanted, scale), diameter, kept)
            found = predictor.predict(seen.embedding, seen.sight.to_picture(wanted), previous=previous)
            offered = seen, _placed(found, seen)
        out.append(_whole(predictor, plane, *offered, wanted, diameter, kept))
    return out


def _whole(
    predictor: Predictor,
    plane: LargePlane,
    seen: Seen,
    offer: Candidates,
    prompts: Prompts,
    diameter: float | None,
    kept: Sequence[Embeddings],
) -> Candidates:
    """Look again from further away for as long as the preferred mask runs out of the sight."""
    for _ in range(2 * WIDER):
        if not plane.is_cut(seen.sight, offer.best.picture_mask):
            break
        sight = plane.wider(seen.sight, prompts)
        if sight == seen.sight:
            break
        seen = see(predictor, plane, sight, diameter, kept)
        offer = _placed(predictor.predict(seen.embedding, sight.to_picture(prompts)), seen)
    return offer


def _placed(candidates: Candidates, seen: Seen) -> Candidates:
    """Candidates of a picture as candidates of the plane."""
    items = tuple(SeenCandidate(c.logits, c.window, c.predicted_iou, c.level, c, seen) for c in candidates)
    return replace(candidates, items=items)
