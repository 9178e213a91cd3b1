"""Embed a whole stack ahead of time, so that every later click is instant."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from napari_sam.image import RGB
from napari_sam.progress import Progress, Steps, time_left
from napari_sam.store.disk import EmbeddingStore, StoreError
from napari_sam.store.memory import Key

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
    """

    keys: tuple[Key, ...]
    computed: int
    found: int


def outward(count: int, first: int) -> Iterator[int]:
    """All numbers below ``count``, ``first`` and its neighbours first.

    Examples
    --------
    >>> list(outward(5, 1))
    [1, 2, 0, 3, 4]
    """
    for distance in range(count):
        for number in dict.fromkeys((first + distance, first - distance)):
            if 0 <= number < count:
                yield number


def embed_stack(
    predictor: Predictor,
    planes: Planes,
    store: EmbeddingStore,
    *,
    first: int = 0,
    diameter: float | None = None,
) -> Steps[EmbedResult]:
    """Put the embedding of every plane into a store.

    Planes whose embedding is complete in the store are not computed again, so that an interrupted run goes on
    where it stopped, whatever interrupted it.

    Parameters
    ----------
    predictor : Predictor
    planes : sequence of ndarray of uint8, shape (H, W, 3)
    store : EmbeddingStore
    first : int
        Plane to begin with, such as the one on show; its neighbours follow.
    diameter : float, optional
        Typical object diameter in image pixels, for models that scale by it.

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
    if not 0 <= first < max(total, 1):
        raise ValueError(f"Expected a first plane from 0 to {total - 1}, found {first}.")
    keys: dict[int, Key] = {}
    found = computed = 0
    started = time.monotonic()
    for number in outward(total, first):
        picture = planes[number]
        key = predictor.pixels_key(picture, diameter), predictor.model_id
        if key in store:
            store.touch(key)
            found += 1
        else:
            embedding = predictor.embed(picture, diameter=diameter)
            _check_room(store, embedding.nbytes, total)
            store.put(embedding)
            computed += 1
        keys[number] = key
        left = time_left(time.monotonic() - started, computed, total - len(keys))
        yield Progress(len(keys), total, f"plane {number + 1} embedded{left}")
    return EmbedResult(tuple(keys[i] for i in range(total)), computed, found)


def _check_room(store: EmbeddingStore, nbytes: int, planes: int) -> None:
    """Refuse a stack of which the store would forget the first planes before the last are there."""
    if store.max_bytes is not None and planes > 1 and nbytes * planes > store.max_bytes:
        raise StoreError(
            f"The {planes} planes need about {nbytes * planes / 1e9:.1f} GB, the store "
            f"{store.path} may take {store.max_bytes / 1e9:.1f} GB. Allow it more or embed fewer planes."
        )
