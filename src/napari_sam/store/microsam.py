"""Read the layout of micro-sam's embedding stores (version 1).

Only arrays and attributes are read. The pickles that may lie next to them are code, and are never loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import zarr

from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame
from napari_sam.masks import Box
from napari_sam.store.disk import StoreError
from napari_sam.store.entry import DAMAGE


class Part(NamedTuple):
    """What one feature map covers: a plane, or a tile of it."""

    plane: int
    inner: Box
    """The pixels for which the map is meant."""
    outer: Box
    """The pixels that were encoded: ``inner`` and its halo, clipped to the plane."""


class MicroSamStore:
    """An embedding store of micro-sam, whole planes or tiles, one plane or a stack.

    Parameters
    ----------
    path : str or Path
        The zarr folder, of zarr format 2 or 3.

    Attributes
    ----------
    model_id : str
        Hash of the model's checkpoint, ``"xxh128:..."``, or "" where an old version wrote none.
    model_name : str
        Such as "vit_b_lm".
    signature : str
        SHA-1 of the image's pixels.
    tiled : bool
    planes : int
        Number of planes; 1 for a single image.
    shape : tuple of int or None
        (H, W) of a plane; None where micro-sam was interrupted before it wrote it.

    Raises
    ------
    StoreError
        If this is no such store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            root = zarr.open_group(self.path, mode="r")
            found: Any = root["features"]
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(
                f"Expected an embedding store of micro-sam (a zarr folder with 'features') at {self.path} "
                f"and could not read one ({error})."
            ) from error
        about = dict(root.attrs)
        self.model_id = str(about.get("model_hash") or "")
        self.model_name = str(about.get("model_name") or about.get("model_type") or "unknown")
        self.signature = str(about.get("data_signature") or "")
        self.tiled = isinstance(found, zarr.Group)
        self._features = found
        try:
            self.planes, self.shape, self._tile, self._halo = self._layout(about)
        except (LookupError, TypeError, ValueError) as error:
            raise StoreError(
                f"Expected the shapes of planes and tiles in the embedding store of micro-sam at {self.path} "
                f"and could not read them ({error}). It was probably interrupted: compute it anew."
            ) from error

    def parts(self, shape: tuple[int, int]) -> Iterator[tuple[str, Part]]:
        """Walk through what the store covers: the name of the array, and the place in the image.

        Parameters
        ----------
        shape : tuple of int
            (H, W) of the image's planes, which an interrupted store does not know.
        """
        height, width = shape
        for plane in range(self.planes):
            if not self.tiled:
                yield "", Part(plane, Box(0, 0, height, width), Box(0, 0, height, width))
                continue
            (rows, cols), (dy, dx) = self._tile, self._halo
            corners = ((y, x) for y in range(0, height, rows) for x in range(0, width, cols))
            for number, (y, x) in enumerate(corners):
                inner = Box(y, x, y + rows, x + cols).clip(shape)
                outer = Box(inner.y0 - dy, inner.x0 - dx, inner.y1 + dy, inner.x1 + dx).clip(shape)
                yield str(number), Part(plane, inner, outer)

    def __contains__(self, name: str) -> bool:
        """Tell whether an array is there; it may still lack some planes."""
        return not self.tiled or name in self._features

    def embedding(self, name: str, part: Part, pixels: str) -> Embedding | None:
        """Embedding of one of `parts`, or None where micro-sam had not come to it.

        Parameters
        ----------
        name, part
            As of `parts`.
        pixels : str
            Fingerprint of the picture (see `picture`).

        Raises
        ------
        StoreError
            If the array is none of feature maps, or is damaged.
        """
        if self.tiled and name not in self._features:
            return None
        array = self._features[name] if self.tiled else self._features
        self._refuse_no_maps(array)
        try:
            values = np.asarray(array[part.plane] if array.ndim == 5 else array[...], np.float32)
        except DAMAGE as error:
            raise StoreError(
                f"The feature maps of plane {part.plane + 1} in {self.path} are damaged ({error}) and are "
                "not used. Compute the store anew with micro-sam to use all of it."
            ) from error
        if not values.any():
            return None
        shape = int(part.outer.height), int(part.outer.width)
        # SAM's encoders make one position of 16 x 16 model pixels.
        frame = Frame.longest_side(shape, 16 * max(values.shape[-2:]))
        return Embedding({"image": torch.from_numpy(values)}, frame, self.model_id, pixels)

    def _refuse_no_maps(self, array: Any) -> None:
        """Raise StoreError for what is not feature maps of a plane, or of several."""
        shape = getattr(array, "shape", ())
        if len(shape) not in (4, 5):
            raise StoreError(
                "Expected feature maps of shape (1, channels, height, width), or such for each plane, in the "
                f"store {self.path}, found an array of shape {shape}. It is no embedding store of micro-sam."
            )

    def _layout(
        self, about: dict[str, Any]
    ) -> tuple[int, tuple[int, int] | None, tuple[int, int], tuple[int, int]]:
        """Planes, shape of a plane, tile and halo."""
        if self.tiled:
            tiled = dict(self._features.attrs)
            shape = tuple(int(n) for n in tiled["shape"])
            (y, x), (dy, dx) = tiled["tile_shape"], tiled["halo"]
            if min(y, x) < 1 or min(dy, dx) < 0:
                raise ValueError(f"tiles of {y} x {x} pixels with a halo of {dy} x {dx}")
            planes = shape[0] if len(shape) == 3 else 1
            return planes, (shape[-2], shape[-1]), (int(y), int(x)), (int(dy), int(dx))
        self._refuse_no_maps(self._features)
        planes = self._features.shape[0] if self._features.ndim == 5 else 1
        size = about.get("original_size")  # written last
        return planes, (int(size[0]), int(size[1])) if size else None, (0, 0), (0, 0)


def is_microsam(path: str | Path) -> bool:
    """Whether a folder looks like an embedding store of micro-sam."""
    path = Path(path)
    marks = (path / ".zgroup", path / "zarr.json")
    return any(mark.is_file() for mark in marks) and (path / "features").is_dir()
