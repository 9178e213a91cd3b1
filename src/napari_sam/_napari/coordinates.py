"""Which plane is shown, and where a position of one layer lies in the pixels of another.

Three frames meet here. A layer's *data* coordinates are its pixels (centres are integers). Its *world*
coordinates come from scale, shear, rotate, translate and affine, in the layer's own units. The viewer shows
all layers in common units. `Layer.world_to_data` knows nothing of units, hence the functions of this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pint
    from napari.components import ViewerModel
    from napari.layers import Layer

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


class PlaneError(ValueError):
    """There is no plane to work on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PlaneIndex:
    """One plane of an nD layer, in the layer's own axes.

    Parameters
    ----------
    index : tuple of (int or None)
        One entry an axis: the position on it, or None on the two axes that the plane spans. The colour axis
        of an RGB layer is none of these.
    rows, columns : int
        The axes that run down and to the right, as displayed.
    """

    index: tuple[int | None, ...]
    rows: int
    columns: int

    @property
    def ndim(self) -> int:
        """Number of axes of the layer."""
        return len(self.index)

    @property
    def axes(self) -> tuple[int, int]:
        """The two axes of the plane: (rows, columns)."""
        return self.rows, self.columns

    @property
    def slices(self) -> tuple[int | slice, ...]:
        """What to index the layer's data with; the result still has to be put in display order."""
        return tuple(slice(None) if i is None else i for i in self.index)

    @property
    def flipped(self) -> bool:
        """Whether the data's axes are the other way round than the plane's (rows, columns)."""
        return self.rows > self.columns

    def moved(self, axis: int, position: int) -> PlaneIndex:
        """Return the plane at another position of an axis that is not displayed."""
        index = (*self.index[:axis], position, *self.index[axis + 1 :])
        return PlaneIndex(index, self.rows, self.columns)

    def project(self, points: ArrayLike) -> Float:
        """Positions (y, x) in the plane, shape (N, 2), of points of shape (N, ndim)."""
        return np.asarray(points, float).reshape(-1, self.ndim)[:, self.axes]

    def embed(self, points: ArrayLike) -> Float:
        """Data coordinates, shape (N, ndim), of positions (y, x) in the plane, shape (N, 2)."""
        flat = np.asarray(points, float).reshape(-1, 2)
        full = np.tile(np.array([np.nan if i is None else i for i in self.index]), (len(flat), 1))
        full[:, self.axes] = flat
        return full

    def holds(self, points: ArrayLike) -> Bool:
        """Tell which points of shape (N, ndim) lie on this plane.

        A point lies on the plane that it is nearest to. A coordinate that is not a number stands for "all
        along this axis": the point's layer does not have the axis.
        """
        points = np.asarray(points, float).reshape(-1, self.ndim)
        inside = np.ones(len(points), bool)
        for axis, position in enumerate(self.index):
            if position is not None:
                along = points[:, axis]
                inside &= np.isnan(along) | (np.round(along) == position)
        return inside


def plane_index(viewer: ViewerModel, image_layer: Layer) -> PlaneIndex:
    """Tell which plane of a layer the viewer shows now.

    Parameters
    ----------
    viewer : ViewerModel
    image_layer : Layer
        Any layer with pixels, of any number of axes, transform and units.

    Raises
    ------
    PlaneError
        If the viewer shows a volume, the layer has less than two axes, or the slider stands outside the
        layer.
    """
    ndim = image_layer.ndim
    rows, columns = _displayed(viewer, ndim)
    hidden = [axis for axis in range(ndim) if axis not in (rows, columns)]
    index: list[int | None] = [None] * ndim
    if hidden:
        positions = _at_sliders(viewer, image_layer, hidden, viewer.dims.point)
        sizes = layer_shape(image_layer)
        for axis, position in zip(hidden, positions, strict=True):
            if not 0 <= position < sizes[axis]:
                raise PlaneError(
                    f"The slider stands at {position} of axis {axis}, where the layer "
                    f"{image_layer.name!r} has planes 0 to {sizes[axis] - 1}. Move the slider to the image."
                )
            index[axis] = int(position)
    return PlaneIndex(tuple(index), rows, columns)


