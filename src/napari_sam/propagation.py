"""An object followed through Z or T, as values: what is asked for, and what was found on each plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from napari_sam.masks import Mask
from napari_sam.progress import Progress
from napari_sam.prompts import Prompts

Anchor = Prompts | Mask
"""What is known on a plane: prompts, or the object's mask itself (chosen, painted or committed before)."""
Stretch = tuple[int | None, int | None]
"""The anchors on the left and on the right; None where there is none."""


@dataclass(frozen=True, slots=True)
class PropagationSettings:
    """How a mask prompts the next plane, and when the object has ended.

    Parameters
    ----------
    mask, box, point : bool
        Which prompts are made of the mask: itself, the box around it, the point deepest inside. At least one.
    margin : float
        Pixels by which the box is made larger on each side.
    min_iou : float
        The object has ended when its masks on two neighbouring planes overlap less (IoU).
    max_growth : float
        The object has ended when its area changes by more than this factor from a plane to the next.
    min_area : int
        The object has ended when it has fewer pixels.
    min_predicted_iou : float
        The object has ended when the model expects its mask to be worse.
    min_likeness : float
        The object has ended when it looks less like it does on its anchor (`PlaneMask.likeness`). A mask that
        is handed from plane to plane fits itself well, and says nothing about what is below it.

    Raises
    ------
    ValueError
        If no prompt is left or a number is out of range.
    """

    mask: bool = True
    box: bool = True
    point: bool = False
    margin: float = 1.0
    min_iou: float = 0.4
    max_growth: float = 2.5
    min_area: int = 10
    min_predicted_iou: float = 0.5
    min_likeness: float = 0.5

    def __post_init__(self) -> None:
        """Refuse settings with which nothing can be followed."""
        if not (self.mask or self.box or self.point):
            raise ValueError("Nothing would prompt the next plane. Allow the mask, the box or the point.")
        if not 0 <= self.min_iou < 1 or self.max_growth <= 1 or self.min_area < 1:
            raise ValueError(
                "Expected a smallest IoU from 0 to below 1, a growth above 1 and an area of one pixel or "
                f"more, found {self.min_iou}, {self.max_growth} and {self.min_area}."
            )


@dataclass(frozen=True, eq=False, slots=True)
class PlaneMask:
    """The object on one plane.

    Parameters
    ----------
    plane : int
    mask : Mask
    predicted_iou : float
        The model's own estimate of the mask, about 0 to 1; 1 for a mask that was given.
    overlap : float
        IoU with the mask of the plane that it was followed from, 1 on an anchor.
    likeness : float
        How far it looks as it does on its anchor, 0 to 1: brightness inside, contrast to what is around.
    agreement : float
        IoU with what the model makes of one click in the middle of the mask, which knows nothing of the mask.
    anchor : int
        The anchor that it was followed from; ``plane`` itself on an anchor.
    """

    plane: int
    mask: Mask
    predicted_iou: float
    overlap: float
    anchor: int
    likeness: float = 1.0
    agreement: float = 1.0

    @property
    def confidence(self) -> float:
        """How far this plane may be trusted, 0 to 1: likeness times agreement."""
        return self.likeness * self.agreement


@dataclass(frozen=True, eq=False, slots=True)
class Propagation:
    """One object through a stack.

    Parameters
    ----------
    planes : mapping of int to PlaneMask
        By plane, in order.
    anchors : mapping of int to Anchor
        What it was made of.
    stretches : mapping
        The planes between every two anchors, for the next run to use again.
    """

    planes: Mapping[int, PlaneMask]
    anchors: Mapping[int, Anchor]
    stretches: Mapping[Stretch, tuple[PlaneMask, ...]] = field(repr=False)

    @property
    def weakest(self) -> int:
        """Plane with the lowest confidence, where one more prompt helps most."""
        return min(self.planes, key=lambda plane: self.planes[plane].confidence)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PlaneFollowed(Progress):
    """The object was found on one more plane.

    Parameters
    ----------
    found : PlaneMask
    so_far : Propagation
        Everything that is known by now. It can be shown, kept and given as ``previous`` when the run is given
        up: only stretches that are complete are used again.
    """

    found: PlaneMask
    so_far: Propagation
