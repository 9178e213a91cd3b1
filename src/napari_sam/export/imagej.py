"""Outlines as a zip of ROIs for the ROI Manager of ImageJ and Fiji."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi

from napari_sam.export.atomic import replacing
from napari_sam.export.labelled import Labelled, PlaneAt
from napari_sam.export.outlines import Polygon, outline
from napari_sam.masks import masks_of_labels

# ImageJ's whole coordinates have 16 bits; the floats of a composite ROI have no such end.
MAX_INTEGER = 60_000
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write(labelled: Labelled, path: Path) -> None:
    """Write one ROI for each object and plane.

    An object in one part and without holes is a traced ROI, as ImageJ's wand makes it; any other is a
    composite ROI. Both follow the edges of the pixels, so that ImageJ fills exactly the object's pixels.
    """
    width = len(str(labelled.top))
    # A fixed date: the same labels give the same file.
    date = (1980, 1, 1, 0, 0, 0)
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        for plane in labelled.planes():
            for label, mask in masks_of_labels(plane.labels).items():
                roi = _roi(outline(mask))
                roi.name = "-".join([*_place_names(labelled, plane), f"{label:0{width}d}"])
                roi.properties = {"label": label, **labelled.features.of(label, plane.place)}
                _set_position(roi, plane, labelled.shape)
                entry = zipfile.ZipInfo(f"{roi.name}.roi", date)
                archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)


def _roi(polygons: list[Polygon]) -> ImagejRoi:
    """ROI of an object's parts."""
    vertices = np.concatenate([p.outer for p in polygons])
    low, high = vertices.min(0), vertices.max(0)
    roi = ImagejRoi()
    roi.top, roi.left = (int(v) for v in low)
    roi.bottom, roi.right = (int(v) for v in high)
    if len(polygons) == 1 and not polygons[0].holes and high.max() <= MAX_INTEGER:
        ring = polygons[0].outer[:, ::-1]
        roi.roitype = ROI_TYPE.TRACED
        roi.integer_coordinates = (ring - low[::-1]).astype(np.int32)
        roi.n_coordinates = len(ring)
        return roi
    roi.roitype = ROI_TYPE.RECT
    path = np.concatenate([_path(r) for p in polygons for r in (p.outer, *p.holes)])
    roi.multi_coordinates = path
    roi.shape_roi_size = len(path)
    return roi


def _path(ring: NDArray[np.int64]) -> NDArray[np.float32]:
    """Commands of a composite ROI that draw one closed ring."""
    steps = np.column_stack([np.full(len(ring), _LINE), ring[:, 1], ring[:, 0]])
    steps[0, 0] = _MOVE
    return np.append(steps.ravel(), _CLOSE).astype(np.float32)


def _place_names(labelled: Labelled, plane: PlaneAt) -> list[str]:
    """Where a plane lies, counted from 1 as ImageJ does."""
    lengths = zip(plane.place.items(), labelled.shape, strict=False)
    return [f"{axis}{at + 1:0{len(str(length))}d}" for (axis, at), length in lengths]


def _set_position(roi: ImagejRoi, plane: PlaneAt, shape: tuple[int, ...]) -> None:
    """Say to which plane of labels of a shape a ROI belongs.

    ImageJ counts the planes of a plain stack, and has a channel, slice and frame only in a hyperstack (more
    than one of these axes, each with more than one position); the ROI Manager then ignores the other way.
    """
    long = {axis: at for (axis, at), length in zip(plane.place.items(), shape, strict=False) if length > 1}
    if len(long) == 1:
        roi.position = sum(long.values()) + 1
        return
    roi.c_position = long.get("c", -1) + 1
    roi.z_position = long.get("z", -1) + 1
    roi.t_position = long.get("t", -1) + 1