def shows_several_planes(viewer: ViewerModel, image_layer: Layer) -> bool:
    """Whether the picture on show is a projection of several planes of a layer."""
    if image_layer.projection_mode == "none" or viewer.dims.ndisplay != 2:
        return False
    displayed = _displayed(viewer, image_layer.ndim)
    hidden = [axis for axis in range(image_layer.ndim) if axis not in displayed]
    dims = viewer.dims
    first, last = (
        _at_sliders(viewer, image_layer, hidden, np.add(dims.point, margin))
        for margin in (np.negative(dims.margin_left), dims.margin_right)
    )
    return bool((first != last).any())


def turn_to_plane(viewer: ViewerModel, image_layer: Layer, plane: PlaneIndex) -> None:
    """Move the sliders so that a plane of a layer is shown; those of axes without a position stay.

    Raises
    ------
    PlaneError
        As `plane_index` does, for the plane that is shown now.
    """
    now = plane_index(viewer, image_layer)
    ndim = image_layer.ndim
    hidden = [axis for axis in range(ndim) if axis not in now.axes]
    wanted = [now.index[a] if plane.index[a] is None else plane.index[a] for a in hidden]
    matrix, offset = _world_to_data(viewer, image_layer)
    places = np.linalg.solve(matrix[np.ix_(hidden, hidden)], np.asarray(wanted, float) - offset[hidden])
    lead = viewer.dims.ndim - ndim
    viewer.dims.set_point([lead + axis for axis in hidden], places.tolist())


def to_image_pixels(
    points: ArrayLike, other_layer: Layer, image_layer: Layer, *, viewer: ViewerModel | None = None
) -> Float:
    """Convert positions from one layer's data coordinates to an image's.

    Parameters
    ----------
    points : array-like, shape (N, D)
        Positions in the data coordinates of ``other_layer``.
    other_layer, image_layer : Layer
        Any scale, translate, rotate, shear, affine and units. Axes are matched from the last one.
    viewer : ViewerModel, optional
        The viewer that shows both. It ignores all units where those of its layers do not fit together, and
        then so does this function. Without it, units are converted axis by axis where they fit.

    Returns
    -------
    ndarray of float, shape (N, image_layer.ndim)
        Positions in image pixels. Leading axes that ``other_layer`` does not have are NaN: such a position
        lies on every plane along them.
    """
    points = np.asarray(points, float).reshape(-1, other_layer.ndim)
    own, ndim = other_layer.ndim, image_layer.ndim
    if same_geometry(other_layer, image_layer):
        return points.copy()
    matrix, offset = _affine(other_layer)
    world = points @ matrix.T + offset
    common = min(own, ndim)
    padded = np.zeros((len(points), ndim))
    ignored = viewer is not None and viewer.dims.units is None
    factors = 1.0 if ignored else unit_factors(other_layer.units[-common:], image_layer.units[-common:])
    padded[:, ndim - common :] = world[:, own - common :] * factors
    matrix, offset = _affine(image_layer)
    pixels = np.linalg.solve(matrix, (padded - offset).T).T
    pixels[:, : ndim - common] = np.nan
    return pixels


def on_show(points: ArrayLike, other_layer: Layer, image_layer: Layer, *, viewer: ViewerModel) -> Bool:
    """Tell which positions are at the viewer's place on the leading axes that an image does not have.

    Parameters
    ----------
    points : array-like, shape (N, D)
        Positions in the data coordinates of ``other_layer``.
    other_layer, image_layer : Layer
    viewer : ViewerModel

    Returns
    -------
    ndarray of bool, shape (N,)
        All True where the image has all axes of the other layer.
    """
    points = np.asarray(points, float).reshape(-1, other_layer.ndim)
    lead = max(other_layer.ndim - image_layer.ndim, 0)
    matrix, offset = _world_to_data(viewer, other_layer)
    here = matrix @ np.asarray(viewer.dims.point, float)[-other_layer.ndim :] + offset
    return (np.round(points[:, :lead]) == np.round(here[:lead])).all(axis=1)


