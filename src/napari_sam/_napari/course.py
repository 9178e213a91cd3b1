"""An object that is followed, and the planes of an image along which it is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Points

from napari_sam._napari.prompt_layers import Ground
from napari_sam.session.trail import Trail

if TYPE_CHECKING:
    from napari_sam._napari.binding import PromptBinding
    from napari_sam._napari.coordinates import PlaneIndex
    from napari_sam._napari.planes import Plane
    from napari_sam.masks import Mask
    from napari_sam.prompts import Prompts
    from napari_sam.propagation import Propagation, PropagationSettings


@dataclass(frozen=True, eq=False)
class Course:
    """Planes of an image along an axis, and the object on them.

    Parameters
    ----------
    planes : sequence of Plane
        Empty if nothing was followed yet.
    axis : int
        The axis of the image along which they lie.
    ground : hashable
        What it is followed on: the model, the image, its contrast (see `Trail`).
    pixels : object, optional
        The image's data: on others, what was followed is over.
    model : str
        Name of the model that follows.
    trail : Trail, optional
        The object, as far as it was followed.
    """

    planes: Sequence[Plane] = ()
    axis: int = 0
    ground: Hashable = None
    pixels: Any = None
    model: str = ""
    trail: Trail | None = None

    @cached_property
    def numbers(self) -> dict[PlaneIndex, int]:
        """Number of each plane."""
        return {plane.index: number for number, plane in enumerate(self.planes)}

    @cached_property
    def places(self) -> dict[PlaneIndex, Mask]:
        """The object's masks by plane, as it was followed."""
        found = self.trail.planes if self.trail is not None else {}
        return self.by_plane({number: one.mask for number, one in found.items()})

    def said(self, binding: PromptBinding | None) -> dict[int, Prompts]:
        """Prompts on each plane that has any, by number, at full resolution."""
        if binding is None or not self.planes:
            return {}
        said = {number: binding.read(self.planes[number].index) for number in self._spoken_of(binding)}
        return {number: prompts for number, prompts in said.items() if prompts}

    def _spoken_of(self, binding: PromptBinding) -> Sequence[int]:
        """Numbers of the planes on which there may be a prompt: it takes long to read a thousand others."""
        places: set[int] = set()
        first = self.planes[0]
        ground = Ground(binding.viewer, binding.image_layer, first.index, first.shape)
        for layer in binding.layers:
            if isinstance(layer, Labels):
                return range(len(self.planes))
            # A shape counts where all its corners are, hence one says enough.
            data = layer.data if isinstance(layer, Points) else [corners[0] for corners in layer.data]
            along = ground.pixels(data, layer)[:, self.axis]
            if np.isnan(along).any():  # on every plane
                return range(len(self.planes))
            places |= set(np.round(along).astype(int).tolist())
        return [number for index, number in self.numbers.items() if index.index[self.axis] in places]

    def by_plane(self, masks: Mapping[int, Mask]) -> dict[PlaneIndex, Mask]:
        """Masks by plane, from masks by number."""
        return {self.planes[number].index: mask for number, mask in masks.items()}

    def take(self, propagation: Propagation) -> Course:
        """Return the course with the object as it is found now."""
        ends = self.trail.ends if self.trail is not None else frozenset()
        trail = Trail(propagation, len(self.planes), self.ground, self.model, ends)
        return replace(self, trail=trail)


def ground_of(
    model_id: str, plane: Plane, axis: int, settings: PropagationSettings, diameter: float | None
) -> Any:
    """What a trail depends on besides what was said: on the same ground, its stretches may be used again."""
    sources = [
        None if s is None else (id(s.data), s.slices, s.transposed, s.contrast, s.gamma, s.stretch)
        for s in plane.sources
    ]
    return model_id, plane.layer_id, axis, plane.index, sources, settings, diameter
