"""The invertible frame between image pixels and model pixels, and the window of a mask's logits.

Three grids are in play, all with pixel centres at integers and the order (y, x):

* **image pixels** of the plane the person sees, shape (H, W);
* **model pixels**: the plane resized for the encoder, shape (h, w), before padding;
* **logit cells**: the decoder's low-resolution output, ``stride`` model pixels each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import floor

import numpy as np
from numpy.typing import NDArray

from napari_sam.masks import Box, Mask

Float = NDArray[np.float32]

BLOCK = 256
"""Side, in image pixels, of the blocks in which large masks are computed."""
SMALL_PRODUCT = 2**18
"""Multiplications in a matrix product up to which numpy's library computes it in the calling thread."""


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
    Logits are brought to image pixels by two bilinear interpolations, first to model pixels, then to image
    pixels, as the reference SAM does (half-pixel centres, borders repeated). Both are linear and separable,
    so together they are one matrix for the rows and one for the columns: any part of a mask costs two small
    matrix products, and only the part that is needed is computed.
    """

    frame: Frame
    origin: tuple[int, int]
    stride: int
    shape: tuple[int, int]

    @property
    def image_box(self) -> Box:
        """Whole-pixel box of the plane whose pixel centres lie in the window."""
        spans = [
            _covered(
                self.frame.image_shape[a],
                self.frame.model_shape[a],
                self.origin[a],
                self.stride * self.shape[a],
            )
            for a in (0, 1)
        ]
        return Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1])

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
        args = (
            self.frame.image_shape[axis],
            self.frame.model_shape[axis],
            self.origin[axis],
            self.stride,
            self.shape[axis],
        )
        lo, hi = self.image_box[axis], self.image_box[axis + 2]
        if lo <= start and stop <= hi:
            return _span_matrix(*args, int(lo), int(hi))[start - int(lo) : stop - int(lo)]
        return _span_matrix(*args, start, stop)

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
        return _separable(rows, logits[own], cols)

    def cells(self, box: Box) -> tuple[slice, slice]:
        """Rows and columns of the cells that the pixels of a whole-pixel box are interpolated from."""
        spans = [
            _reach(
                self.frame.image_shape[a],
                self.frame.model_shape[a],
                self.origin[a],
                self.stride,
                self.shape[a],
                int(box[a]),
                int(box[a + 2]),
            )
            for a in (0, 1)
        ]
        return slice(*spans[0]), slice(*spans[1])

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
        mask, sizes = self._outline(logits, (threshold, threshold - offset, threshold + offset))
        return mask, sizes[2] / sizes[1] if sizes[1] else 0.0

    def _outline(self, logits: Float, thresholds: tuple[float, ...]) -> tuple[Mask, list[int]]:
        """Mask at the first threshold, and the number of pixels above each of them.

        Only blocks in which a logit crosses a threshold are interpolated: the others lie wholly inside or
        outside, so that a mask of a very large plane costs as much as its outline.
        """
        sizes = [0] * len(thresholds)
        box = self.support(logits, min(thresholds))
        if box.height <= 0 or box.width <= 0:
            return Mask(0, 0, np.zeros((0, 0), bool)), sizes
        inside = np.zeros((int(box.height), int(box.width)), bool)
        for block in box.split(BLOCK):
            own = self.cells(block)
            part = logits[own]
            low, high = float(part.min()), float(part.max())
            doubt = 1e-5 * max(abs(low), abs(high))  # more than the interpolation rounds
            full: Float | None = None
            for k, threshold in enumerate(thresholds):
                if high + doubt <= threshold:
                    continue
                if low - doubt > threshold:
                    above: NDArray[np.bool_] | bool = True
                    sizes[k] += int(block.height * block.width)
                else:
                    full = self.upsample(logits, block) if full is None else full
                    above = full > threshold
                    sizes[k] += int(np.count_nonzero(above))
                if k == 0:
                    inside[block.shift(-box.y0, -box.x0).slices] = above
        return Mask.from_plane(inside, int(box.y0), int(box.x0)), sizes

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
        rows = _area_matrix(self, 0, int(box.y0), int(box.y1))
        cols = _area_matrix(self, 1, int(box.x0), int(box.x1))
        covered = _separable(rows, mask.crop(box).astype(np.float32), cols)
        return (outside + (inside - outside) * np.clip(covered, 0, 1)).astype(np.float32)

    def resample(self, logits: Float, target: Window, outside: float) -> Float:
        """The same logits on another window of the same plane; ``outside`` where they say nothing."""
        if target == self:
            return logits
        rows, row_ok = _cell_matrix(self, target, 0)
        cols, col_ok = _cell_matrix(self, target, 1)
        moved = _separable(rows, logits, cols)
        return np.where(row_ok[:, None] & col_ok[None], moved, np.float32(outside)).astype(np.float32)


def _separable(rows: Float, plane: Float, columns: Float) -> Float:
    """``rows @ plane @ columns.T``."""
    return _product(_product(rows, plane), columns.T)


def _product(a: Float, b: Float) -> Float:
    """``a @ b``, a few rows at a time, so that it is computed in the calling thread.

    The other threads of numpy's library would have to wait for those of torch, which spin for some
    milliseconds after the decoder has run: several times as long as the product takes.
    """
    (height, depth), width = a.shape, b.shape[1]
    if not height * depth * width:
        return np.zeros((height, width), np.float32)
    strip = max(1, SMALL_PRODUCT // (depth * width))
    out = np.empty((height, width), np.float32)
    whole = height - height % strip
    np.matmul(a[:whole].reshape(-1, strip, depth), b, out=out[:whole].reshape(-1, strip, width))
    np.matmul(a[whole:], b, out=out[whole:])
    return out


def _linear(
    position: NDArray[np.floating], size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Neighbours and weight of the upper one for half-pixel bilinear interpolation with repeated borders."""
    position = np.clip(position, 0, size - 1)
    low = np.floor(position).astype(np.intp)
    return low, np.minimum(low + 1, size - 1), position - low


