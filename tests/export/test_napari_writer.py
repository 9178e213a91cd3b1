"""Saving a real Labels layer through napari's own save, which finds the writers in the manifest."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from napari.layers import Labels

from napari_sam._napari.layers import set_linked
from napari_sam.axes import Axes
from napari_sam.export import FORMATS
from napari_sam.export.napari_writer import layer_axes, write_layer, write_png
from napari_sam.files import open_image


@pytest.mark.parametrize("suffix", [".tif", ".png", ".zip", ".geojson", ".json", ".zarr", ".csv"])
def test_napari_saves_a_layer_with_this_ending(suffix, odd_shapes, tmp_path, npe2pm):
    layer = Labels(odd_shapes, name="cells", scale=(0.5, 0.5), units=("um", "um"))
    with npe2pm.tmp_plugin(package="napari-sam-cells"):
        written = layer.save(str(tmp_path / f"cells{suffix}"), plugin="napari-sam-cells")
    assert written == [str(tmp_path / f"cells{suffix}")]
    assert (tmp_path / f"cells{suffix}").exists()


def test_scale_units_and_features_of_the_layer_are_kept(stack, tmp_path):
    layer = Labels(
        stack,
        name="nuclei",
        scale=(2, 0.5, 0.5),
        units=("um", "um", "um"),
        features=pd.DataFrame({"index": [0, 1, 2], "predicted_iou": [np.nan, 0.75, 0.5]}),
    )
    data, attributes, _ = layer.as_layer_data_tuple()
    write_layer(str(tmp_path / "cells.tif"), data, attributes)
    with tifffile.TiffFile(tmp_path / "cells.tif") as file:
        assert file.imagej_metadata["unit"] == "micron"
        assert file.imagej_metadata["spacing"] == 2
        np.testing.assert_array_equal(file.asarray(), stack)
    write_layer(str(tmp_path / "cells.json"), data, attributes)
    document = json.loads((tmp_path / "cells.json").read_text())
    assert {a["label"]: a["score"] for a in document["annotations"]} == {1: 0.75, 2: 0.5}
    assert document["images"][0]["file_name"] == "nuclei"


def test_a_name_that_ends_as_another_format_is_refused(odd_shapes, tmp_path):
    data, attributes, _ = Labels(odd_shapes).as_layer_data_tuple()
    with pytest.raises(OSError, match=r"x.csv ends as .*, and the format that was chosen is .*\.png"):
        write_png(str(tmp_path / "x.csv"), data, attributes)
    assert list(tmp_path.iterdir()) == []
    assert write_png(str(tmp_path / "x.png"), data, attributes) == [str(tmp_path / "x.png")]


def test_napari_is_told_why_a_layer_is_not_saved(tmp_path, npe2pm):
    """It takes a ValueError to mean that no plugin writes this, and would say so."""
    layer = Labels(np.full((4, 5), 70_000))
    with (
        npe2pm.tmp_plugin(package="napari-sam-cells"),
        pytest.raises(OSError, match="up to 65,535, found 70,000"),
    ):
        layer.save(str(tmp_path / "cells.png"), plugin="napari-sam-cells")
    assert list(tmp_path.iterdir()) == []


def test_of_a_multiscale_layer_the_finest_level_is_saved(odd_shapes, tmp_path):
    big = np.kron(odd_shapes, np.ones((2, 2), int))
    layer = Labels([big, odd_shapes], multiscale=True)
    data, attributes, _ = layer.as_layer_data_tuple()
    write_layer(str(tmp_path / "cells.tif"), data, attributes)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "cells.tif"), big)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, Axes("ZYX", (1, 1, 1), ("pixel",) * 3)),
        ({"axis_labels": ("-3", "-2", "-1"), "scale": (2, 1, -1)}, Axes("ZYX", (2, 1, 1), ("pixel",) * 3)),
        ({"axis_labels": ("time", "y", "x")}, Axes("TYX", (1, 1, 1), ("pixel",) * 3)),
        (
            {"scale": (5, 1, 1), "units": ("second", "um", "um")},
            Axes("TYX", (5, 1, 1), ("second", "micrometer", "micrometer")),
        ),
        ({"axis_labels": ("x", "y", "z")}, Axes("ZYX", (1, 1, 1), ("pixel",) * 3)),
        (
            {"scale": (5, 1, 1), "units": ("second", "um", "um"), "shear": (0, 0, 0.5)},
            Axes("TYX", (1, 1, 1), ("pixel",) * 3),
        ),
    ],
)
def test_axes_of_a_layer(attributes, expected):
    assert layer_axes(3, attributes) == expected


def test_every_format_can_be_saved_from_napari():
    from npe2 import PluginManifest

    writers = PluginManifest.from_distribution("napari-sam-cells").contributions.writers
    endings = {s for w in writers for s in w.filename_extensions}
    assert endings >= {f.suffixes[0] for f in FORMATS} - {".ome.tif"}


def test_sizes_are_those_of_the_layer_in_the_world(tmp_path):
    labels = np.zeros((30, 40), np.int32)
    labels[5:15, 10:30] = 7
    affine = np.diag([0.5, 0.25, 1])
    layer = Labels(labels, affine=affine, units=("um", "um"))
    data, attributes, _ = layer.as_layer_data_tuple()
    write_layer(str(tmp_path / "cells.csv"), data, attributes)
    assert pd.read_csv(tmp_path / "cells.csv")["area_um2"].tolist() == [25.0]
    affine[0, 1] = 0.1
    layer = Labels(labels, affine=affine, units=("um", "um"))
    data, attributes, _ = layer.as_layer_data_tuple()
    write_layer(str(tmp_path / "sheared.csv"), data, attributes)
    assert pd.read_csv(tmp_path / "sheared.csv")["area_px"].tolist() == [200]


def test_sizes_of_when_an_object_was_made_are_not_written(tmp_path):
    """It may have been painted in since; the table measures it anew."""
    labels = np.zeros((30, 40), np.int32)
    labels[5:15, 10:30] = 1
    features = pd.DataFrame(
        {
            "index": [0, 1], "predicted_iou": [0, 0.9], "area": [0, 999], "volume_um3": [0, 9.5],
            "kind": ["", "round"], "volume_fraction": [0, 0.25],
        }
    )  # fmt: skip
    data, attributes, _ = Labels(labels, features=features).as_layer_data_tuple()
    write_layer(str(tmp_path / "cells.csv"), data, attributes)
    table = pd.read_csv(tmp_path / "cells.csv")
    assert table["area_px"].tolist() == [200]
    assert table["kind"].tolist() == ["round"]
    assert table["volume_fraction"].tolist() == [0.25]
    assert not {"area", "volume_um3"} & set(table)
    mine = features.drop(columns="predicted_iou")
    data, attributes, _ = Labels(labels, features=mine).as_layer_data_tuple()
    write_layer(str(tmp_path / "mine.csv"), data, attributes)
    assert pd.read_csv(tmp_path / "mine.csv")["area"].tolist() == [999]


@pytest.mark.parametrize("linked", [True, False])
def test_planes_that_were_not_linked_are_measured_apart(tmp_path, linked):
    labels = np.zeros((2, 30, 40), np.int32)
    labels[0, 2:8, 2:8], labels[1, 20:26, 30:36] = 1, 1
    layer = Labels(labels)
    set_linked(layer, linked)
    data, attributes, _ = layer.as_layer_data_tuple()
    write_layer(str(tmp_path / "cells.csv"), data, attributes)
    assert len(pd.read_csv(tmp_path / "cells.csv")) == (1 if linked else 2)


def test_an_ome_zarr_lies_where_the_layer_does(odd_shapes, tmp_path):
    layer = Labels(odd_shapes, scale=(0.5, 0.5), translate=(100, 200), units=("um", "um"))
    data, attributes, _ = layer.as_layer_data_tuple()
    write_layer(str(tmp_path / "cells.ome.zarr"), data, attributes)
    with open_image(tmp_path / "cells.ome.zarr") as written:
        assert written.origin == {"Y": 100, "X": 200}
        assert written.axes == Axes("YX", (0.5, 0.5), ("micrometer", "micrometer"))
