"""Where a session keeps embeddings: in memory, and in a folder if one was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.store.memory import EmbeddingCache, Embeddings, Key
from napari_sam.store.tiled import InTiles, Tiles

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
        if found is None and (found := self.read(key)) is not None:
            self.memory.put(found)
        return found

    def read(self, key: Key) -> Embedding | None:
        """Return what the folder has, without taking it into memory."""
        folder = self.folder
        try:
            return folder.get(key) if folder is not None else None
        except OSError as error:
            self.trouble = str(error)
            return None

    def tiles(self, shape: tuple[int, int]) -> Tiles | None:
        """Tiles of planes of a shape that the folder holds; None if it holds none of such planes."""
        return self.folder.tiles(shape) if isinstance(self.folder, InTiles) else None

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


class FolderOf:
    """The folder of a shelf, for work that sees each picture once: looked up, never added to.

    Parameters
    ----------
    shelf : Shelf
    """

    read_only = True

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def __contains__(self, key: Key) -> bool:
        """Tell whether a picture's embedding is in the folder."""
        folder = self._shelf.folder
        return folder is not None and key in folder

    def get(self, key: Key) -> Embedding | None:
        """Return the embedding of a picture, which does not go into memory."""
        return self._shelf.read(key)

    def put(self, embedding: Embedding) -> None:
        """Keep nothing."""
