"""The work itself: plain functions that a runner calls, away from the session and the window.

Whatever loads torch is imported inside them, so that the dock is up before the model is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import inf
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.candidates import Candidates
from napari_sam.embedding import Embedding
from napari_sam.image import RGB
from napari_sam.masks import Mask
from napari_sam.progress import SILENT, Progress, Steps
from napari_sam.prompts import Point, Prompts
from napari_sam.session.libraries import collecting_seldom, load_torch_libraries
from napari_sam.session.offers import Annotation, Offer, Request, describe
from napari_sam.store import EmbeddingCache, Shelf, embed_once

if TYPE_CHECKING:
    from napari_sam.everything import AutomaticResult, AutomaticSettings
    from napari_sam.everything.found import Proposal
    from napari_sam.predictor import Predictor
    from napari_sam.tiling.large_plane import LargePlane, Sight
    from napari_sam.tiling.seen import Seen, StoredTiles

PATIENCE = 0.1
"""Seconds until work that reports nothing lets others have their turn."""

Outcome = TypeVar("Outcome")
Kept = EmbeddingCache | Shelf
Read = Callable[[], RGB]
"""Gives the picture of a plane; called in the worker, since it may read a file."""


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """What is looked at of a plane that is not read whole; stands where else a plane's `Read` does.

    Parameters
    ----------
    plane : LargePlane
    sight : Sight
        Which part of it, and how finely.
    """

    plane: LargePlane
    sight: Sight

    def __call__(self) -> RGB:
        """Read what is looked at."""
        return self.plane.read(self.sight)


class Load(Protocol):
    """Loads a model, downloading it if need be; `napari_sam.load_model`."""

    def __call__(
        self,
        name: str,
        *,
        device: str,
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> Predictor:
        """Load by name or file; see `napari_sam.load_model`."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Loaded:
    """A model that is ready, and its settings for automatic masks."""

    predictor: Predictor
    settings: AutomaticSettings


@dataclass(frozen=True, eq=False, slots=True)
class Embedded:
    """A plane that is ready for prompts; of a large one, the part that was looked at (``view``)."""

    rgb: RGB
    embedding: Embedding
    cached: bool
    stored: bool = False
    """Whether the embedding came from a folder."""
    trouble: str = ""
    """Why the folder did not take it."""
    view: View | None = None

    @property
    def told(self) -> dict[str, Any]:
        """What the status line says about it."""
        told = {"cached": self.cached, "stored": self.stored, "message": self.trouble}
        part = str(self.view.sight) if self.view is not None else ""
        return {"seconds": self.embedding.seconds, "part": part, **told}

    @property
    def source(self) -> Hashable:
        """What masks are seen in: the model, and the picture, or a large plane in whatever part of it."""
        return self.embedding.key if self.view is None else (self.view.plane, self.embedding.model_id)

    @property
    def seen(self) -> Seen:
        """The part that was looked at, of a large plane."""
        from napari_sam.tiling.seen import Seen

        if self.view is None:
            raise ValueError("Expected a large plane, found one that was embedded whole.")
        return Seen(self.view.sight, self.rgb, self.embedding)


def load(load_model: Load | None, name: str, device: str) -> Steps[Loaded]:
    """Load a model by name or file, with the progress of its download."""

    @collecting_seldom()
    def work(progress: Callable[[int, int], None], cancelled: Callable[[], bool]) -> Loaded:
        load_torch_libraries()
        from napari_sam.everything import settings_for
        from napari_sam.predictor import load_model as by_name

        loader: Load = load_model or by_name
        predictor = loader(name, device=device, progress=progress, cancelled=cancelled)
        return Loaded(predictor, settings_for(predictor))

    return in_steps(work, f"Downloading {name}")


