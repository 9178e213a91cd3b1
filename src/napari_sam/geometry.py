"""The invertible frame between image pixels and model pixels, and the window of a mask's logits.

Three grids are in play, all with pixel centres at integers and the order (y, x):

* **image pixels** of the plane the person sees, shape (H, W);
* **model pixels**: the plane resized for the encoder, shape (h, w), before padding;
* **logit cells**: the decoder's low-resolution output, ``stride`` model pixels each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.interpolation import (
    Axis,
    Float,
    area_matrix,
    cell_matrix,
    covered,
    reach,
    separable,
    span_matrix,
)
from napari_sam.masks import Box, Mask
from napari_sam.strips import bands, mask_in_strips

SMALL_MASK = 2**17
"""Image pixels of a box up to which a mask is computed at once: strips would take longer."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How a plane was resized for the encoder.

    Parameters
    ----------
    image_shape : tuple of int
        (H, W) in image pixels.
    model_shape : tuple of int
        (h, w) in model pixels, without padding.
    centred : bool
        Where a click lands. ``True`` maps pixel centres on pixel centres. ``False`` multiplies the
        coordinates only, as the reference SAM does, so that official weights get what they were trained on.
    """

    image_shape: tuple[int, int]
    model_shape: tuple[int, int]
    centred: bool = False

    @property
    def scale(self) -> tuple[float, float]:
        """Model pixels per image pixel, (y, x)."""
        (height, width), (h, w) = self.image_shape, self.model_shape
        return h / height, w / width

    def to_model(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Image pixels to model pixels; ``points`` has the shape (..., 2) in the order (y, x)."""
        scale = np.array(self.scale)
        shift = (scale - 1) / 2 if self.centred else 0.0
        return np.asarray(points, np.float64) * scale + shift

    def to_image(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Model pixels to image pixels, the inverse of `to_model`."""
        scale = np.array(self.scale)
        shift = (scale - 1) / 2 if self.centred else 0.0
        return (np.asarray(points, np.float64) - shift) / scale

    @staticmethod
    def longest_side(image_shape: tuple[int, int], side: int) -> Frame:
        """Frame that brings the longest side to ``side`` model pixels (SAM's pre-processing)."""
        factor = side / max(image_shape)
        h, w = (max(1, int(n * factor + 0.5)) for n in image_shape)
        return Frame(image_shape, (h, w))

    @staticmethod
    def scaled(image_shape: tuple[int, int], factor: float) -> Frame:
        """Frame that multiplies both sides by ``factor``."""
        h, w = (max(1, round(n * factor)) for n in image_shape)
        return Frame(image_shape, (h, w), centred=True)


@dataclass(frozen=True, slots=True)
class Window:
    """Where a grid of logits lies.

    Parameters
    ----------
    frame : Frame
    origin : tuple of int
        Model pixel (y, x) of the corner of the first cell; may be negative.
    stride : int
        Model pixels per cell.
    shape : tuple of int
        Number of cells (rows, columns).

    Notes
    -----
    Logits are brought to image pixels by one matrix for the rows and one for the columns (see
    `napari_sam.interpolation`): any part of a mask costs two small matrix products, and only the part that
    is needed is computed.
    """

    frame: Frame
    origin: tuple[int, int]
    stride: int
    shape: tuple[int, int]

    def axis(self, number: int) -> Axis:
        """Rows (0) or columns (1) by themselves."""
        frame = self.frame
        return Axis(
            frame.image_shape[number],
            frame.model_shape[number],
            self.origin[number],
            self.stride,
            self.shape[number],
        )

    @property
    def image_box(self) -> Box:
        """Whole-pixel box of the plane whose pixel centres lie in the window."""
        (y0, y1), (x0, x1) = covered(self.axis(0)), covered(self.axis(1))
        return Box(y0, x0, y1, x1)

    def matrix(self, axis: int, start: int, stop: int) -> Float:
        """Interpolation matrix of one axis.

        Parameters
        ----------
        axis : {0, 1}
            Rows or columns.
        start, stop : int
            Range of image pixels along the axis.

        Returns
        -------
        ndarray of float32, shape (stop - start, shape[axis])
            Its product with the logits gives the logits at the image pixels.
        """
        own = self.axis(axis)
        lo, hi = covered(own)
        if lo <= start and stop <= hi:
            return span_matrix(own, lo, hi)[start - lo : stop - lo]
        return span_matrix(own, start, stop)

    def upsample(self, logits: Float, box: Box | None = None) -> Float:
        """Logits at image pixels.

        Parameters
        ----------
        logits : ndarray of float32, shape (rows, columns)
        box : Box, optional
            Whole-pixel box of the plane; all that the window covers if not given.

        Returns
        -------
        ndarray of float32, shape (box height, box width)
        """
        box = self.image_box if box is None else box
        own = self.cells(box)
        rows = self.matrix(0, int(box.y0), int(box.y1))[:, own[0]]
        cols = self.matrix(1, int(box.x0), int(box.x1))[:, own[1]]
        return separable(rows, logits[own], cols)

    def cells(self, box: Box) -> tuple[slice, slice]:
        """Rows and columns of the cells that the pixels of a whole-pixel box are interpolated from."""
        rows = reach(self.axis(0), int(box.y0), int(box.y1))
        columns = reach(self.axis(1), int(box.x0), int(box.x1))
        return slice(*rows), slice(*columns)

    def support(self, logits: Float, threshold: float) -> Box:
        """Box outside of which no image pixel's logit is greater than ``threshold``.

        Interpolated values never exceed their neighbours, so it is enough to look at the cells above the
        threshold and at one cell more on each side.
        """
        above = logits > threshold
        rows, cols = np.flatnonzero(above.any(1)), np.flatnonzero(above.any(0))
        if rows.size == 0:
            return Box(0, 0, 0, 0)
        limits = []
        for axis, hit in ((0, rows), (1, cols)):
            start = (int(hit[0]) - 1) * self.stride + self.origin[axis]
            stop = (int(hit[-1]) + 2) * self.stride + self.origin[axis]
            factor = 1 / self.frame.scale[axis]
            limits.append((start * factor - factor - 1, stop * factor + factor + 1))
        (y0, y1), (x0, x1) = limits
        return Box(y0, x0, y1, x1).clip(self.frame.image_shape).intersect(self.image_box)

    def mask(self, logits: Float, threshold: float = 0.0) -> Mask:
        """Mask of the image pixels whose interpolated logit is greater than ``threshold``."""
        return self._outline(logits, (threshold,))[0]

    def stability(self, logits: Float, threshold: float = 0.0, offset: float = 1.0) -> float:
        """Stability score: IoU of the masks at ``threshold`` plus and minus ``offset`` (paper, section 5).

        Returns
        -------
        float
            In [0, 1]; 0 where even the larger mask is empty.
        """
        return self.mask_and_stability(logits, threshold, offset)[1]

    def mask_and_stability(
        self, logits: Float, threshold: float = 0.0, offset: float = 1.0
    ) -> tuple[Mask, float]:
        """Return `mask` and `stability` at the cost of one of them."""
        mask, (larger, smaller) = self._outline(logits, (threshold, threshold - offset, threshold + offset))
        return mask, smaller / larger if larger else 0.0

    def _outline(self, logits: Float, thresholds: tuple[float, ...]) -> tuple[Mask, list[int]]:
        """Mask at the first threshold, and the number of pixels above each of the others."""
        box = self.support(logits, min(thresholds))
        if box.empty:
            return Mask(0, 0, np.zeros((0, 0), bool)), [0] * len(thresholds[1:])
        if box.height * box.width <= SMALL_MASK:
            full = self.upsample(logits, box)
            sizes = [int(np.count_nonzero(full > threshold)) for threshold in thresholds[1:]]
            return Mask.of_own(full > thresholds[0], int(box.y0), int(box.x0)), sizes
        rows, columns = (bands(self.axis(a)).within(int(box[a]), int(box[a + 2])) for a in (0, 1))
        inside, sizes = mask_in_strips(logits, rows, columns, thresholds)
        return Mask.of_own(inside, rows.start, columns.start), sizes

    def cuts(self, mask: Mask) -> bool:
        """Whether a mask runs along an edge of the window that is not an edge of the plane."""
        if not mask.pixels.size:
            return False
        (height, width), seen, box = self.frame.image_shape, self.image_box, mask.box
        sides = (
            (seen.y0 > 0 and box.y0 <= seen.y0, mask.pixels[0]),
            (seen.x0 > 0 and box.x0 <= seen.x0, mask.pixels[:, 0]),
            (seen.y1 < height and box.y1 >= seen.y1, mask.pixels[-1]),
            (seen.x1 < width and box.x1 >= seen.x1, mask.pixels[:, -1]),
        )
        length = sum(int(np.count_nonzero(edge)) for touching, edge in sides if touching)
        return bool(length > 0.25 * np.sqrt(mask.area))

    def sample_mask(self, mask: Mask, inside: float, outside: float) -> Float:
        """Logits of the window that speak for a given mask.

        Parameters
        ----------
        mask : Mask
            In image pixels.
        inside, outside : float
            Logit of a cell that lies wholly in, or out of, the mask; partly covered cells lie between.

        Returns
        -------
        ndarray of float32, shape ``shape``
        """
        box = self.image_box
        rows = area_matrix(self.axis(0), int(box.y0), int(box.y1))
        cols = area_matrix(self.axis(1), int(box.x0), int(box.x1))
        share = separable(rows, mask.crop(box).astype(np.float32), cols)
        return (outside + (inside - outside) * np.clip(share, 0, 1)).astype(np.float32)

    def resample(self, logits: Float, target: Window, outside: float) -> Float:
        """The same logits on another window of the same plane; ``outside`` where they say nothing."""
        if target == self:
            return logits
        rows, row_ok = cell_matrix(self.axis(0), target.axis(0))
        cols, col_ok = cell_matrix(self.axis(1), target.axis(1))
        moved = separable(rows, logits, cols)
        return np.where(row_ok[:, None] & col_ok[None], moved, np.float32(outside)).astype(np.float32)
