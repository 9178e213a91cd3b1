"""Embed a whole stack ahead of time, so that every later click is instant."""

from __future__ import annotations

import random
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from napari_sam.image import RGB
from napari_sam.progress import Progress, Steps, time_left
from napari_sam.store.disk import EmbeddingStore, StoreError
from napari_sam.store.memory import Embeddings, Key

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor

SAMPLE = 64
"""Pictures that tell how many show something, where a store would be too small for all of them."""


class Planes(Protocol):
    """Planes that can be asked for one by one, such as a list or something that reads from disk."""

    def __len__(self) -> int:
        """Return the number of planes."""
        ...

    def __getitem__(self, index: int, /) -> RGB:
        """Return one plane as an 8-bit RGB picture of shape (H, W, 3)."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What `embed_stack` did.

    Parameters
    ----------
    keys : tuple of tuple
        Key of each plane's embedding, in the order of the stack.
    computed : int
        Planes that were encoded.
    found : int
        Planes that were in the store already.
    unit : str
        What was embedded, for a person to read: "plane" or "tile".
    """

    keys: tuple[Key, ...]
    computed: int
    found: int
    unit: str = "plane"


def nearest(left: Sequence[int], here: int) -> int:
    """Position in ``left``, which is in order, of the number nearest to ``here``; the higher of two.

    Examples
    --------
    >>> nearest([0, 1, 3, 4], 2)
    2
    """
    after = bisect_left(left, here)
    around = range(max(after - 1, 0), min(after + 1, len(left)))
    return min(around, key=lambda i: (abs(left[i] - here), -left[i]))


def embed_stack(
    predictor: Predictor,
    planes: Planes,
    store: EmbeddingStore,
    *,
    first: int | Callable[[], int] = 0,
    diameter: float | None = None,
    also: Callable[[int], float | None] = lambda number: None,
    known: Embeddings | None = None,
    blank: Callable[[RGB], bool] | None = None,
    unit: str = "plane",
) -> Steps[EmbedResult]:
    """Put the embedding of every plane into a store.

    Planes whose embedding is complete and undamaged in the store are not computed again, so that an
    interrupted run goes on where it stopped, whatever interrupted it.

    Parameters
    ----------
    predictor : Predictor
    planes : sequence of ndarray of uint8, shape (H, W, 3)
    store : EmbeddingStore
    first : int or callable
        Plane to begin with, such as the one on show; its neighbours follow. A callable is asked again after
        each plane, so that the work follows whoever moves on.
    diameter : float, optional
        Typical object diameter in image pixels, for models that scale by it.
    also : callable
        Gives the diameter, if any, at which a plane is embedded a second time.
    known : Embeddings, optional
        Where embeddings may be found that were computed before.
    blank : callable, optional
        Tells which pictures show nothing and are left out.
    unit : str
        What a picture is, for a person to read.

    Yields
    ------
    Progress
        After each plane. Closing the generator cancels and keeps what is finished.

    Returns
    -------
    EmbedResult

    Raises
    ------
    StoreError
        If the store is read-only, takes no more, or is too small for what the stack shows.
    ValueError
        If ``first`` is not a plane of the stack.
    """
    total = len(planes)
    if not callable(first) and not 0 <= first < max(total, 1):
        raise ValueError(f"Expected a first plane from 0 to {total - 1}, found {first}.")
    store.require_writable()
    keys: dict[int, Key] = {}
    left = list(range(total))
    found = computed = 0
    room = _Room(store, planes, blank, unit)
    started = time.monotonic()
    while left:
        number = left.pop(nearest(left, first() if callable(first) else first))
        picture = planes[number]
        done = total - len(left)
        if blank is not None and blank(picture):
            yield Progress(done, total, f"{unit} {number + 1} is empty")
            continue
        other = also(number)
        diameters = (diameter,) if other is None else (diameter, other)
        wanted = {(predictor.pixels_key(picture, d), predictor.model_id): d for d in diameters}
        # Read, and so counted as used: a damaged one is no longer there then.
        there = {key: store.get(key) for key in wanted}
        missing = [key for key, embedding in there.items() if embedding is None]
        for key in missing:
            embedding = known.get(key) if known is not None else None
            # One that is in tiles has no features of its own: it is another program's.
            if embedding is None or not embedding.features:
                embedding = predictor.embed(picture, diameter=wanted[key])
            room.require(embedding.nbytes, len(wanted))
            store.put(embedding)
            there[key] = embedding
        room.held |= {key: embedding.nbytes for key, embedding in there.items() if embedding is not None}
        computed += bool(missing)
        found += not missing
        keys[number] = next(iter(wanted))
        rest = time_left(time.monotonic() - started, computed, len(left))
        yield Progress(done, total, f"{unit} {number + 1} embedded{rest}")
    return EmbedResult(tuple(key for _, key in sorted(keys.items())), computed, found, unit)


class _Room:
    """Room for a stack in a store, which must not forget the first planes before the last are there.

    Parameters
    ----------
    store, planes, blank, unit
        See `embed_stack`.

    Attributes
    ----------
    held : dict of tuple to int
        Bytes of the embeddings that are in the store by now, by their keys.
    """

    def __init__(
        self, store: EmbeddingStore, planes: Planes, blank: Callable[[RGB], bool] | None, unit: str
    ) -> None:
        self._store, self._planes, self._blank, self._unit = store, planes, blank, unit
        self.held: dict[Key, int] = {}

    def require(self, nbytes: int, each: int) -> None:
        """Refuse an embedding if there is no room for it, or for as many as are to be expected.

        Parameters
        ----------
        nbytes : int
            Bytes of the embedding.
        each : int
            How many such embeddings a plane has.

        Raises
        ------
        StoreError
        """
        limit, total = self._store.max_bytes, len(self._planes)
        if limit is None or total * each * nbytes <= limit:
            return
        where, unit = f"{self._store.path} may take {limit / 1e9:.2f} GB", self._unit
        count = self._shown
        need = count * each * nbytes
        if count > 1 and need > limit:
            which = "" if count == total else " or so that show something"
            raise StoreError(
                f"The {count} {unit}s{which} need about {need / 1e9:.2f} GB, the store {where}. "
                f"Allow it more or embed fewer {unit}s."
            )
        if self.held and sum(self.held.values()) + nbytes > limit:
            raise StoreError(
                f"The store {where}, and the {unit}s embedded so far fill it. They are kept. "
                "Allow it more to go on."
            )

    @cached_property
    def _shown(self) -> int:
        """About how many pictures show something.

        Estimated from some of all places: those that come first, around the one on show, may be all there is.
        """
        total = len(self._planes)
        if self._blank is None:
            return total
        sample = random.Random(0).sample(range(total), min(SAMPLE, total))
        return round(total * sum(not self._blank(self._planes[n]) for n in sample) / len(sample))