def world_to_pixels(viewer: ViewerModel, image_layer: Layer, position: ArrayLike) -> Float:
    """Convert a position on the canvas to image pixels, as displayed.

    Parameters
    ----------
    viewer : ViewerModel
    image_layer : Layer
    position : array-like, shape (W,)
        World coordinates of the viewer, as in ``viewer.cursor.position`` and a mouse event's ``position``.

    Returns
    -------
    ndarray of float, shape (image_layer.ndim,)
        Position in image pixels; whole numbers on the axes that are not displayed.

    Raises
    ------
    PlaneError
        As `plane_index` does.
    """
    plane = plane_index(viewer, image_layer)
    point = np.asarray(position, float)[-image_layer.ndim :]
    matrix, offset = _affine(image_layer)
    # napari draws a plane with the displayed part of the transform only.
    axes = list(plane.axes)
    shown = point[axes] * _viewer_factors(viewer, image_layer)[axes]
    pixels = np.linalg.solve(matrix[np.ix_(axes, axes)], shown - offset[axes])
    return plane.embed(pixels)[0]


def visible_box(viewer: ViewerModel, image_layer: Layer) -> tuple[float, float, float, float]:
    """Half-open box (y0, x0, y1, x1) in image pixels around what the canvas shows of the plane.

    Not clipped to the image. With a rotated layer the box is the smallest that holds the view.
    """
    plane = plane_index(viewer, image_layer)
    camera, canvas = viewer.scene.camera, viewer.canvas
    height, width = (side / camera.zoom / 2 for side in canvas.size)
    shown = list(viewer.dims.displayed)
    corners = []
    for y, x in ((-height, -width), (-height, width), (height, -width), (height, width)):
        position = np.array(viewer.dims.point, float)
        position[shown] = np.add(camera.center[-2:], (y, x))
        corners.append(plane.project(world_to_pixels(viewer, image_layer, position))[0])
    (y0, x0), (y1, x1) = np.min(corners, axis=0), np.max(corners, axis=0)
    return float(y0) + 0.5, float(x0) + 0.5, float(y1) + 0.5, float(x1) + 0.5


def is_tilted(viewer: ViewerModel, layer: Layer) -> bool:
    """Whether the layer's transform mixes axes on display with others, as in a deskewed stack."""
    axes = list(_displayed(viewer, layer.ndim))
    hidden = [axis for axis in range(layer.ndim) if axis not in axes]
    matrix, _ = _affine(layer)
    mixed = np.abs(matrix[np.ix_(axes, hidden)]), np.abs(matrix[np.ix_(hidden, axes)])
    return any(part.size > 0 and part.max() > 1e-9 * np.abs(matrix).max() for part in mixed)


def shown_affine(viewer: ViewerModel, layer: Layer) -> Float:
    """Data -> world transform as the viewer draws the layer now: without what would tilt the plane.

    Returns
    -------
    ndarray of float, shape (ndim + 1, ndim + 1)
        Homogeneous matrix in the layer's units.
    """
    axes = list(_displayed(viewer, layer.ndim))
    hidden = [axis for axis in range(layer.ndim) if axis not in axes]
    matrix, offset = _affine(layer)
    shown = np.eye(layer.ndim + 1)
    shown[np.ix_(axes, axes)] = matrix[np.ix_(axes, axes)]
    shown[axes, -1] = offset[axes]
    # Across the plane napari goes from world to data, and takes its part of the inverse.
    inverse = np.linalg.inv(matrix)
    across = np.linalg.inv(inverse[np.ix_(hidden, hidden)])
    shown[np.ix_(hidden, hidden)] = across
    shown[hidden, -1] = across @ (inverse @ offset)[hidden]
    return shown


