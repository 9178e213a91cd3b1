"""Random crops and changes of look: the same object at another scale, angle, contrast and noise."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_sam.training.data import LabelledPlane

__all__ = ["change_look", "random_crop", "random_diameter"]

MID_GREY = 127.5
"""Value outside the plane: zero after normalisation, as a convolution pads."""
IN_COLOUR = 0.02
"""Mean range of the channels, 0 to 1, above which a picture is in colour."""


def random_diameter(rng: np.random.Generator, centre: float, spread: float) -> float:
    """Log-normal object diameter (model pixels) around `centre`, `spread` in octaves."""
    return float(np.clip(centre * 2 ** rng.normal(0, spread), centre / 4, centre * 4))


def random_crop(
    plane: LabelledPlane, side: int, diameter: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, NDArray[np.int32], float]:
    """Cut a square around a random object, at a scale that gives objects the diameter.

    Parameters
    ----------
    plane : LabelledPlane
    side : int
        Side of the crop, in model pixels.
    diameter : float
        Wanted median diameter of the objects, in model pixels.
    rng : Generator

    Returns
    -------
    image : Tensor
        Shape (3, side, side), float32 in [0, 255]; mid-grey outside the plane.
    outside : Tensor
        Shape (side, side), bool: past the edge of the plane.
    labels : ndarray
        Shape (levels, side / 2, side / 2): labels at every second model pixel.
    scale : float
        Model pixels per pixel of the plane.
    """
    scale = float(np.clip(diameter / max(plane.diameter, 1.0), 0.2, 8.0))
    angle = rng.uniform(-math.pi, math.pi) if rng.random() < 0.5 else 0.0
    stretch = 2 ** rng.normal(0, 0.08, 2) * scale  # y, x
    reach = side * (1.42 if angle else 1.0)
    height, width = plane.labels.shape[1:]
    span = np.minimum(np.ceil(reach / stretch).astype(int), (height, width))
    span = np.maximum(span, 1)
    spot = _labelled_pixel(plane, rng)
    start = [
        int(np.clip(at - rng.integers(0, s), 0, n - s))
        for at, s, n in zip(spot, span, (height, width), strict=True)
    ]
    cut = np.s_[start[0] : start[0] + span[0], start[1] : start[1] + span[1]]
    pixels = torch.from_numpy(np.ascontiguousarray(plane.image[cut])).permute(2, 0, 1).float()
    labels = torch.from_numpy(np.ascontiguousarray(plane.labels[(slice(None), *cut)])).float()
    size = [max(2, round(s * k)) for s, k in zip(span, stretch, strict=True)]
    pixels = F.interpolate(
        pixels[None], size=size, mode="bilinear", antialias=True, align_corners=False
    ).clamp(0, 255)
    mirrored = rng.random() < 0.5
    quarter = int(rng.integers(4))
    theta = _rotation(angle + quarter * math.pi / 2, mirrored, side, size)
    image = _sample(pixels - MID_GREY, theta, side, "bilinear")[0] + MID_GREY
    truth = _sample(labels[None], theta, side // 2, "nearest")[0]
    outside = _sample(torch.ones(1, 1, *size), theta, side, "nearest")[0, 0] == 0
    return image.expand(3, -1, -1), outside, truth.numpy().astype(np.int32), scale


def _labelled_pixel(plane: LabelledPlane, rng: np.random.Generator) -> tuple[int, int]:
    """(y, x) of a random pixel of an object, or of any pixel of a plane that has none."""
    labels = plane.labels[0]
    for _ in range(100):
        y, x = (int(rng.integers(n)) for n in labels.shape)
        if labels[y, x]:
            return y, x
    if not plane.count:
        return y, x
    # A few objects in a large plane: one of them by its area, and one of its pixels.
    areas = plane.areas[1:]
    label = 1 + int(rng.choice(len(areas), p=areas / areas.sum()))
    box = plane.boxes[label - 1]
    rows, cols = np.nonzero(labels[box] == label)
    pixel = int(rng.integers(len(rows)))
    return int(box[0].start + rows[pixel]), int(box[1].start + cols[pixel])


def _rotation(angle: float, mirrored: bool, side: int, size: list[int]) -> Tensor:
    """(1, 2, 3) affine map from the crop's square to a picture of `size`, about their centres."""
    cos, sin = math.cos(angle), math.sin(angle)
    rows = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]])
    if mirrored:
        rows[:, 0] *= -1
    rows *= torch.tensor([[side / size[1]], [side / size[0]]])
    return rows[None]


