"""`napari-sam export` as a person at a terminal meets it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
from tests.fakes import disc_image
from tests.terminal import invoke

from napari_sam.axes import Axes
from napari_sam.export import export as write
from napari_sam.files import open_image, open_labels


def test_a_name_that_the_terminal_cannot_show_ends_nothing(tmp_path):
    np.save(tmp_path / "labels.npy", np.eye(9, dtype=np.uint8))
    out = [tmp_path / "α-SMA.tif", tmp_path / "b.tif"]
    words = ["export", tmp_path / "labels.npy", "-o", out[0], "-o", out[1]]
    done = subprocess.run(
        [sys.executable, "-c", "from napari_sam.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )
    assert "\\u03b1-SMA.tif" in done.stdout
    assert all(path.exists() for path in out)


def test_exporting_labels(tmp_path):
    labels = np.zeros((3, 20, 20), np.uint16)
    labels[1, 4:10, 4:10] = 3
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "scores.csv").write_text("label,predicted_iou\n3,0.75\n")
    np.save(tmp_path / "image.npy", labels * 2)
    result = invoke(
        "export",
        tmp_path / "labels.npy",
        *("-o", tmp_path / "a.tif", "-o", tmp_path / "a.csv", "-o", tmp_path / "a.json"),
        *("--spacing", "2,0.5,0.5", "--units", "um"),
        *("--features", tmp_path / "scores.csv", "--image", tmp_path / "image.npy"),
    )
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)
    header, row = (tmp_path / "a.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(cells["volume_um3"]) == 18
    assert float(cells["intensity_mean"]) == 6
    (annotation,) = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert annotation["score"] == 0.75
    # A TIFF that does not say its axes has those of its labels; an image of another size is refused.
    tifffile.imwrite(tmp_path / "image.tif", labels * 2, photometric="minisblack")
    command = (
        "export",
        tmp_path / "a.tif",
        "-o",
        tmp_path / "c.csv",
        "-o",
        tmp_path / "c.geojson",
        "--image",
    )
    assert invoke(*command, tmp_path / "image.tif").exit_code == 0
    assert "intensity_mean" in (tmp_path / "c.csv").read_text()
    tifffile.imwrite(tmp_path / "small.tif", labels[:, :9], photometric="minisblack")
    result = invoke(*command, tmp_path / "small.tif")
    assert result.exit_code != 0
    assert "(3, 9, 20)" in (result.output or str(result.exception))
    # The file's own calibration counts when none is given.
    assert invoke("export", tmp_path / "a.tif", "-o", tmp_path / "b.tif").exit_code == 0
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.imagej_metadata["spacing"] == 2
        assert file.imagej_metadata["unit"] == "micron"


def test_a_pixel_size_leaves_the_time_between_frames_alone(tmp_path):
    labels = np.zeros((4, 20, 30), np.uint16)
    about = {"axes": "TYX", "finterval": 5.0, "unit": "pixel"}
    tifffile.imwrite(tmp_path / "movie.tif", labels, imagej=True, metadata=about)
    command = ["export", tmp_path / "movie.tif", "-o", tmp_path / "new.tif"]
    assert invoke(*command, "--spacing", "0.5", "--units", "um").exit_code == 0
    with open_image(tmp_path / "new.tif") as image:
        assert image.axes == Axes("TYX", (5, 0.5, 0.5), ("second", "micrometer", "micrometer"))
    assert invoke(*command, "--spacing", "2,0.5,0.5").exit_code == 0
    with open_image(tmp_path / "new.tif") as image:
        assert image.axes.spacing == (2, 0.5, 0.5)


@pytest.mark.parametrize(
    ("units", "seconds"),
    [(("--units", "um"), 5), (("--units", "s, um,um"), 5), (("--units", "min,um,um"), 300)],
)
def test_the_time_between_frames_is_given_with_the_pixel_size(units, seconds, tmp_path):
    np.save(tmp_path / "movie.npy", np.zeros((4, 20, 30), np.uint16))
    command = ["export", tmp_path / "movie.npy", "--axes", "TYX", "-o", tmp_path / "new.tif"]
    assert invoke(*command, "--spacing", "5,0.5,0.25", *units).exit_code == 0
    with open_image(tmp_path / "new.tif") as image:
        assert image.axes.units == ("second", "micrometer", "micrometer")
        np.testing.assert_allclose(image.axes.spacing, (seconds, 0.5, 0.25))


def test_units_that_do_not_fit_the_axes_are_refused(tmp_path):
    np.save(tmp_path / "movie.npy", np.zeros((4, 20, 30), np.uint16))
    command = ["export", tmp_path / "movie.npy", "--axes", "TYX", "-o", tmp_path / "new.tif"]
    for units, words in (
        ("um,um", "Expected one unit for each of the axes T, Y, X, found ['um', 'um']"),
        ("um,um,um", "Expected a unit of time, such as s, for the axis T, found micrometer"),
        ("frame,um,um", "Expected a unit of time, such as s, for the axis T, found frame"),
        ("s", "Expected a unit of length, such as um, for the axis Y, found second"),
    ):
        result = invoke(*command, "--spacing", "5,0.5,0.5", "--units", units)
        assert result.exit_code == 2
        assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "new.tif").exists()


def test_of_the_zarr_of_an_image_its_labels_are_exported(tmp_path):
    pixels = disc_image((40, 60), [(12, 14, 7)])
    labels = (pixels > 100).astype(np.uint8) * 7
    image = write(labels, tmp_path / "cells.ome.zarr", image=pixels)
    result = invoke("export", image, "-o", tmp_path / "a.tif")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)
    assert f"the labels that lie in it are taken, {image / 'labels' / 'objects'}" in result.stderr
    shutil.copytree(image / "labels" / "objects", image / "labels" / "nuclei")
    refused = invoke("export", image, "-o", tmp_path / "b.tif")
    assert refused.exit_code == 2
    said = "".join(refused.stderr.replace("│", "").split())
    assert all(str(image / "labels" / name) in said for name in ("nuclei", "objects"))
    assert invoke("export", image / "labels" / "nuclei", "-o", tmp_path / "b.tif").exit_code == 0
    # Without labels in it, it may be a label image that does not say so.
    shutil.rmtree(image / "labels")
    assert invoke("export", image, "-o", tmp_path / "c.tif").exit_code == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "c.tif"), pixels)


def test_labels_are_not_exported_over_their_image(tmp_path):
    pixels = np.arange(400, dtype=np.uint16).reshape(20, 20)
    tifffile.imwrite(tmp_path / "cells.tif", pixels)
    tifffile.imwrite(tmp_path / "labels.tif", pixels % 2)
    image = tmp_path / "cells.tif"
    result = invoke("export", tmp_path / "labels.tif", "--image", image, "-o", image)
    assert result.exit_code == 2
    assert "which is one of the images" in " ".join(result.stderr.replace("│", " ").split())
    np.testing.assert_array_equal(tifffile.imread(image), pixels)


def test_labels_within_an_image_are_replaced_only_when_asked(tmp_path):
    pixels = disc_image((40, 60), [(12, 14, 7)])
    mine, others = np.full(pixels.shape, 3, np.uint8), np.full(pixels.shape, 5, np.uint8)
    image = write(mine, tmp_path / "cells.ome.zarr", image=pixels)
    np.save(tmp_path / "others.npy", others)
    words = ("export", tmp_path / "others.npy", "-o", tmp_path / "a.tif", "-o", image)
    refused = invoke(*words)
    assert refused.exit_code == 2
    assert "add --overwrite to replace it" in " ".join(refused.stderr.replace("│", "").split())
    assert not (tmp_path / "a.tif").exists()
    with open_labels(image) as found:
        np.testing.assert_array_equal(found.labels(), mine)
    assert invoke(*words, "--overwrite").exit_code == 0
    with open_labels(image) as found:
        np.testing.assert_array_equal(found.labels(), others)


def test_labels_are_not_exported_over_the_table_that_is_read(tmp_path):
    labels = np.zeros((20, 20), np.uint8)
    labels[2:8, 2:8] = 1
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    table = tmp_path / "features.csv"
    table.write_text("index,mine\n1,5\n")
    result = invoke("export", tmp_path / "labels.tif", "--features", table, "-o", table)
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert "which is the table of --features. Choose another folder or another name" in said
    assert table.read_text() == "index,mine\n1,5\n"


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("w.tif", "geojson"), ("w.json", "geojson"), ("w.csv", "coco")],
)
def test_a_name_that_ends_as_another_format_is_refused(name, chosen, tmp_path):
    labels, free = tmp_path / "labels.npy", tmp_path / "w.data"
    np.save(labels, np.eye(9, dtype=np.uint8))
    command = ("export", labels, "-f", chosen, "-o", free)
    refused = invoke(*command, "-o", tmp_path / name)
    assert refused.exit_code == 2
    assert "and the format that was chosen is" in " ".join(refused.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == [labels]
    assert invoke(*command).exit_code == 0
    assert free.exists()


def test_planes_that_were_not_linked_are_measured_on_their_own(tmp_path):
    labels = np.zeros((2, 100, 100), np.uint8)
    labels[0, 5:15, 5:15] = labels[1, 75:85, 75:85] = 1
    np.save(tmp_path / "labels.npy", labels)
    command = ("export", tmp_path / "labels.npy", "-o", tmp_path / "a.csv")
    for flag, rows in ((None, 1), ("--link", 1), ("--no-link", 2)):
        assert invoke(*command, *([] if flag is None else [flag])).exit_code == 0
        table = pd.read_csv(tmp_path / "a.csv")
        assert len(table) == rows
        assert ("area_px" in table) == (flag == "--no-link")
    assert table["z"].tolist() == [0, 1]


def test_the_axes_of_the_image_are_given_where_its_file_does_not_say_them(tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[2:8, 2:8] = 1
    image = np.stack([labels * 3, labels * 7])
    np.save(tmp_path / "labels.npy", labels)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="minisblack")
    command = ("export", tmp_path / "labels.npy", "-o", tmp_path / "a.csv", "--image", tmp_path / "image.tif")
    refused = invoke(*command)
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.replace("│", " ").split())
    assert "labels' shape (20, 30), but for channels; found image.tif of the shape (2, 20, 30)" in said
    assert "say with --image-axes what its axes are, for example CYX" in said
    done = invoke(*command, "--image-axes", "cyx")
    assert done.exit_code == 0, done.output
    (row,) = pd.read_csv(tmp_path / "a.csv").to_dict("records")
    assert [row[f"intensity_c{channel}_mean"] for channel in (0, 1)] == [3, 7]
    # What is said of the image holds, whether or not it would have fitted without.
    tifffile.imwrite(tmp_path / "image.tif", image[0], photometric="minisblack")
    wrong = invoke(*command, "--image-axes", "CYX")
    assert wrong.exit_code == 2
    assert "found 'CYX'" in " ".join(wrong.stderr.replace("│", " ").split())
