"""Batches: crops, what the dense head should say of them, and the first prompts.

A batch depends on nothing but (seed, step). A run that is resumed at a step therefore sees the very
batches that it would have seen, whatever the number of loader processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_sam.model.builtin import CELL, LOGIT_STRIDE, MODEL_DIAMETER, WINDOW_CELLS
from napari_sam.training.augment import MID_GREY, change_look, random_crop, random_diameter
from napari_sam.training.data import LabelledPlane, Source
from napari_sam.training.drawn import draw_plane
from napari_sam.training.limits import ANY, SHARE, SOME, check_ranges
from napari_sam.training.pasting import Crop, paste_objects

__all__ = ["Batch", "Batches", "Recipe", "make_batch"]

WINDOW = CELL * WINDOW_CELLS
LEAST_AREA = 14
"""Least visible area of a prompted object, in pixels of the label crop (stride 2)."""
SIDE_STEP = 32
"""What the encoder takes are multiples of this."""
TRIES = 100
"""Batches without an object that are made one after the other before it is said."""


@dataclass(frozen=True)
class Recipe:
    """How batches are made.

    Parameters
    ----------
    sides : tuple of int
        Sides of the crops; one is drawn per batch.
    pixels : int
        Model pixels in a batch, about: the number of crops follows from their side.
    prompts : int
        Prompts in a batch.
    diameter : float
        Median diameter of the objects in model pixels.
    spread : float
        Spread of the diameter, in octaves.
    wide : float
        Share of crops at a quite different scale, from which the model learns to tell the diameter.
    drawn : float
        Share of drawn pictures.
    box_share : float
        Share of prompts that begin with a box.
    exact : float
        Share of boxes that are the object's own, without noise: a detector's, or those of careful people.
    stains : float
        Share of the crops in colour whose stains are changed.
    """

    sides: tuple[int, ...] = (256, 320, 384)
    pixels: int = 8 * 256 * 256
    prompts: int = 48
    diameter: float = MODEL_DIAMETER
    spread: float = 0.55
    wide: float = 0.2
    drawn: float = 0.15
    box_share: float = 0.3
    exact: float = 0.0
    stains: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be."""
        fits = all(type(side) is int and side > 0 and side % SIDE_STEP == 0 for side in self.sides)
        if not self.sides or not fits:
            raise ValueError(
                f"Expected sides that are multiples of {SIDE_STEP}, one or more, found {list(self.sides)}."
            )
        check_ranges(
            self,
            dict.fromkeys(("wide", "drawn", "box_share", "exact", "stains"), SHARE)
            | dict.fromkeys(("pixels", "prompts", "diameter"), SOME)
            | {"spread": ANY},
        )


