"""How an object looks in a picture, and how far another one looks like it."""

from __future__ import annotations

from typing import NamedTuple

from scipy import ndimage as ndi

from napari_sam.image import RGB
from napari_sam.masks import Box, Mask

RING = 4
"""Width in pixels of what counts as the surroundings of an object, a pixel away from it."""


class Look(NamedTuple):
    """How an object looks: grey values inside and around it, and their spread inside."""

    inside: float
    around: float
    spread: float

    def likeness(self, other: Look) -> float:
        """How far another object looks like this one, 0 to 1.

        The lower of two marks: the brightness inside is the same, and so is the contrast to the surroundings.
        """
        contrast = self.inside - self.around
        scale = max(abs(contrast), self.spread, 1.0)
        same_brightness = 1 - abs(other.inside - self.inside) / scale
        same_contrast = 1 - abs(other.inside - other.around - contrast) / scale
        # More contrast than on the anchor is no sign that the object has ended.
        if contrast * (other.inside - other.around) > contrast**2:
            same_contrast = 1.0
        return min(max(min(same_brightness, same_contrast), 0.0), 1.0)


def look_of(picture: RGB, mask: Mask) -> Look:
    """How an object looks in a picture.

    Parameters
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
    mask : Mask
        Not empty.
    """
    box = mask.box
    grown = Box(box.y0 - RING - 1, box.x0 - RING - 1, box.y1 + RING + 1, box.x1 + RING + 1)
    grown = grown.clip((picture.shape[0], picture.shape[1]))
    inside = mask.crop(grown)
    near = ndi.binary_dilation(inside)
    around = ndi.binary_dilation(near, iterations=RING) & ~near
    grey = picture[grown.slices].mean(-1)
    values = grey[inside]
    outside = float(grey[around].mean()) if around.any() else 0.0
    return Look(float(values.mean()), outside, float(values.std()))
