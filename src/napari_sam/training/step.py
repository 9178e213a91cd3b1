"""One training step: decode a batch over several rounds of prompts, and say how wrong it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_sam.model.builtin import BuiltIn, Decoded
from napari_sam.training.examples import Batch
from napari_sam.training.losses import dense_loss, intersection_over_union, mask_loss
from napari_sam.training.prompts import correcting_click, first_prompts

__all__ = ["StepResult", "train_step"]


@dataclass(frozen=True)
class StepResult:
    """Loss of a step, and how good the masks were."""

    loss: Tensor
    """Scalar, to be differentiated."""
    measures: dict[str, float]
    """Means over the prompts: ``mask``, ``iou_error`` and ``dense`` losses, and mean IoU of the
    most confident (``confident``) and the best (``oracle``) candidate of a first point, of a box
    (``box``), and after the last round (``last``)."""


def train_step(
    model: BuiltIn,
    batch: Batch,
    rounds: int,
    idle: frozenset[int],
    generator: torch.Generator,
    precision: torch.dtype,
    quality_weight: float = 1.0,
    overlap: str = "dice",
) -> StepResult:
    """Compute the loss of a batch.

    Parameters
    ----------
    model : BuiltIn
    batch : Batch
    rounds : int
        Decoding rounds; each after the first brings a correcting click.
    idle : frozenset of int
        Rounds without a new click.
    generator : Generator
        For the clicks.
    precision : torch.dtype
        Of the arithmetic: bfloat16 or float32.
    quality_weight : float
        Weight of the squared error on the predicted IoU; 1 in the paper.
    overlap : str
        See `mask_loss`.
    """
    device = batch.images.device.type
    with torch.autocast(device, precision, enabled=precision != torch.float32):
        features = model.encode(model.normalise(batch.images).contiguous(memory_format=torch.channels_last))
        dense = dense_loss(features.dense, batch.dense)
        points, labels = first_prompts(batch)
        decoded = model.decode(features, batch.batch_index, batch.origin, points, labels)
        loss, quality, mask, measures = _first_round(model, decoded, batch, overlap)
        for turn in range(1, rounds):
            if turn not in idle:
                point, label = correcting_click(batch.truth, mask[:, 0] > 0, batch.origin, generator)
                points = torch.cat([points, point[:, None]], 1)
                labels = torch.cat([labels, label[:, None]], 1)
            decoded = model.decode(
                features, batch.batch_index, batch.origin, points, labels, mask.clamp(-12, 12)
            )
            logits = _masks(model, decoded, 1)[:, 0]
            truth = intersection_over_union(logits > 0, batch.truth)
            loss = loss + mask_loss(logits, batch.truth, overlap).mean()
            quality = quality + ((decoded.iou[:, 0].float() - truth) ** 2).mean()
            mask = logits.detach()[:, None]
            measures["last"] = truth.mean().item()
        total = (loss + quality_weight * quality) / rounds + dense
    measures |= {
        "mask": loss.item() / rounds,
        "iou_error": quality.item() / rounds,
        "dense": dense.item(),
    }
    return StepResult(total, measures)


def _masks(model: BuiltIn, decoded: Decoded, count: int) -> Tensor:
    """Logits (N, count, h, w) of the first masks of all prompts."""
    rows = torch.arange(len(decoded.iou), device=decoded.iou.device)
    return model.decoder.masks(decoded, rows, rows[:0].new_tensor(range(count))).float()


def _first_round(
    model: BuiltIn, decoded: Decoded, batch: Batch, overlap: str
) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
    """Loss, quality loss, mask (N, 1, h, w) to go on with, and measures of the first prompts.

    A point is ambiguous: only the best of its three candidates is trained (SAM, section 3), with the
    single mask beside it. A box is not: its single mask counts most.
    """
    logits = _masks(model, decoded, 4)
    truth, every = batch.truth, torch.arange(len(logits), device=logits.device)
    with torch.no_grad():
        iou = intersection_over_union(logits > 0, truth[:, None])  # (N, 4)
        coarse = mask_loss(logits[:, 1:, ::2, ::2], truth[:, None, ::2, ::2], overlap)
        best = coarse.argmin(1) + 1
        sure = decoded.iou[:, 1:].argmax(1) + 1
    pair = torch.stack([logits[every, best], logits[:, 0]], 1)
    candidate, single = mask_loss(pair, truth[:, None], overlap).unbind(1)
    boxed = batch.boxed
    loss = torch.where(boxed, single + 0.3 * candidate, candidate + 0.5 * single).mean()
    quality = ((decoded.iou.float() - iou) ** 2).mean()
    going_on = torch.where(boxed, torch.zeros_like(sure), sure)
    mask = logits.detach()[every, going_on][:, None]
    clicked = ~boxed
    measures = {"last": iou[every, going_on].mean().item()}
    if clicked.any():
        measures["confident"] = iou[every, sure][clicked].mean().item()
        measures["oracle"] = iou[clicked, 1:].amax(1).mean().item()
    if boxed.any():
        measures["box"] = iou[boxed, 0].mean().item()
    return loss, quality, mask, measures
