"""Planes that are never read whole: their resolutions, and which part of them is looked at how finely.

A `LargePlane` has one or more resolutions, each read by boxes. A `Sight` is a part of it at a resolution:
what a canvas shows, or what surrounds prompts. Prompts and masks stay in full-resolution pixels of the plane,
wherever they were seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.image import RGB
from napari_sam.levels import Factors, box_to_level, mask_to_full, mask_to_level, to_level
from napari_sam.masks import Box, Mask
from napari_sam.prompts import Prompts
from napari_sam.tiling.crop import FILL, SIDE, crop_around, lies_well_inside, move_prompts, runs_out
from napari_sam.tiling.tile import Read, fingerprint

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor

LARGE = 4096**2
"""Pixels from which on a plane is looked at in parts, wherever it lies."""
MARGIN = 0.25
"""Part of the view's longer side that is encoded beyond it, so that small moves cost nothing."""
LEAST = 512
"""Full-resolution pixels that a sight has at least on a side: a cell is known by its surroundings."""
MOST = 1536
"""Pixels that a picture has on a side, about, however large the screen is."""
READ = 4096
"""Pixels on a side of the most that is read at once: of a plane without coarser levels, only a part."""
GRID = 64
"""Sights begin at multiples of so many of their pixels, so that those near each other are the same."""
SHARPER = 1.5
"""How much more sharply the canvas has to show a plane before it is encoded anew."""
SMALLEST = 22.0
"""Smallest object diameter, in pixels of a picture, for which a view is brought to a model's scale."""


@dataclass(frozen=True, eq=False, slots=True)
class Level:
    """One resolution of a plane.

    Parameters
    ----------
    shape : tuple of int
        (H, W) in its own pixels.
    factors : tuple of float
        Full-resolution pixels per pixel, (y, x).
    read : callable
        Gives the picture of a whole-pixel box in its own pixels.
    """

    shape: tuple[int, int]
    factors: Factors
    read: Read


@dataclass(frozen=True, slots=True)
class Sight:
    """Part of a plane, at a resolution.

    Parameters
    ----------
    level : int
        Which level is read.
    step : int
        So many of its pixels, down and to the right, become one of the picture.
    box : Box
        Whole-pixel box of the picture's pixels, counted from the plane's corner.
    factors : tuple of float
        Full-resolution pixels per pixel of the picture, (y, x).
    """

    level: int
    step: int
    box: Box
    factors: Factors

    @property
    def area(self) -> Box:
        """What is seen, in full-resolution pixels."""
        (y0, x0, y1, x1), (fy, fx) = self.box, self.factors
        return Box(y0 * fy, x0 * fx, y1 * fy, x1 * fx)

    def to_picture(self, prompts: Prompts) -> Prompts:
        """Bring prompts of the plane into pixels of the picture."""
        return move_prompts(to_level(prompts, self.factors), self.box)

    def mask_to_picture(self, mask: Mask) -> Mask:
        """Bring a mask of the plane into pixels of the picture."""
        return mask_to_level(mask, self.factors).shift(-int(self.box.y0), -int(self.box.x0))

    def to_plane(self, mask: Mask) -> Mask:
        """Bring a mask of the picture into full-resolution pixels of the plane."""
        return mask_to_full(mask.shift(int(self.box.y0), int(self.box.x0)), self.factors)

    def __str__(self) -> str:
        """Return size and resolution for a person to read."""
        area = self.area
        size = f"{round(area.width)} × {round(area.height)} px"
        scale = float(np.mean(self.factors))
        return size if scale == 1 else f"{size} at 1:{scale:.3g}"


