"""Labels of a folder that is gone through, without a window."""

from __future__ import annotations

import json
from dataclasses import replace
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_sam.files import ImageFileError
from napari_sam.folder.annotate import LONGEST, STATE_FILE, AnnotationFolder, Snapshot
from napari_sam.session.folder_jobs import open_entry


def test_labels_of_a_stack_without_a_distance_of_planes_are_saved(tmp_path):
    tifffile.imwrite(
        tmp_path / "stack.tif",
        np.zeros((3, 20, 24), np.uint8),
        imagej=True,
        resolution=(4, 4),
        metadata={"axes": "ZYX", "unit": "micron", "zunit": "pixel"},
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


def test_a_name_that_is_too_long_for_a_labels_file_stops_no_other_image(tmp_path):
    long = "a" * 230 + ".tif"
    for name in (long, "b.tif"):
        tifffile.imwrite(tmp_path / name, np.arange(480, dtype=np.uint8).reshape(20, 24))
    folder = AnnotationFolder(tmp_path, tmp_path / "labels")
    assert [(e.name, e.state) for e in folder.entries] == [(long, "broken"), ("b.tif", "new")]
    assert folder.first == 1
    words = "The name aaaaaaaaaaaaaaaaaaaa… is too long for the files of its labels. Rename the image"
    assert folder.entries[0].error.startswith(words)
    assert open_entry(folder, 0).error == folder.entries[0].error
    assert open_entry(folder, 1).opened.shape == (20, 24)


def test_the_longest_name_that_is_taken_can_be_saved(tmp_path):
    stem = "a" * (LONGEST - len("_labels"))
    tifffile.imwrite(tmp_path / f"{stem}.tif", np.zeros((20, 24), np.uint8))
    folder = AnnotationFolder(tmp_path, tmp_path / "labels")
    axes = folder.open(0).axes
    table = pd.DataFrame({"index": [1], "area": [480]})
    stamps = [None, (-2, -2), (-2, -2)]  # somebody else has written meanwhile, twice
    for stamp in stamps:
        assert folder.save(Snapshot(0, np.ones((20, 24), np.uint16), table, axes), stamp).objects == 1
    assert folder.open(0).features.equals(table)


def test_labels_that_lie_among_others_in_a_file_are_not_replaced(tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((20, 24), np.uint8))
    (tmp_path / "labels").mkdir()
    with tifffile.TiffWriter(tmp_path / "labels" / "b_labels.tif") as file:
        for shape in ((20, 24), (30, 24)):
            file.write(np.ones(shape, np.uint8), metadata=None)
    folder = AnnotationFolder(tmp_path, tmp_path / "labels")
    with pytest.raises(ImageFileError, match="It holds 2 images, of which the first is read"):
        folder.open(0)


def test_damaged_labels_are_named(tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((64, 64), np.uint8))
    (tmp_path / "labels").mkdir()
    path = tmp_path / "labels" / "b_labels.tif"
    tifffile.imwrite(path, np.arange(4096, dtype=np.uint16).reshape(64, 64), compression="zlib")
    path.write_bytes(path.read_bytes()[:-900])
    error = open_entry(AnnotationFolder(tmp_path, tmp_path / "labels"), 0).error
    assert "b_labels.tif cannot be read" in error
    assert "Is the file complete?" in error


def test_a_copy_that_spells_names_otherwise_is_the_same_work(tmp_path):
    """A Mac takes umlauts apart, in the names of files and not in those that are noted, or the other way."""
    one, apart = normalize("NFC", "ü"), normalize("NFD", "ü")
    labels = tmp_path / "labels"
    for name in ("a", one):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((20, 24), np.uint8))
    if (tmp_path / f"{apart}.tif").exists():
        pytest.skip("this disk takes the two for one")
    folder = AnnotationFolder(tmp_path, labels)
    folder.save(Snapshot(1, np.ones((20, 24), np.uint16), None, folder.open(1).axes))
    folder.note([replace(folder.entries[1], state="done", objects=1)], f"{one}.tif")
    for _ in range(2):
        (tmp_path / f"{one}.tif").rename(tmp_path / f"{apart}.tif")
        copied = AnnotationFolder(tmp_path, labels)
        assert [(e.name, e.state, e.objects) for e in copied.entries] == [
            ("a.tif", "new", 0),
            (f"{apart}.tif", "done", 1),
        ]
        assert copied.first == 1
        assert copied.open(1).objects == 1
        copied.note([copied.entries[1]], f"{apart}.tif")
        assert list(json.loads((labels / STATE_FILE).read_text())["images"]) == [f"{apart}.tif"]
        one, apart = apart, one
    # Where nothing is noted, labels are found by their names all the same.
    (labels / STATE_FILE).unlink()
    (labels / f"{normalize('NFC', 'ü')}_labels.tif").rename(labels / f"{normalize('NFD', 'ü')}_labels.tif")
    assert AnnotationFolder(tmp_path, labels).entries[1].state == "in work"