def in_steps(
    work: Callable[[Callable[[int, int], None], Callable[[], bool]], Outcome], message: str
) -> Steps[Outcome]:
    """Turn work that reports (done, total) and asks whether to stop into a generator of progress.

    The work runs in a thread of its own. The generator yields a few times a second, also while nothing is
    reported, so that whoever runs it can do something else or close it. Work that is closed stops when it
    asks next: a server that does not answer holds nobody up.
    """
    told: SimpleQueue[Progress | None] = SimpleQueue()
    stop = Event()
    pool = ThreadPoolExecutor(1, "napari-sam-steps")
    try:
        future = pool.submit(work, lambda done, total: told.put(Progress(done, total, message)), stop.is_set)
        future.add_done_callback(lambda _: told.put(None))
        step: Progress | None = SILENT
        while step is not None:
            with suppress(Empty):  # then the same once more
                step = told.get(timeout=PATIENCE)
            if step is not None:
                yield step
    finally:
        stop.set()
        pool.shutdown(wait=False)
    return future.result()


def embed(predictor: Predictor, read: Read, cache: Kept, diameter: float | None) -> Embedded:
    """Read a plane and embed it, unless its embedding is kept.

    Of a large plane that the folder holds in tiles, the tile in the middle of the view is taken.
    """
    if isinstance(read, View) and (tiles := tiles_of(read.plane.shape, cache, diameter)) is not None:
        seen = tiles.around(predictor, read.plane, Prompts((Point(*read.sight.area.centre),)))
        if seen is not None:
            view = View(read.plane, seen.sight)
            return Embedded(seen.picture, seen.embedding, cached=True, stored=True, view=view)
    return _embed_read(predictor, read, cache, diameter)


def _embed_read(predictor: Predictor, read: Read, cache: Kept, diameter: float | None) -> Embedded:
    """Embed exactly what is read, unless its embedding is kept."""
    view = read if isinstance(read, View) else None
    rgb = read()
    if view is not None:
        diameter = view.plane.diameter(predictor, view.sight, rgb, diameter)
        cache = memory_of(cache)  # what was in view is hardly ever in view again, to the pixel
    key = predictor.pixels_key(rgb, diameter), predictor.model_id
    shelf = cache if isinstance(cache, Shelf) else None
    remembered = key in (cache if shelf is None else shelf.memory)
    found = cache.get(key)
    embedding = embed_once(predictor, rgb, cache, diameter=diameter) if found is None else found
    trouble = "" if shelf is None else shelf.trouble
    return Embedded(rgb, embedding, found is not None, found is not None and not remembered, trouble, view)


def tiles_of(shape: tuple[int, int], cache: Kept, diameter: float | None) -> StoredTiles | None:
    """Tiles of large planes of a shape (H, W) that the folder holds, if there are any."""
    from napari_sam.tiling.seen import StoredTiles

    tiles = cache.tiles(shape) if isinstance(cache, Shelf) else None
    return StoredTiles(tiles, cache, diameter) if tiles is not None else None


def memory_of(cache: Kept) -> EmbeddingCache:
    """Where embeddings are kept for this sitting only."""
    return cache.memory if isinstance(cache, Shelf) else cache


def predict(
    predictor: Predictor,
    ready: Embedded,
    requests: Sequence[Request],
    choose: Callable[[Candidates], int],
    cache: Kept,
    diameter: float | None,
) -> tuple[Offer, ...]:
    """Offers for all objects; those that still hold are kept as they are."""
    new = [r for r in requests if r.kept is None]
    found = iter(_candidates(predictor, ready, new, cache, diameter) if new else [])
    offers: list[Offer] = []
    for request in requests:
        if request.kept is not None:
            offers.append(request.kept)
            continue
        candidates = next(found)
        for candidate in candidates:
            # Computed here once, so that the window only shows them.
            _ = candidate.mask, candidate.stability
        level = request.before.picked_level if request.before else None
        chosen = choose(candidates) if request.chosen is None else request.chosen
        offers.append(Offer(request.prompts, candidates, chosen, predictor.name, level, ready.source))
    return tuple(offers)