@lru_cache(maxsize=1024)
def _covered(image: int, model: int, origin: int, length: int) -> tuple[int, int]:
    """First and one-past-last image pixel whose centre lies in ``[origin, origin + length)`` model pixels."""
    ratio = image / model
    start = int(np.ceil(origin * ratio - 0.5))
    stop = int(np.ceil((origin + length) * ratio - 0.5))
    return min(max(start, 0), image), min(max(stop, 0), image)


@lru_cache(maxsize=4096)
def _reach(
    image: int, model: int, origin: int, stride: int, cells: int, start: int, stop: int
) -> tuple[int, int]:
    """First and one-past-last cell that the image pixels ``start`` to ``stop - 1`` draw from."""
    ratio = model / image
    first, last = (min(max((p + 0.5) * ratio - 0.5, 0), model - 1) for p in (start, stop - 1))
    ends = (floor(first), min(floor(last) + 1, model - 1))
    low, high = (min(max((e - origin + 0.5) / stride - 0.5, 0), cells - 1) for e in ends)
    return floor(low), min(floor(high) + 2, cells)


@lru_cache(maxsize=256)
def _span_matrix(
    image: int, model: int, origin: int, stride: int, cells: int, start: int, stop: int
) -> Float:
    """Matrix (stop - start, cells) of both interpolations of one axis."""
    pixel = np.arange(start, stop)
    matrix = np.zeros((len(pixel), cells))
    index = np.arange(len(pixel))
    low, high, weight = _linear((pixel + 0.5) * (model / image) - 0.5, model)
    for column, share in ((low, 1 - weight), (high, weight)):
        cell_low, cell_high, part = _linear((column - origin + 0.5) / stride - 0.5, cells)
        np.add.at(matrix, (index, cell_low), share * (1 - part))
        np.add.at(matrix, (index, cell_high), share * part)
    out = matrix.astype(np.float32)
    out.setflags(write=False)
    return out


def _area_matrix(window: Window, axis: int, start: int, stop: int) -> Float:
    """Matrix (cells, stop - start): the part of each cell's length that each image pixel covers."""
    ratio = window.frame.scale[axis]
    cell = window.origin[axis] + window.stride * np.arange(window.shape[axis])[:, None]
    low = np.arange(start, stop)[None] * ratio
    common = np.minimum(cell + window.stride, low + ratio) - np.maximum(cell, low)
    return (np.clip(common, 0, None) / window.stride).astype(np.float32)


def _cell_matrix(source: Window, target: Window, axis: int) -> tuple[Float, NDArray[np.bool_]]:
    """Bilinear matrix (target cells, source cells) and which target cells lie in the source."""
    centre = target.origin[axis] + target.stride * (np.arange(target.shape[axis]) + 0.5)
    centre *= source.frame.scale[axis] / target.frame.scale[axis]
    position = np.asarray((centre - source.origin[axis]) / source.stride - 0.5, np.float64)
    size = source.shape[axis]
    low, high, weight = _linear(position, size)
    matrix = np.zeros((target.shape[axis], size))
    index = np.arange(target.shape[axis])
    np.add.at(matrix, (index, low), 1 - weight)
    np.add.at(matrix, (index, high), weight)
    return matrix.astype(np.float32), (position > -1) & (position < size)
