"""The folder in which a session keeps embeddings: opened, filled ahead of time, recognised as micro-sam's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.progress import Progress, Steps
from napari_sam.store.shelf import FolderOf

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor
    from napari_sam.session.annotation import AnnotationSession
    from napari_sam.store import (
        EmbeddingStore,
        EmbedResult,
        MicroSamEmbeddings,
        MicroSamStore,
        Planes,
        Shelf,
    )
    from napari_sam.tiling.large_plane import LargePlane

NOTHING = "Embeddings are kept in memory only."


class Storage:
    """What a session does with a folder of embeddings.

    Parameters
    ----------
    session : AnnotationSession
        Its jobs run what takes time.
    shelf : Shelf
        The session's embeddings.
    """

    changed = Signal()
    """Another folder is open, or what is known of it changed."""
    matched = Signal()
    """A store of micro-sam belongs to the image: it is to be shown as micro-sam saw it."""

    def __init__(self, session: AnnotationSession, shelf: Shelf) -> None:
        self._session = session
        self._shelf = shelf
        self.store: EmbeddingStore | None = None
        self.foreign: MicroSamStore | None = None
        self.text = NOTHING
        session.job_failed.connect(self._on_failed)
        session.finished.connect(self._on_finished)

    @property
    def writable(self) -> bool:
        """Whether planes can be embedded ahead of time."""
        return self.store is not None and not self.store.read_only

    @property
    def trouble(self) -> str:
        """Why the folder took no embedding the last time; empty if all is well."""
        return self._shelf.trouble

    def open(self, path: str, *, read_only: bool = False, max_bytes: int | None = None) -> None:
        """Keep embeddings in a folder from now on.

        Parameters
        ----------
        path : str
            A store of our own, which is made if it is missing, or one of micro-sam; empty for none.
        read_only : bool
            Nothing is written, as into a store that is shared.
        max_bytes : int, optional
            Disk space that the store may take.
        """
        self._session.cancel("precompute")
        self._session.cancel("index")
        self._use(None)
        self._say(NOTHING if not path else "Opening…")
        if path:
            run = partial(open_store, path, read_only, max_bytes)
            self._session.request("store", run, self._take_store)
        else:
            self._session.cancel("store")

    def match(self, image: Callable[[], Any] | None) -> None:
        """Look whether a store of micro-sam belongs to an image and to the model in use.

        Parameters
        ----------
        image : callable, optional
            Gives the raw pixels, of shape (H, W), (N, H, W), (H, W, C) or (N, H, W, C); called in the worker.
        """
        predictor, store = self._session.predictor, self.foreign
        if store is None:
            return
        self._session.cancel("index")
        self._shelf.folder = None
        if image is None or predictor is None:
            self._say(f"micro-sam's, {_foreign(store)}: choose its image and wait for the model.")
            return
        self._say(f"micro-sam's, {_foreign(store)}: comparing it with the image…")
        self._session.request("index", partial(index, store, image, predictor.model_id), self._take_index)

    @property
    def stored(self) -> FolderOf:
        """What the folder holds, for work that sees each picture once."""
        return FolderOf(self._shelf)

    def precompute(self, planes: Planes, here: Callable[[], int], diameter: float | None) -> None:
        """Embed every plane of a stack into the folder.

        Parameters
        ----------
        planes : sequence of ndarray of uint8, shape (H, W, 3)
        here : callable
            The plane on show; it and its neighbours come first.
        diameter : float, optional
            Typical object diameter in pixels.
        """
        self._precompute(embed_planes, planes, here, diameter)

    def precompute_tiles(
        self, planes: Sequence[LargePlane], here: Callable[[], int], diameter: float | None
    ) -> None:
        """Embed large planes into the folder, in tiles.

        Parameters
        ----------
        planes : sequence of LargePlane
            Of one shape; their finest levels are embedded.
        here, diameter
            See `precompute`.
        """
        self._precompute(embed_large_planes, planes, here, diameter)

    def _precompute(self, work: Callable[..., Steps[EmbedResult]], planes: Any, *options: Any) -> None:
        """Request that planes are embedded, if that is possible now."""
        predictor, store = self._session.predictor, self.store
        if store is None or store.read_only or predictor is None:
            why = "wait for the model" if self.writable else "choose a folder in which you may write"
            self._session.failed.emit(f"The planes cannot be embedded yet: {why}.")
            return
        run = partial(work, predictor, planes, store, *options, self._shelf)
        self._session.request("precompute", run)

    def _use(self, store: EmbeddingStore | None, foreign: MicroSamStore | None = None) -> None:
        self.store, self.foreign = store, foreign
        self._shelf.folder, self._shelf.trouble = store, ""

    def _take_store(self, opened: tuple[EmbeddingStore | None, MicroSamStore | None, str]) -> None:
        store, foreign, text = opened
        self._use(store, foreign)
        self._say(text)

    def _take_index(self, found: MicroSamEmbeddings) -> None:
        self._shelf.folder = found
        what = "tiles" if found.store.tiled else "planes"
        self._say(f"micro-sam's, {_foreign(found.store)}: its {len(found)} {what} are used.")
        self.matched.emit()

    def _on_finished(self, kind: str, outcome: Any) -> None:
        """Say what became of a job."""
        if kind == "precompute" and outcome is not None:
            done: EmbedResult = outcome
            before = f", {done.found} were there before" if done.found else ""
            self._say(f"Every {done.unit} is in the folder: {done.computed} embedded{before}.")

    def _on_failed(self, kind: str, message: str) -> None:
        """Say why there is no folder, or not everything in it."""
        if kind in ("store", "index", "precompute"):
            self._say(message)

    def _say(self, text: str) -> None:
        self.text = text
        self.changed.emit()


def open_store(
    path: str, read_only: bool, max_bytes: int | None
) -> Steps[tuple[EmbeddingStore | None, MicroSamStore | None, str]]:
    """Open a store, of ours or of micro-sam, with what there is to say about it."""
    from napari_sam.store import EmbeddingStore, MicroSamStore, is_microsam

    yield Progress(0, 1, "opening the folder")
    folder = Path(path).expanduser()
    if is_microsam(folder):
        foreign = MicroSamStore(folder)
        return None, foreign, f"micro-sam's, {_foreign(foreign)}."
    store = EmbeddingStore(folder, max_bytes, read_only=read_only)
    count, nbytes = 0, 0
    for entry in store.entries():
        count, nbytes = count + 1, nbytes + entry.nbytes
    limit = f" of {max_bytes / 1e9:g} GB" if max_bytes is not None and not read_only else ""
    what = f"{count} embedding{'s' if count != 1 else ''}, {_size(nbytes)}{limit}"
    return store, None, f"{what}{', only read' if read_only else ''}."


def index(store: MicroSamStore, image: Callable[[], Any], model_id: str) -> Steps[MicroSamEmbeddings]:
    """Find out which pictures of an image a store of micro-sam knows."""
    from napari_sam.store import index_microsam

    return (yield from index_microsam(store, image(), model_id))


def embed_planes(
    predictor: Predictor,
    planes: Planes,
    store: EmbeddingStore,
    here: Callable[[], int],
    diameter: float | None,
    shelf: Shelf,
) -> Steps[EmbedResult]:
    """Embed every plane into a store; those that are in memory are not computed again."""
    from napari_sam.store import embed_stack

    yield Progress(0, len(planes), "Waiting for the model…")
    return (
        yield from embed_stack(predictor, planes, store, first=here, diameter=diameter, known=shelf.memory)
    )


def embed_large_planes(
    predictor: Predictor,
    planes: Sequence[LargePlane],
    store: EmbeddingStore,
    here: Callable[[], int],
    diameter: float | None,
    shelf: Shelf,
) -> Steps[EmbedResult]:
    """Embed large planes into a store, in tiles; those that are in memory are not computed again."""
    from napari_sam.tiling.ahead import embed_tiles

    yield Progress(0, len(planes), "Waiting for the model…")
    reads = [plane.levels[0].read for plane in planes]
    steps = embed_tiles(
        predictor, reads, planes[0].shape, store, first=here, diameter=diameter, known=shelf.memory
    )
    return (yield from steps)


def _foreign(store: MicroSamStore) -> str:
    planes = f"{store.planes} plane{'s' if store.planes != 1 else ''}"
    return f"{store.model_name}, {planes}{' in tiles' if store.tiled else ''}"


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"
