"""Candidates: the masks that the decoder offers for one prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Window
from napari_sam.image import RGB
from napari_sam.masks import Mask

SINGLE = 0
"""Output of the decoder for a prompt that is not ambiguous; 1 to 3 are the three ambiguity masks."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One mask as the decoder gave it.

    Parameters
    ----------
    logits : ndarray of float32, shape (h, w)
        Low-resolution logits; greater than 0 is inside.
    window : Window
        Where the logits lie in the image.
    predicted_iou : float
        The model's own estimate of the mask's quality, about 0 to 1.
    level : int
        0 for the single-mask output, 1 to 3 for the ambiguity masks (sub-part, part, whole).
    """

    logits: NDArray[np.float32]
    window: Window
    predicted_iou: float
    level: int

    @cached_property
    def mask(self) -> Mask:
        """The mask in image pixels at full resolution."""
        return self.window.mask(self.logits)

    @cached_property
    def stability(self) -> float:
        """Stability score in [0, 1]: how little the mask depends on the threshold (paper, section 5)."""
        return self.window.stability(self.logits)

    @property
    def area(self) -> int:
        """Area in pixels of the image."""
        return self.mask.area

    @property
    def picture(self) -> RGB | None:
        """The part of a large plane in which the mask was found; None if that is the whole plane."""
        return None

    @property
    def picture_mask(self) -> Mask:
        """The mask in pixels of what was encoded: of `picture`, where that is not the whole plane."""
        return self.mask


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates offered for one prompt and the one that is preferred.

    Parameters
    ----------
    items : tuple of Candidate
        Three candidates. For an ambiguous prompt the three ambiguity masks in the decoder's order; otherwise
        the single mask first, then the two best of the three.
    preferred : int
        Index of the one to show first.
    """

    items: tuple[Candidate, ...]
    preferred: int

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.items)

    def __iter__(self) -> Iterator[Candidate]:
        """Walk through the candidates as they are offered."""
        return iter(self.items)

    def __getitem__(self, index: int) -> Candidate:
        """Return one candidate."""
        return self.items[index]

    @property
    def best(self) -> Candidate:
        """The preferred candidate."""
        return self.items[self.preferred]

    @staticmethod
    def levels(iou: NDArray[np.float32], *, ambiguous: bool) -> list[int]:
        """Which of the decoder's outputs to offer, in the order in which they are offered.

        Parameters
        ----------
        iou : ndarray of float32, shape (4,)
            Predicted IoU; output 0 is the single mask.
        ambiguous : bool
            Whether the prompt was one point only (paper, section 3, "Resolving ambiguity").
        """
        three = list(range(1, len(iou)))
        return three if ambiguous else [SINGLE, *sorted(three, key=lambda k: -iou[k])[:2]]

    @staticmethod
    def offer(
        logits: NDArray[np.float32], iou: NDArray[np.float32], levels: Sequence[int], window: Window
    ) -> Candidates:
        """Candidates of the outputs that `levels` chose.

        Parameters
        ----------
        logits : ndarray of float32, shape (len(levels), h, w)
        iou : ndarray of float32, shape (4,)
            Predicted IoU of all outputs.
        levels : sequence of int
        window : Window
        """
        items = tuple(
            Candidate(plane, window, float(iou[level]), level)
            for plane, level in zip(logits, levels, strict=True)
        )
        preferred = 0 if SINGLE in levels else int(np.argmax(iou[list(levels)]))
        return Candidates(items, preferred)
