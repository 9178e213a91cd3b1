"""A predictor without weights, for tests of everything that stands above the model."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage as ndi

from napari_sam.candidates import Candidate
from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame, Window
from napari_sam.image import RGB
from napari_sam.masks import Box, Mask
from napari_sam.predictor.base import Batch, Predictor, Seeds
from napari_sam.prompts import Prompts

QUALITY = (0.92, 0.70, 0.95, 0.80)
"""Predicted IoU of the single mask, the inner part, the object and the wide surroundings."""
FAR = 16
"""Pixels from an object beyond which its logits are as low as they get."""
BACKGROUND_QUALITY = 0.30
"""Predicted IoU where the click hits no object: a small disc is offered."""


@dataclass
class _Drawn:
    """Logits that are computed when they are asked for."""

    iou: torch.Tensor
    logits_of: list[np.ndarray]  # one (h, w) float32 a prompt: signed distance to the object's rim
    asked: list[tuple[int, int]] = field(default_factory=list)

    def logits(self, rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
        pairs = [(int(r), int(c)) for r, c in zip(rows, cols, strict=True)]
        self.asked += pairs
        if not pairs:
            return torch.empty(0, *self.logits_of[0].shape)
        return torch.from_numpy(np.stack([self._one(self.logits_of[r], c) for r, c in pairs]))

    def _one(self, distance: np.ndarray, column: int) -> np.ndarray:
        # The inner part starts half-way in, the surroundings reach three pixels out.
        shift = {0: 0.0, 1: -0.5 * max(distance.max(), 0), 2: 0.0, 3: 3.0}[column]
        return np.clip(4 * (distance + shift), -20, 20).astype(np.float32)


class DiscPredictor(Predictor):
    """Takes every bright blob of the picture for an object; quick and always the same.

    A positive click, a box or a mask selects the blobs that it meets; a click on the dark background gives a
    disc around itself with a low predicted IoU; a negative click cuts a disc out. Level 2 is the object,
    level 1 its inner part, level 3 its surroundings, level 0 the object again.

    Parameters
    ----------
    threshold : float
        Grey value (0 to 255) above which a pixel belongs to a blob.
    stride : int
        Pixels per logit cell; 1 gives masks that are exact to the pixel.
    encode_seconds : float
        Time that an embedding takes, for tests of what happens meanwhile.
    decode_seconds : float
        Time that a batch of prompts takes.
    seeds : bool
        Whether `seeds` proposes the blobs' middles; ``None`` is returned otherwise, as official models do.
    """

    def __init__(
        self,
        *,
        name: str = "discs",
        threshold: float = 100,
        stride: int = 1,
        radius: float = 4.0,
        encode_seconds: float = 0.0,
        decode_seconds: float = 0.0,
        seeds: bool = True,
    ) -> None:
        super().__init__(name, f"{name}-{threshold:g}-{stride}", torch.device("cpu"))
        self.threshold = threshold
        self.stride = stride
        self.radius = radius
        self.encode_seconds = encode_seconds
        self.decode_seconds = decode_seconds
        self.has_seeds = seeds
        self.encoded = 0  # planes encoded so far
        self.decoded = 0  # prompts decoded so far
        self.batches: list[_Drawn] = []

    def _encode(self, image: RGB, diameter: float | None) -> tuple[dict[str, torch.Tensor], Frame]:
        time.sleep(self.encode_seconds)
        self.encoded += 1
        labels, _ = ndi.label(image.mean(-1) > self.threshold)
        shape = (image.shape[0], image.shape[1])
        return {"labels": torch.from_numpy(labels.astype(np.int32))}, Frame(shape, shape, centred=True)

    def _group(self, embedding: Embedding, prompts: Prompts, previous: Candidate | None) -> Hashable:
        return None

    def _decode(
        self,
        embedding: Embedding,
        group: Hashable,
        prompts: Sequence[Prompts],
        previous: Sequence[Candidate | None],
    ) -> Batch:
        time.sleep(self.decode_seconds)
        self.decoded += len(prompts)
        labels = embedding.features["labels"].numpy()
        window = self._window(embedding.frame)
        distances, quality = [], []
        for prompt, before in zip(prompts, previous, strict=True):
            inside, hit = self._object(labels, prompt, before)
            distances.append(self._cells(_signed_distance(inside), window))
            quality.append(QUALITY if hit else [BACKGROUND_QUALITY] * 4)
        iou = torch.tensor(quality, dtype=torch.float32)
        drawn = _Drawn(iou, distances)
        self.batches.append(drawn)
        return Batch(iou.numpy(), [window] * len(prompts), drawn)

    def _object(
        self, labels: np.ndarray, prompt: Prompts, before: Candidate | None
    ) -> tuple[np.ndarray, bool]:
        """Pixels that the prompt asks for, and whether it met a blob."""
        inside = np.zeros(labels.shape, bool)
        ids: set[int] = set()
        for p in prompt.points:
            y, x = _pixel(p.y, p.x, labels.shape)
            if p.positive and labels[y, x]:
                ids.add(int(labels[y, x]))
        if not prompt.points:
            area = prompt.mask.to_plane(labels.shape) if prompt.mask else np.zeros(labels.shape, bool)
            if prompt.box is not None:
                area[prompt.box.clip(labels.shape).slices] = True
            met = labels[area]
            if met.any():
                ids.add(int(np.bincount(met[met > 0]).argmax()))
        if ids:
            inside |= np.isin(labels, list(ids))
        if before is not None:
            inside |= before.mask.to_plane(labels.shape)
        hit = bool(inside.any())
        if not hit:
            inside |= self._disc(labels.shape, *prompt.extent.centre)
        for p in prompt.points:
            if not p.positive:
                inside &= ~self._disc(labels.shape, p.y, p.x)
        return inside, hit

    def _disc(self, shape: tuple[int, ...], y: float, x: float) -> np.ndarray:
        rows, cols = np.ogrid[: shape[0], : shape[1]]
        return np.hypot(rows - y, cols - x) <= self.radius

    def _window(self, frame: Frame) -> Window:
        height, width = (-(-n // self.stride) for n in frame.model_shape)
        return Window(frame, (0, 0), self.stride, (height, width))

    def _cells(self, plane: np.ndarray, window: Window) -> np.ndarray:
        if self.stride == 1:
            return plane
        height, width = (n * self.stride for n in window.shape)
        padded = np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")
        cells = padded.reshape(window.shape[0], self.stride, window.shape[1], self.stride)
        return cells.mean((1, 3)).astype(np.float32)

    def seeds(self, embedding: Embedding) -> Seeds | None:
        if not self.has_seeds:
            return None
        labels = embedding.features["labels"].numpy()
        depth = ndi.distance_transform_edt(np.pad(labels > 0, 1))[1:-1, 1:-1]
        index = np.arange(1, labels.max() + 1)
        points = np.array(ndi.maximum_position(depth, labels, index), float).reshape(-1, 2)
        return Seeds(points, np.linspace(1, 0.5, len(points)))


def disc_image(
    shape: tuple[int, int], discs: Sequence[tuple[float, float, float]], value: int = 200
) -> np.ndarray:
    """Grey plane (H, W) of uint8 with a bright disc at every (y, x, radius)."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    image = np.full(shape, 20, np.uint8)
    for y, x, radius in discs:
        image[np.hypot(rows - y, cols - x) <= radius] = value
    return image


