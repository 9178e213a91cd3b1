"""The contents of prompt layers as a value, so that an edit of the prompts can be undone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, replace

import numpy as np
from napari.layers import Points, Shapes
from numpy.typing import NDArray

from napari_sam._napari.coordinates import PlaneIndex
from napari_sam._napari.signs import negative_rows, set_signs

Spent = tuple[Hashable, PlaneIndex, Hashable]
"""The adopted layer, the plane, and what was said there."""
Here = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False, slots=True)
class Snapshot:
    """What a Points and a Shapes layer held at a moment.

    Parameters
    ----------
    clicks : ndarray of float, shape (N, D)
        Data coordinates of the points.
    negative_clicks : ndarray of bool, shape (N,)
    shapes : tuple of ndarray of float, each of shape (V, D)
        Data coordinates of the shapes' corners.
    kinds : tuple of str
        ``shape_type`` of each shape.
    negative_shapes : ndarray of bool
    spent : frozenset of Spent
        What of adopted layers was used up.
    """

    clicks: NDArray[np.float64]
    negative_clicks: NDArray[np.bool_]
    shapes: tuple[NDArray[np.float64], ...]
    kinds: tuple[str, ...]
    negative_shapes: NDArray[np.bool_]
    spent: frozenset[Spent] = frozenset()

    @staticmethod
    def of(points: Points | None, shapes: Shapes | None, spent: frozenset[Spent] = frozenset()) -> Snapshot:
        """Note what the layers hold now."""
        nothing = np.zeros(0, bool)
        return Snapshot(
            np.empty((0, 0)) if points is None else np.array(points.data, float),
            nothing if points is None else negative_rows(points),
            () if shapes is None else tuple(np.array(v, float) for v in shapes.data),
            () if shapes is None else tuple(str(kind) for kind in shapes.shape_type),
            nothing if shapes is None else negative_rows(shapes),
            spent,
        )

    def within(self, clicks: Here, shapes: Here, planes: Collection[PlaneIndex], now: Snapshot) -> Snapshot:
        """Return what there is ``now``, but this on some planes.

        Parameters
        ----------
        clicks, shapes : callable
            Tells of data coordinates, shape (N, D), of the points or of one shape, which lie there.
        planes : collection of PlaneIndex
        now : Snapshot
        """
        mine, theirs = self._clicks_in(clicks), ~now._clicks_in(clicks)
        drawn = [k for k, v in enumerate(self.shapes) if shapes(v).all()]
        kept = [k for k, v in enumerate(now.shapes) if not shapes(v).all()]
        # A layer that was not there has clicks of no dimension.
        clicked = [part for part in (now.clicks[theirs], self.clicks[mine]) if len(part)]
        return replace(
            self,
            clicks=np.concatenate(clicked) if clicked else np.empty((0, 0)),
            negative_clicks=np.concatenate([now.negative_clicks[theirs], self.negative_clicks[mine]]),
            shapes=(*(now.shapes[k] for k in kept), *(self.shapes[k] for k in drawn)),
            kinds=(*(now.kinds[k] for k in kept), *(self.kinds[k] for k in drawn)),
            negative_shapes=np.concatenate([now.negative_shapes[kept], self.negative_shapes[drawn]]),
            spent=frozenset(
                {one for one in now.spent if one[1] not in planes}
                | {one for one in self.spent if one[1] in planes}
            ),
        )

    def _clicks_in(self, here: Here) -> NDArray[np.bool_]:
        return here(self.clicks) if len(self.clicks) else np.zeros(0, bool)

    def put_clicks(self, layer: Points) -> None:
        """Make a layer hold these clicks and no others."""
        layer.selected_data = set()
        layer.data = self.clicks if len(self.clicks) else np.empty((0, layer.ndim))
        set_signs(layer, self.negative_clicks)

    def put_shapes(self, layer: Shapes) -> None:
        """Make a layer hold these shapes and no others."""
        layer.selected_data = set()
        if len(layer.data):
            layer.remove(list(range(len(layer.data))))
        if self.shapes:
            layer.add(list(self.shapes), shape_type=list(self.kinds))
            set_signs(layer, self.negative_shapes)
