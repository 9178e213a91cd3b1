"""Image layers in every pose: what the tests of coordinates, planes, prompts and labels are run with."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sam._napari.coordinates import PlaneError, plane_index


@dataclass(frozen=True)
class Pose:
    """How an image lies in the world, and what else is there.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, its last two axes at least 40 x 50 or so.
    keywords : dict
        Geometry of the image layer.
    order : tuple of int, optional
        Display order of the axes.
    beside : dict, optional
        Keywords of a second, two-dimensional image.
    """

    shape: tuple[int, ...] = (40, 50)
    keywords: dict[str, Any] = field(default_factory=dict)
    order: tuple[int, ...] | None = None
    beside: dict[str, Any] | None = None


def turned(ndim: int, degrees: float) -> np.ndarray:
    """Rotation of the last two axes."""
    matrix = np.eye(ndim)
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix[-2:, -2:] = [[c, -s], [s, c]]
    return matrix


def _affine(ndim: int) -> np.ndarray:
    """An affine with a shear and a shift in the last two axes."""
    matrix = np.eye(ndim + 1)
    matrix[ndim - 2 : ndim, ndim - 2 : ndim] = [[1.2, 0.3], [-0.1, 0.8]]
    matrix[:-1, -1] = np.arange(ndim) + 3.5
    return matrix


_UM = ("um", "um")
POSES = {
    "plain": Pose(),
    "anisotropic": Pose(keywords={"scale": (0.3, 1.7)}),
    "translated": Pose(keywords={"translate": (-30, 1000), "scale": (2, 2)}),
    "rotated": Pose(keywords={"rotate": 30, "scale": (0.5, 0.8)}),
    "sheared": Pose(keywords={"shear": [0.4], "scale": (1.5, 0.5)}),
    "mirrored": Pose(keywords={"scale": (-1, 1)}),
    "affine": Pose(keywords={"affine": _affine(2), "scale": (2, 3), "rotate": 20, "translate": (4, 5)}),
    "units": Pose(keywords={"scale": (0.25, 0.5), "units": _UM}),
    "transposed": Pose(keywords={"scale": (2, 1)}, order=(1, 0)),
    "beside nanometres": Pose(
        keywords={"scale": (0.5, 0.25), "units": _UM, "rotate": 15, "translate": (2, 3)},
        beside={"scale": (400, 400), "units": ("nm", "nm")},
    ),
    "beside pixels": Pose(keywords={"scale": (0.5, 0.25), "units": _UM}, beside={}),
    "3D": Pose((5, 40, 50), {"scale": (4, 0.5, 0.8), "translate": (-7, 3, 1)}),
    "3D rotated": Pose((5, 40, 50), {"rotate": turned(3, 25), "scale": (3, 1, 2), "translate": (9, 1, 2)}),
    "3D affine": Pose((5, 40, 50), {"affine": _affine(3), "scale": (3, 1, 1)}),
    "3D from the side": Pose((40, 6, 50), {"scale": (2, 5, 1)}, order=(1, 0, 2)),
    "3D from the side, transposed": Pose((40, 6, 50), {"scale": (2, 5, 1)}, order=(1, 2, 0)),
    "3D beside nanometres": Pose(
        (5, 40, 50),
        {"scale": (2, 0.5, 0.25), "units": ("um", "um", "um"), "translate": (3, 2, 1)},
        beside={"scale": (400, 400), "units": ("nm", "nm")},
    ),
    "3D, one micrometre between planes, many nanometres": Pose(
        (5, 40, 50), {"scale": (1, 250, 250), "units": ("um", "nm", "nm")}
    ),
    "3D deskewed": Pose(
        (5, 40, 50), {"shear": np.array([[1, 0, 0], [1.5, 1, 0], [0, 0, 1]]), "scale": (2, 1, 1)}
    ),
    "3D tilted": Pose((5, 40, 50), {"rotate": (0, 20, 10), "scale": (3, 1, 1), "translate": (5, 6, 7)}),
    "3D tilted beside nanometres": Pose(
        (5, 40, 50),
        {"rotate": (5, 0, 10), "scale": (2, 0.5, 0.25), "units": ("um", "um", "um"), "translate": (3, 2, 1)},
        beside={"scale": (400, 400), "units": ("nm", "nm")},
    ),
    "4D": Pose(
        (3, 4, 40, 50),
        {"scale": (30, 2, 0.5, 0.5), "units": ("s", "um", "um", "um"), "translate": (60, 1, 2, 3)},
    ),
}


def show(viewer: Any, pose: Pose, data: np.ndarray | None = None) -> Any:
    """Add the pose's image, and what is beside it, to a viewer, the sliders somewhere inside.

    Returns
    -------
    Image
        The posed layer. By default every pixel of it holds another value.
    """
    if data is None:
        data = np.arange(np.prod(pose.shape), dtype=np.float32).reshape(pose.shape)
    image = viewer.add_image(data, name="image", **pose.keywords)
    if pose.beside is not None:
        viewer.add_image(np.zeros((60, 60)), name="beside", **pose.beside, visible=False)
        viewer.layers.selection.active = image
    if pose.order is not None:
        viewer.dims.order = pose.order
    for axis in viewer.dims.not_displayed:
        # A tilted stack is not there at all positions of its sliders.
        for step in range((viewer.dims.nsteps[axis] - 1) * 2 // 3, -1, -1):
            viewer.dims.set_current_step(axis, step)
            with suppress(PlaneError):
                if plane_index(viewer, image).index[axis] > 0:
                    break
    return image
