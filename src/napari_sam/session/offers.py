"""What the session offers for each object, and what it learns from the choices."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_sam.candidates import SINGLE, Candidate, Candidates
from napari_sam.masks import Mask
from napari_sam.prompts import Prompts


@dataclass(frozen=True, eq=False, slots=True)
class Offer:
    """The candidates of one object and the one that is chosen.

    Parameters
    ----------
    prompts : Prompts
        What was said about the object.
    candidates : Candidates
    chosen : int
        Index of the chosen candidate.
    model : str
        Name of the model that made them.
    picked_level : int, optional
        Ambiguity level (1 to 3) that the person picked for this object, now or at an earlier click.
    source : hashable
        What they were seen in: see `napari_sam.session.work.Embedded.source`.
    """

    prompts: Prompts
    candidates: Candidates
    chosen: int
    model: str
    picked_level: int | None = None
    source: Hashable = None

    @property
    def choice(self) -> Candidate:
        """The chosen candidate."""
        return self.candidates[self.chosen]

    def choose(self, index: int) -> Offer:
        """Return this offer with another choice."""
        level = self.candidates[index].level
        picked = self.picked_level if level == SINGLE else level
        return replace(self, chosen=index, picked_level=picked)


class LevelMemory:
    """The ambiguity level that the person keeps choosing; asked for in any thread.

    Sub-part, part and whole (nucleus, cell, colony) are the paper's three masks; who chose the cell for the
    last objects wants the cell for the next.

    Parameters
    ----------
    length : int
        How many choices are remembered.
    """

    def __init__(self, length: int = 3) -> None:
        self._length = length
        # Replaced as a whole: the worker may be at it while something is committed.
        self._recent: tuple[int, ...] = ()

    @property
    def level(self) -> int | None:
        """Level picked most often of late, the latest among equals; None before the first pick."""
        recent = self._recent
        counts = Counter(recent)
        return max(reversed(recent), key=lambda level: counts[level], default=None)

    def remember(self, offer: Offer) -> None:
        """Learn from an object that was committed."""
        if offer.picked_level is not None:
            self._recent = (*self._recent, offer.picked_level)[-self._length :]

    def preselect(self, candidates: Candidates) -> int:
        """Index of the candidate to choose first."""
        levels, level = [c.level for c in candidates], self.level
        if SINGLE not in levels and level in levels:
            return levels.index(level)
        return candidates.preferred


@dataclass(frozen=True, eq=False, slots=True)
class Annotation:
    """An object that is ready to be written.

    Parameters
    ----------
    mask : Mask
    record : dict
        What is kept about it in the layer's features: ``predicted_iou``, ``stability``, ``area``, ``model``,
        ``level`` and ``prompt`` (JSON).
    """

    mask: Mask
    record: dict[str, Any]

    @staticmethod
    def of(offer: Offer) -> Annotation:
        """Annotation of the chosen candidate."""
        choice = offer.choice
        record = {
            "predicted_iou": round(choice.predicted_iou, 4),
            "stability": round(choice.stability, 4),
            "area": choice.area,
            "model": offer.model,
            "level": choice.level,
            "prompt": describe(offer.prompts),
        }
        return Annotation(choice.mask, record)


def describe(prompts: Prompts) -> str:
    """Prompts as one line of JSON: points ``[y, x, sign]``, half-open box, area of a drawn mask."""
    said: dict[str, Any] = {}
    if prompts.points:
        said["points"] = [[round(p.y, 2), round(p.x, 2), 1 if p.positive else 0] for p in prompts.points]
    if prompts.box is not None:
        said["box"] = [round(float(v), 2) for v in prompts.box]
    if prompts.mask is not None:
        said["mask_area"] = prompts.mask.area
    return json.dumps(said, separators=(",", ":"))


def same_prompts(one: Prompts, other: Prompts) -> bool:
    """Whether two prompts say the same."""
    return one.points == other.points and one.box == other.box and same_masks(one.mask, other.mask)


def extends(new: Prompts, old: Prompts) -> bool:
    """Whether ``new`` says what ``old`` said and adds clicks to it.

    Only then may the old logits feed the next click: logits that follow a click which was deleted or moved
    would bring it back.
    """
    return (
        len(new.points) > len(old.points)
        and new.points[: len(old.points)] == old.points
        and new.box == old.box
        and same_masks(new.mask, old.mask)
    )


@dataclass(frozen=True, eq=False, slots=True)
class Request:
    """One object to predict.

    Parameters
    ----------
    prompts : Prompts
    kept : Offer, optional
        An offer that still holds: there is nothing to compute.
    before : Offer, optional
        The offer before the last click, whose chosen logits the decoder is given.
    chosen : int, optional
        The choice to keep.
    """

    prompts: Prompts
    kept: Offer | None = None
    before: Offer | None = None
    chosen: int | None = None


def plan(wanted: Sequence[Prompts], offers: Sequence[Offer], source: Hashable) -> tuple[Request, ...]:
    """Match the objects that are asked for with those that were offered before.

    Parameters
    ----------
    wanted : sequence of Prompts
        One for each object.
    offers : sequence of Offer
        The offers on show.
    source : hashable
        What is looked at now. Of offers that were seen in something else (with another model or contrast),
        masks and logits are void, and choices hold.
    """
    valid = [o for o in offers if o.source == source]
    return tuple(
        Request(
            prompts,
            kept=next((o for o in valid if same_prompts(o.prompts, prompts)), None),
            before=next((o for o in valid if extends(prompts, o.prompts)), None),
            chosen=next((o.chosen for o in offers if same_prompts(o.prompts, prompts)), None),
        )
        for prompts in wanted
    )


def same_masks(one: Mask | None, other: Mask | None) -> bool:
    """Whether two masks hold the same pixels."""
    if one is None or other is None:
        return one is other
    return one.box == other.box and np.array_equal(one.pixels, other.pixels)
