"""A plane that is small enough to be read and encoded whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.image import RGB
from napari_sam.levels import FULL
from napari_sam.masks import Box, Mask
from napari_sam.tiling.large_plane import LargePlane, Sight

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor
    from napari_sam.prompts import Prompts


@dataclass(frozen=True, eq=False, slots=True)
class WholePlane:
    """A picture that answers what a `LargePlane` does: whatever is looked at, all of it is seen.

    Parameters
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
    """

    picture: RGB

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.picture.shape[0], self.picture.shape[1]

    @property
    def sight(self) -> Sight:
        """The only sight that there is."""
        return Sight(0, 1, Box(0, 0, *self.shape), FULL)

    def read(self, sight: Sight) -> RGB:
        """Return the picture."""
        return self.picture

    def around(self, prompts: Prompts, scale: float = 1.0, current: Sight | None = None) -> Sight:
        """See `LargePlane.around`; prompts outside the picture are the predictor's to refuse."""
        return self.sight

    def wider(self, sight: Sight, prompts: Prompts) -> Sight:
        """See `LargePlane.wider`: there is nothing more to see."""
        return sight

    def is_cut(self, sight: Sight, mask: Mask) -> bool:
        """Say that nothing is cut: every edge is one of the plane."""
        return False

    def diameter(
        self, predictor: Predictor, sight: Sight, picture: RGB, diameter: float | None
    ) -> float | None:
        """See `LargePlane.diameter`; the predictor itself estimates it where it is not given."""
        return diameter


AnyPlane = LargePlane | WholePlane
"""A plane of which parts are seen, or all of it at once."""
