"""A candidate as a small picture: the image around the object, the mask on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap

from napari_sam.image import RGB
from napari_sam.masks import Box, Mask

TINT = np.array([255, 196, 0], np.float32)
"""Colour of the mask: not among the usual stains and fluorophores."""
MARGIN = 0.25
"""Part of the object's size that is shown around it."""


def common_view(masks: Sequence[Mask], shape: tuple[int, int]) -> Box:
    """Square-ish whole-pixel box around several masks, so that their pictures can be compared.

    Parameters
    ----------
    masks : sequence of Mask
    shape : tuple of int
        (H, W) of the plane.
    """
    boxes = [m.box for m in masks if m.pixels.size]
    if not boxes:
        return Box(0, 0, *shape)
    box = Box.union(boxes)
    side = max(box.height, box.width, 16) * (1 + 2 * MARGIN)
    y, x = (box.y0 + box.y1) / 2, (box.x0 + box.x1) / 2
    return Box(y - side / 2, x - side / 2, y + side / 2, x + side / 2).clip(shape)


def thumbnail(rgb: RGB, mask: Mask, view: Box, size: int) -> RGB:
    """Picture of a mask on its image.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)
    mask : Mask
    view : Box
        Whole-pixel part of the plane to show.
    size : int
        Longest side of the picture in pixels of the screen, about; large views are thinned out.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
        The image, darker outside the mask, with the mask's rim in `TINT`.
    """
    step = max(1, int(max(view.height, view.width) // size))
    picture = rgb[view.slices][::step, ::step].astype(np.float32)
    inside = mask.crop(view)[::step, ::step]
    tinted = np.where(inside[..., None], 0.75 * picture + 0.25 * TINT, 0.55 * picture).astype(np.uint8)
    tinted[inside & ~_eroded(inside)] = TINT
    return tinted


def to_pixmap(picture: RGB, size: int, ratio: float = 1.0) -> QPixmap:
    """Picture of the screen, its longest side ``size`` device-independent pixels."""
    height, width = picture.shape[:2]
    data = np.ascontiguousarray(picture)
    image = QImage(data.data, width, height, 3 * width, QImage.Format.Format_RGB888)
    side = int(size * ratio)
    pixmap = QPixmap.fromImage(image).scaled(
        side, side, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
    pixmap.setDevicePixelRatio(ratio)
    return pixmap


def _eroded(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours are inside too; beyond the picture counts as inside."""
    padded = np.pad(inside, 1, constant_values=True)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