@dataclass(frozen=True)
class Batch:
    """B crops and N prompts."""

    images: Tensor
    """(B, 3, side, side) uint8."""
    dense: Tensor
    """(B, 5, side / 4, side / 4) float32: seed, foreground, boundary, octaves of the diameter,
    and where the octaves are known."""
    batch_index: Tensor
    """(N,) int64."""
    origin: Tensor
    """(N, 2) int64, (y, x) in cells."""
    truth: Tensor
    """(N, 128, 128) bool, over the windows, at `LOGIT_STRIDE`."""
    point: Tensor
    """(N, 2) float32, (x, y) in model pixels."""
    box: Tensor
    """(N, 4) float32, (x0, y0, x1, y1), most of them noised."""
    boxed: Tensor
    """(N,) bool: the prompt begins with its box."""

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device."""
        return Batch(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})


@dataclass(frozen=True)
class _Prompt:
    """One object to be asked for."""

    crop: int
    truth: NDArray[np.bool_]
    origin: NDArray[np.int64]
    point: tuple[float, float]
    box: NDArray[np.float64]
    boxed: bool


def make_batch(recipe: Recipe, sources: Sequence[Source], weights: Sequence[float],
               seed: int, step: int) -> Batch:  # fmt: skip
    """Make the batch of a step.

    Parameters
    ----------
    recipe : Recipe
    sources : sequence of Source
    weights : sequence of float
        Share of each source among the crops that are not drawn.
    seed, step : int

    Raises
    ------
    ValueError
        If the objects are so small, or the crops, that none is ever seen.
    """
    for attempt in range(TRIES):  # no object is large enough in any crop: a rare batch, answered by the next
        batch = _batch_of(recipe, sources, weights, seed, step + attempt * 1_000_003)
        if batch is not None:
            return batch
    raise ValueError(
        f"Expected objects of {4 * LEAST_AREA} pixels and more in the crops that are trained on, found none "
        f"in {TRIES} batches. Choose a larger diameter or larger sides in [recipe], or label more objects."
    )


def _batch_of(recipe: Recipe, sources: Sequence[Source], weights: Sequence[float],
              seed: int, step: int) -> Batch | None:  # fmt: skip
    """Make a batch; None if there is no object in it."""
    rng = np.random.default_rng([seed, step])
    side = int(rng.choice(recipe.sides))
    count = max(1, round(recipe.pixels / side**2))
    chances = np.asarray(weights, float) / np.sum(weights) if sources else None
    images, dense, prompts = [], [], []
    quota = np.diff(np.linspace(0, recipe.prompts, count + 1).astype(int))
    for crop in range(count):
        if not sources or rng.random() < recipe.drawn:
            plane, pasted = draw_plane(rng, side + 64), 0.0
        else:
            source = sources[int(rng.choice(len(sources), p=chances))]
            plane, pasted = source.draw(rng), source.pasted
        image, labels, areas = _crop(plane, side, pasted, recipe, rng)
        depth = _depth(labels[0])
        images.append(image)
        dense.append(_dense_truth(labels[0], depth, areas))
        asked = _choose(labels, int(quota[crop]), rng)
        prompts += [_prompt(crop, labels[k], i, depth, recipe, rng) for k, i in asked]
    if not prompts:
        return None
    return Batch(
        images=torch.stack(images),
        dense=torch.from_numpy(np.stack(dense)),
        batch_index=torch.tensor([p.crop for p in prompts]),
        origin=torch.from_numpy(np.stack([p.origin for p in prompts])),
        truth=torch.from_numpy(np.stack([p.truth for p in prompts])),
        point=torch.tensor([p.point for p in prompts], dtype=torch.float32),
        box=torch.from_numpy(np.stack([p.box for p in prompts]).astype(np.float32)),
        boxed=torch.tensor([p.boxed for p in prompts]),
    )


def _crop(
    plane: LabelledPlane, side: int, pasted: float, recipe: Recipe, rng: np.random.Generator
) -> tuple[Tensor, NDArray[np.int32], NDArray[np.floating]]:
    """Image uint8, labels at stride 2, and full areas (model pixels) of the objects of level 0."""
    wide = rng.random() < recipe.wide  # so that objects at a wrong scale are known for what they are
    diameter = random_diameter(rng, recipe.diameter, 1.1 if wide else recipe.spread)
    crop = _cut(plane, side, diameter, rng)
    if pasted and rng.random() < pasted:
        crop = paste_objects(crop, _cut(plane, side, diameter, rng), rng)
    image = change_look(crop.image, rng, recipe.stains).masked_fill(crop.outside, MID_GREY)
    image = image.round().to(torch.uint8).contiguous()
    return image, crop.labels, crop.areas


def _cut(plane: LabelledPlane, side: int, diameter: float, rng: np.random.Generator) -> Crop:
    """Cut a random square out of a plane."""
    image, outside, labels, scale = random_crop(plane, side, diameter, rng)
    return Crop(image, outside, labels, plane.areas * scale**2)


def _depth(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Distance to the edge of the own object, in label pixels; 0 outside."""
    inner = labels > 0
    for axis in (0, 1):
        same = np.diff(labels, axis=axis) == 0
        low = [slice(None)] * 2
        high = [slice(None)] * 2
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        inner[tuple(low)] &= same
        inner[tuple(high)] &= same
    depth = ndimage.distance_transform_edt(inner) + (labels > 0)
    return np.asarray(depth, np.float32)


