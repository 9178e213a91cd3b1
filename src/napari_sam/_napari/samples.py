"""Sample data for File > Open Sample: nothing is downloaded, and the drawn cells are the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

LayerData = tuple[NDArray[np.generic], dict[str, Any], str]

_MICRON = "µm"


def cells_2d() -> list[LayerData]:
    """Drawn fluorescent cells, (384, 512) uint16, 0.5 µm a pixel."""
    rng = np.random.default_rng(7)
    shape = (384, 512)
    light = np.zeros(shape)
    for centre in _scatter(rng, shape, distance=34, margin=20):
        _paint_cell(light, centre, rng.uniform(11, 17, 2), rng.uniform(0, np.pi), rng)
    image = _photograph(rng, light)
    return [(image, _keywords("Drawn cells", (0.5, 0.5), (_MICRON, _MICRON)), "image")]


def cells_3d() -> list[LayerData]:
    """Drawn nuclei in a stack, (24, 160, 192) uint16, 2 µm between planes and 0.5 µm a pixel."""
    rng = np.random.default_rng(8)
    shape = (24, 160, 192)
    light = np.zeros(shape)
    z, y, x = np.indices(shape, sparse=True)
    # Distances in micrometres: the planes are four times as far apart as the pixels.
    for cy, cx in _scatter(rng, shape[1:], distance=30, margin=16):
        cz, radius = rng.uniform(5, 18), rng.uniform(5.5, 8.5)
        reach = np.sqrt(((z - cz) * 2.0) ** 2 + ((y - cy) * 0.5) ** 2 + ((x - cx) * 0.5) ** 2) / radius
        np.maximum(light, rng.uniform(0.6, 1.0) * _ball(reach), out=light)
    image = _photograph(rng, light)
    return [
        (image, _keywords("Drawn cells in 3D", (2.0, 0.5, 0.5), (_MICRON,) * 3, ("z", "y", "x")), "image")
    ]


def cells_time() -> list[LayerData]:
    """Drawn cells that move, (20, 192, 256) uint16, 30 s a frame and 0.5 µm a pixel."""
    rng = np.random.default_rng(9)
    frames, shape = 20, (192, 256)
    centres = _scatter(rng, shape, distance=40, margin=24)
    radii = rng.uniform(10, 15, (len(centres), 2))
    angles = rng.uniform(0, np.pi, len(centres))
    speeds = rng.normal(0, 0.8, centres.shape)
    light = np.zeros((frames, *shape))
    for frame in light:
        for number, centre in enumerate(centres):
            # Each cell keeps its own texture on its way.
            _paint_cell(frame, centre, radii[number], angles[number], np.random.default_rng(number))
        centres = centres + speeds
        speeds = 0.9 * speeds + rng.normal(0, 0.3, centres.shape)
        angles = angles + rng.normal(0, 0.05, len(angles))
    image = _photograph(rng, light)
    keywords = _keywords("Drawn cells moving", (30.0, 0.5, 0.5), ("s", _MICRON, _MICRON), ("t", "y", "x"))
    return [(image, keywords, "image")]


def coins() -> list[LayerData]:
    """Greek coins from Pompeii, (303, 384) uint8, as scikit-image brings it along."""
    from skimage import data

    return [(data.coins(), {"name": "Coins"}, "image")]


def immunohistochemistry() -> list[LayerData]:
    """Stained glands of the colon, (512, 512, 3) uint8, as scikit-image brings it along."""
    from skimage import data

    return [(data.immunohistochemistry(), {"name": "Stained tissue", "rgb": True}, "image")]


def _keywords(
    name: str, scale: tuple[float, ...], units: tuple[str, ...], axis_labels: tuple[str, ...] = ("y", "x")
) -> dict[str, Any]:
    """What napari is told about a drawn image."""
    return {"name": name, "scale": scale, "units": units, "axis_labels": axis_labels, "colormap": "gray"}


def _scatter(
    rng: np.random.Generator, shape: tuple[int, ...], distance: float, margin: float
) -> NDArray[np.float64]:
    """Random places (y, x), shape (N, 2), no two nearer than a distance."""
    places: list[NDArray[np.float64]] = []
    for place in rng.uniform(margin, np.array(shape) - margin, (2000, 2)):
        if all(np.hypot(*(place - other)) >= distance for other in places):
            places.append(place)
    return np.array(places)


def _paint_cell(
    light: NDArray[np.float64],
    centre: NDArray[np.float64],
    radii: NDArray[np.float64],
    angle: float,
    rng: np.random.Generator,
) -> None:
    """Add a cell with a brighter nucleus to a plane of light in [0, 1]."""
    reach = int(radii.max() * 1.6) + 2
    y0, x0 = (max(round(c) - reach, 0) for c in centre)
    view = light[y0 : round(centre[0]) + reach + 1, x0 : round(centre[1]) + reach + 1]
    if view.size == 0:
        return
    y, x = np.indices(view.shape) + np.array([y0, x0])[:, None, None] - centre[:, None, None]
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    # Low harmonics of the angle make the outline of a real cell.
    turn = np.arctan2(across, along)
    outline = 1 + sum(rng.normal(0, 0.08) / k * np.cos(k * turn + rng.uniform(0, 6.3)) for k in (2, 3, 4))
    body = _ball(np.hypot(along / radii[0], across / radii[1]) / outline)
    off = rng.normal(0, 1.5, 2)
    nucleus = _ball(np.hypot((along - off[0]) / radii[0], (across - off[1]) / radii[1]) / 0.45)
    np.maximum(view, rng.uniform(0.35, 0.5) * body + 0.45 * nucleus, out=view)


def _ball(reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 inside, 0 outside, with a soft rim where ``reach`` is 1."""
    return 1 / (1 + np.exp(np.clip(10 * (reach - 1), -50, 50)))


def _photograph(rng: np.random.Generator, light: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Light in [0, 1] as a camera sees it: uneven, blurred, with shot and read noise."""
    rows, columns = (np.linspace(-1, 1, n) for n in light.shape[-2:])
    shade = 1 - 0.25 * (rows[:, None] ** 2 + columns[None] ** 2) / 2
    blur = (0,) * (light.ndim - 2) + (0.8, 0.8)
    photons = ndi.gaussian_filter(light * shade, blur) * 400 + 20
    counts = rng.poisson(photons) * 8 + rng.normal(100, 12, light.shape)
    return counts.clip(0, 65535).astype(np.uint16)
