"""The embedding: what the encoder made of one plane, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_sam.geometry import Frame
from napari_sam.masks import Box

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Embedding:
    """Features of one plane, computed once and used by every prompt.

    Parameters
    ----------
    features : mapping of str to Tensor
        For SAM ``{"image": (1, 256, 64, 64)}``; for the built-in model its levels and the plane itself.
    frame : Frame
        How the plane was resized for the encoder.
    model_id : str
        Identity of the weights that made it.
    pixels : str
        `napari_sam.image.fingerprint` of the picture that was encoded.
    seconds : float
        How long the encoder took.
    """

    features: Mapping[str, Tensor]
    frame: Frame
    model_id: str
    pixels: str
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """What the embedding may be found by: the picture's pixels and the model."""
        return self.pixels, self.model_id

    @property
    def nbytes(self) -> int:
        """Memory held by the features in bytes."""
        return sum(t.numel() * t.element_size() for t in self.features.values())


@dataclass(frozen=True, eq=False)
class TiledEmbedding(Embedding):
    """A plane of which the tiles were embedded, each by itself, as other programs do.

    Parameters
    ----------
    tiles : tuple of (Box, Box)
        What each tile is meant for, and what was encoded, in pixels of the plane.
    load : callable
        Gives the embedding of a tile by its number.
    """

    tiles: tuple[tuple[Box, Box], ...] = ()
    load: Callable[[int], Embedding] = field(kw_only=True)
