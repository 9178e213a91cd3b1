"""Embeddings on disk, as a zarr hierarchy that survives interruption at any moment.

Layout, every level a zarr group (format 3)::

    store/                          attributes: format, version
      tiles.json                    shapes of planes that are kept in tiles, and how these are cut
      MODEL/                        identity of the weights
        AB/                         first two characters of the picture's fingerprint
          FINGERPRINT/              attributes: frame, digests, ...: the completion mark
            image, ...              one array a feature, one chunk each

An entry exists when the ``zarr.json`` of its group does. It is written last, in a folder of another name that
then gets its own: whatever was interrupted before is no entry. Each array carries a digest of its bytes, so
that a damaged chunk is noticed. The fingerprint is taken from the pixels after the contrast window, hence a
plane, a tile or another contrast is simply another picture.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import NamedTuple
from urllib.parse import quote
from uuid import uuid4

import zarr

from napari_sam.embedding import Embedding
from napari_sam.store.entry import DAMAGE, MARK, entry_size, read_entry, write_entry
from napari_sam.store.memory import Key
from napari_sam.store.tiled import Tiles, note_tiles, read_tiles

FORMAT, VERSION = "napari-sam embeddings", 1
ABANDONED = 3600.0
"""Seconds after which an unfinished entry counts as left over and not as being written."""
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What file managers leave in a folder that counts as empty to its owner."""
ROOM = 0.9
"""A full store is emptied to this part of its limit, so that it need not be counted again at once."""

_log = logging.getLogger(__name__)


class StoreError(OSError):
    """A store that cannot be used; the message says what was found and what to do."""


class Entry(NamedTuple):
    """One entry as it lies on disk."""

    folder: Path
    nbytes: int
    used: float
    """When it was last used, in seconds since 1970."""


