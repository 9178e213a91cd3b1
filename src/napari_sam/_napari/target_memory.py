"""Which labels the objects of each image go into, while images take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from weakref import ref

from napari_sam._napari.layers import is_own, own_layers, role_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

L = TypeVar("L", "Image", "Labels")


class TargetMemory:
    """Remember the labels with which each image was left.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._image: ref[Image] | None = None
        self._left: dict[str, ref[Labels] | None] = {}

    def turn(self, image: Image | None, target: Labels | None) -> Labels | None:
        """Turn to an image: the labels that its objects go into; None stands for new ones.

        An image gets back those that it was left with. One that was not looked at yet gets its own, and those
        of the image before only if it shows the same field: its objects would be cut off by the other's.

        Parameters
        ----------
        image : Image, optional
        target : Labels, optional
            What is chosen now.
        """
        before = self._there(self._image)
        self._image = None if image is None else ref(image)
        if image is None or image is before:
            return target
        if before is not None:
            self._left[str(before.unique_id)] = None if target is None else ref(target)
        if str(image.unique_id) in self._left:
            left = self._left[str(image.unique_id)]
            labels = self._there(left)
            if left is None or labels is not None:
                return labels
        elif target is not None and self._may_stay(target, before, image):
            return target
        own = own_layers(self._viewer, image, "labels")
        return own[-1] if own else None

    def _may_stay(self, target: Labels, before: Image | None, image: Image) -> bool:
        if is_own(target, image):
            return True
        return _may_hold(self._viewer, target, image) if before is None else _same_field(before, image)

    def _there(self, layer: ref[L] | None) -> L | None:
        """Return the layer, if it is still in the window."""
        found = None if layer is None else layer()
        return found if found is not None and found in self._viewer.layers else None


def _may_hold(viewer: ViewerModel, labels: Layer, image_layer: Layer) -> bool:
    """Whether labels may be meant for the objects of an image: not if they were made for quite another one.

    Those of another channel are, see `_same_field`.
    """
    if role_of(labels) is None or is_own(labels, image_layer):
        return True
    made_for = next((x for x in viewer.layers if is_own(labels, x)), None)
    return made_for is not None and _same_field(made_for, image_layer)


def _same_field(one: Layer, other: Layer) -> bool:
    """Whether two images may be channels of one: of one file, or of none and added to each other's light."""
    files = [layer.source.path or layer.metadata.get("path") for layer in (one, other)]
    if None not in files:
        return bool(files[0] == files[1])
    return one.blending == other.blending == "additive"
