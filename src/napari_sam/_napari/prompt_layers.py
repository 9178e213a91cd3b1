"""What the layers of a person say about one plane: points, shapes and labels as prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Points, Shapes
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi
from skimage.draw import polygon2mask

from napari_sam._napari.coordinates import Float, PlaneIndex, finest, on_show, to_image_pixels
from napari_sam._napari.layers import is_own
from napari_sam._napari.signs import negative_rows
from napari_sam.masks import Box, Mask, masks_of_labels
from napari_sam.prompts import Point, Prompts

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

PromptLayer = Points | Shapes | Labels

_SCRIBBLE_SPACING = 12.0
_SCRIBBLE_POINTS = 8
_ELLIPSE_CORNERS = 48


@dataclass(frozen=True, eq=False, slots=True)
class Said:
    """One thing that a layer says.

    Parameters
    ----------
    key : hashable
        The same as long as it is not edited.
    prompts : Prompts
        A point, a box, a mask with its box, or the points of a scribble.
    row : int
        Its row in a Points or Shapes layer, or the id of a label.
    """

    key: Hashable
    prompts: Prompts
    row: int


@dataclass(frozen=True, eq=False, slots=True)
class Ground:
    """The plane that prompts are read for.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
    plane : PlaneIndex
    shape : tuple of int
        (H, W) of the plane.
    """

    viewer: ViewerModel
    image: Image
    plane: PlaneIndex
    shape: tuple[int, int]

    def holds(self, pixels: Float, data: ArrayLike, layer: PromptLayer) -> NDArray[np.bool_]:
        """Tell which positions lie on the plane, given in pixels of the image and in the layer's data."""
        here = self.plane.holds(pixels)
        if layer.ndim > self.image.ndim:
            here &= on_show(data, layer, self.image, viewer=self.viewer)
        return here

    def pixels(self, data: ArrayLike, layer: PromptLayer) -> Float:
        """Positions of a layer's data coordinates in the image, shape (N, image.ndim)."""
        lead = self.image.ndim - layer.ndim
        if is_own(layer, self.image) and lead >= 0:
            own = np.asarray(data, float).reshape(-1, layer.ndim)
            return np.pad(own, ((0, 0), (lead, 0)), constant_values=np.nan)
        # Rounded so that the same click does not differ in the last digits when a layer changes its units.
        return np.round(to_image_pixels(data, layer, self.image, viewer=self.viewer), 6)


def lie_on(grounds: Iterable[Ground], layer: PromptLayer | None, data: Float) -> NDArray[np.bool_]:
    """Tell which of a layer's coordinates, shape (N, D), lie on some planes; all, if it is not there."""
    here = np.full(len(data), layer is None)
    for ground in grounds if layer is not None else ():
        here |= ground.holds(ground.pixels(data, layer), data, layer)
    return here


def read_layer(layer: PromptLayer, ground: Ground) -> list[Said]:
    """List what a layer says about a plane, in the order in which it was said.

    Parameters
    ----------
    layer : Points, Shapes or Labels
        Points have the feature ``sign``: ``-`` is background, anything else or no such feature is
        foreground. A rectangle is a box, a polygon or ellipse a mask with its box, a line or path a
        scribble of points with the shape's sign. Each label is a mask.
    ground : Ground
    """
    if isinstance(layer, Points):
        return list(_points(layer, ground))
    if isinstance(layer, Shapes):
        return list(_shapes(layer, ground))
    return list(_labels(layer, ground))


def _points(layer: Points, ground: Ground) -> Iterator[Said]:
    """Clicks on the plane and inside the image."""
    pixels = ground.pixels(layer.data, layer)
    flat = ground.plane.project(pixels)
    here = ground.holds(pixels, layer.data, layer) & layer.shown & _inside(flat, ground.shape)
    negative = negative_rows(layer)
    for row in np.flatnonzero(here):
        point = Point(float(flat[row, 0]), float(flat[row, 1]), not negative[row])
        key = (np.asarray(layer.data[row], float).tobytes(), point.positive)
        yield Said(key, Prompts((point,)), int(row))


def _shapes(layer: Shapes, ground: Ground) -> Iterator[Said]:
    """Boxes, outlines and scribbles on the plane."""
    negative = negative_rows(layer)
    for row, (vertices, kind) in enumerate(zip(layer.data, layer.shape_type, strict=True)):
        pixels = ground.pixels(vertices, layer)
        if not ground.holds(pixels, vertices, layer).all():
            continue
        prompts = shape_prompts(ground.plane.project(pixels), kind, ground.shape, positive=not negative[row])
        if prompts is not None:
            key = (kind, np.asarray(vertices, float).tobytes(), bool(negative[row]))
            yield Said(key, prompts, row)


def _labels(layer: Labels, ground: Ground) -> Iterator[Said]:
    """Each label on the plane as a mask."""
    for label, mask in masks_of_labels(labels_on(layer, ground)).items():
        pixels = hashlib.blake2b(np.packbits(mask.pixels).tobytes(), digest_size=16).digest()
        key = (label, mask.y0, mask.x0, mask.pixels.shape, pixels)
        yield Said(key, Prompts(box=mask.box, mask=mask), label)


