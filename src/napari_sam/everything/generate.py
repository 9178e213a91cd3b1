"""Automatic masks of a plane: prompts, batches, masks above a low floor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.embedding import Embedding
from napari_sam.everything.found import REASONS, Found, Proposal, Reason, cut_to
from napari_sam.everything.grid import (
    Points,
    coarse_to_fine,
    crop_boxes,
    is_cut_by_crop,
    point_grid,
    points_inside,
)
from napari_sam.everything.result import AutomaticResult
from napari_sam.everything.select import select
from napari_sam.everything.settings import AutomaticSettings, settings_for
from napari_sam.geometry import Window
from napari_sam.image import RGB
from napari_sam.masks import Box, Mask
from napari_sam.predictor.base import Batch, Predictor
from napari_sam.progress import Progress, Steps
from napari_sam.prompts import Prompts, points_from_array

LEVELS = np.array([1, 2, 3])
"""The decoder's three outputs for an ambiguous prompt."""

AGREEMENT = 2
"""An adaptive run takes a grid point for explained when masks of this many prompts hold it."""


class Output(NamedTuple):
    """One decoded mask."""

    row: int
    level: int
    predicted_iou: float
    mask: Mask
    stability: float
    is_cut: bool


@dataclass
class Search:
    """What one run collects."""

    predictor: Predictor
    settings: AutomaticSettings
    shape: tuple[int, int]
    region: Mask | Box | None
    crops: list[Box] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    prompts: int = 0
    skipped: int = 0
    seeded: bool = False

    def area(self, crop: Box) -> Box:
        """Part of a crop in which to look; height or width is zero or less where there is none."""
        if self.region is None:
            return crop
        return crop.intersect(self.region.box if isinstance(self.region, Mask) else self.region)

    def points(self, embedding: Embedding, crop: Box, layer: int) -> Points:
        """Where to prompt in a crop, in the plane's coordinates."""
        settings = self.settings
        seeds = self.predictor.seeds(embedding) if settings.prompts != "grid" else None
        if seeds is None and settings.prompts == "seeds":
            raise ValueError(
                f"The model {self.predictor.name} proposes no seeds. Use prompts='grid' or 'auto'."
            )
        if seeds is not None:
            self.seeded = True
            points = seeds.points + np.array([crop.y0, crop.x0])
        else:
            per_side = max(1, settings.points_per_side // settings.crop_n_points_downscale_factor**layer)
            points = point_grid(per_side, self.area(crop))
            if settings.adaptive:
                points = points[coarse_to_fine(per_side)]
        return points[points_inside(points, self.region)]

    def overlooked(self, embedding: Embedding, crop: Box) -> Points:
        """Where to prompt again after the seeds: what no mask explains, in the plane's coordinates."""
        if not self.seeded:
            return np.empty((0, 2))
        kept = select(self.found, self.settings, one_per_prompt=True)
        assert kept.painted is not None
        points = self.predictor.overlooked(embedding, kept.painted.labels[crop.slices] > 0)
        points = points + np.array([crop.y0, crop.x0])
        return points[points_inside(points, self.region)]

    @property
    def found(self) -> Found:
        """What was collected so far."""
        lost = np.array(self.lost, np.int64).reshape(-1, 2)
        return Found(self.shape, tuple(self.proposals), tuple(self.crops), self.prompts, lost)

    def batches(self, points: Points) -> Iterator[tuple[int, Points]]:
        """Cut the points of a crop into batches; yield how many came before, and the batch.

        An adaptive run leaves out points that lie in masks of `AGREEMENT` earlier prompts.
        """
        size = self.settings.points_per_batch or self.predictor.batch_size
        if self.seeded or not self.settings.adaptive:
            for start in range(0, len(points), size):
                yield start, points[start : start + size]
            return
        waiting, seen = np.arange(len(points)), np.zeros(len(points), np.int64)
        while len(waiting):
            batch, waiting = waiting[:size], waiting[size:]
            known = len(self.proposals)
            yield int(batch[0]), points[batch]
            for mask in self._sure(self.proposals[known:]):
                seen += points_inside(points, mask)
            left = waiting[seen[waiting] < AGREEMENT]
            self.skipped += len(waiting) - len(left)
            waiting = left

    def _sure(self, proposals: list[Proposal]) -> Iterator[Mask]:
        """Smallest mask of each prompt that passes the thresholds; larger ones may hold other objects."""
        smallest: dict[int, Proposal] = {}
        for p in proposals:
            passes = (
                p.predicted_iou > self.settings.pred_iou_thresh
                and p.stability >= self.settings.stability_score_thresh
            )
            if passes and (p.prompt not in smallest or p.area < smallest[p.prompt].area):
                smallest[p.prompt] = p
        return (p.mask.unpack() for p in smallest.values())

    def run_batch(self, embedding: Embedding, crop: Box, points: Points) -> None:
        """Prompt at ``points`` (plane coordinates) and keep what is good enough."""
        for output in self._decode(embedding, points - (crop.y0, crop.x0)):
            prompt = self.prompts + output.row
            mask = output.mask.shift(int(crop.y0), int(crop.x0))
            if not self._passes(np.float32(output.predicted_iou), self.settings.floors[0]):
                self._lose(prompt, "predicted IoU")
            elif output.stability < np.float32(self.settings.floors[1]) or not mask.pixels.size:
                self._lose(prompt, "stability")
            elif output.is_cut or is_cut_by_crop(mask.box, crop, self.shape):
                self._lose(prompt, "cut off")
            elif (rest := cut_to(mask, self.region)) is None:
                self._lose(prompt, "outside the region")
            else:
                y, x = points[output.row].tolist()
                self.proposals.append(
                    Proposal(
                        rest.pack(),
                        output.predicted_iou,
                        output.stability,
                        rest.area,
                        (y, x),
                        prompt,
                        output.level,
                        len(self.crops) - 1,
                    )
                )
        self.prompts += len(points)

    def _decode(self, embedding: Embedding, points: Points) -> Iterator[Output]:
        """Masks of the outputs whose predicted IoU may be above the floor.

        The decoder's estimate is known before the mask: only masks that may pass are computed.
        """
        batch = self.predictor.decode_points(embedding, points)
        iou = batch.iou[:, LEVELS]
        passed = self._passes(iou, self.least_iou)
        rows, cols = np.nonzero(passed)
        again: set[int] = set()
        if len(rows):
            logits = batch.logits(rows, LEVELS[cols])
            outputs = (
                self._output(
                    embedding, row, int(LEVELS[col]), float(iou[row, col]), batch.windows[row], cells
                )
                for row, col, cells in zip(rows.tolist(), cols.tolist(), logits, strict=True)
            )
            for row, group in groupby(outputs, attrgetter("row")):
                several = list(group)
                best = max(several, key=attrgetter("predicted_iou"))
                if self.predictor.suits(embedding, batch.windows[row], best.mask):
                    yield from several
                else:
                    again.add(row)
        for row in np.nonzero(~passed)[0].tolist():
            if row not in again:
                self._lose(self.prompts + row, "predicted IoU")
        if again:
            yield from self._decode_again(embedding, batch, points, sorted(again))

    def _decode_again(
        self, embedding: Embedding, batch: Batch, points: Points, rows: list[int]
    ) -> Iterator[Output]:
        """Masks of prompts whose object does not suit the decoder's window, seen in one that does."""
        prompts = [Prompts((p,)) for p in points_from_array(points[rows])]
        seen = batch.offers([True] * len(points), rows)
        offers = self.predictor.refocus(embedding, prompts, seen, [None] * len(prompts))
        for row, offer in zip(rows, offers, strict=True):
            for candidate in offer:
                if self._passes(np.float32(candidate.predicted_iou), self.least_iou):
                    level, quality = candidate.level, candidate.predicted_iou
                    yield self._output(embedding, row, level, quality, candidate.window, candidate.logits)
                else:
                    self._lose(self.prompts + row, "predicted IoU")

    def _output(
        self, embedding: Embedding, row: int, level: int, iou: float, window: Window,
        logits: NDArray[np.float32],
    ) -> Output:  # fmt: skip
        mask, stability = window.mask_and_stability(logits, 0.0, self.settings.stability_score_offset)
        iou = self.predictor.judge(embedding, mask, iou)
        # Single precision as in the reference, so that masks at the very threshold fall on the same side.
        return Output(row, level, iou, mask, float(np.float32(stability)), window.cuts(mask))

    @property
    def least_iou(self) -> float:
        """The decoder's estimate below which no mask is worth computing."""
        return self.predictor.least_iou(self.settings.floors[0])

    def _passes(self, iou: NDArray[np.float32] | np.float32, floor: float) -> NDArray[np.bool_]:
        """Whether a predicted IoU is above a floor; there is none if the threshold filters nothing."""
        if self.settings.pred_iou_thresh <= 0 or self.settings.floors[0] <= 0:
            return np.ones_like(iou, bool)
        return np.asarray(iou > np.float32(floor))

    def _lose(self, prompt: int, reason: Reason) -> None:
        self.lost.append((prompt, REASONS.index(reason)))


def generate(
    predictor: Predictor,
    image: RGB,
    settings: AutomaticSettings | None = None,
    *,
    embedding: Embedding | None = None,
    region: Mask | Box | None = None,
    diameter: float | None = None,
) -> Steps[AutomaticResult]:
    """Find every object of a plane.

    The paper's automatic masks (section 5 and appendix B): prompt at many points, keep the masks that the
    model is sure of (predicted IoU) and that do not hang on the threshold (stability), drop duplicates. For
    official SAM the result is the reference generator's.

    Parameters
    ----------
    predictor : Predictor
    image : ndarray of uint8, shape (H, W, 3)
        See `napari_sam.image.plane_to_rgb`.
    settings : AutomaticSettings, optional
        `settings_for` the model if not given.
    embedding : Embedding, optional
        The plane's, if it is there already.
    region : Mask or Box, optional
        Where to look. A box (the current view) bounds the prompts: objects that reach out of it stay whole;
        pixels of which it holds a part belong to it.
        A mask (the unlabelled area) bounds the objects as well. Masks of which less than half lies in the
        region are dropped.
    diameter : float, optional
        Typical object diameter in image pixels, for models that scale by it; estimated if not given.

    Yields
    ------
    Progress
        After every batch of prompts. Closing the generator cancels.

    Returns
    -------
    AutomaticResult

    Raises
    ------
    ValueError
        If the embedding is that of a plane of another size, or seeds are asked of a model that has none.
    """
    settings = settings_for(predictor) if settings is None else settings
    shape = (image.shape[0], image.shape[1])
    if embedding is not None and embedding.frame.image_shape != shape:
        raise ValueError(
            f"The embedding is that of a plane of {embedding.frame.image_shape} pixels, the image has "
            f"{shape}. Embed the image again."
        )
    if isinstance(region, Box):
        region = region.intersect(Box(0, 0, *shape)).clip(shape)
    search = Search(predictor, settings, shape, region)
    crops = crop_boxes(shape, settings.crop_n_layers, settings.crop_overlap_ratio)
    for number, (crop, layer) in enumerate(crops):
        search.crops.append(crop)
        area = search.area(crop)
        if area.height <= 0 or area.width <= 0:
            continue
        where = f"part {number + 1} of {len(crops)}: " if len(crops) > 1 else ""
        if number or embedding is None:
            yield _progress(number, len(crops), f"{where}embedding")
            embedding = predictor.embed(image[crop.slices], diameter=diameter)
        points = search.points(embedding, crop, layer)
        for done, batch in search.batches(points):
            share = done / max(len(points), 1)
            yield _progress(number + share, len(crops), f"{where}prompt {done} of {len(points)}")
            search.run_batch(embedding, crop, batch)
        for done, batch in search.batches(search.overlooked(embedding, crop)):
            yield _progress(number + 1, len(crops), f"{where}once more at {done + len(batch)} places")
            search.run_batch(embedding, crop, batch)
    yield _progress(len(crops), len(crops), "done")
    return AutomaticResult(search.found, settings, search.seeded, search.skipped)


SCALE = 1000
"""Steps of progress for each part of the plane."""


def _progress(done: float, total: int, message: str) -> Progress:
    return Progress(int(done * SCALE), total * SCALE, message)
