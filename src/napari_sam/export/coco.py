"""Masks and scores as COCO JSON: run-length codes, read by pycocotools and what builds on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_sam.export.atomic import replacing
from napari_sam.export.labelled import Labelled, PlaneAt
from napari_sam.masks import Mask, masks_of_labels, rle_counts


def write(labelled: Labelled, path: Path) -> None:
    """Write one COCO image for each plane and one annotation for each object and plane."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, plane in enumerate(labelled.planes(), start=1):
        images.append(_image(labelled, plane, number))
        for label, mask in masks_of_labels(plane.labels).items():
            entry = _annotation(labelled, plane, label, mask)
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
    document = {
        "info": {"description": "Objects segmented with napari-sam-cells", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cell", "supercategory": "object"}],
    }
    with replacing(path) as beside:
        beside.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")


def compressed_counts(counts: Sequence[int]) -> str:
    """Pack run lengths into the text that COCO calls compressed.

    From the third run on, the difference to the run before the last is kept. Each number is cut into groups
    of 5 bits, the lowest first; the sixth bit says that more follow; 48 makes it a printable character.

    Parameters
    ----------
    counts : sequence of int
        Runs of zeros and ones in turn, column by column (`napari_sam.masks.rle_counts`).
    """
    text: list[str] = []
    for i, count in enumerate(counts):
        number = count - counts[i - 2] if i > 2 else count
        while True:
            group = number & 31
            number >>= 5
            # The sign is the highest bit of the last group.
            last = number == (-1 if group & 16 else 0)
            text.append(chr((group if last else group | 32) + 48))
            if last:
                break
    return "".join(text)


def _image(labelled: Labelled, plane: PlaneAt, number: int) -> dict[str, Any]:
    """Entry of one plane, with its place in the stack."""
    height, width = labelled.plane_shape
    return {
        "id": number,
        "file_name": labelled.image_name,
        "height": height,
        "width": width,
        **plane.place,
    }


def _annotation(labelled: Labelled, plane: PlaneAt, label: int, mask: Mask) -> dict[str, Any]:
    """Entry of one object in one plane."""
    height, width = labelled.plane_shape
    box = mask.box
    found = {
        "category_id": 1,
        "segmentation": {
            "size": [height, width],
            "counts": compressed_counts(rle_counts(mask, (height, width))),
        },
        "area": mask.area,
        "bbox": [int(box.x0), int(box.y0), int(box.width), int(box.height)],
        "iscrowd": 0,
        "label": label,
        "attributes": labelled.features.of(label, plane.place),
    }
    value = labelled.features.score(label, plane.place)
    return found if value is None else {**found, "score": value}
