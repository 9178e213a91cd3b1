"""The result of automatic masks: filters that move at once, label image, table, records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from napari_sam.everything.found import Found, Proposal, Reason
from napari_sam.everything.select import select
from napari_sam.everything.settings import AutomaticSettings
from napari_sam.masks import Box, Mask, PackedMask, Painted, masks_to_labels, rle_counts

if TYPE_CHECKING:
    import pandas as pd

Nesting = Literal["best", "small"]


@dataclass(frozen=True, eq=False)
class Masks(Sequence[Mask]):
    """Masks that are unpacked one at a time, so that many large ones need little memory."""

    packed: tuple[PackedMask, ...]

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.packed)

    @overload
    def __getitem__(self, index: int) -> Mask: ...
    @overload
    def __getitem__(self, index: slice) -> Masks: ...
    def __getitem__(self, index: int | slice) -> Mask | Masks:
        """Return one mask, or some of them."""
        return Masks(self.packed[index]) if isinstance(index, slice) else self.packed[index].unpack()


@dataclass(frozen=True, eq=False)
class Filtered:
    """The masks that pass the filters as they stand.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the plane.
    proposals : tuple of Proposal
        The masks that passed, with what is known of them.
    masks : Masks
        Their pixels, cleaned if that was asked for.
    crops : tuple of Box
        Parts of the plane in which masks were looked for.
    removed : dict of str to int
        How many masks each filter removed: "predicted IoU", "stability", "cut off", "outside the region",
        "smallest area", "largest area", "duplicates". With seeds it counts the seeds that were left without
        a mask, by the last filter that one of their masks failed.
    side_by_side : Painted, optional
        All of them in a label image, if they were chosen so that they lie side by side.
    min_area : float
        Smallest object in pixels: in a label image, of what is seen of it.
    """

    shape: tuple[int, int]
    proposals: tuple[Proposal, ...]
    masks: Masks
    crops: tuple[Box, ...]
    removed: dict[Reason, int]
    side_by_side: Painted | None
    min_area: float = 0

    def __len__(self) -> int:
        """Return the number of masks that passed."""
        return len(self.proposals)

    def labels(self, nesting: Nesting = "best") -> tuple[NDArray[np.int32], pd.DataFrame]:
        """Label image of the masks, and a table of them.

        Parameters
        ----------
        nesting : {"best", "small"}
            Which of two overlapping masks gets the pixels. ``"best"``: the one with the higher product of
            predicted IoU and stability, and a mask of which less than half is left is dropped; for objects
            that lie side by side. ``"small"``: the smaller one, so that parts are seen on their wholes.

        Returns
        -------
        labels : ndarray of int32, shape (H, W)
            0 is background; ids count from 1.
        table : DataFrame
            One row an object: ``index`` (its id), ``predicted_iou``, ``stability``, ``area`` (pixels in
            the label image), ``point_y``, ``point_x`` (the prompt, in image pixels) and ``level`` (the
            decoder's output, 1 to 3).
        """
        import pandas as pd

        painted = self.paint(nesting)
        rows = [self.proposals[i] for i in painted.order]
        columns: dict[str, Any] = {
            "index": np.arange(1, len(rows) + 1),
            "predicted_iou": np.array([p.predicted_iou for p in rows], float),
            "stability": np.array([p.stability for p in rows], float),
            "area": np.array([mask.area for mask in painted.masks], int),
            "point_y": np.array([p.point[0] for p in rows], float),
            "point_x": np.array([p.point[1] for p in rows], float),
            "level": np.array([p.level for p in rows], int),
        }
        # A copy: who writes into it does not change these masks.
        return painted.labels.copy(), pd.DataFrame(columns)

    def paint(self, nesting: Nesting = "best") -> Painted:
        """Label image of the masks, not to be written into, and what is seen of each; see `labels`."""
        if nesting == "best" and self.side_by_side is not None:
            return self.side_by_side
        order, visible = self._order(nesting)
        return masks_to_labels(
            self.masks, self.shape, order=order, min_visible=visible, min_area=self.min_area
        )

    def _order(self, nesting: Nesting) -> tuple[list[int], float]:
        """Masks from the one on top to the lowest, and the part of one that must be seen."""
        if nesting == "small":
            return sorted(range(len(self)), key=lambda i: self.proposals[i].area), 0.0
        if nesting != "best":
            raise ValueError(f"nesting must be 'best' or 'small', found {nesting!r}.")
        quality = [p.predicted_iou * p.stability for p in self.proposals]
        return sorted(range(len(self)), key=lambda i: -quality[i]), 0.5

    def records(self, segmentation: Literal["mask", "rle"] = "mask") -> list[dict[str, Any]]:
        """List the masks as the reference SAM's generator does.

        Parameters
        ----------
        segmentation : {"mask", "rle"}
            A boolean plane (H, W) a mask, or uncompressed COCO run lengths, which need far less memory.

        Returns
        -------
        list of dict
            ``segmentation``, ``area``, ``bbox`` and ``crop_box`` (x, y, width, height; ``bbox`` reaches to
            the middle of the last pixel), ``predicted_iou``, ``point_coords`` ((x, y)), ``stability_score``.
        """
        out = []
        for proposal, mask in zip(self.proposals, self.masks, strict=True):
            box, crop = mask.box, self.crops[proposal.crop]
            rle = {"size": list(self.shape), "counts": rle_counts(mask, self.shape)}
            out.append(
                {
                    "segmentation": mask.to_plane(self.shape) if segmentation == "mask" else rle,
                    "area": mask.area,
                    "bbox": [box.x0, box.y0, box.width - 1, box.height - 1],
                    "predicted_iou": proposal.predicted_iou,
                    "point_coords": [[proposal.point[1], proposal.point[0]]],
                    "stability_score": proposal.stability,
                    "crop_box": [crop.x0, crop.y0, crop.width, crop.height],
                }
            )
        return out


@dataclass(frozen=True, eq=False)
class AutomaticResult:
    """All masks of a plane, and the filters they were asked for with.

    Parameters
    ----------
    found : Found
        Every mask above the low floor of the settings (`AutomaticSettings.floors`).
    settings : AutomaticSettings
    seeded : bool
        Whether the model said where to prompt; otherwise a grid did.
    skipped : int
        Grid points that an adaptive run left out.
    """

    found: Found
    settings: AutomaticSettings
    seeded: bool = False
    skipped: int = 0

    def __len__(self) -> int:
        """Return the number of masks that can be filtered."""
        return len(self.found)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the plane."""
        return self.found.shape

    @cached_property
    def filtered(self) -> Filtered:
        """The masks that pass the settings."""
        return self._filter(self.settings)

    def refilter(
        self,
        pred_iou: float | None = None,
        stability: float | None = None,
        min_area: float | None = None,
        max_area: float | None = None,
        box_nms: float | None = None,
        min_region_area: int | None = None,
    ) -> Filtered:
        """Filter again, without computing anything new.

        Parameters
        ----------
        pred_iou, stability : float, optional
            New thresholds; those of the settings if not given. Below ``settings.floors`` there are no
            further masks.
        min_area, max_area : float, optional
            Smallest and largest object in pixels.
        box_nms : float, optional
            Box IoU above which two masks are duplicates (grid only).
        min_region_area : int, optional
            Size in pixels below which holes and islands are removed.
        """
        changes = {
            "pred_iou_thresh": pred_iou,
            "stability_score_thresh": stability,
            "min_area": min_area,
            "max_area": max_area,
            "box_nms_thresh": box_nms,
            "min_mask_region_area": min_region_area,
        }
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        return self._filter(replace(self.settings, **given)) if given else self.filtered

    def labels(self, nesting: Nesting = "best") -> tuple[NDArray[np.int32], pd.DataFrame]:
        """Label image and table of the masks that pass the settings; see `Filtered.labels`."""
        return self.filtered.labels(nesting)

    def records(self, segmentation: Literal["mask", "rle"] = "mask") -> list[dict[str, Any]]:
        """List the masks that pass the settings; see `Filtered.records`."""
        return self.filtered.records(segmentation)

    def _filter(self, settings: AutomaticSettings) -> Filtered:
        choice = select(self.found, settings, one_per_prompt=self.seeded)
        proposals = tuple(self.found.proposals[i] for i in choice.kept.tolist())
        packed = tuple(
            choice.cleaned.get(i, p.mask) for i, p in zip(choice.kept.tolist(), proposals, strict=True)
        )
        masks = Masks(packed)
        return Filtered(
            self.shape, proposals, masks, self.found.crops, choice.removed, choice.painted, settings.min_area
        )
