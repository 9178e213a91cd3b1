"""The reference packages that tests and benchmarks compare with.

``segment-anything`` imports three functions of torchvision, which has no build for every
torch. They are replaced by plain numpy and Pillow here, and nothing else is touched.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from PIL.Image import Image


@cache
def segment_anything() -> ModuleType:
    """The reference package, imported with a stand-in for torchvision.

    Returns
    -------
    module
        ``segment_anything``: models, ``SamPredictor`` and ``SamAutomaticMaskGenerator``.
    """
    stand_in = _torchvision()
    previous = {name: sys.modules.pop(name) for name in stand_in if name in sys.modules}
    sys.modules.update(stand_in)
    try:
        return importlib.import_module("segment_anything")
    finally:
        # The reference has bound its names; other packages must not take this for torchvision.
        for name in stand_in:
            del sys.modules[name]
        sys.modules.update(previous)


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Greedy suppression of boxes (N, 4) xyxy within each group; kept indices, best first.

    As torchvision's: a box goes when its IoU with a better one of its group is above the
    threshold.
    """
    box = boxes.detach().cpu().double().numpy()
    group = idxs.detach().cpu().numpy()
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    order = np.argsort(-scores.detach().cpu().numpy(), kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(box[best, :2], box[rest, :2])
        high = np.minimum(box[best, 2:], box[rest, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = shared / (area[best] + area[rest] - shared)
        order = rest[~((iou > iou_threshold) & (group[rest] == group[best]))]
    return torch.as_tensor(kept, dtype=torch.int64, device=boxes.device)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Area of boxes (N, 4) xyxy."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resize a Pillow image to (height, width), bilinear with anti-aliasing."""
    from PIL.Image import Resampling

    return image.resize((size[1], size[0]), Resampling.BILINEAR)


def to_pil_image(array: np.ndarray) -> Image:
    """Turn an array (H, W, 3), uint8, into a Pillow image."""
    from PIL.Image import fromarray

    return fromarray(array)


def _torchvision() -> dict[str, ModuleType]:
    """Modules to register: as much of torchvision as the reference imports."""
    contents = {
        "torchvision.ops.boxes": {"batched_nms": batched_nms, "box_area": box_area},
        "torchvision.transforms.functional": {"resize": resize, "to_pil_image": to_pil_image},
    }
    modules: dict[str, ModuleType] = {}
    for path, functions in contents.items():
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            modules.setdefault(name, ModuleType(name))
            modules[name].__path__ = []  # a package, so that its children can be imported
            if end > 1:
                setattr(modules[".".join(parts[: end - 1])], parts[end - 1], modules[name])
        for key, function in functions.items():
            setattr(modules[path], key, function)
    return modules
