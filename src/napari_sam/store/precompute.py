"""Embed a whole stack ahead of time, so that every later click is instant."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from napari_sam.image import RGB
from napari_sam.progress import Progress, Steps, time_left
from napari_sam.store.disk import EmbeddingStore, StoreError
from napari_sam.store.memory import Embeddings, Key

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor


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
        If the store is read-only, takes no more, or is too small for the stack.
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
        missing = [key for key in wanted if store.get(key) is None]
        for key in missing:
            embedding = known.get(key) if known is not None else None
            # One that is in tiles has no features of its own: it is another program's.
            if embedding is None or not embedding.features:
                embedding = predictor.embed(picture, diameter=wanted[key])
            _check_room(store, embedding.nbytes * len(wanted), total, unit)
            store.put(embedding)
        computed += bool(missing)
        found += not missing
        keys[number] = next(iter(wanted))
        rest = time_left(time.monotonic() - started, computed, len(left))
        yield Progress(done, total, f"{unit} {number + 1} embedded{rest}")
    return EmbedResult(tuple(key for _, key in sorted(keys.items())), computed, found, unit)


def _check_room(store: EmbeddingStore, nbytes: int, planes: int, unit: str) -> None:
    """Refuse a stack of which the store would forget the first planes before the last are there."""
    if store.max_bytes is not None and planes > 1 and nbytes * planes > store.max_bytes:
        raise StoreError(
            f"The {planes} {unit}s need about {nbytes * planes / 1e9:.1f} GB, the store "
            f"{store.path} may take {store.max_bytes / 1e9:.1f} GB. Allow it more or embed fewer {unit}s."
        )
