"""Drawn cells: pictures made by a program, with exact and nested truth.

Level 0 of the labels holds whole objects (cells, fibres, rods, yeasts), level 1 their parts (nuclei,
axons inside the myelin), level 2 groups of touching objects. A click on a nucleus is then truly
ambiguous, and the three candidates of the model learn part, object and group from it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.training.data import LabelledPlane

__all__ = ["KINDS", "draw_plane"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]
Rng = np.random.Generator


def draw_plane(rng: Rng, side: int = 384, kind: str | None = None) -> LabelledPlane:
    """Draw one picture of cells.

    Parameters
    ----------
    rng : Generator
    side : int
        Side of the picture, in pixels; objects are about 30 to 60 pixels wide.
    kind : str, optional
        One of `KINDS`; at random if not given.

    Returns
    -------
    LabelledPlane
        With a grey image and three levels of labels.
    """
    kind = kind or str(rng.choice(list(KINDS)))
    diameter = float(rng.uniform(28, 60))
    if kind == "membranes":
        objects = _mosaic(rng, side, diameter)
    else:
        elongation, roughness, crowding = _SHAPES[kind]
        objects = _scatter(rng, side, diameter, elongation, roughness, crowding)
    depth, outside = _depths(objects)
    parts = _parts(rng, objects, depth) if kind in _WITH_PARTS else np.zeros_like(objects)
    light = KINDS[kind](rng, objects, parts, depth, outside)
    image = _camera(rng, light)
    labels = np.stack([objects, parts, _groups(objects)])
    if kind == "fibres":  # there the axon is the object, and the fibre with its sheath the whole
        labels = labels[[1, 0, 2]]
    return LabelledPlane(image[..., None], labels)


# -- shapes ------------------------------------------------------------------------------------


def _outline(rng: Rng, diameter: float, elongation: float, roughness: float) -> NDArray[np.bool_]:
    """Mask of one star-shaped or rod-like object on its own small canvas."""
    long = max(1.0, rng.normal(1 + elongation, 0.25 * elongation + 0.05))
    if elongation >= 1.5:
        return _rod(rng, diameter, long)
    radius = diameter / 2 * 2 ** rng.normal(0, 0.25)
    reach = int(radius * long * (1.2 + 2 * roughness)) + 3
    yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    tilt = rng.uniform(0, np.pi)
    u = (xx * np.cos(tilt) + yy * np.sin(tilt)) / np.sqrt(long)
    v = (yy * np.cos(tilt) - xx * np.sin(tilt)) * np.sqrt(long)
    angle = np.arctan2(v, u)
    edge = np.ones_like(angle)
    for order in range(2, 7):
        edge += roughness / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 6.3))
    return np.asarray(np.hypot(u, v) < radius * np.clip(edge, 0.4, 1.6))


def _rod(rng: Rng, diameter: float, long: float) -> NDArray[np.bool_]:
    """Mask of a slightly bent capsule."""
    half_width = diameter / 4
    half_length = half_width * long
    reach = int(half_length + half_width) + 3
    yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    tilt, bend = rng.uniform(0, np.pi), rng.normal(0, 0.15) / max(half_length, 1)
    u = xx * np.cos(tilt) + yy * np.sin(tilt)
    v = yy * np.cos(tilt) - xx * np.sin(tilt) + bend * u**2
    return np.asarray(np.hypot(np.maximum(np.abs(u) - half_length, 0), v) < half_width)


def _scatter(
    rng: Rng, side: int, diameter: float, elongation: float, roughness: float, crowding: float
) -> Labels:
    """Place objects one by one; each keeps the pixels that no earlier one has taken."""
    labels = np.zeros((side, side), np.int32)
    wanted = int(crowding * rng.uniform(0.3, 1.0) * (side / diameter) ** 2) + 1
    clustered = rng.random() < 0.4
    centres = rng.uniform(0, side, (max(1, wanted // 8), 2))
    count = 0
    for _ in range(wanted):
        shape = _outline(rng, diameter, elongation, roughness)
        centre = rng.uniform(0, side, 2)
        if clustered:
            centre = centres[rng.integers(len(centres))] + rng.normal(0, 1.6 * diameter, 2)
        y, x = (centre - np.array(shape.shape) / 2).astype(int)
        ys, xs = max(0, -y), max(0, -x)
        y, x = max(0, y), max(0, x)
        view = labels[y : y + shape.shape[0] - ys, x : x + shape.shape[1] - xs]
        shape = shape[ys : ys + view.shape[0], xs : xs + view.shape[1]]
        if not shape.any() or (shape & (view > 0)).sum() > 0.15 * shape.sum():
            continue
        count += 1
        view[shape & (view == 0)] = count
    return labels


def _mosaic(rng: Rng, side: int, diameter: float) -> Labels:
    """Cells that fill the plane: the regions nearest to jittered points, with wavy borders."""
    step = diameter
    line = np.arange(-step, side + step, step)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1)
    points = grid.reshape(-1, 2) + rng.normal(0, 0.28 * step, (grid.size // 2, 2))
    warp = [ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), diameter / 5) for _ in "yx"]
    waves = [w / (np.abs(w).max() + 1e-6) * diameter * 0.15 for w in warp]
    from scipy.spatial import cKDTree

    where = np.moveaxis(np.indices((side, side)), 0, -1) + np.stack(waves, -1)
    labels = cKDTree(points).query(where.reshape(-1, 2))[1].reshape(side, side) + 1
    gone = np.flatnonzero(rng.random(labels.max() + 1) < rng.choice([0.0, 0.1, 0.3]))
    labels[np.isin(labels, gone)] = 0
    return np.asarray(labels, np.int32)


def _depths(objects: Labels) -> tuple[Floats, Floats]:
    """Distance of each object pixel to its object's edge, and of the others to an object."""
    edge = _edges(objects)
    depth = ndimage.distance_transform_edt((objects > 0) & ~edge)
    outside = ndimage.distance_transform_edt(objects == 0)
    return depth.astype(np.float32), outside.astype(np.float32)


