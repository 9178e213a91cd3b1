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
from tests.model.small import randomise
from tests.reference import segment_anything

from benchmarks.scene import Scene, Stage
from benchmarks.timing import Row, in_turn, relative_error
from napari_sam import load_model
from napari_sam.everything import AutomaticSettings, generate, settings_for
from napari_sam.masks import Mask, mask_iou
from napari_sam.model import build, optimise
from napari_sam.predictor.official import SamPredictor
from napari_sam.progress import finish
from napari_sam.prompts import Point, Prompts

CPU = torch.device("cpu")
SIDE = 1024


@cache
def state(variant: str) -> dict[str, torch.Tensor]:
    """One random state dict for both sides."""
    return {k: v.clone() for k, v in randomise(build(variant)).state_dict().items()}


@cache
def reference(variant: str) -> Any:
    """The reference as its users run it: eager, fp32."""
    model = segment_anything().sam_model_registry[variant]()
    model.load_state_dict(state(variant))
    return model.eval().requires_grad_(False)


def ours(variant: str, precision: str) -> Any:
    """Our model, prepared for inference."""
    model = build(variant)
    model.load_state_dict(state(variant))
    return optimise(model, CPU, precision)


def picture(side: int) -> np.ndarray:
    """A real photograph at a given size."""
    return np.asarray(Image.fromarray(data.astronaut()).resize((side, side)))


def _encode(variant: str, precision: str, repeat: int) -> Row:
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    quick, plain = ours(variant, precision), reference(variant)
    with torch.inference_mode():
        a, b, found, expected, peak = in_turn(
            lambda: quick.encode(x), lambda: plain.image_encoder(x), repeat=repeat
        )
    return Row(a, b, relative_error(found, expected), peak)


def encode_vit_b(repeat: int) -> Row:
    """ViT-B, in the precision that this processor is built for."""
    return _encode("vit_b", "auto", repeat)


def encode_vit_b_fp32(repeat: int) -> Row:
    """ViT-B in exact fp32."""
    return _encode("vit_b", "fp32", repeat)


def encode_vit_h(repeat: int) -> Row:
    """ViT-H, in the precision that this processor is built for."""
    try:
        return _encode("vit_h", "auto", min(repeat, 2))
    finally:
        state.cache_clear()
        reference.cache_clear()


def encode_tinyvit(repeat: int) -> Row:
    """MobileSAM's encoder. It has no package: the plain form of the same layers in fp32 stands for it."""
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    plain = build("vit_t")
    plain.load_state_dict(state("vit_t"))
    quick = ours("vit_t", "auto")
    with torch.inference_mode():
        a, b, found, expected, peak = in_turn(lambda: quick.encode(x), lambda: plain.encode(x), repeat=repeat)
    return Row(a, b, relative_error(found, expected), peak)


def encode_built_in(repeat: int) -> Row:
    """One 512-pixel tile with the built-in model, against the reference's ViT-B; no common answer."""
    predictor, plain = load_model("built-in", device="cpu"), reference("vit_b")
    tile = picture(512)
    x = torch.randn(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        a, b, _, _, peak = in_turn(
            lambda: predictor.embed(tile, diameter=44.0),
            lambda: plain.image_encoder(x),
            repeat=repeat,
            reference_repeat=min(repeat, 3),
        )
    return Row(a, b, 0.0, peak)


def _click(side: int, precision: str, repeat: int) -> Row:
    """One click to the boolean mask that is shown; the error is 1 - IoU of the same candidate's masks."""
    image = picture(side)
    quick = SamPredictor(ours("vit_b", precision), "vit_b", "random", CPU)
    embedding = quick.embed(image)
    plain = segment_anything().SamPredictor(reference("vit_b"))
    plain.set_image(image)
    y, x = 0.4 * side, 0.55 * side
    point, label = np.array([[x, y]]), np.array([1])

    def click() -> tuple[int, Mask]:
        best = quick.predict(embedding, Prompts((Point(y, x),))).best
        return best.level, best.mask

    a, b, (level, mask), expected, peak = in_turn(
        click, lambda: plain.predict(point, label), repeat=max(5, 3 * repeat)
    )
    truth = Mask.from_plane(expected[0][level - 1])
    return Row(a, b, 1 - mask_iou(mask, truth), peak)


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


@cache
def _stage() -> Stage:
    grid = (torch.arange(32) + 0.5) / 32 * SIDE
    points = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1).reshape(-1, 2)
    return Stage(Scene(), points)


def _our_automatic(settings: AutomaticSettings) -> Callable[[], list[dict[str, Any]]]:
    model = ours("vit_b", "auto")
    real = model.decode

    def decode(state: Any, points: torch.Tensor, labels: torch.Tensor, mask: Any = None) -> _Staged:
        stage = _stage()
        return _Staged(real(state, points, labels, mask), stage, stage.rows(points[:, 0]))

    model.decode = decode
    predictor = SamPredictor(model, "vit_b", "random", CPU)
    return lambda: finish(generate(predictor, picture(SIDE), settings)).records()


def _reference_automatic() -> Callable[[], list[dict[str, Any]]]:
    model = reference("vit_b")
    generator = segment_anything().SamAutomaticMaskGenerator(model)
    prompts, masks = type(model.prompt_encoder).forward, type(model.mask_decoder).forward
    seen: dict[str, torch.Tensor] = {}

    def encode(points: Any, boxes: Any, dense: Any) -> Any:
        seen["points"] = points[0][:, 0]
        return prompts(model.prompt_encoder, points=points, boxes=boxes, masks=dense)

    def decode(**arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        masks(model.mask_decoder, **arguments)
        stage = _stage()
        row = stage.rows(seen["points"])
        return stage.logits[row], stage.iou[row]

    def run() -> list[dict[str, Any]]:
        model.prompt_encoder.forward = lambda points, boxes, masks: encode(points, boxes, masks)
        model.mask_decoder.forward = decode
        try:
            return generator.generate(picture(SIDE))
        finally:
            del model.prompt_encoder.forward, model.mask_decoder.forward

    return run


def missed(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> float:
    """Part of the expected masks that have no match of IoU >= 0.95."""
    ours_ = [Mask.from_plane(m["segmentation"]) for m in found]
    theirs = [Mask.from_plane(m["segmentation"]) for m in expected]
    lost = sum(max((mask_iou(a, t) for a in ours_), default=0.0) < 0.95 for t in theirs)
    return lost / max(len(theirs), 1)


@cache
def _reference_run() -> tuple[float, list[dict[str, Any]]]:
    """Seconds and masks of the reference's automatic masks: run once, for it takes minutes."""
    _, seconds, _, masks, _ = in_turn(lambda: None, _reference_automatic(), repeat=1)
    return seconds, masks


def _automatic(settings: AutomaticSettings) -> Row:
    run = _our_automatic(settings)
    a, _, found, _, peak = in_turn(run, lambda: None, repeat=1)
    seconds, expected = _reference_run()
    return Row(a, seconds, missed(found, expected), peak)


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
    a, _, _, _, peak = in_turn(
        lambda: finish(generate(predictor, tissue, settings)).records(), lambda: None, repeat=repeat
    )
    return Row(a, _reference_run()[0], 0.0, peak)


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