def _displayed(viewer: ViewerModel, ndim: int) -> tuple[int, int]:
    """Axes of a layer with ``ndim`` axes that run down and to the right on the canvas."""
    if viewer.dims.ndisplay != 2:
        raise PlaneError("The viewer shows a volume. Switch it to 2D to click on a plane.")
    if ndim < 2:
        raise PlaneError(f"Expected an image with two axes or more, found {ndim}.")
    lead = viewer.dims.ndim - ndim
    # A layer has the last axes of the viewer; what is left of their order is the layer's order.
    order = [axis - lead for axis in viewer.dims.order if axis >= lead]
    return order[-2], order[-1]


def finest(layer: Layer) -> Any:
    """Pixels of a layer at full resolution."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def layer_shape(layer: Layer) -> tuple[int, ...]:
    """Size of each axis of a layer with pixels, at full resolution, without colours."""
    return tuple(int(n) for n in finest(layer).shape[: layer.ndim])


def _affine(layer: Layer) -> tuple[Float, Float]:
    """Matrix and offset of a layer's data -> world transform, in the layer's units."""
    offset = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), float)
    columns = [np.asarray(layer.data_to_world(unit), float) - offset for unit in np.eye(layer.ndim)]
    return np.stack(columns, axis=1), offset


def _world_to_data(viewer: ViewerModel, layer: Layer) -> tuple[Float, Float]:
    """Matrix and offset from the viewer's world to a layer's data."""
    matrix, offset = _affine(layer)
    inverse = np.linalg.inv(matrix)
    return inverse * _viewer_factors(viewer, layer), -inverse @ offset


def _at_sliders(viewer: ViewerModel, layer: Layer, hidden: list[int], world: ArrayLike) -> NDArray[np.int64]:
    """Positions along the hidden axes of a layer at a point of the viewer's world."""
    matrix, offset = _world_to_data(viewer, layer)
    point = np.asarray(world, float)[-layer.ndim :]
    # Only the sliders count, not where the displayed axes would carry them: so does napari's slicing.
    along = matrix[np.ix_(hidden, hidden)] @ point[hidden] + offset[hidden]
    return np.round(along).astype(np.int64)


def _viewer_factors(viewer: ViewerModel, layer: Layer) -> Float:
    """What a viewer's world coordinates are multiplied with to be in a layer's units."""
    units = viewer.dims.units
    if units is None or len(units) < layer.ndim:
        return np.ones(layer.ndim)
    return unit_factors(units[-layer.ndim :], layer.units)


def unit_factors(source: tuple[pint.Unit, ...], target: tuple[pint.Unit, ...]) -> Float:
    """Length of each source unit in target units; 1 where they measure different things."""
    return np.array([_factor(s, t) for s, t in zip(source, target, strict=True)])


def _factor(source: pint.Unit, target: pint.Unit) -> float:
    """Length of one unit in another."""
    if source == target or source.dimensionality != target.dimensionality:
        return 1.0
    return float((1 * source).to(target).magnitude)


def same_geometry(one: Layer, other: Layer) -> bool:
    """Whether two layers have the same data coordinates, so that nothing needs to be converted."""
    return one.ndim == other.ndim and lies_on(one, other)


def lies_on(layer: Layer, image_layer: Layer) -> bool:
    """Whether a layer has the data coordinates of the last axes of an image."""
    ndim = layer.ndim
    if ndim > image_layer.ndim or layer.units != image_layer.units[-ndim:]:
        return False
    (matrix, offset), (whole, start) = _affine(layer), _affine(image_layer)
    return np.array_equal(matrix, whole[-ndim:, -ndim:]) and np.array_equal(offset, start[-ndim:])