def _edges(objects: Labels) -> NDArray[np.bool_]:
    """Object pixels that touch another object or background."""
    low = ndimage.minimum_filter(objects, 3)
    return np.asarray((objects > 0) & ((low != objects) | (ndimage.maximum_filter(objects, 3) != objects)))


def _parts(rng: Rng, objects: Labels, depth: Floats) -> Labels:
    """One part inside each object, where it is deepest: the same label as its object."""
    deepest = _at_object(ndimage.maximum, depth, objects)
    share = rng.uniform(0.2, 0.75) * 2 ** rng.normal(0, 0.1, len(deepest))
    inner = depth > deepest[objects] * np.clip(1 - share, 0.1, 0.85)[objects]
    return np.where(inner & (objects > 0), objects, 0).astype(np.int32)


def _at_object(measure: Callable[..., object], values: Floats, objects: Labels) -> Floats:
    """Measure of each label, with 0 for the background, indexable by label."""
    ids = np.arange(objects.max() + 1)
    found = np.asarray(measure(values, objects, ids), np.float32)
    found[0] = 0
    return np.nan_to_num(found, posinf=0, neginf=0)


def _groups(objects: Labels) -> Labels:
    """Groups of at least two objects that touch and take up less than half the plane."""
    grown = ndimage.maximum_filter(objects, 3) > 0
    pieces, count = ndimage.label(grown)
    pieces[objects == 0] = 0
    pairs = np.unique(np.stack([pieces.ravel(), objects.ravel()]), axis=1)
    members = np.bincount(pairs[0], minlength=count + 1)
    size = np.bincount(pieces.ravel(), minlength=count + 1)
    kept = (members >= 2) & (size < 0.12 * objects.size)
    kept[0] = False
    return np.where(kept[pieces], pieces, 0).astype(np.int32)


# -- looks -------------------------------------------------------------------------------------


def _texture(rng: Rng, side: int, grain: float) -> Floats:
    """Smooth random field of spread 1."""
    field = ndimage.gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), grain)
    return np.asarray(field / (field.std() + 1e-6), np.float32)


def _levels(rng: Rng, objects: Labels, spread: float) -> Floats:
    """Random brightness per object around 1, as a picture; 0 outside."""
    level = np.clip(rng.normal(1, spread, objects.max() + 1), 0.25, 2).astype(np.float32)
    level[0] = 0
    return np.asarray(level[objects])


def _nuclei(rng: Rng, objects: Labels, parts: Labels, depth: Floats, outside: Floats) -> Floats:
    """Fluorescent nuclei: bright, textured, with haze around them."""
    side = len(objects)
    body = _levels(rng, objects, 0.35) * (1 + 0.25 * rng.random() * _texture(rng, side, 3))
    domed = np.sqrt(np.clip(depth / rng.uniform(3, 14), 0, 1))
    haze = ndimage.gaussian_filter(body, rng.uniform(6, 20)) * rng.uniform(0, 0.5)
    return np.asarray(body * domed + haze)


def _cells(rng: Rng, objects: Labels, parts: Labels, depth: Floats, outside: Floats) -> Floats:
    """Cells with a nucleus that is brighter or darker than the cytoplasm."""
    side = len(objects)
    body = _levels(rng, objects, 0.2) * rng.uniform(0.25, 0.6)
    body *= 1 + rng.uniform(0, 0.4) * _texture(rng, side, rng.uniform(1, 4))
    nucleus = (parts > 0) * rng.choice([-0.2, 0.35, 0.6]) * (1 + 0.2 * _texture(rng, side, 2))
    rim = np.exp(-((depth / 1.5) ** 2)) * (objects > 0) * rng.choice([0, 0.3])
    return np.asarray(body + nucleus + rim)


