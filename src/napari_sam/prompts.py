"""Prompts: what a person says about one object, as frozen values.

Coordinates are image pixels of one plane in the order (y, x). Integers are pixel centres, as in
napari's data coordinates, so that pixel ``(i, j)`` covers ``[i - .5, i + .5) x [j - .5, j + .5)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from napari_sam.masks import Box, Mask


class PromptError(ValueError):
    """A prompt that cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Point:
    """One click.

    Parameters
    ----------
    y, x : float
        Position in image pixels (pixel centres are integers).
    positive : bool
        ``True`` for "this belongs to the object", ``False`` for "this does not".
    """

    y: float
    x: float
    positive: bool = True

    def __post_init__(self) -> None:
        """Refuse positions that are not finite numbers."""
        if not (isfinite(self.y) and isfinite(self.x)):
            raise PromptError(
                f"A point needs finite coordinates, found (y={self.y}, x={self.x}). "
                "Delete the point and click again."
            )


@dataclass(frozen=True, slots=True)
class Prompts:
    """Everything that was said about one object.

    Parameters
    ----------
    points : tuple of Point
        Clicks in the order they were made.
    box : Box, optional
        Half-open box ``(y0, x0, y1, x1)`` in image pixels around the object: the last row inside is
        ``y1 - 1``, and that is the corner the model is given.
    mask : Mask, optional
        A rough mask of the object (a polygon, a label, a previous result).

    Raises
    ------
    PromptError
        If the box holds no pixel, or a corner is no finite number.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: Mask | None = None

    def __post_init__(self) -> None:
        """Refuse boxes that hold nothing, and leave out a mask that does not: it says nothing."""
        if self.mask is not None and not self.mask.pixels.any():
            object.__setattr__(self, "mask", None)
        if self.box is None:
            return
        object.__setattr__(self, "box", Box(*self.box))  # four plain numbers will do
        y0, x0, y1, x1 = self.box
        if not (all(map(isfinite, self.box)) and y0 < y1 and x0 < x1):
            raise PromptError(
                "A box needs finite corners (y0, x0, y1, x1) with y0 < y1 and x0 < x1, found "
                f"(y0={y0}, x0={x0}, y1={y1}, x1={x1}). Draw the box again, or exchange its corners."
            )

    def __bool__(self) -> bool:
        """Tell whether there is anything that asks for an object."""
        return self.box is not None or self.mask is not None or any(p.positive for p in self.points)

    @property
    def ambiguous(self) -> bool:
        """Whether the prompt is one point, for which the paper returns three masks (section 3)."""
        return len(self.points) == 1 and self.box is None and self.mask is None

    @property
    def parts(self) -> tuple[Box, ...]:
        """Boxes of everything that asks for an object: the positive points, the box, the mask.

        Raises
        ------
        PromptError
            If there is nothing that asks for an object.
        """
        boxes = [Box.around(p.y, p.x) for p in self.points if p.positive]
        boxes += [b for b in (self.box, self.mask.box if self.mask else None) if b is not None]
        if not boxes:
            raise PromptError(
                "There is no positive point, box or mask: nothing says which object is meant. "
                "Click inside the object or draw a box around it."
            )
        return tuple(boxes)

    @property
    def extent(self) -> Box:
        """Smallest box that holds all `parts`."""
        return Box.union(self.parts)

    def require_inside(self, shape: tuple[int, int]) -> None:
        """Refuse prompts that do not ask for an object of a plane of ``shape`` (H, W).

        One click far outside would do as much harm as all of them: the model would look at it, too.

        Raises
        ------
        PromptError
            If nothing asks for an object, or a positive point, the box or the mask lies outside the plane.
        """
        height, width = shape
        for part in self.parts:
            if part.intersect(Box(0, 0, height, width)).empty:
                y0, x0, y1, x1 = part
                raise PromptError(
                    f"The prompt lies outside the image: rows {y0:g} to {y1:g}, columns {x0:g} to {x1:g}, "
                    f"the plane has {height} rows and {width} columns."
                )

    def with_point(self, y: float, x: float, *, positive: bool = True) -> Prompts:
        """Return these prompts with one more click."""
        return replace(self, points=(*self.points, Point(y, x, positive)))

    @staticmethod
    def merge(parts: Iterable[Prompts]) -> Prompts:
        """Join prompts that speak of the same object.

        Points are concatenated, boxes become their union, masks their union.
        """
        parts = tuple(parts)
        boxes = [p.box for p in parts if p.box is not None]
        masks = [p.mask for p in parts if p.mask is not None]
        return Prompts(
            points=tuple(point for p in parts for point in p.points),
            box=Box.union(boxes) if boxes else None,
            mask=Mask.union(masks) if masks else None,
        )


def points_from_array(points: np.ndarray, positive: np.ndarray | None = None) -> tuple[Point, ...]:
    """Turn an array of clicks into points.

    Parameters
    ----------
    points : ndarray, shape (N, 2)
        Positions (y, x) in image pixels.
    positive : ndarray of bool, shape (N,), optional
        Sign of each click; all positive if not given.

    Raises
    ------
    PromptError
        If the shapes do not fit.
    """
    points = np.asarray(points, dtype=float) if np.size(points) else np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise PromptError(
            f"Expected points of shape (N, 2), one row (y, x) for each, found shape {points.shape}. "
            "Take the points of one plane, and leave out other columns."
        )
    signs = np.ones(len(points), bool) if positive is None else np.asarray(positive, bool)
    if signs.shape != (len(points),):
        raise PromptError(f"Expected one sign for each of {len(points)} points, found {signs.size}.")
    return tuple(Point(float(y), float(x), bool(s)) for (y, x), s in zip(points, signs, strict=True))
