"""The steps that are measured, by the names of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data

from benchmarks import theirs
from benchmarks.aside import Aside
from benchmarks.scene import SIDE, Stage, picture, random_input, stage, state
from benchmarks.timing import Row, in_turn, relative_error
from napari_sam import load_model
from napari_sam.candidates import Candidate
from napari_sam.everything import AutomaticSettings, generate, settings_for
from napari_sam.masks import Mask, mask_iou
from napari_sam.model import build, optimise
from napari_sam.predictor.official import SamPredictor
from napari_sam.progress import finish
from napari_sam.prompts import Point, Prompts

CPU = torch.device("cpu")
EXACT = 1e-4
"""Relative error of logits below which the masks themselves have to agree as well."""


def ours(variant: str, precision: str) -> Any:
    """Our model, prepared for inference."""
    model = build(variant)
    model.load_state_dict(state(variant))
    return optimise(model, CPU, precision)


def _encode(variant: str, precision: str, repeat: int) -> Row:
    model, x = ours(variant, precision), random_input()
    make = (theirs.encode_tinyvit,) if variant == "vit_t" else (theirs.encode, variant)
    with Aside(*make) as reference, torch.inference_mode():
        times, found, expected = in_turn(
            lambda: model.encode(x), reference, repeat=repeat, warm=variant != "vit_h"
        )
    error = relative_error(found, torch.from_numpy(expected))
    kind = "bf16" if model.mask_decoder.iou_token.weight.dtype == torch.bfloat16 else "fp32"
    return Row(*times, error, theirs.encoder_operations(variant), kind)


def encode_vit_b(repeat: int) -> Row:
    """ViT-B, in the precision that this processor is built for."""
    return _encode("vit_b", "auto", repeat)


def encode_vit_b_fp32(repeat: int) -> Row:
    """ViT-B in exact fp32."""
    return _encode("vit_b", "fp32", repeat)


def encode_vit_h(repeat: int) -> Row:
    """ViT-H, in the precision that this processor is built for."""
    return _encode("vit_h", "auto", min(repeat, 2))


def encode_tinyvit(repeat: int) -> Row:
    """MobileSAM's encoder; see `theirs.encode_tinyvit`."""
    return _encode("vit_t", "auto", repeat)


def encode_built_in(repeat: int) -> Row:
    """One 512-pixel tile with the built-in model, against the reference's ViT-B; no common answer."""
    predictor, tile = load_model("built-in", device="cpu"), picture(512)
    with Aside(theirs.encode, "vit_b") as reference:
        times, _, _ = in_turn(
            lambda: predictor.embed(tile, diameter=44.0), reference, repeat=min(repeat, 3), ours_repeat=10
        )
    return Row(*times, 0.0)


def _click(side: int, precision: str, repeat: int) -> Row:
    """One click to the boolean mask that is shown; the error is that of the same candidate's logits.

    With random weights a mask is specks around zero logits: its own error would say nothing about bf16.
    """
    quick = SamPredictor(ours("vit_b", precision), "vit_b", "random", CPU)
    embedding = quick.embed(picture(side))
    prompts = Prompts((Point(0.4 * side, 0.55 * side),))

    def click() -> tuple[Candidate, Mask]:
        best = quick.predict(embedding, prompts).best
        return best, best.mask

    with Aside(theirs.click, side) as reference:
        times, (best, mask), (masks, logits) = in_turn(click, reference, repeat=max(5, 4 * repeat))
    found, expected = (torch.from_numpy(x) for x in (best.logits, logits[best.level - 1]))
    error = relative_error(found, expected)
    if error < EXACT:
        error = max(error, 1 - mask_iou(mask, Mask.from_plane(masks[best.level - 1])))
    return Row(*times, error)


def click_1024(repeat: int) -> Row:
    """One click on a plane of 1024 x 1024."""
    return _click(1024, "auto", repeat)