def shape_prompts(
    vertices: Float, kind: str, shape: tuple[int, int], *, positive: bool = True
) -> Prompts | None:
    """Turn a drawn shape into prompts.

    Parameters
    ----------
    vertices : ndarray of float, shape (N, 2)
        Corners (y, x) in image pixels, as napari keeps them for this kind of shape.
    kind : {"rectangle", "ellipse", "polygon", "path", "line"}
    shape : tuple of int
        (H, W) of the plane.
    positive : bool
        Sign of a scribble; the others have none.

    Returns
    -------
    Prompts or None
        None if the shape has no pixel inside the plane.
    """
    if kind in ("path", "line"):
        points = scribble(vertices)
        points = points[_inside(points, shape)]
        return Prompts(tuple(Point(float(y), float(x), positive) for y, x in points)) if len(points) else None
    if kind == "rectangle":
        box = box_around(vertices, shape)
        return Prompts(box=box) if box is not None else None
    outline = _ellipse(vertices) if kind == "ellipse" else vertices
    mask = outline_mask(outline, shape)
    return Prompts(box=mask.box, mask=mask) if mask.area else None


def box_around(vertices: Float, shape: tuple[int, int]) -> Box | None:
    """Box of the pixels that corners (y, x), shape (N, 2), enclose, clipped to the plane; None if empty.

    A pixel reaches half a pixel to each side of its centre, hence the half: a rectangle drawn along the
    edges of pixels 0 to 9 is the half-open box from 0 to 10.
    """
    low = np.clip(vertices.min(axis=0) + 0.5, 0, shape)
    high = np.clip(vertices.max(axis=0) + 0.5, 0, shape)
    if (high - low < 1).any():
        return None
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def outline_mask(outline: Float, shape: tuple[int, int]) -> Mask:
    """Mask of the pixels whose centres lie inside a closed outline (y, x), shape (N, 2)."""
    low = np.clip(np.floor(outline.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(outline.max(axis=0)) + 1, 0, shape).astype(int)
    if (high <= low).any():
        return Mask(0, 0, np.zeros((0, 0), bool))
    (y0, x0), (height, width) = low.tolist(), (high - low).tolist()
    return Mask.from_plane(polygon2mask((height, width), outline - low), y0, x0)


def scribble(vertices: Float) -> Float:
    """Points (y, x), shape (N, 2), evenly along an open line, from two to eight by its length."""
    steps = np.hypot(*np.diff(vertices, axis=0).T)
    along = np.concatenate(([0.0], np.cumsum(steps)))
    count = int(np.clip(round(along[-1] / _SCRIBBLE_SPACING) + 1, 2, _SCRIBBLE_POINTS))
    # The ends of a line are where a hand is least exact: the points stay half a step away from them.
    at = (np.arange(count) + 0.5) / count * along[-1]
    return np.stack([np.interp(at, along, vertices[:, k]) for k in (0, 1)], axis=1)


def labels_on(layer: Labels, ground: Ground) -> NDArray[np.integer]:
    """Label image of shape (H, W) as it lies on the plane of the image, nearest neighbour."""
    data = finest(layer)
    corners = ground.plane.embed([[0, 0], [1, 0], [0, 1]])
    corners[np.isnan(corners)] = 0
    own = to_image_pixels(corners, ground.image, layer, viewer=ground.viewer)
    own[np.isnan(own)] = 0
    origin, down, right = own[0], own[1] - own[0], own[2] - own[0]
    moving = np.flatnonzero(~np.isclose(down, 0, atol=1e-9) | ~np.isclose(right, 0, atol=1e-9))
    fixed = [axis for axis in range(layer.ndim) if axis not in moving]
    index: list[int | slice] = [slice(None)] * layer.ndim
    for axis in fixed:
        position = int(np.round(origin[axis]))
        if not 0 <= position < data.shape[axis]:
            return np.zeros(ground.shape, np.int64)
        index[axis] = position
    values = np.asarray(data[tuple(index)])
    matrix = np.stack([down[moving], right[moving]], axis=1)
    same = len(moving) == 2 and np.allclose(matrix, np.eye(2)) and np.allclose(origin[moving], 0)
    if same and values.shape == ground.shape:
        return values
    if len(moving) == 2:
        return ndi.affine_transform(values, matrix, origin[moving], ground.shape, order=0, mode="constant")
    grid = np.moveaxis(np.indices(ground.shape), 0, -1) @ matrix.T + origin[moving]
    return ndi.map_coordinates(values, np.moveaxis(grid, -1, 0), order=0, mode="constant")


def _inside(points: Float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which positions (y, x), shape (N, 2), fall on a pixel of the plane."""
    return ((points >= -0.5) & (points < np.array(shape) - 0.5)).all(axis=1)


def _ellipse(corners: Float) -> Float:
    """Outline of the ellipse in a box with four corners, which may be turned or sheared."""
    centre = corners.mean(axis=0)
    half = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, None]
    return centre + np.cos(angle) * half[0] + np.sin(angle) * half[1]
