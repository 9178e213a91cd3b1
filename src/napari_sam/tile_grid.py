"""How a plane is cut into tiles that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from napari_sam.masks import Box


def check_plane(shape: Sequence[int]) -> None:
    """Refuse what is no height and width.

    Raises
    ------
    ValueError
    """
    if len(shape) != 2:
        raise ValueError(
            f"Expected the height and width of a plane, found the shape {tuple(shape)}. "
            "Give these two numbers, without channels and planes."
        )


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles of a plane, numbered in reading order.

    Each tile has an *inner* box, and these cover the plane without overlap, and an *outer* one, with the
    halo, which is what the model sees.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the plane.
    side : int
        Side of the inner boxes in pixels.
    halo : int
        Pixels that are added on every side. An object up to this size is seen whole by the tile in which its
        middle lies; larger ones are put together of their parts.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    shape: tuple[int, int]
    side: int = 768
    halo: int = 128

    def __post_init__(self) -> None:
        """Refuse grids that cannot be stitched."""
        check_plane(self.shape)
        if min(self.shape) < 1:
            raise ValueError(f"Expected a plane of at least one pixel, found the shape {self.shape}.")
        if not 0 < self.halo <= self.side:
            raise ValueError(
                f"Expected a halo from 1 pixel to the side of a tile ({self.side}), found {self.halo}."
            )

    @property
    def counts(self) -> tuple[int, int]:
        """Number of rows and columns of tiles."""
        rows, cols = (-(-n // self.side) for n in self.shape)
        return rows, cols

    def __len__(self) -> int:
        """Return the number of tiles."""
        rows, cols = self.counts
        return rows * cols

    def inner(self, number: int) -> Box:
        """Box of the pixels for which a tile is responsible."""
        row, col = divmod(number, self.counts[1])
        y, x = row * self.side, col * self.side
        return Box(y, x, y + self.side, x + self.side).clip(self.shape)

    def outer(self, number: int) -> Box:
        """Box of the pixels that a tile sees."""
        y0, x0, y1, x1 = self.inner(number)
        return Box(y0 - self.halo, x0 - self.halo, y1 + self.halo, x1 + self.halo).clip(self.shape)

    def neighbours(self, number: int) -> list[int]:
        """Tiles that touch a tile over an edge or a corner."""
        rows, cols = self.counts
        row, col = divmod(number, cols)
        return [
            r * cols + c
            for r in range(max(row - 1, 0), min(row + 2, rows))
            for c in range(max(col - 1, 0), min(col + 2, cols))
            if (r, c) != (row, col)
        ]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """All pairs of tiles that touch, the lower number first."""
        for number in range(len(self)):
            yield from ((number, other) for other in self.neighbours(number) if other > number)

    def margin(self, number: int, box: Box) -> float:
        """Pixels between a box and the nearest edge of what a tile sees, other than the plane's own edges."""
        outer = self.outer(number)
        gaps = [
            box.y0 - outer.y0 if outer.y0 > 0 else None,
            box.x0 - outer.x0 if outer.x0 > 0 else None,
            outer.y1 - box.y1 if outer.y1 < self.shape[0] else None,
            outer.x1 - box.x1 if outer.x1 < self.shape[1] else None,
        ]
        return min((gap for gap in gaps if gap is not None), default=float("inf"))

    def outwards(self, place: tuple[float, float] | None) -> list[int]:
        """All tiles, those nearest to a place (y, x) of the plane first; in reading order without one."""
        numbers = range(len(self))
        if place is None:
            return list(numbers)
        y, x = place
        centres = [self.inner(number).centre for number in numbers]
        return sorted(numbers, key=lambda n: (centres[n][0] - y) ** 2 + (centres[n][1] - x) ** 2)
