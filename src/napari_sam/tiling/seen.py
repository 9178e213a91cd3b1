"""Prompts on a plane that is never read whole, each in a sight of it that is encoded.

A prompt outside of what is in view gets a sight of its own, and an object that runs out of one is looked at
again from further away. Where tiles of the plane were encoded before, a prompt is seen in the tile that it
lies in, and the encoder rests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.candidates import Candidate, Candidates
from napari_sam.image import RGB
from napari_sam.masks import Mask
from napari_sam.predictor.mosaic import tile_of
from napari_sam.prompts import Prompts
from napari_sam.store import Embeddings, embed_once
from napari_sam.tiling.crop import WIDER, extent_of
from napari_sam.tiling.large_plane import LargePlane, Sight
from napari_sam.tiling.whole_plane import AnyPlane

if TYPE_CHECKING:
    from napari_sam.embedding import Embedding
    from napari_sam.predictor import Predictor
    from napari_sam.store.tiled import Tiles

Choose = Callable[[Candidates], int]
"""Index of one of the candidates."""
_preferred: Choose = attrgetter("preferred")


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


@dataclass(frozen=True, eq=False, slots=True)
class StoredTiles:
    """Tiles of planes that were encoded ahead of time, or by another program.

    Parameters
    ----------
    tiles : Tiles
        In full-resolution pixels of the plane.
    kept : Embeddings
        Where their embeddings are found, by the picture of what was encoded.
    diameter : float, optional
        Object diameter in full-resolution pixels at which they have to be encoded; any if not given.
    """

    tiles: Tiles
    kept: Embeddings
    diameter: float | None = None

    def around(self, predictor: Predictor, plane: LargePlane, prompts: Prompts) -> Seen | None:
        """Return the tile that prompts lie in; None if none holds them all, or it is not kept."""
        boxes = self.tiles.boxes
        _, outer = boxes[tile_of(prompts, boxes)]
        extent = extent_of(prompts).clip(plane.shape)
        if extent.intersect(outer) != extent:
            return None
        sight = Sight(0, 1, outer, plane.levels[0].factors)
        picture = plane.read(sight)
        diameters = (self.diameter,) if self.diameter else self.tiles.diameters
        for pixels in dict.fromkeys(predictor.pixels_keys(picture, diameters)):
            found = self.kept.get((pixels, predictor.model_id))
            if found is not None:
                return Seen(sight, picture, found)
        return None


def see(
    predictor: Predictor,
    plane: AnyPlane,
    sight: Sight,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
) -> Seen:
    """Read and encode what a sight covers.

    Parameters
    ----------
    predictor : Predictor
    plane : LargePlane or WholePlane
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
    tiles: StoredTiles | None = None,
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
    tiles : StoredTiles, optional
        Tiles that count more than the view.

    Returns
    -------
    list of Candidates
        Of `SeenCandidate`; of a mask that runs out of its sight, as seen in a wider one.
    """

    def sight_of(wanted: Prompts, last: Candidate | None) -> tuple[Seen, Candidate | None]:
        found = last if isinstance(last, SeenCandidate) else None
        if found is not None and plane.holds(found.seen.sight, wanted):
            return found.seen, found.raw
        tile = tiles.around(predictor, plane, wanted) if tiles is not None else None
        if tile is not None:
            same = found is not None and found.seen.sight == tile.sight
            return tile, found.raw if found is not None and same else None
        if plane.holds(view.sight, wanted):
            return view, None
        scale = float(np.mean(view.sight.factors))
        return see(predictor, plane, plane.around(wanted, scale), diameter, kept), None

    places = [sight_of(wanted, last) for wanted, last in zip(prompts, before, strict=True)]
    offers: dict[int, Candidates] = {}
    sights: dict[Sight, list[int]] = {}
    for i, (seen, _) in enumerate(places):
        sights.setdefault(seen.sight, []).append(i)
    for sight, rows in sights.items():  # at once: many objects of one view
        seen = places[rows[0]][0]
        local = [sight.to_picture(prompts[i]) for i in rows]
        found = predictor.predict_each(seen.embedding, local, [places[i][1] for i in rows])
        offers.update((i, _placed(one, seen)) for i, one in zip(rows, found, strict=True))
    return [
        _whole(predictor, plane, seen, offers[i], prompts[i], _preferred, diameter, kept)[1]
        for i, (seen, _) in enumerate(places)
    ]


def predict_around(
    predictor: Predictor,
    plane: AnyPlane,
    prompts: Prompts,
    near: Prompts | None = None,
    *,
    choose: Choose = _preferred,
    diameter: float | None = None,
    kept: Sequence[Embeddings] = (),
    tiles: StoredTiles | None = None,
) -> tuple[Seen, Candidates]:
    """Candidates for an object anywhere on a plane of which nothing is encoded yet.

    Parameters
    ----------
    predictor : Predictor
    plane : LargePlane or WholePlane
    prompts : Prompts
        In full-resolution pixels.
    near : Prompts, optional
        What tells where the object is and how large, if that is more than the prompts say.
    choose : callable
        Index of the candidate that has to lie in the sight as a whole.
    diameter, kept
        See `see`.
    tiles : StoredTiles, optional
        Tiles of a large plane, in one of which the object is looked at first.

    Returns
    -------
    Seen
        What was looked at in the end.
    Candidates
        Of `SeenCandidate`.
    """
    near = near or prompts
    found = tiles.around(predictor, plane, near) if tiles and isinstance(plane, LargePlane) else None
    seen = found or see(predictor, plane, plane.around(near), diameter, kept)
    offer = _placed(predictor.predict(seen.embedding, seen.sight.to_picture(prompts)), seen)
    return _whole(predictor, plane, seen, offer, prompts, choose, diameter, kept)


def _whole(
    predictor: Predictor, plane: AnyPlane, seen: Seen, offer: Candidates, prompts: Prompts,
    choose: Choose, diameter: float | None, kept: Sequence[Embeddings],
) -> tuple[Seen, Candidates]:  # fmt: skip
    """Look again from further away for as long as the chosen mask runs out of the sight."""
    for _ in range(2 * WIDER):
        if not plane.is_cut(seen.sight, offer[choose(offer)].picture_mask):
            break
        sight = plane.wider(seen.sight, prompts)
        if sight == seen.sight:
            break
        seen = see(predictor, plane, sight, diameter, kept)
        offer = _placed(predictor.predict(seen.embedding, sight.to_picture(prompts)), seen)
    return seen, offer


def _placed(candidates: Candidates, seen: Seen) -> Candidates:
    """Candidates of a picture as candidates of the plane."""
    items = tuple(SeenCandidate(c.logits, c.window, c.predicted_iou, c.level, c, seen) for c in candidates)
    return replace(candidates, items=items)