def click_1024_fp32(repeat: int) -> Row:
    """The same in exact fp32."""
    return _click(1024, "fp32", repeat)


def click_4096(repeat: int) -> Row:
    """One click on a plane of 4096 x 4096."""
    return _click(4096, "auto", repeat)


@dataclass(frozen=True)
class _Staged:
    """Our decoder's record with the scene's outputs in place of its own, which are computed all the same."""

    real: Any
    stage: Stage
    row: torch.Tensor

    @property
    def iou(self) -> torch.Tensor:
        three = self.stage.iou[self.row]
        return torch.cat([three[:, :1] - 1, three], 1)

    def logits(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        self.real.logits(rows, columns)
        return self.stage.logits[self.row[rows], columns - 1]


def staged_predictor(variant: str) -> SamPredictor:
    """Our predictor whose network runs on random weights, and whose masks are those of the scene."""
    model, scene = ours(variant, "auto"), stage()
    real = model.decode

    def decode(state: Any, points: torch.Tensor, labels: torch.Tensor, mask: Any = None) -> _Staged:
        return _Staged(real(state, points, labels, mask), scene, scene.rows(points[:, 0]))

    model.decode = decode
    return SamPredictor(model, variant, "random", CPU)


def _our_automatic(settings: AutomaticSettings) -> Callable[[], list[dict[str, Any]]]:
    predictor = staged_predictor("vit_b")
    return lambda: finish(generate(predictor, picture(SIDE), settings)).records()


def missed(found: list[dict[str, Any]], expected: list[np.ndarray]) -> float:
    """Part of the expected masks that have no match of IoU >= 0.95."""
    ours_ = [Mask.from_plane(m["segmentation"]) for m in found]
    theirs_ = [Mask.from_plane(m) for m in expected]
    lost = sum(max((mask_iou(a, t) for a in ours_), default=0.0) < 0.95 for t in theirs_)
    return lost / max(len(theirs_), 1)


@cache
def _reference_run() -> tuple[float, list[np.ndarray]]:
    """Seconds and masks of the reference's automatic masks: run once, for it takes minutes."""
    with Aside(theirs.automatic) as reference:
        return reference.run()


def _automatic(settings: AutomaticSettings) -> Row:
    seconds, expected = _reference_run()
    times, found, _ = in_turn(_our_automatic(settings), None, repeat=1, warm=False)
    return Row(times.ours_s, seconds, times.peak_mb, missed(found, expected))


def automatic_1024(repeat: int) -> Row:
    """Every mask of a 32 x 32 grid; the error is the part of the reference's masks that we miss."""
    return _automatic(AutomaticSettings())


def automatic_1024_adaptive(repeat: int) -> Row:
    """The same with an adaptive grid."""
    return _automatic(replace(AutomaticSettings(), adaptive=True))


def automatic_built_in(repeat: int) -> Row:
    """Every cell of a 1024 x 1024 plane with the built-in model; no common answer."""
    predictor = load_model("built-in", device="cpu")
    tissue = np.asarray(Image.fromarray(data.immunohistochemistry()).resize((SIDE, SIDE)))
    settings = settings_for(predictor)
    times, _, _ = in_turn(
        lambda: finish(generate(predictor, tissue, settings)).records(), None, repeat=repeat
    )
    return Row(times.ours_s, _reference_run()[0], times.peak_mb, 0.0)


STEPS: tuple[Callable[[int], Row], ...] = (
    encode_vit_b,
    encode_vit_b_fp32,
    encode_tinyvit,
    encode_built_in,
    click_1024,
    click_1024_fp32,
    click_4096,
    automatic_1024,
    automatic_1024_adaptive,
    automatic_built_in,
    encode_vit_h,
)


def run(names: list[str], repeat: int) -> Iterator[tuple[str, Row]]:
    """Measure the steps of these names, or all."""
    for step in STEPS:
        if not names or step.__name__ in names:
            yield step.__name__, step(repeat)
