"""Embeddings in memory, bounded in bytes: the one used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from napari_sam.embedding import Embedding
from napari_sam.image import RGB

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor

Key = tuple[str, str]
"""What an embedding is found by: fingerprint of the picture and identity of the model."""


class Embeddings(Protocol):
    """Anything that keeps embeddings: `EmbeddingCache` in memory, `EmbeddingStore` on disk."""

    read_only: bool
    """Whether embeddings are found here but none is added."""

    def __contains__(self, key: Key, /) -> bool:
        """Tell whether a picture's embedding is kept, without counting as a use."""
        ...

    def get(self, key: Key) -> Embedding | None:
        """Return the embedding of a picture, or None if it is not kept."""
        ...

    def put(self, embedding: Embedding) -> None:
        """Keep an embedding."""
        ...


class EmbeddingCache:
    """Embeddings in memory. May be used from several threads.

    Parameters
    ----------
    max_bytes : int
        Memory that all embeddings together may take. When it is full, the embeddings that were used longest
        ago are forgotten; one that is larger than this is not kept at all.

    Raises
    ------
    ValueError
        If ``max_bytes`` is negative.
    """

    read_only = False

    def __init__(self, max_bytes: int) -> None:
        self._kept: OrderedDict[Key, Embedding] = OrderedDict()
        self._nbytes = 0
        self._lock = RLock()
        self._max_bytes = 0
        self.max_bytes = max_bytes

    @property
    def max_bytes(self) -> int:
        """Memory in bytes that the embeddings may take; less forgets some at once."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"Expected a cache size of zero bytes or more, found {value}.")
        with self._lock:
            self._max_bytes = value
            self._shrink()

    @property
    def nbytes(self) -> int:
        """Memory in bytes that the embeddings take."""
        return self._nbytes

    def __len__(self) -> int:
        """Return the number of embeddings."""
        return len(self._kept)

    def __contains__(self, key: Key) -> bool:
        """Tell whether a picture's embedding is kept, without counting as a use."""
        with self._lock:
            return key in self._kept

    def get(self, key: Key) -> Embedding | None:
        """Return the embedding of a picture, or None if it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, embedding: Embedding) -> None:
        """Keep an embedding as the one used last; one with the same key is replaced."""
        with self._lock:
            self._forget(embedding.key)
            if embedding.nbytes <= self._max_bytes:
                self._kept[embedding.key] = embedding
                self._nbytes += embedding.nbytes
                self._shrink()

    def clear(self) -> None:
        """Forget all embeddings."""
        with self._lock:
            self._kept.clear()
            self._nbytes = 0

    def _forget(self, key: Key) -> None:
        if key in self._kept:
            self._nbytes -= self._kept.pop(key).nbytes

    def _shrink(self) -> None:
        while self._nbytes > self._max_bytes:
            self._forget(next(iter(self._kept)))


def embed_once(
    predictor: Predictor, image: RGB, *kept: Embeddings, diameter: float | None = None
) -> Embedding:
    """Embedding of a picture: from where it is kept, or computed and then kept wherever that is allowed.

    Parameters
    ----------
    predictor : Predictor
    image : ndarray of uint8, shape (H, W, 3)
    *kept : Embeddings
        Where to look, the quickest first. What a slow one has is also put into the quicker ones before it.
    diameter : float, optional
        Typical object diameter in image pixels, for models that scale by it.

    Returns
    -------
    Embedding
    """
    key = predictor.pixels_key(image, diameter), predictor.model_id
    for rank, place in enumerate(kept):
        found = place.get(key)
        if found is not None:
            _put(found, kept[:rank])
            return found
    fresh = predictor.embed(image, diameter=diameter)
    _put(fresh, kept)
    return fresh


def _put(embedding: Embedding, places: Sequence[Embeddings]) -> None:
    for place in places:
        if not place.read_only:
            place.put(embedding)
