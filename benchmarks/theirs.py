"""The reference's side of each step, as its users run it: eager, fp32. Runs in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tests.reference import segment_anything
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.scene import SIDE, picture, random_input, stage, state
from napari_sam.model import build, conv, linear

Job = Callable[[], Any]


def reference(variant: str) -> Any:
    """The reference with the random weights of both sides."""
    model = segment_anything().sam_model_registry[variant]()
    model.load_state_dict(state(variant))
    return model.eval().requires_grad_(False)


def encode(variant: str) -> Job:
    """Image encoder of a ViT."""
    model, x = reference(variant).image_encoder, random_input()
    return lambda: model(x).numpy()


def encode_tinyvit() -> Job:
    """MobileSAM's encoder. It has no package: our layers by torch's ordinary operators stand for it."""
    linear.has_onednn = conv.has_onednn = lambda dtype: False  # type: ignore[assignment]
    model, x = build("vit_t"), random_input()
    model.load_state_dict(state("vit_t"))
    return lambda: model.encode(x).numpy()


def click(side: int) -> Job:
    """One click to the three masks at full resolution and their logits, from ``SamPredictor.predict``."""
    predictor = segment_anything().SamPredictor(reference("vit_b"))
    predictor.set_image(picture(side))
    point, label = np.array([[0.55 * side, 0.4 * side]]), np.array([1])
    return lambda: predictor.predict(point, label)[::2]


def automatic() -> Job:
    """Automatic masks of the scene: the networks run, then the scene's outputs stand in for theirs."""
    model = reference("vit_b")
    generator = segment_anything().SamAutomaticMaskGenerator(model)
    prompts, masks = type(model.prompt_encoder).forward, type(model.mask_decoder).forward
    scene = stage()
    seen: dict[str, torch.Tensor] = {}

    def encode(points: Any, boxes: Any, dense: Any) -> Any:
        seen["points"] = points[0][:, 0]
        return prompts(model.prompt_encoder, points=points, boxes=boxes, masks=dense)

    def decode(**arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        masks(model.mask_decoder, **arguments)
        row = scene.rows(seen["points"])
        return scene.logits[row], scene.iou[row]

    model.prompt_encoder.forward = lambda points, boxes, masks: encode(points, boxes, masks)
    model.mask_decoder.forward = decode
    return lambda: [m["segmentation"] for m in generator.generate(picture(SIDE))]


def encoder_operations(variant: str) -> float:
    """Operations (multiplications and additions) of the reference's encoder, in units of 10**12.

    Counted on shapes alone: nothing is computed.
    """
    with torch.device("meta"):
        model = (
            build("vit_t").image_encoder
            if variant == "vit_t"
            else segment_anything().sam_model_registry[variant]().image_encoder
        )
        x = torch.empty(1, 3, SIDE, SIDE)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.requires_grad_(False)(x)
    return counter.get_total_flops() / 1e12
