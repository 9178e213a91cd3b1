"""A viewer with an image whose prompts are read."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_sam._napari.binding import PromptBinding
from napari_sam._napari.coordinates import plane_index


class Bound:
    """A viewer with an image and its binding, and a count of what is told."""

    def __init__(self, shape=(40, 50), **keywords):
        self.viewer = ViewerModel()
        self.image = self.viewer.add_image(np.zeros(shape), name="image", **keywords)
        self.binding = PromptBinding(self.viewer, self.image)
        self.told = 0
        self.binding.prompts_changed.connect(self.tell)

    def tell(self):
        self.told += 1

    @property
    def plane(self):
        return plane_index(self.viewer, self.image)

    def at(self, *flat):
        """Data coordinates of positions (y, x) in the plane on show."""
        return self.plane.embed(flat)

    def news(self):
        """How often something was told since the last call."""
        told, self.told = self.told, 0
        return told

    def points(self):
        return [(p.y, p.x, p.positive) for p in self.binding.read(self.plane).points]
