"""Automatic masks: every object of a plane without a click.

* `settings`: what to ask for, and each model's defaults;
* `grid`: where to prompt;
* `generate`: prompts in batches, masks above a low floor;
* `found`: all masks that were found, packed;
* `select`: thresholds, duplicates, clean-up;
* `result`: filters that move at once, label image, table, records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.everything.generate import generate
from napari_sam.everything.result import AutomaticResult, Filtered
from napari_sam.everything.settings import AutomaticSettings, settings_for
from napari_sam.image import Contrast, plane_to_rgb
from napari_sam.predictor import Predictor, load_model
from napari_sam.progress import Progress, finish

__all__ = [
    "AutomaticResult",
    "AutomaticSettings",
    "Filtered",
    "generate",
    "segment_everything",
    "settings_for",
]


def segment_everything(
    image: NDArray[np.generic],
    model: str | Path | Predictor = "built-in",
    settings: AutomaticSettings | None = None,
    *,
    diameter: float | None = None,
    contrast: Contrast | Sequence[Contrast] | None = None,
    channels: Sequence[int | None] | None = None,
    device: str = "auto",
    report: Callable[[Progress], None] | None = None,
) -> AutomaticResult:
    """Find every object of a plane.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, C)
        One plane of any real dtype.
    model : str, Path or Predictor
        A predictor, or a name or file for `napari_sam.load_model`.
    settings : AutomaticSettings, optional
        The model's own defaults if not given.
    diameter : float, optional
        Typical object diameter in pixels, for models that scale by it; estimated if not given.
    contrast : Contrast or one per channel, optional
        What is black and what is white; percentiles of each channel if not given.
    channels : sequence of int or None, optional
        Which channel goes to red, green and blue; see `napari_sam.image.plane_to_rgb`.
    device : str
        Where to run a model given by name or file: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    report : callable, optional
        Called with every `Progress`.

    Returns
    -------
    AutomaticResult
        Its ``labels()`` gives the label image and a table, ``refilter(...)`` other thresholds at once.

    Raises
    ------
    ImageError
        If the array is not a plane of real values.
    ValueError
        If the model is unknown.

    Examples
    --------
    >>> from skimage.data import coins
    >>> from napari_sam import segment_everything
    >>> labels, table = segment_everything(coins()).labels()  # doctest: +SKIP
    """
    rgb = plane_to_rgb(image, contrast=contrast, channels=channels)
    predictor = model if isinstance(model, Predictor) else load_model(model, device=device)
    return finish(generate(predictor, rgb, settings, diameter=diameter), report)
