"""How large are the objects of a plane? The built-in model looks at it from several distances.

At the right distance the model is sure of itself: its seeds give stable masks of high predicted
quality, and the diameter that its dense head reads is near the one it was trained at. The distance
at which the three agree best is taken, and the head's diameter there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam.model.builtin import (
    CELL,
    GLANCE_THRESHOLD,
    MODEL_DIAMETER,
    WINDOW_CELLS,
    BuiltIn,
    Features,
)
from napari_sam.predictor.tiled import encode_plane

__all__ = ["estimate_diameter"]

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors between image and model pixels that are tried."""
GLANCE = 448
"""Side, in model pixels, of what is looked at; of a larger plane a part with seeds in it."""
LEAST = 64
"""Least side of a plane, in model pixels, for a scale to be tried."""
PROMPTS = 12
"""Seeds that are prompted at each scale."""


class _Glance(NamedTuple):
    """What the model saw at one scale."""

    trust: float
    diameter: float
    """Of the objects, in image pixels."""
    centre: Tensor
    """(2,) a seed in the midst of the others, (y, x) in image pixels."""


def estimate_diameter(model: BuiltIn, plane: Tensor) -> float | None:
    """Typical diameter of the objects of a plane, in its own pixels.

    Parameters
    ----------
    model : BuiltIn
    plane : Tensor of uint8, shape (H, W, 3)
        On the processor; the model may be elsewhere.

    Returns
    -------
    float or None
        None if no object is seen.
    """
    centre = torch.tensor(plane.shape[:2]) / 2
    best: _Glance | None = None
    with torch.inference_mode():
        for scale in SCALES:
            if scale * max(plane.shape[:2]) < LEAST:
                continue
            glance = _look(model, plane, scale, centre)
            if glance is None:
                continue
            centre = glance.centre
            if best is None or glance.trust > best.trust:
                best = glance
        if best is None:
            return None
        # Once more, from the distance that the first look suggests.
        scale = min(max(MODEL_DIAMETER / best.diameter, SCALES[0] / 2), 2 * SCALES[-1])
        closer = _look(model, plane, scale, best.centre)
    return closer.diameter if closer is not None and closer.trust > 0.9 * best.trust else best.diameter


def _look(model: BuiltIn, plane: Tensor, scale: float, centre: Tensor) -> _Glance | None:
    """Look at a part of the plane around `centre` at one scale; None if there is no seed."""
    start, picture = _cut(plane, scale, centre)
    features = encode_plane(model, picture.to(next(model.parameters()).device))
    points, _ = model.seeds(features.dense[0], GLANCE_THRESHOLD)
    octaves = model.estimate_diameter(features.dense[0])
    if not len(points) or octaves is None:
        return None
    trust = _trust(model, features, points[:PROMPTS])
    # far from its own scale the head's word is worth less
    misfit = torch.log2(torch.tensor(octaves / MODEL_DIAMETER)).abs()
    middle = points[((points - points.median(0).values) ** 2).sum(1).argmin()]
    return _Glance(trust * float(torch.exp(-(misfit**2))), octaves / scale, middle.cpu() / scale + start)


def _cut(plane: Tensor, scale: float, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Corner (2,) in image pixels and picture (1, 3, h, w) of the part that is looked at."""
    shape = torch.tensor(plane.shape[:2])
    size = torch.minimum(shape, torch.tensor(max(1, int(GLANCE / scale))))
    start = (centre - size / 2).long().clamp(min=torch.zeros(2, dtype=torch.int64), max=shape - size)
    (y, x), (h, w) = start.tolist(), size.tolist()
    part = plane[y : y + h, x : x + w].permute(2, 0, 1)[None].float()
    target = (max(1, round(h * scale)), max(1, round(w * scale)))
    return start, F.interpolate(part, size=target, mode="bilinear", antialias=True, align_corners=False)


def _trust(model: BuiltIn, features: Features, points: Tensor) -> float:
    """Mean of predicted quality times stability over the best masks of the seeds (n, 2)."""
    n = len(points)
    clicks = torch.stack([points.flip(-1), torch.zeros_like(points)], 1)
    labels = torch.tensor([[1, -1]], device=points.device).expand(n, 2)
    origin = torch.round(points / CELL - WINDOW_CELLS / 2).long()
    plane = torch.zeros(n, dtype=torch.int64, device=points.device)
    decoded = model.decode(features, plane, origin, clicks, labels)
    quality, best = decoded.iou[:, 1:].max(1)
    logits = decoded.logits(torch.arange(n, device=points.device), best + 1)
    stability = (logits > 1).sum((1, 2)) / (logits > -1).sum((1, 2)).clamp(min=1)
    return float((quality.clamp(0, 1) * stability).mean())
