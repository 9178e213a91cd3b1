"""Where a session keeps embeddings: in memory, and in a folder if one was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_sam.masks import Box
from napari_sam.store.memory import EmbeddingCache, Embeddings, InTiles, Key

if TYPE_CHECKING:
    from napari_sam.embedding import Embedding


class Shelf:
    """Memory first, then a folder; what the folder does not take costs nothing but the place in it.

    Parameters
    ----------
    memory : EmbeddingCache

    Attributes
    ----------
    folder : Embeddings or None
        A store on disk, of our own or of micro-sam.
    trouble : str
        Why the folder could not be written or read the last time; empty if all is well.
    """

    read_only = False

    def __init__(self, memory: EmbeddingCache) -> None:
        self.memory = memory
        self.folder: Embeddings | None = None
        self.trouble = ""

    @property
    def max_bytes(self) -> int:
        """Memory in bytes that the embeddings may take."""
        return self.memory.max_bytes

    @max_bytes.setter
    def max_bytes(self, value: int) -> None:
        self.memory.max_bytes = value

    def __contains__(self, key: Key) -> bool:
        """Tell whether a picture's embedding is kept, without counting as a use."""
        folder = self.folder
        return key in self.memory or (folder is not None and key in folder)

    def get(self, key: Key) -> Embedding | None:
        """Return the embedding of a picture, or None if it is not kept."""
        found = self.memory.get(key)
        folder = self.folder
        if found is None and folder is not None:
            try:
                found = folder.get(key)
            except OSError as error:
                self.trouble = str(error)
            if found is not None:
                self.memory.put(found)
        return found

    def tiles(self, shape: tuple[int, int]) -> Sequence[tuple[Box, Box]]:
        """Tiles of planes of a shape that the folder holds; none if it holds no tiles of such planes."""
        return self.folder.tiles(shape) if isinstance(self.folder, InTiles) else ()

    def put(self, embedding: Embedding) -> None:
        """Keep an embedding."""
        self.memory.put(embedding)
        folder = self.folder
        if folder is not None and not folder.read_only:
            try:
                folder.put(embedding)
            except OSError as error:
                self.trouble = str(error)
            else:
                self.trouble = ""
