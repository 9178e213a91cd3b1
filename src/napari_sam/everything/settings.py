"""What automatic masks are asked for, and the defaults of each model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf, isnan
from typing import Literal

import numpy as np

from napari_sam.predictor.base import Predictor

PromptKind = Literal["auto", "grid", "seeds"]

MOST_PER_SIDE = 4096
"""Points of a grid along each side at most: as many as a plane has pixels that is not cut into tiles."""


@dataclass(frozen=True, slots=True)
class AutomaticSettings:
    """Settings of automatic masks; names and defaults are those of the reference SAM.

    Parameters
    ----------
    points_per_side : int
        The grid has this many points along each side of the plane, `MOST_PER_SIDE` at most.
    points_per_batch : int, optional
        Prompts decoded at once; what suits the model if not given. The masks do not depend on it.
    pred_iou_thresh : float
        Masks are kept when their predicted IoU (see `Predictor.judge`) is greater; 0 or less keeps all.
    stability_score_thresh : float
        Masks are kept when their stability is this or greater; 0 or less keeps all.
    stability_score_offset : float
        How far the logits' threshold is moved to measure the stability.
    box_nms_thresh : float
        Of two masks whose boxes have a greater IoU than this, the better one is kept.
    crop_n_layers : int
        How many times the plane is seen again in crops: layer i has ``2**i x 2**i`` of them. Layers whose
        crops would be smaller than a pixel are left out.
    crop_nms_thresh : float
        The same as ``box_nms_thresh`` between crops; there the mask of the smaller crop is kept.
    crop_overlap_ratio : float
        Overlap of neighbouring crops, as part of the plane's shorter side, in layer 1; from 0 to below 1.
    crop_n_points_downscale_factor : int
        The grid of layer i has ``points_per_side / factor**i`` points along each side.
    min_mask_region_area : int
        Holes and islands smaller than this, in pixels, are removed; 0 leaves masks as they are.
    prompts : {"auto", "grid", "seeds"}
        Where to prompt: on the grid, or where the model itself expects objects. ``"auto"`` takes seeds
        from models that have them.
    min_area : float
        Smallest object in pixels; in label images also what other objects leave of one.
    max_area : float
        Largest object in pixels.
    slack : float
        Masks that fail the two quality thresholds by no more than this are kept aside, so that the
        thresholds can be lowered afterwards without computing anything again.
    adaptive : bool
        Leave out grid points that two prompts have explained before. Quicker, most of all where objects are
        large; about one mask in twenty differs from those of the full grid. `AutomaticResult.skipped` says
        how many points were left out.
    """

    points_per_side: int = 32
    points_per_batch: int | None = None
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    prompts: PromptKind = "auto"
    min_area: float = 0
    max_area: float = inf
    slack: float = 0.1
    adaptive: bool = False

    def __post_init__(self) -> None:
        """Refuse values that ask for nothing."""
        least = {
            "points_per_side": 1,
            "points_per_batch": 1,
            "crop_n_layers": 0,
            "crop_overlap_ratio": 0,
            "crop_n_points_downscale_factor": 1,
            "min_mask_region_area": 0,
            "min_area": 0,
            "max_area": 1,
            "slack": 0,
            "stability_score_offset": 0,
            "box_nms_thresh": 0,
            "crop_nms_thresh": 0,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("prompts", "adaptive") or (value is None and "None" in str(field.type)):
                continue
            if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or isnan(value):
                raise ValueError(f"{field.name} must be a number, found {value!r}.")
            if str(field.type).startswith("int"):
                if value in (inf, -inf) or value != int(value):
                    raise ValueError(f"{field.name} must be a whole number, found {value}.")
                object.__setattr__(self, field.name, int(value))
            if field.name.endswith("_thresh") and value > 1:
                raise ValueError(f"{field.name} must be 1 or less, found {value}.")
            if field.name in least and value < least[field.name]:
                raise ValueError(f"{field.name} must be {least[field.name]} or more, found {value}.")
        if self.points_per_side > MOST_PER_SIDE:
            raise ValueError(
                f"points_per_side must be {MOST_PER_SIDE} or less, found {self.points_per_side}."
            )
        if self.crop_overlap_ratio >= 1:
            raise ValueError(f"crop_overlap_ratio must be below 1, found {self.crop_overlap_ratio}.")
        if not isinstance(self.adaptive, (bool, np.bool_)):
            raise ValueError(f"adaptive must be true or false, found {self.adaptive!r}.")
        if self.prompts not in ("auto", "grid", "seeds"):
            raise ValueError(f"prompts must be 'auto', 'grid' or 'seeds', found {self.prompts!r}.")
        if self.max_area < self.min_area:
            raise ValueError(
                f"The largest area ({self.max_area}) is below the smallest ({self.min_area}): "
                "no mask could be kept."
            )

    @property
    def floors(self) -> tuple[float, float]:
        """Predicted IoU and stability below which masks are not kept even for later."""
        return (
            max(self.pred_iou_thresh - self.slack, 0.0),
            max(self.stability_score_thresh - self.slack, 0.0),
        )


CELLS = AutomaticSettings(
    pred_iou_thresh=0.66,
    stability_score_thresh=0.55,
    slack=0.2,
    min_area=10,
)
"""Defaults of models that propose seeds, such as the built-in one."""


def settings_for(predictor: Predictor) -> AutomaticSettings:
    """Return the settings that suit a model.

    The paper's models get the reference's defaults, models of the registry their own thresholds: those that
    were fine-tuned for microscopy find next to nothing with the paper's. Models that propose seeds are
    prompted there.

    Parameters
    ----------
    predictor : Predictor
    """
    from napari_sam.predictor.official import SamPredictor
    from napari_sam.weights.registry import find_entry

    if not isinstance(predictor, SamPredictor):
        return CELLS
    try:
        entry = find_entry(predictor.name)
    except ValueError:
        return AutomaticSettings()
    return AutomaticSettings(pred_iou_thresh=entry.predicted_iou, stability_score_thresh=entry.stability)