class EmbeddingStore:
    """Embeddings in a folder. May be used from several threads and processes at once.

    Parameters
    ----------
    path : str or Path
        Folder of the store; made if it is missing.
    max_bytes : int, optional
        Disk space that the store may take. When it is full, the embeddings that were used longest ago are
        deleted. Without it the store grows as long as the disk allows.
    read_only : bool
        Never write, for stores that are shared: nothing is added, deleted or marked as used.

    Raises
    ------
    StoreError
        If the folder is something else, cannot be made, or is missing and ``read_only``.
    """

    def __init__(self, path: str | Path, max_bytes: int | None = None, *, read_only: bool = False) -> None:
        self.path = Path(path).absolute()
        self.max_bytes = max_bytes
        self.read_only = read_only
        self._lock = RLock()
        self._nbytes: int | None = None
        self._swept = False
        self._open()

    def __contains__(self, key: Key) -> bool:
        """Tell whether a picture's embedding is complete on disk, without counting as a use."""
        return (self._folder(key) / MARK).is_file()

    def get(self, key: Key) -> Embedding | None:
        """Return the embedding of a picture, or None if it is not there.

        A damaged one is reported in the log, deleted (unless read-only) and counts as not there, so that it
        is computed again. One that the disk does not give now is reported and kept, and counts as not there.
        """
        folder = self._folder(key)
        try:
            if not (folder / MARK).is_file():
                return None
            embedding = read_entry(folder)
        except DAMAGE as error:
            if (folder / MARK).is_file():  # else another process has just deleted it
                _log.warning("The stored embedding %s is damaged and is computed again (%s).", folder, error)
                if not self.read_only:
                    self._delete(folder)
            return None
        except OSError as error:
            _log.warning(
                "The stored embedding %s cannot be read now (%s). It is kept, and computed again this time.",
                folder,
                error.strerror or error,
            )
            return None
        self.touch(key)
        return embedding

    def touch(self, key: Key) -> None:
        """Count as a use, so that the embedding is among the last to be deleted."""
        if not self.read_only:
            with suppress(OSError):
                os.utime(self._folder(key) / MARK)

    def put(self, embedding: Embedding) -> None:
        """Keep an embedding; one that is there already stays as it is.

        Raises
        ------
        StoreError
            If the store is read-only, the disk is full, or the folder cannot be written.
        """
        self.require_writable()
        folder = self._folder(embedding.key)
        if (folder / MARK).is_file():
            return
        unfinished = folder.with_name(f".{uuid4().hex}")
        with self._lock:
            if not self._swept:
                self._sweep()
                self._swept = True
            try:
                self._ensure_groups(folder)
                write_entry(unfinished, embedding)
                nbytes = entry_size(unfinished)
                self._move(unfinished, folder)
            except (OSError, ValueError) as error:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise StoreError(self._write_failure(embedding, error)) from error
            if self.max_bytes is not None:
                self._make_room(nbytes, self.max_bytes)

    def require_writable(self) -> None:
        """Refuse to go on with a store that is only read, and make one anew that was deleted meanwhile.

        Raises
        ------
        StoreError
        """
        if self.read_only:
            raise StoreError(
                f"The store {self.path} was opened for reading only. Choose a store of your own."
            )
        if not (self.path / MARK).exists():
            self._open()
            self._nbytes = None

    def tiles(self, shape: tuple[int, int]) -> Tiles | None:
        """Tiles in which planes of ``shape`` (H, W) are kept; None if they are not."""
        return read_tiles(self.path, shape)

    def note_tiles(self, shape: tuple[int, int], side: int, halo: int, diameter: float | None) -> None:
        """Note that planes of a shape are kept in tiles, so that prompts on them are seen in these.

        Parameters
        ----------
        shape : tuple of int
            (H, W) of the planes.
        side, halo : int
            Pixels on a side of what a tile is meant for, and those that it sees beyond, all around.
        diameter : float, optional
            Object diameter in pixels at which one of them is encoded; those noted before stay.

        Raises
        ------
        StoreError
            If the note cannot be written.
        """
        self.require_writable()
        try:
            note_tiles(self.path, shape, side, halo, diameter)
        except OSError as error:
            raise StoreError(
                f"The store {self.path} cannot be written to ({error.strerror or error}). Make room or "
                "choose another folder."
            ) from error

    def entries(self) -> Iterator[Entry]:
        """Walk through the complete entries."""
        for folder in self._folders():
            with suppress(FileNotFoundError):
                yield Entry(folder, entry_size(folder), (folder / MARK).stat().st_mtime)

    @property
    def nbytes(self) -> int:
        """Disk space of all complete entries in bytes."""
        return sum(entry.nbytes for entry in self.entries())

    def __len__(self) -> int:
        """Return the number of complete entries."""
        return sum(1 for _ in self.entries())

    def verify(self) -> list[Path]:
        """Read everything and return the folders of damaged entries.

        Raises
        ------
        OSError
            If the disk does not give an entry: nothing is known of it then.
        """
        damaged = []
        for entry in self.entries():
            try:
                read_entry(entry.folder)
            except DAMAGE:
                damaged.append(entry.folder)
        return damaged

    def _open(self) -> None:
        mark = self.path / MARK
        if not mark.exists():
            if self.read_only:
                raise StoreError(f"There is no store of embeddings at {self.path}. Check the path.")
            if self._is_occupied() and not mark.exists():  # another process may have made it meanwhile
                raise StoreError(
                    f"Expected a store of embeddings or an empty folder at {self.path}, found other files. "
                    "Choose another folder."
                )
            try:
                with suppress(zarr.errors.ContainsGroupError):  # another process was quicker
                    zarr.create_group(self.path, attributes={"format": FORMAT, "version": VERSION})
            except OSError as error:
                raise StoreError(
                    f"The store {self.path} cannot be made ({error.strerror or error}). "
                    "Choose a folder in which you may write."
                ) from error
        try:
            attributes = json.loads(mark.read_text(encoding="utf-8")).get("attributes", {})
        except (OSError, ValueError) as error:
            raise StoreError(f"The store {self.path} cannot be read ({error}).") from error
        found = attributes.get("format"), attributes.get("version")
        if found != (FORMAT, VERSION):
            raise StoreError(
                f"Expected a store of embeddings of version {VERSION} at {self.path}, found {found[0]!r} of "
                f"version {found[1]}. Choose another folder."
            )

    def _is_occupied(self) -> bool:
        """Whether something lies here that is no store, nor one that is being made."""
        if not self.path.is_dir():
            return self.path.exists()
        return any(p.suffix != ".partial" and p.name not in LITTER for p in self.path.iterdir())

    def _folder(self, key: Key) -> Path:
        pixels, model = (quote(part, safe="@.-") for part in key)
        return self.path / model / pixels[:2] / pixels

    def _folders(self) -> Iterator[Path]:
        """Folders of complete entries."""
        found = (mark.parent for mark in self.path.glob(f"*/??/*/{MARK}"))
        yield from (folder for folder in found if not folder.name.startswith("."))

    def _ensure_groups(self, folder: Path) -> None:
        """Make the groups between the root and an entry, so that any zarr reader can walk the hierarchy."""
        for group in (folder.parent.parent, folder.parent):
            if not (group / MARK).exists():
                with suppress(zarr.errors.ContainsGroupError):  # another process was quicker
                    zarr.create_group(group)

    def _move(self, unfinished: Path, folder: Path) -> None:
        """Give a finished entry its name, unless another process has written the same meanwhile."""
        try:
            unfinished.rename(folder)
        except OSError:
            if not (folder / MARK).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                unfinished.rename(folder)
            else:
                shutil.rmtree(unfinished, ignore_errors=True)

    def _delete(self, folder: Path) -> None:
        """Delete an entry, its mark first, so that no half of it is ever taken for whole."""
        with suppress(OSError):
            (folder / MARK).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Delete what writers left that were interrupted."""
        before = time.time() - ABANDONED
        for folder in self.path.glob("*/??/.*"):
            with suppress(OSError):
                if folder.stat().st_mtime < before:
                    shutil.rmtree(folder, ignore_errors=True)

    def _make_room(self, added: int, limit: int) -> None:
        """Delete what was used longest ago until the store fits."""
        if self._nbytes is not None and self._nbytes + added <= limit:
            self._nbytes += added
            return
        # Other processes may have written or deleted: count again.
        entries = sorted(self.entries(), key=lambda entry: entry.used)
        self._nbytes = sum(entry.nbytes for entry in entries)
        goal = limit if self._nbytes <= limit else ROOM * limit
        for entry in entries[:-1]:
            if self._nbytes <= goal:
                break
            self._delete(entry.folder)
            self._nbytes -= entry.nbytes

    def _write_failure(self, embedding: Embedding, error: Exception) -> str:
        """Say in plain words why an embedding could not be written."""
        free = "unknown"
        with suppress(OSError):
            free = f"{shutil.disk_usage(self.path).free / 1e6:.0f} MB"
        reason = getattr(error, "strerror", None) or str(error)
        return (
            f"The embedding ({embedding.nbytes / 1e6:.0f} MB) could not be written to {self.path}: {reason}; "
            f"free space: {free}. Everything finished is kept. Make room or choose another folder."
        )
