"""Embeddings kept for later: in memory, on disk, and in the stores of other programs.

What touches files is loaded when it is first used: it needs torch and zarr.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_sam.store.memory import EmbeddingCache, Embeddings, Key, embed_once
from napari_sam.store.shelf import Shelf

if TYPE_CHECKING:
    from napari_sam.store.disk import EmbeddingStore, StoreError
    from napari_sam.store.microsam import MicroSamStore, is_microsam
    from napari_sam.store.microsam_adopt import MicroSamEmbeddings, adopt_microsam, index_microsam
    from napari_sam.store.precompute import EmbedResult, Planes, embed_stack

__all__ = [
    "EmbedResult",
    "EmbeddingCache",
    "EmbeddingStore",
    "Embeddings",
    "Key",
    "MicroSamEmbeddings",
    "MicroSamStore",
    "Planes",
    "Shelf",
    "StoreError",
    "adopt_microsam",
    "embed_once",
    "embed_stack",
    "index_microsam",
    "is_microsam",
]

_HOME = {
    "EmbedResult": "precompute",
    "EmbeddingStore": "disk",
    "MicroSamEmbeddings": "microsam_adopt",
    "MicroSamStore": "microsam",
    "Planes": "precompute",
    "StoreError": "disk",
    "adopt_microsam": "microsam_adopt",
    "embed_stack": "precompute",
    "index_microsam": "microsam_adopt",
    "is_microsam": "microsam",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
