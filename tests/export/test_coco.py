"""COCO files read back with pycocotools."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from napari_sam.export import export
from napari_sam.export.coco import compressed_counts
from napari_sam.masks import Mask, rle_counts

# pycocotools asks numpy 2 for an array in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def load(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_counts_are_those_of_pycocotools(rng):
    for density in (0.02, 0.3, 0.7, 1.0):
        plane = rng.random((60, 45)) < density
        theirs = coco_mask.encode(np.asfortranarray(plane.astype(np.uint8)))["counts"].decode()
        assert compressed_counts(rle_counts(Mask.from_plane(plane), plane.shape)) == theirs


@pytest.mark.parametrize("name", ["odd_shapes", "random_shapes"])
def test_masks_boxes_and_areas_come_back(name, request, tmp_path):
    labels = request.getfixturevalue(name)
    coco = load(export(labels, tmp_path / "cells.json", image_name="cells.png"))
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == ("cells.png", *labels.shape)
    again = np.zeros_like(labels)
    for entry in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(entry).astype(bool)
        again[mask] = entry["label"]
        assert entry["area"] == mask.sum() == coco_mask.area(entry["segmentation"])
        np.testing.assert_array_equal(coco_mask.toBbox(entry["segmentation"]), entry["bbox"])
    np.testing.assert_array_equal(again, labels)


def test_scores_are_the_predicted_ious(odd_shapes, tmp_path):
    features = {"index": [1, 2], "predicted_iou": [0.75, 0.5], "model": ["built-in", "built-in"]}
    coco = load(export(odd_shapes, tmp_path / "cells.json", features=features))
    entries = {e["label"]: e for e in coco.loadAnns(coco.getAnnIds())}
    assert entries[1]["score"] == 0.75
    assert entries[2]["attributes"]["model"] == "built-in"
    assert "score" not in entries[3]
    assert {e["category_id"] for e in entries.values()} == set(coco.getCatIds())


def test_each_plane_of_a_stack_is_an_image(stack, tmp_path):
    path = export(stack, tmp_path / "cells.json")
    coco = load(path)
    assert [i["z"] for i in coco.loadImgs(sorted(coco.getImgIds()))] == [0, 1, 2]
    again = np.zeros_like(stack)
    for entry in coco.loadAnns(coco.getAnnIds()):
        again[entry["image_id"] - 1][coco.annToMask(entry) > 0] = entry["label"]
    np.testing.assert_array_equal(again, stack)
    ids = [a["id"] for a in json.loads(path.read_text())["annotations"]]
    assert len(ids) == len(set(ids)) == 4
