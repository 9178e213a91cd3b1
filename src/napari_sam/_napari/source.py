"""Where the pixels of a plane come from: an array in memory, or one that is read only now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam.image import RGB, Contrast, ImageError, plane_to_rgb, range_contrast
from napari_sam.masks import Box
from napari_sam.tiling.read import sampled_contrast, whole_range

Windows = Contrast | Sequence[Contrast]


@dataclass(frozen=True, eq=False)
class Source:
    """Where one colour of a plane comes from, with everything needed to read it from any thread."""

    data: Any
    slices: tuple[int | slice, ...]
    transposed: bool
    contrast: Windows | None
    gamma: float = 1.0
    colours: bool = False
    stretch: Literal["plane", "tile"] | None = None
    """Where no contrast is chosen: from the darkest to the brightest pixel, of the plane or what is read."""

    def read(self, box: Box | None = None) -> RGB:
        """Read the plane, or a box of it, and bring it to 8-bit RGB; nothing else of the data is read."""
        plane = read_pixels(self.data, self.slices if box is None else self._within(box))
        if self.transposed:
            plane = plane.swapaxes(0, 1)
        if self.colours:
            plane = plane[..., :3]
        if plane.dtype == bool:
            plane = plane.astype(np.uint8) * 255
        contrast = self.contrast
        if contrast is None and self.stretch is not None:
            of_tile = box is None or self.stretch == "tile"
            contrast = range_contrast(plane) if of_tile else self.windows()
        if not self.colours:
            return plane_to_rgb(plane, contrast=contrast, gamma=self.gamma)
        return plane_to_rgb(plane, contrast=contrast, channels=(0, 1, 2))

    def windows(self) -> Windows | None:
        """Contrast of the whole plane, read off it if none was chosen; None if each tile has its own."""
        if self.contrast is not None or self.stretch == "tile":
            return self.contrast
        return (whole_range if self.stretch else sampled_contrast)(_Blocks(self))

    def raw(self, box: Box) -> NDArray[Any]:
        """Values in a box as they are, (y, x) or (y, x, colour) as displayed."""
        part = read_pixels(self.data, self._within(box))
        part = part.swapaxes(0, 1) if self.transposed else part
        return part[..., :3] if self.colours else part

    def _within(self, box: Box) -> tuple[int | slice, ...]:
        """Slices of a box, which is (y, x) as displayed."""
        rows, columns = box.slices[::-1] if self.transposed else box.slices
        across = iter((rows, columns))
        return tuple(next(across) if isinstance(s, slice) else s for s in self.slices)


def read_pixels(data: Any, where: tuple[int | slice, ...]) -> NDArray[Any]:
    """Read a region of an image, which may be lazy: a file that is read only now, or something computed.

    Raises
    ------
    ImageError
        If it cannot be read, for whatever reason the reader has.
    """
    try:
        return np.asarray(data[where])
    except MemoryError:
        raise
    except Exception as error:
        lead = ", ".join(str(at) for at in where if not isinstance(at, slice))
        plane = f"Plane {lead} of the image" if lead else "The image"
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ImageError(
            f"{plane} could not be read ({reason}). Its file may be damaged, or the drive not be connected."
        ) from error


class _Blocks:
    """A source as an array of which only the blocks that are asked for are read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        sizes = [n for n, s in zip(source.data.shape, source.slices, strict=False) if isinstance(s, slice)]
        self.shape = tuple(sizes[::-1] if source.transposed else sizes)
        if source.colours:
            self.shape = (*self.shape, min(int(source.data.shape[-1]), 3))

    def __getitem__(self, where: tuple[slice, slice]) -> NDArray[Any]:
        rows, columns = (s.indices(n)[:2] for s, n in zip(where, self.shape, strict=False))
        return self._source.raw(Box(rows[0], columns[0], rows[1], columns[1]))
