"""The image whose intensities are measured where labels are exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels

from napari_sam._napari.coordinates import finest, layer_shape
from napari_sam._napari.layers import is_own

if TYPE_CHECKING:
    from napari.components import ViewerModel

MEASURES = ("table", "geojson")
"""Formats that have room for intensities."""


def intensities(
    viewer: ViewerModel, labels: Labels, chosen: Image | None, format_name: str
) -> tuple[Any, str]:
    """Find the image that labels were made on, or else the chosen one, if it has the same pixels.

    Parameters
    ----------
    viewer : ViewerModel
    labels : Labels
    chosen : Image, optional
        The image that is segmented now.
    format_name : str
        Name of the format to export to.

    Returns
    -------
    array or None
        The image's pixels, its colours last; None if there are none, or no room for them in the format.
    str
        Whose intensities are written, as the end of a sentence; empty if none are.
    """
    made_on = [layer for layer in viewer.layers if isinstance(layer, Image) and is_own(labels, layer)]
    for image in [*made_on, chosen] if format_name in MEASURES else []:
        if image is not None and layer_shape(image) == layer_shape(labels):
            return finest(image), f", with the intensities of {image.name!r}"
    return None, ""
