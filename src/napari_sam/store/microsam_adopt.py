"""Use the embeddings that micro-sam computed for an image, so that nobody has to compute them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.embedding import Embedding, TiledEmbedding
from napari_sam.geometry import Frame
from napari_sam.image import RGB, fingerprint, plane_to_rgb, range_contrast
from napari_sam.masks import Box
from napari_sam.progress import Progress, Steps
from napari_sam.store.disk import StoreError
from napari_sam.store.memory import Embeddings, Key
from napari_sam.store.microsam import MicroSamStore, Part
from napari_sam.store.tiled import Tiles

TILES = 32
"""Tiles of a plane that are kept in memory."""
WHOLE = 4096**2
"""Pixels of a plane up to which it may be read whole; larger ones in tiles are read tile by tile."""
ROWS = 1024
"""Rows of an image that are read at once for its checksum."""


def picture(raw: NDArray[np.generic]) -> RGB:
    """Picture of a plane or tile from its darkest to its brightest pixel, each channel by itself.

    That is the contrast that micro-sam uses.

    Parameters
    ----------
    raw : ndarray, shape (H, W) or (H, W, C)
    """
    return plane_to_rgb(raw, contrast=range_contrast(raw))


def adopt_microsam(
    store: MicroSamStore, image: Any, model_id: str, into: Embeddings, *, verify: bool = True
) -> Steps[int]:
    """Take over everything that a store of micro-sam holds for an image.

    The embeddings can then be used like our own: for a plane that is shown from its darkest to its brightest
    pixel (for a tile, the tile's).

    Parameters
    ----------
    store : MicroSamStore
    image : array, shape (H, W), (N, H, W), (H, W, C) or (N, H, W, C)
        The raw image that micro-sam had, as numpy, zarr or dask array; read plane by plane.
    model_id : str
        Identity of the model that is going to use them (`Predictor.model_id`).
    into : Embeddings
        Where they are put.
    verify : bool
        Compare the image's checksum with the store's first, which reads the image once more.

    Yields
    ------
    Progress

    Returns
    -------
    int
        Number of embeddings that were taken over; parts that micro-sam had not finished are left out.

    Raises
    ------
    StoreError
        If the store belongs to another model or another image.
    """
    stack = _checked(store, image, model_id)
    if verify:
        yield from _verify(store, stack)
    taken = 0
    for name, part, pixels in _pictures(store, stack):
        found = store.embedding(name, part, pixels)
        if found is not None:
            into.put(found)
            taken += 1
        yield Progress(part.plane, store.planes, f"plane {part.plane + 1} of {store.planes}")
    return taken


class MicroSamEmbeddings:
    """The embeddings that a store of micro-sam holds for an image, read when they are asked for.

    Made by `index_microsam`. They are found by the picture that micro-sam saw, from the darkest to the
    brightest pixel of the plane or tile (`picture`).

    Parameters
    ----------
    store : MicroSamStore
    places : mapping of str to (str, Part)
        Array and place by the picture's fingerprint.
    planes : mapping of str to int
        Planes that are in tiles, by the whole picture's fingerprint.
    shape : tuple of int
        (H, W) of a plane.
    """

    read_only = True

    def __init__(
        self,
        store: MicroSamStore,
        places: Mapping[str, tuple[str, Part]],
        planes: Mapping[str, int],
        shape: tuple[int, int],
    ) -> None:
        self.store = store
        self._places = places
        self._planes = planes
        self._shape = shape

    def __len__(self) -> int:
        """Return the number of planes or tiles."""
        return len(self._places)

    def __contains__(self, key: Key) -> bool:
        """Tell whether a picture is among the store's planes or tiles."""
        pixels, model = key
        return (pixels in self._places or pixels in self._planes) and model == self.store.model_id

    def get(self, key: Key) -> Embedding | None:
        """Return the embedding of a picture; None if micro-sam had not come to it."""
        if key not in self:
            return None
        pixels, _ = key
        if pixels in self._planes:
            return self._in_tiles(pixels)
        return self.store.embedding(*self._places[pixels], pixels)

    def tiles(self, shape: tuple[int, int]) -> Tiles | None:
        """Tiles of planes of a shape (H, W); None if the store has none of such planes."""
        if not self.store.tiled or shape != self._shape:
            return None
        parts = self.store.parts(shape)
        return Tiles(tuple((part.inner, part.outer) for _, part in parts if part.plane == 0))

    def put(self, embedding: Embedding) -> None:
        """Refuse: the store is another program's."""
        raise StoreError(f"The store {self.store.path} is micro-sam's and is only read.")

    def _in_tiles(self, pixels: str) -> TiledEmbedding | None:
        """The tiles of a plane as one embedding; None if micro-sam had not come to all of them."""
        plane = self._planes[pixels]
        parts = [(name, part) for name, part in self.store.parts(self._shape) if part.plane == plane]
        if any(name not in self.store for name, _ in parts):
            return None

        @lru_cache(maxsize=TILES)
        def load(number: int) -> Embedding:
            found = self.store.embedding(*parts[number], f"{pixels}/{number}")
            if found is None:
                raise StoreError(
                    f"micro-sam had not come to this tile when {self.store.path} was written. "
                    "Let it finish, or choose another contrast to have the plane embedded here."
                )
            return found

        return TiledEmbedding(
            {},
            Frame(self._shape, self._shape),
            self.store.model_id,
            pixels,
            tiles=tuple((part.inner, part.outer) for _, part in parts),
            load=load,
        )


def index_microsam(
    store: MicroSamStore, image: Any, model_id: str, *, verify: bool = True
) -> Steps[MicroSamEmbeddings]:
    """Find out which pictures of an image a store of micro-sam holds the embeddings of.

    The image is read once (twice with ``verify``), large planes in parts; the embeddings are not.

    Parameters
    ----------
    store, image, model_id, verify
        See `adopt_microsam`.

    Yields
    ------
    Progress

    Returns
    -------
    MicroSamEmbeddings

    Raises
    ------
    StoreError
        If the store belongs to another model or another image.
    """
    stack = _checked(store, image, model_id)
    shape = stack.shape
    if verify:
        yield from _verify(store, stack)
    planes: dict[str, int] = {}
    for plane in range(store.planes if store.tiled and prod(shape) <= WHOLE else 0):
        planes[fingerprint(picture(stack.read(plane)))] = plane
        yield Progress(plane, store.planes, f"plane {plane + 1} of {store.planes}")
    places: dict[str, tuple[str, Part]] = {}
    for name, part, pixels in _pictures(store, stack):
        places[pixels] = name, part
        yield Progress(part.plane, store.planes, f"plane {part.plane + 1} of {store.planes}")
    return MicroSamEmbeddings(store, places, planes, shape)


class _Planes:
    """The planes of an image, read whole or in parts.

    Parameters
    ----------
    image : array
        As of `index_microsam`.
    single : bool
        Whether it is one plane, without an axis of planes.
    """

    def __init__(self, image: Any, single: bool) -> None:
        self._image, self._single = image, single
        self.count = 1 if single else int(image.shape[0])
        first = 0 if single else 1
        self.shape = int(image.shape[first]), int(image.shape[first + 1])

    def read(self, plane: int, box: Box | None = None) -> NDArray[Any]:
        """Read a plane, or a box of it."""
        part = Box(0, 0, *self.shape).slices if box is None else box.slices
        return np.asarray(self._image[part if self._single else (plane, *part)])


def _checked(store: MicroSamStore, image: Any, model_id: str) -> _Planes:
    """The image as planes, if it and the model may be the store's."""
    if store.model_id != model_id:
        raise StoreError(
            f"The store {store.path} was made by the model {store.model_name} "
            f"({store.model_id or 'no hash'}), the model in use is {model_id}. Load that model first."
        )
    stack = _Planes(image, store.planes == 1 and image.shape[0] != 1)
    if stack.count != store.planes or stack.shape != (store.shape or stack.shape):
        raise StoreError(
            f"The store {store.path} belongs to an image of {store.planes} planes of {store.shape} pixels, "
            f"found an array of shape {tuple(image.shape)}."
        )
    return stack


def _verify(store: MicroSamStore, stack: _Planes) -> Steps[None]:
    """Compare an image's checksum with the store's."""
    yield Progress(0, store.planes, "comparing the image with the store")
    if _signature(stack) != store.signature:
        raise StoreError(
            f"The store {store.path} was made from another image: the checksums differ. Choose the image "
            "that micro-sam had, before any correction or cropping."
        )


def _pictures(store: MicroSamStore, stack: _Planes) -> Iterator[tuple[str, Part, str]]:
    """Every part of a store: array, place, and fingerprint of the picture."""
    at_once = not store.tiled or prod(stack.shape) <= WHOLE
    plane, raw = -1, np.empty(0)
    for name, part in store.parts(stack.shape):
        if at_once and part.plane != plane:
            plane, raw = part.plane, stack.read(part.plane)
        pixels = raw[part.outer.slices] if at_once else stack.read(part.plane, part.outer)
        yield name, part, fingerprint(picture(pixels))


def _signature(stack: _Planes) -> str:
    """SHA-1 of an image's bytes in C order, as micro-sam takes it."""
    digest = hashlib.sha1(usedforsecurity=False)
    height, width = stack.shape
    for plane in range(stack.count):
        for top in range(0, height, ROWS):
            rows = stack.read(plane, Box(top, 0, min(top + ROWS, height), width))
            digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()
