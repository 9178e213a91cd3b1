"""Labels of a folder that is gone through, without a window."""

from __future__ import annotations

import numpy as np
import tifffile

from napari_sam.folder.annotate import AnnotationFolder, Snapshot


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
    assert folder.save(Snapshot(0, labels, None, opened.axes)) == 1
    np.testing.assert_array_equal(folder.open(0).labels, labels)