def _phase(rng: Rng, objects: Labels, parts: Labels, depth: Floats, outside: Floats) -> Floats:
    """Phase contrast: a grey plane, darker or textured bodies, a bright rim outside."""
    side = len(objects)
    halo = np.exp(-outside / rng.uniform(2, 6)) * (objects == 0) * rng.uniform(0.1, 0.6)
    body = (objects > 0) * rng.uniform(-0.4, 0.12) * np.clip(depth / rng.uniform(2, 10), 0, 1)
    grain = (objects > 0) * 0.18 * rng.random() * _texture(rng, side, rng.uniform(0.8, 2.5))
    nucleus = (parts > 0) * rng.choice([-0.15, 0.1, 0.2])
    return np.asarray(0.5 + halo + body + grain + nucleus)


def _yeast(rng: Rng, objects: Labels, parts: Labels, depth: Floats, outside: Floats) -> Floats:
    """Yeast: a dark wall, a bright ring inside it, a grey lumen with a vacuole."""
    wall = np.exp(-(((depth - 1) / 1.6) ** 2)) * (objects > 0)
    ring = np.exp(-(((depth - rng.uniform(3, 6)) / 2) ** 2)) * (objects > 0)
    halo = np.exp(-outside / 3) * (objects == 0) * rng.uniform(0, 0.4)
    vacuole = (parts > 0) * rng.choice([-0.15, 0.15])
    return np.asarray(0.5 - rng.uniform(0.2, 0.5) * wall + rng.uniform(0.1, 0.4) * ring + halo + vacuole)


def _membranes(rng: Rng, objects: Labels, parts: Labels, depth: Floats, outside: Floats) -> Floats:
    """Stained borders between cells that fill the plane; sometimes nuclei too."""
    border = np.exp(-((depth / rng.uniform(1, 3)) ** 2)) * (objects > 0)
    border *= 1 + 0.3 * _texture(rng, len(objects), 8)
    body = _levels(rng, objects, 0.2) * rng.uniform(0, 0.25)
    return np.asarray(0.15 + border * rng.uniform(0.4, 0.8) + body + (parts > 0) * rng.choice([0.15, 0.4]))


def _fibres(rng: Rng, objects: Labels, parts: Labels, depth: Floats, outside: Floats) -> Floats:
    """Axons: a dark (or bright) sheath around a pale lumen, as in electron micrographs."""
    side = len(objects)
    sheath = (objects > 0) & (parts == 0)
    lumen = 0.55 + 0.08 * _texture(rng, side, 1.5)
    ground = 0.45 + 0.12 * _texture(rng, side, 2.5)
    picture = np.where(parts > 0, lumen, ground)
    return np.asarray(np.where(sheath, rng.uniform(0.05, 0.2), picture))


def _rods(rng: Rng, objects: Labels, parts: Labels, depth: Floats, outside: Floats) -> Floats:
    """Bacteria: dark in phase contrast, or bright in fluorescence."""
    if rng.random() < 0.4:
        return _nuclei(rng, objects, parts, depth, outside)
    halo = np.exp(-outside / rng.uniform(2, 5)) * (objects == 0) * rng.uniform(0.1, 0.5)
    body = np.clip(depth / rng.uniform(1.5, 5), 0, 1) * rng.uniform(0.25, 0.5)
    return np.asarray(0.55 + halo - body * _levels(rng, objects, 0.15))


KINDS: dict[str, Callable[[Rng, Labels, Labels, Floats, Floats], Floats]] = {
    "nuclei": _nuclei,
    "cells": _cells,
    "phase": _phase,
    "yeast": _yeast,
    "membranes": _membranes,
    "fibres": _fibres,
    "rods": _rods,
}
"""Looks, by name."""

_SHAPES = {  # elongation, roughness, crowding
    "nuclei": (0.25, 0.12, 0.6),
    "cells": (0.4, 0.25, 0.7),
    "phase": (0.8, 0.3, 0.5),
    "yeast": (0.1, 0.04, 0.6),
    "fibres": (0.2, 0.1, 1.6),
    "rods": (3.5, 0.0, 1.2),
}
_WITH_PARTS = ("cells", "phase", "yeast", "membranes", "fibres")


def _camera(rng: Rng, light: Floats) -> NDArray[np.uint8]:
    """Uneven light, blur, noise and the contrast window."""
    side = len(light)
    tilt = 1 + rng.uniform(0, 0.25) * _texture(rng, side, side / 4).clip(-2, 2) / 2
    seen = ndimage.gaussian_filter(light * tilt, rng.uniform(0.4, 1.8))
    span = float(seen.max() - seen.min()) + 1e-6
    seen = seen + rng.normal(0, rng.uniform(0.005, 0.08) * span, seen.shape)
    low, high = np.percentile(seen, (0.5, 99.8))
    return np.asarray(np.clip((seen - low) / (high - low + 1e-6), 0, 1) * 255, np.uint8)