def disc_mask(y: float, x: float, radius: float) -> Mask:
    """Mask of one disc of `disc_image`."""
    box = Box(y - radius, x - radius, y + radius + 1, x + radius + 1)
    y0, x0, y1, x1 = (int(np.floor(v)) for v in box)
    rows, cols = np.ogrid[y0 : y1 + 1, x0 : x1 + 1]
    return Mask.from_plane(np.hypot(rows - y, cols - x) <= radius, y0, x0)


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    """Distance to the object's rim in pixels: positive inside, negative outside, never 0."""
    if not inside.any():
        return np.full(inside.shape, -100, np.float32)
    # Outside the plane counts as neither, so that an object at the edge is not cut.
    if inside.all():
        return np.full(inside.shape, 100, np.float32)
    # Far from the object its distance makes no difference: large planes are quick.
    box = Mask.from_plane(inside).box
    near = Box(box.y0 - FAR, box.x0 - FAR, box.y1 + FAR, box.x1 + FAR).clip(inside.shape).slices
    out = np.full(inside.shape, -FAR, np.float32)
    inner, outer = (ndi.distance_transform_edt(part) for part in (inside[near], ~inside[near]))
    out[near] = np.where(inside[near], inner - 0.5, 0.5 - outer)
    return out


def _pixel(y: float, x: float, shape: tuple[int, ...]) -> tuple[int, int]:
    """Nearest pixel of the plane."""
    return min(max(round(y), 0), shape[0] - 1), min(max(round(x), 0), shape[1] - 1)