def _dense_truth(
    labels: NDArray[np.int32], depth: NDArray[np.float32], areas: NDArray[np.floating]
) -> NDArray[np.float32]:
    """(5, h / 2, w / 2): see `Batch.dense`; labels and depth are at stride 2."""
    out = np.zeros((5, *labels.shape), np.float32)
    ids = np.flatnonzero(np.bincount(labels.ravel())[1:]) + 1
    if len(ids):
        peaks = np.array(ndimage.maximum_position(depth, labels, ids), float)
        where = np.zeros((labels.max() + 1, 2))
        where[ids] = peaks
        own = np.maximum(np.sqrt(areas * (4 / np.pi)), 1.0)  # diameters in model pixels
        inside = labels > 0
        y, x = np.nonzero(inside)
        mine = labels[inside]
        spread = np.maximum(0.2 * own[mine] / 2, 2.0)  # in label pixels
        distance2 = (y - where[mine, 0]) ** 2 + (x - where[mine, 1]) ** 2
        out[0][inside] = np.exp(-distance2 / (2 * spread**2))
        out[1][inside] = 1
        out[2][inside] = depth[inside] < 2.5
        out[3][inside] = np.log2(own[mine] / MODEL_DIAMETER)
        out[4] = out[1]
    pooled = out.reshape(5, labels.shape[0] // 2, 2, labels.shape[1] // 2, 2).mean((2, 4))
    pooled[3] /= np.maximum(pooled[4], 0.25)
    pooled[4] = pooled[4] > 0.9
    return np.asarray(pooled, np.float32)


def _choose(labels: NDArray[np.int32], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Choose (level, label) pairs, the objects of level 0 more often than parts and groups."""
    levels, ids, weights = [], [], []
    for level, truth in enumerate(labels):
        areas = np.bincount(truth.ravel())
        found = np.flatnonzero(areas[1:] >= LEAST_AREA) + 1
        levels += [level] * len(found)
        ids += found.tolist()
        share = 1.0 if level == 0 else 0.25
        weights += [share] * len(found)
    if not ids:
        return []
    chances = np.array(weights) / np.sum(weights)
    picks = rng.choice(len(ids), count, replace=count > len(ids), p=chances)
    return [(levels[k], ids[k]) for k in picks]


def _prompt(
    crop: int, labels: NDArray[np.int32], label: int, depth: NDArray[np.float32],
    recipe: Recipe, rng: np.random.Generator,
) -> _Prompt:  # fmt: skip
    """First prompt for an object: a point in it and a noised box around it."""
    truth = labels == label
    y, x = np.nonzero(truth)
    # some clicks anywhere in the object, more where a person clicks: far from the edge
    likely = np.ones(len(y)) if rng.random() < 0.25 else depth[y, x].astype(float) ** 3 + 1e-3
    k = int(rng.choice(len(y), p=likely / likely.sum()))
    point = (LOGIT_STRIDE * x[k] + rng.uniform(-0.5, 1.5), LOGIT_STRIDE * y[k] + rng.uniform(-0.5, 1.5))
    edges = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) * LOGIT_STRIDE - 0.5
    size = np.tile(edges[2:] - edges[:2], 2)
    noise = np.clip(rng.normal(0, 0.06 * rng.random() * 2, 4) * size, -20, 20)
    box = edges + noise * (rng.random() >= recipe.exact)
    boxed = bool(rng.random() < recipe.box_share)
    centre = (box[[1, 0]] + box[[3, 2]]) / 2 if boxed else np.array(point[::-1])
    origin = np.round(centre / CELL - WINDOW_CELLS / 2).astype(np.int64)
    if rng.random() < 0.4:  # further prompts move the window, so that they need not be central
        origin += rng.integers(-2, 3, 2)
    return _Prompt(crop, _window(truth, origin), origin, point, box, boxed)


def _window(truth: NDArray[np.bool_], origin: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Cut a window out of a mask at `LOGIT_STRIDE`; False outside the crop."""
    side = WINDOW // LOGIT_STRIDE
    y, x = origin * (CELL // LOGIT_STRIDE)
    out = np.zeros((side, side), bool)
    cut = truth[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
    top, left = max(0, -y), max(0, -x)
    out[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return out


class Batches(torch.utils.data.IterableDataset[Batch]):
    """Batches ``start``, ``start + stride``, ... in order, over any number of workers."""

    def __init__(
        self,
        recipe: Recipe,
        sources: Sequence[Source],
        weights: Sequence[float],
        seed: int,
        start: int,
        stride: int = 1,
    ) -> None:
        self.recipe, self.sources, self.weights = recipe, list(sources), list(weights)
        self.seed, self.start, self.stride = seed, start, stride

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        step = self.start + (info.id if info else 0) * self.stride
        while True:
            yield make_batch(self.recipe, self.sources, self.weights, self.seed, step)
            step += (info.num_workers if info else 1) * self.stride
