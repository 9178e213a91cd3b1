"""Embeddings kept for later: in memory, on disk, and in the stores of other programs."""

from napari_sam.store.memory import EmbeddingCache, Embeddings, Key, embed_once

__all__ = ["EmbeddingCache", "Embeddings", "Key", "embed_once"]