def _candidates(
    predictor: Predictor,
    ready: Embedded,
    requests: Sequence[Request],
    cache: Kept,
    diameter: float | None,
) -> list[Candidates]:
    """Candidates for all requests, as the plane is small or large."""
    prompts = [r.prompts for r in requests]
    before = [r.before.choice if r.before else None for r in requests]
    if ready.view is None:
        return predictor.predict_each(ready.embedding, prompts, before)
    from napari_sam.tiling.seen import predict_seen

    plane, kept = ready.view.plane, (memory_of(cache),)
    tiles = tiles_of(plane.shape, cache, diameter)
    return predict_seen(
        predictor, plane, ready.seen, prompts, before, diameter=diameter, kept=kept, tiles=tiles
    )


def hover(
    predictor: Predictor,
    ready: Embedded,
    y: float,
    x: float,
    choose: Callable[[Candidates], int],
    cache: Kept,
    diameter: float | None,
) -> Mask:
    """Mask that a click at ``(y, x)`` would give, as far as it is in view."""
    prompts = Prompts((Point(y, x),))
    if ready.view is None:
        candidates = predictor.predict(ready.embedding, prompts)
        return candidates[choose(candidates)].mask
    tiles = tiles_of(ready.view.plane.shape, cache, diameter)
    tile = tiles.around(predictor, ready.view.plane, prompts) if tiles is not None else None
    seen = ready.seen if tile is None else tile
    candidates = predictor.predict(seen.embedding, seen.sight.to_picture(prompts))
    return seen.sight.to_plane(candidates[choose(candidates)].mask)


def everything(
    predictor: Predictor,
    read: Read,
    cache: Kept,
    diameter: float | None,
    settings: AutomaticSettings,
    region: Callable[[], Any] | None,
) -> Steps[AutomaticResult]:
    """Automatic masks of one plane, as a generator of progress."""
    from napari_sam.everything import generate

    yield Progress(0, 1, "Reading the plane")
    ready = _embed_read(predictor, read, cache, diameter)
    area = region() if region is not None else None
    result = yield from generate(predictor, ready.rgb, settings, embedding=ready.embedding, region=area)
    return result


@dataclass(frozen=True, slots=True)
class Filters:
    """What automatic masks have to fulfil.

    Parameters
    ----------
    predicted_iou, stability : float
        Lowest values, 0 to 1.
    min_area, max_area : float
        In pixels.
    """

    predicted_iou: float
    stability: float
    min_area: float = 0
    max_area: float = inf


@dataclass(frozen=True, eq=False)
class Sifted:
    """The automatic masks that pass the filters.

    Parameters
    ----------
    labels : ndarray of int32, shape (H, W)
        Label image; ids count from 1.
    masks : tuple of Mask
        What is seen of each, in the order of the ids.
    proposals : tuple of Proposal
        What is known of them.
    removed : mapping of str to int
        How many masks each filter removed.
    model : str
        Who made them.
    """

    labels: NDArray[np.int32]
    masks: tuple[Mask, ...]
    proposals: tuple[Proposal, ...]
    removed: Mapping[str, int]
    model: str

    def __len__(self) -> int:
        """Return the number of masks that passed."""
        return len(self.masks)

    @cached_property
    def objects(self) -> tuple[Annotation, ...]:
        """The masks ready to be written; made when they are asked for, not while a filter is dragged."""
        return tuple(
            Annotation(
                mask,
                {
                    "predicted_iou": round(float(proposal.predicted_iou), 4),
                    "stability": round(float(proposal.stability), 4),
                    "area": mask.area,
                    "model": self.model,
                    "level": int(proposal.level),
                    "prompt": describe(Prompts((Point(*proposal.point),))),
                },
            )
            for mask, proposal in zip(self.masks, self.proposals, strict=True)
        )


def sift(result: AutomaticResult, filters: Filters, model: str) -> Sifted:
    """Apply filters to automatic masks and make them ready to be shown and written."""
    filtered = result.refilter(
        pred_iou=filters.predicted_iou,
        stability=filters.stability,
        min_area=filters.min_area,
        max_area=filters.max_area,
    )
    painted = filtered.paint()
    proposals = tuple(filtered.proposals[i] for i in painted.order)
    removed = {str(name): count for name, count in filtered.removed.items()}
    return Sifted(painted.labels, tuple(painted.masks), proposals, removed, model)