def _sample(picture: Tensor, theta: Tensor, side: int, mode: str) -> Tensor:
    grid = F.affine_grid(theta, [1, picture.shape[1], side, side], align_corners=False)
    return F.grid_sample(picture, grid, mode=mode, padding_mode="zeros", align_corners=False)


def change_look(image: Tensor, rng: np.random.Generator, stains: float = 0.0) -> Tensor:
    """Change contrast, polarity, colour, light, sharpness and noise of a picture.

    Parameters
    ----------
    image : Tensor
        Shape (3, H, W), float32 in [0, 255].
    rng : Generator
    stains : float
        Share of the pictures in colour whose stains are changed.

    Returns
    -------
    Tensor
        The same shape and range.
    """
    x = image / 255
    if stains and (x.amax(0) - x.amin(0)).mean() > IN_COLOUR and rng.random() < stains:
        x = _other_stains(x, rng)
    if rng.random() < 0.15:
        x = _blur(x, float(rng.uniform(0.4, 1.6)))
    x = x.clamp(0, 1) ** float(2 ** rng.normal(0, 0.45))
    if rng.random() < 0.06:
        x = 1 - x
    colour = rng.random()
    if colour < 0.15:
        weights = torch.from_numpy(rng.dirichlet((2, 2, 2)).astype(np.float32))
        x = (x * weights[:, None, None]).sum(0, keepdim=True).expand(3, -1, -1)
    elif colour < 0.22:
        x = x[torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.15:
        tint = torch.from_numpy(rng.uniform(0.6, 1.1, (3, 1, 1)).astype(np.float32))
        x = x * tint
    if rng.random() < 0.12:
        x = x * _uneven_light(x.shape[-1], rng)
    x = (x - 0.5) * float(rng.uniform(0.7, 1.2)) + 0.5 + float(rng.normal(0, 0.05))
    if rng.random() < 0.25:
        x = x + _noise(x, rng)
    return x.clamp(0, 1) * 255


def _other_stains(x: Tensor, rng: np.random.Generator) -> Tensor:
    """More or less of each stain: light that passes is a power of their amounts (Beer-Lambert)."""
    powers = torch.from_numpy(2 ** rng.normal(0, 0.35, (3, 1, 1)).astype(np.float32))
    x = x.clamp(0, 1) ** powers
    grey = x.mean(0, keepdim=True)
    return grey + (x - grey) * float(rng.uniform(0.5, 1.5))


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, separable."""
    reach = int(3 * sigma) + 1
    axis = torch.arange(-reach, reach + 1.0)
    kernel = torch.exp(axis**2 / (-2 * sigma**2))
    kernel /= kernel.sum()
    x = F.pad(x[:, None], (reach,) * 4, mode="reflect")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1))
    return F.conv2d(x, kernel.view(1, 1, -1, 1))[:, 0]


def _uneven_light(side: int, rng: np.random.Generator) -> Tensor:
    """(1, side, side) smooth gain between about 0.5 and 1.3."""
    coarse = torch.from_numpy(rng.uniform(0.5, 1.3, (1, 1, 3, 3)).astype(np.float32))
    return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)[0]


def _noise(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Grey or colour noise, white or with grains of two pixels, alike or growing with the light."""
    side = x.shape[-1]
    channels = 1 if rng.random() < 0.7 else 3
    grain = 2 if rng.random() < 0.4 else 1
    shape = (1, channels, side // grain, side // grain)
    noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    if grain > 1:
        noise = F.interpolate(noise, size=(side, side), mode="bilinear", align_corners=False)
    strength = float(rng.uniform(0, 0.08))
    if rng.random() < 0.4:
        return noise[0] * strength * 1.5 * x.clamp(0, 1).sqrt()
    return noise[0] * strength
