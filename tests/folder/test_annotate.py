"""Labels of a folder that is gone through, without a window."""

from __future__ import annotations

import json

import numpy as np
import tifffile

from napari_sam.folder.annotate import STATE_FILE, AnnotationFolder, Snapshot


def test_labels_of_a_stack_without_a_distance_of_planes_are_saved(tmp_path):
    tifffile.imwrite(
        tmp_path / "stack.tif",
        np.zeros((3, 20, 24), np.uint8),
        imagej=True,
        resolution=(4, 4),
        metadata={"axes": "ZYX", "unit": "micron"},
    )
    folder = AnnotationFolder(tmp_path, tmp_path / "labels")
    opened = folder.open(0)
    assert opened.axes.units == ("pixel", "micrometer", "micrometer")
    labels = np.zeros(opened.shape, np.uint16)
    labels[1, 4:9, 4:9] = 1
    assert folder.save(Snapshot(0, labels, None, opened.axes)).objects == 1
    np.testing.assert_array_equal(folder.open(0).labels, labels)


def entries(images, labels):
    return [(entry.name, entry.labels.name) for entry in AnnotationFolder(images, labels).entries]


def test_no_two_images_share_a_file_of_labels(tmp_path):
    labels = tmp_path / "labels"
    for name in ("cells.ome.tif", "cells.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((20, 24), np.uint8))
    expected = [("cells.ome.tif", "cells_ome_tif_labels.tif"), ("cells.tif", "cells_tif_labels.tif")]
    assert entries(tmp_path, labels) == expected
    # What an earlier version has noted: the first image keeps the file.
    noted = {name: {"state": "in work", "objects": 1, "labels": "cells_labels.tif"} for name, _ in expected}
    state = {"format": "napari-sam annotation", "version": 1, "current": "", "images": noted}
    (labels / STATE_FILE).write_text(json.dumps(state))
    assert entries(tmp_path, labels) == [("cells.ome.tif", "cells_labels.tif"), expected[1]]
    # A file that is noted for one image is not planned for another.
    noted["cells.tif"]["labels"] = "cells_ome_tif_labels.tif"
    del noted["cells.ome.tif"]
    (labels / STATE_FILE).write_text(json.dumps(state))
    assert entries(tmp_path, labels) == [
        ("cells.ome.tif", "cells_ome_tif_labels_2.tif"),
        ("cells.tif", "cells_ome_tif_labels.tif"),
    ]