@dataclass(frozen=True, eq=False)
class LargePlane:
    """A plane that is read by boxes.

    Parameters
    ----------
    levels : tuple of Level
        The finest first; its pixels are those of prompts and masks.
    """

    levels: tuple[Level, ...]
    _estimates: dict[tuple[str, Sight], float] = field(default_factory=dict, init=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in full-resolution pixels."""
        return self.levels[0].shape

    def read(self, sight: Sight) -> RGB:
        """Read what a sight covers; blocks of ``step`` pixels are averaged.

        Returns
        -------
        ndarray of uint8, shape (box height, box width, 3)
        """
        level, step = self.levels[sight.level], sight.step
        box = Box(*(v * step for v in sight.box)).clip(level.shape)
        picture = level.read(box)
        if step == 1:
            return picture
        height, width = int(sight.box.height), int(sight.box.width)
        rest = height * step - picture.shape[0], width * step - picture.shape[1]
        padded = np.pad(picture, ((0, rest[0]), (0, rest[1]), (0, 0)), mode="edge")
        blocks = padded.reshape(height, step, width, step, 3)
        return blocks.mean((1, 3), dtype=np.float32).round().astype(np.uint8)

    def fingerprint(self) -> str:
        """Digest of what blocks spread over the plane look like: tells planes and contrasts apart."""
        coarsest = self.levels[-1]
        return fingerprint(coarsest.read, coarsest.shape, repr([level.shape for level in self.levels]))

    def diameter(
        self, predictor: Predictor, sight: Sight, picture: RGB, diameter: float | None
    ) -> float | None:
        """Object diameter in pixels of a picture: no view is blown up for what are specks in it.

        Parameters
        ----------
        predictor : Predictor
        sight : Sight
        picture : ndarray of uint8, shape (H, W, 3)
            What it covers.
        diameter : float, optional
            In full-resolution pixels; estimated in the picture if not given.
        """
        if not predictor.uses_diameter:
            return None
        scale = float(np.mean(sight.factors))
        if diameter is not None:
            return max(diameter / scale, min(SMALLEST, diameter))
        key = predictor.model_id, sight
        if key not in self._estimates:
            found = predictor.estimate_diameter(picture)
            self._estimates[key] = 0.0 if found is None else round(found, 1)
        found = self._estimates[key]
        return max(found, SMALLEST) if found and scale > 1 else found or None

    def in_view(self, view: Box, scale: float) -> Sight:
        """Choose the sight for what a canvas shows.

        Parameters
        ----------
        view : Box
            What of the plane is on show, in full-resolution pixels; may reach beyond the plane.
        scale : float
            Full-resolution pixels per pixel of the screen.

        Returns
        -------
        Sight
            The view and some margin, about as finely as it is shown. Of a plane without coarser levels, a
            view of more than `READ` pixels on a side is seen in its middle only.
        """
        view = view.clip(self.shape)
        if view.height < 1 or view.width < 1:
            view = Box(0, 0, *self.shape)
        margin = MARGIN * max(view.height, view.width)
        area = _grown(_about(view.centre, view.height + 2 * margin, view.width + 2 * margin))
        side = max(area.height, area.width)
        level, step = self._resolution(max(scale, side / MOST))
        most = READ * float(np.mean(self.levels[level].factors))
        if side > most:
            level, step = self._resolution(most / MOST)
            most -= 2 * GRID * float(np.mean(self._factors(level, step)))  # the edges go out to the grid
            area = _about(area.centre, min(area.height, most), min(area.width, most))
        return self._sight(level, step, area)

    def serves(self, sight: Sight, view: Box, scale: float) -> bool:
        """Whether a view needs no other sight than the one there is."""
        view, area = view.clip(self.shape), sight.area
        if view.height < 1 or view.width < 1:
            return True  # nothing of the plane is on show
        held = view.intersect(area) == view
        return held and float(np.mean(sight.factors)) <= SHARPER * max(scale, 1.0)

    def around(self, prompts: Prompts, scale: float = 1.0, current: Sight | None = None) -> Sight:
        """Choose the sight for prompts, wherever they are.

        Parameters
        ----------
        prompts : Prompts
            In full-resolution pixels.
        scale : float
            Full-resolution pixels per pixel of the picture, unless the prompts need a wider view.
        current : Sight, optional
            Kept if all prompts lie well inside.

        Raises
        ------
        PromptError
            If the prompts ask for nothing or lie outside the plane.
        """
        extent = Box.union([prompts.extent, *(Box.around(p.y, p.x) for p in prompts.points)])
        prompts.require_inside(self.shape)
        if current is not None and self.holds(current, prompts):
            return current
        needed = max(extent.height, extent.width) / (FILL * SIDE)
        level, step = self._resolution(max(scale, needed), at_least=needed > scale)
        factors = self._factors(level, step)
        box = crop_around(to_level(prompts, factors), self._grid(level, step))
        return Sight(level, step, box, factors)

    def wider(self, sight: Sight, prompts: Prompts) -> Sight:
        """Choose a sight of twice the side for an object that runs out of one."""
        area = sight.area
        middle = Box.union([area, prompts.extent.clip(self.shape)]).centre
        side = 2 * max(area.height, area.width)
        scale = max(float(np.mean(sight.factors)), side / MOST)
        level, step = self._resolution(scale)
        return self._sight(level, step, _about(middle, side, side))

    def holds(self, sight: Sight, prompts: Prompts) -> bool:
        """Whether all prompts lie well inside a sight."""
        local = to_level(prompts, sight.factors)
        return lies_well_inside(local, sight.box, self._grid(sight.level, sight.step))

    def is_cut(self, sight: Sight, mask: Mask) -> bool:
        """Whether a mask of the picture reaches an edge of the sight that is no edge of the plane."""
        moved = mask.shift(int(sight.box.y0), int(sight.box.x0))
        return runs_out(moved, sight.box, self._grid(sight.level, sight.step))

    def _resolution(self, scale: float, *, at_least: bool = False) -> tuple[int, int]:
        """Level and step that come nearest to a number of full-resolution pixels per pixel."""
        room = 1.0 if at_least else np.sqrt(2)
        factors = [float(np.mean(level.factors)) for level in self.levels]
        level = max((k for k, f in enumerate(factors) if f <= scale * room), default=0)
        step = scale / factors[level]
        return level, max(1, int(np.ceil(step) if at_least else round(step)))

    def _factors(self, level: int, step: int) -> Factors:
        fy, fx = self.levels[level].factors
        return fy * step, fx * step

    def _grid(self, level: int, step: int) -> tuple[int, int]:
        """(H, W) of the whole plane in pixels of a picture."""
        height, width = self.levels[level].shape
        return -(-height // step), -(-width // step)

    def _sight(self, level: int, step: int, area: Box) -> Sight:
        """Sight of a part of the plane, its edges on the grid."""
        factors = self._factors(level, step)
        y0, x0, y1, x1 = box_to_level(area, factors)
        low = (np.floor(np.array([y0, x0]) / GRID) * GRID).tolist()
        high = (np.ceil(np.array([y1, x1]) / GRID) * GRID).tolist()
        return Sight(level, step, Box(*low, *high).clip(self._grid(level, step)), factors)


def _about(centre: tuple[float, float], height: float, width: float) -> Box:
    """Box of a size around a middle."""
    y, x = (c + 0.5 for c in centre)
    return Box(y - height / 2, x - width / 2, y + height / 2, x + width / 2)


def _grown(area: Box) -> Box:
    """The same area, with `LEAST` pixels at least on each side."""
    return _about(area.centre, max(area.height, LEAST), max(area.width, LEAST))
