"""Outlines and measurements as GeoJSON, for QuPath (File > Import objects) and Python."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.axes import Axes
from napari_sam.export.atomic import replacing
from napari_sam.export.features import missing
from napari_sam.export.labelled import Labelled, PlaneAt
from napari_sam.export.outlines import Polygon, outline
from napari_sam.masks import masks_of_labels
from napari_sam.measure import region_table

_COLOUR = (255, 176, 0)
_NAMES = {
    "area": "Area",
    "perimeter": "Perimeter",
    "circularity": "Circularity",
    "eccentricity": "Eccentricity",
    "major_axis": "Major axis",
    "minor_axis": "Minor axis",
    "intensity": "Intensity",
    "predicted_iou": "Predicted IoU",
}


def write(labelled: Labelled, path: Path) -> None:
    """Write a FeatureCollection with one detection for each object and plane.

    Coordinates are pixels (x, y) with the origin at the top left corner of the first pixel, as in QuPath:
    the pixel in row i and column j is the square from (j, i) to (j + 1, i + 1).
    """
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        separator = "\n"
        for plane in labelled.planes():
            measured = _measurements(labelled, plane)
            for label, mask in masks_of_labels(plane.labels).items():
                feature = _feature(labelled, plane, label, outline(mask), measured[label])
                file.write(separator + json.dumps(feature, separators=(",", ":"), ensure_ascii=False))
                separator = ",\n"
        file.write("\n]}\n")


def _feature(
    labelled: Labelled, plane: PlaneAt, label: int, polygons: list[Polygon], measured: dict[str, float]
) -> dict[str, Any]:
    """One object of QuPath."""
    known = labelled.features.of(label, plane.place)
    own = {"Label": label, **measured}
    identity = f"{labelled.image_name}/{plane.place}/{label}"
    return {
        "type": "Feature",
        # QuPath wants a UUID; this one stays the same when the labels are exported again.
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, identity)),
        "geometry": _geometry(polygons, plane),
        "properties": {
            "objectType": "detection",
            "name": str(label),
            "classification": {"name": str(known.get("class", "Cell")), "color": list(_COLOUR)},
            "isLocked": False,
            # What was measured wins over a feature of the same name.
            "measurements": own | _numbers(known) | own,
        },
    }


def _geometry(polygons: list[Polygon], plane: PlaneAt) -> dict[str, Any]:
    """Polygon or MultiPolygon, in the plane that QuPath shows."""
    parts = [[_ring(r) for r in (p.outer, *p.holes)] for p in polygons]
    shape: dict[str, Any] = {"type": "MultiPolygon", "coordinates": parts}
    if len(parts) == 1:
        shape = {"type": "Polygon", "coordinates": parts[0]}
    if plane.place:
        place = {"c": plane.place.get("c", -1), "z": plane.place.get("z", 0), "t": plane.place.get("t", 0)}
        shape["plane"] = place
    return shape


def _ring(ring: NDArray[np.int64]) -> list[list[int]]:
    """Closed ring of (x, y).

    A ring that is clockwise in an image, where y points down, has the positive area that GeoJSON asks of
    an outline: the orientations need no change.
    """
    closed: list[list[int]] = np.concatenate([ring, ring[:1]])[:, ::-1].tolist()
    return closed


def _measurements(labelled: Labelled, plane: PlaneAt) -> dict[int, dict[str, float]]:
    """What QuPath lists of each object of a plane; JSON has no word for what is not a number."""
    axes: Axes = labelled.axes.pick("YX")
    image = None if labelled.image is None else labelled.image[plane.index]
    table = region_table(plane.labels, image, axes=axes)
    names = {column: name for column in table if (name := _measurement_name(str(column)))}
    rows = table[["label", *names]].rename(columns=names).to_dict("records")
    return {
        int(row.pop("label")): {str(k): float(v) for k, v in row.items() if not missing(v)} for row in rows
    }


def _measurement_name(column: str) -> str | None:
    """``"Area µm^2"`` of ``"area_um2"``; None for what QuPath knows by itself."""
    stem = next((s for s in _NAMES if column == s or column.startswith(f"{s}_")), None)
    if stem is None:
        return None
    rest = column[len(stem) + 1 :]
    unit = rest.replace("um", "µm").replace("2", "^2") if stem != "intensity" else rest.replace("_", " ")
    unit = "px^2" if stem == "area" and rest == "px" else unit
    return f"{_NAMES[stem]} {unit}".strip()


def _numbers(features: dict[str, Any]) -> dict[str, float]:
    """Features that are numbers, under names to be read."""
    return {
        _measurement_name(name) or name.replace("_", " ").capitalize(): value
        for name, value in features.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not missing(value)
    }
