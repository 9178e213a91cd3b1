"""Pyramids of drawn cells of any size, of which each part is drawn when it is read."""

from __future__ import annotations

from typing import Any

import numpy as np


class DrawnLevel:
    """A level of a plane with a disc every ``pitch`` pixels, and a few large ones.

    Parameters
    ----------
    shape : tuple of int
        (H, W) at full resolution.
    factor : int
        Full-resolution pixels per pixel.
    most : int
        Pixels that may be read at a time; more is refused.
    """

    pitch, radius = 100, 20
    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(
        self, shape: tuple[int, int], factor: int = 1, most: int = 4096**2, giants: Any = ()
    ) -> None:
        self.shape = tuple(-(-n // factor) for n in shape)
        self.factor, self.most, self.giants = factor, most, giants
        self.read = 0  # pixels so far

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    def __getitem__(self, where: Any) -> np.ndarray:
        rows, columns = (np.arange(n)[s] for n, s in zip(self.shape, where, strict=True))
        if rows.size * columns.size > self.most:
            raise AssertionError(f"{rows.size} x {columns.size} pixels were read at once")
        self.read += rows.size * columns.size
        y, x = (v * self.factor + (self.factor - 1) / 2 for v in (rows, columns))
        near = [(v % self.pitch) - self.pitch / 2 for v in (y, x)]
        inside = np.hypot(near[0][:, None], near[1][None]) <= self.radius
        for cy, cx, radius in self.giants:
            distance = np.hypot((y - cy)[:, None], (x - cx)[None])
            inside[distance <= radius + 10] = False
            inside[distance <= radius] = True
        return np.where(inside, np.uint8(200), np.uint8(20))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:, :], dtype)


def drawn_pyramid(shape: tuple[int, int], levels: int, giants: Any = ()) -> list[DrawnLevel]:
    """Levels, the finest first, each half as fine as the one before."""
    return [DrawnLevel(shape, 2**k, giants=giants) for k in range(levels)]
