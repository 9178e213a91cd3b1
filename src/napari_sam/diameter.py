"""One diameter for many pictures: planes of a stack and tiles of a plane are seen at one scale."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.image import RGB

if TYPE_CHECKING:
    from napari_sam.predictor import Predictor

LOOKS = 5
"""Pictures that are looked at."""


def typical_diameter(
    predictor: Predictor,
    read: Callable[[int], RGB],
    count: int,
    estimate: Callable[[RGB], float | None] | None = None,
) -> float | None:
    """Typical object diameter in pixels out of a few pictures that are spread over all of them.

    It is steadier than an estimate for each picture, of which some may show next to nothing, and saves most
    of the time that the estimates take.

    Parameters
    ----------
    predictor : Predictor
    read : callable
        Gives a picture, of shape (H, W, 3), by its number.
    count : int
        Number of pictures.
    estimate : callable, optional
        Asked in place of the predictor, where its estimates are kept.

    Returns
    -------
    float or None
        The median of those in which there are objects; None for models that do not scale by it, and where no
        picture looked at shows any.
    """
    if not predictor.uses_diameter:
        return None
    numbers = sorted({int(n) for n in np.linspace(0, count - 1, LOOKS + 2)[1:-1].round()})
    pictures = (read(number) for number in numbers)
    estimate = estimate or predictor.estimate_diameter
    found = [estimate(p) for p in pictures if p.min() < p.max()]
    known = [d for d in found if d is not None]
    return round(median(known), 1) if known else None
