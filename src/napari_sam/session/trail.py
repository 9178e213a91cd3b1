"""One object on its way through a stack: what was said and chosen on each plane, and where it was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from napari_sam.candidates import Candidates
from napari_sam.masks import Mask
from napari_sam.prompts import Prompts
from napari_sam.propagation import Anchor, PlaneMask, Propagation
from napari_sam.session.offers import Offer, describe, same_masks, same_prompts


@dataclass(frozen=True, eq=False, slots=True)
class _Chosen:
    """What was chosen on a plane, for which prompts."""

    prompts: Prompts
    candidates: Candidates
    index: int
    mask: Mask


class ChoiceMemory:
    """The candidate chosen on each plane: who comes back to a plane finds the same one chosen."""

    def __init__(self) -> None:
        self._chosen: dict[Hashable, _Chosen] = {}

    def take(self, plane: Hashable, offer: Offer, full: Callable[[Mask], Mask]) -> int | None:
        """Take note of what is on offer on a plane.

        Parameters
        ----------
        plane : hashable
        offer : Offer
        full : callable
            Brings the chosen mask to full resolution.

        Returns
        -------
        int or None
            The candidate to choose: the plane was left and its object is offered anew. None if the offer is
            as it should be.
        """
        before = self._chosen.get(plane)
        anew = (
            before is not None
            and same_prompts(before.prompts, offer.prompts)
            and before.candidates is not offer.candidates
        )
        if before is not None and anew and offer.chosen != before.index < len(offer.candidates):
            return before.index
        mask = full(offer.choice.mask)
        if before is not None and same_masks(before.mask, mask):
            mask = before.mask  # the very same, so that nothing counts as changed
        self._chosen[plane] = _Chosen(offer.prompts, offer.candidates, offer.chosen, mask)
        return None

    def mask(self, plane: Hashable, prompts: Prompts) -> Mask | None:
        """What was chosen for prompts on a plane; None if nothing was."""
        chosen = self._chosen.get(plane)
        return chosen.mask if chosen is not None and same_prompts(chosen.prompts, prompts) else None

    def clear(self) -> None:
        """Forget everything."""
        self._chosen.clear()


def settled(anchors: Mapping[int, Anchor], before: Mapping[int, Anchor]) -> dict[int, Anchor]:
    """Anchors, with the very objects from before where they say the same.

    `napari_sam.propagate.propagate_object` takes what is the very same for unchanged.
    """

    def same(one: Anchor, other: Anchor) -> bool:
        if isinstance(one, Mask) or isinstance(other, Mask):
            return isinstance(one, Mask) and isinstance(other, Mask) and same_masks(one, other)
        return same_prompts(one, other)

    return {
        n: before[n] if n in before and same(before[n], anchor) else anchor for n, anchor in anchors.items()
    }


@dataclass(frozen=True, eq=False, slots=True)
class Trail:
    """One object through a stack.

    Parameters
    ----------
    propagation : Propagation
        Where it was found.
    total : int
        Number of planes of the stack.
    ground : hashable
        What it was followed on: the model, the image, its contrast. On another ground nothing is used again.
    model : str
        Name of the model that found it.
    ends : frozenset of int
        Planes that the person took it away from. There it has ended: what was followed from its other side
        is not part of it.
    """

    propagation: Propagation
    total: int
    ground: Hashable = None
    model: str = ""
    ends: frozenset[int] = frozenset()

    @property
    def planes(self) -> dict[int, PlaneMask]:
        """The object by plane, in order, without what lies beyond an end."""
        return {n: one for n, one in self.propagation.planes.items() if not self._beyond(one)}

    @property
    def confidence(self) -> list[float | None]:
        """How far each plane of the stack may be trusted, 0 to 1; None where the object is not."""
        planes = self.planes
        return [planes[n].confidence if n in planes else None for n in range(self.total)]

    @property
    def anchors(self) -> frozenset[int]:
        """Planes on which something was said."""
        return frozenset(self.propagation.anchors)

    def weak(self, after: int | None = None) -> int | None:
        """The plane to look at first: that of least confidence.

        Parameters
        ----------
        after : int, optional
            A plane that was looked at: the next one in the order of confidence is meant, after the last the
            first again.
        """
        found = self.planes
        order = sorted((n for n in found if n not in self.anchors), key=lambda n: found[n].confidence)
        order = order or list(found)
        if not order:
            return None
        return order[(order.index(after) + 1) % len(order)] if after in order else order[0]

    def end_at(self, plane: int) -> Trail:
        """Take the object away from a plane and from what was followed beyond it; or undo that."""
        return replace(self, ends=self.ends ^ {plane})

    def masks(self, chosen: Mapping[int, Mask] | None = None) -> dict[int, Mask]:
        """The object's masks by plane.

        Parameters
        ----------
        chosen : mapping of int to Mask, optional
            What is chosen now, on planes where something is said about it: it counts more than what was
            followed before that.
        """
        return dict(sorted(({n: one.mask for n, one in self.planes.items()} | dict(chosen or {})).items()))

    def record(self, masks: Mapping[int, Mask], prompts: Mapping[int, Prompts]) -> dict[str, Any]:
        """What is kept about the object in the layer's features.

        Parameters
        ----------
        masks : mapping of int to Mask
            What is written on each plane.
        prompts : mapping of int to Prompts
            What was said on each plane.
        """
        found = [one for n, one in self.planes.items() if n in masks]
        said = {n: json.loads(describe(one)) for n, one in sorted(prompts.items())}
        count = max(len(found), 1)
        return {
            "predicted_iou": round(sum(one.predicted_iou for one in found) / count, 4),
            "confidence": round(min((one.confidence for one in found), default=1.0), 4),
            "area": sum(mask.area for mask in masks.values()),
            "planes": len(masks),
            "model": self.model,
            "prompt": json.dumps({"planes": said}, separators=(",", ":")),
        }

    def _beyond(self, one: PlaneMask) -> bool:
        """Whether an end lies on a plane or between it and the anchor that it was followed from."""
        low, high = sorted((one.plane, one.anchor))
        return any(low <= end <= high for end in self.ends)
