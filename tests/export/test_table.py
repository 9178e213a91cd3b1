from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_sam.export import ExportError, export


def test_measurements_and_features_stand_side_by_side(odd_shapes, tmp_path):
    features = {"index": [2, 1], "predicted_iou": [0.5, 0.75], "area_px": [0, 0]}
    path = export(
        odd_shapes,
        tmp_path / "cells.csv",
        spacing=0.5,
        units="µm",
        image=odd_shapes * 2,
        features=features,
    )
    table = pd.read_csv(path).set_index("label")
    areas = pd.Series(odd_shapes[odd_shapes > 0]).value_counts().sort_index()
    np.testing.assert_array_equal(table["area_px"], areas)
    np.testing.assert_array_equal(table["area_um2"], areas / 4)
    np.testing.assert_array_equal(table["intensity_mean"], table.index * 2)
    assert table["predicted_iou"].loc[1] == 0.75
    assert np.isnan(table["predicted_iou"].loc[3])


def test_time_points_are_rows_of_their_own(stack, tmp_path):
    path = export(stack, tmp_path / "cells.csv", axes="TYX")
    table = pd.read_csv(path)
    assert table[["label", "t", "area_px"]].to_numpy().tolist() == [
        [1, 0, 36],
        [1, 1, 36],
        [2, 1, 72],
        [2, 2, 72],
    ]
    assert not any(c.endswith("_um") for c in table)


def test_a_volume_is_one_row(stack, tmp_path):
    table = pd.read_csv(export(stack, tmp_path / "cells.csv", spacing=(2, 1, 1), units="um"))
    assert table["volume_px"].tolist() == [72, 144]
    assert table["volume_um3"].tolist() == [144, 288]
    assert table["centroid_z_um"].tolist() == [1, 3]


def test_what_is_known_of_a_movie_stands_in_the_row_of_its_time_point(stack, tmp_path):
    features = {"label": [1, 1, 2, 2], "t": [0, 1, 1, 2], "stage": [10, 11, 21, 22]}
    table = pd.read_csv(export(stack, tmp_path / "cells.csv", axes="TYX", features=features))
    assert table[["label", "t", "stage"]].to_numpy().tolist() == [
        [1, 0, 10],
        [1, 1, 11],
        [2, 1, 21],
        [2, 2, 22],
    ]


def test_planes_that_are_not_linked_are_measured_one_by_one(stack, tmp_path):
    features = {"index": [1, 1, 2, 2], "z": [0, 1, 1, 2], "predicted_iou": [0.5, 0.6, 0.7, 0.8]}
    path = export(
        stack, tmp_path / "cells.csv", spacing=(2, 1, 1), units="um", features=features, linked=False
    )
    table = pd.read_csv(path)
    columns = ["label", "z", "area_px", "area_um2", "predicted_iou"]
    assert table[columns].to_numpy().tolist() == [
        [1, 0, 36, 36, 0.5],
        [1, 1, 36, 36, 0.6],
        [2, 1, 72, 72, 0.7],
        [2, 2, 72, 72, 0.8],
    ]
    assert not any(column.startswith("volume") for column in table)


def test_of_planes_that_are_one_row_what_their_features_agree_on_is_taken(stack, tmp_path):
    planes = {"z": [0, 1, 1, 2], "index": [1, 1, 2, 2], "kind": ["a", "a", "b", "b"], "sure": [1, 2, 3, 3]}
    table = pd.read_csv(export(stack, tmp_path / "volume.csv", features=planes))
    assert table[["label", "kind"]].to_numpy().tolist() == [[1, "a"], [2, "b"]]
    np.testing.assert_array_equal(table["sure"], [np.nan, 3])
    assert "z" not in table
    movie = {name: values * 2 for name, values in planes.items()}
    movie |= {"t": [0] * 4 + [1] * 4, "kind": [*"aabbccdd"]}
    table = pd.read_csv(export(np.stack([stack, stack]), tmp_path / "movie.csv", axes="TZYX", features=movie))
    assert table[["label", "t", "kind"]].to_numpy().tolist() == [
        [1, 0, "a"],
        [2, 0, "b"],
        [1, 1, "c"],
        [2, 1, "d"],
    ]


def test_ids_beyond_the_whole_numbers_of_floats_are_told_apart(tmp_path):
    ids = np.array([2**53, 2**53 + 1], np.uint64)
    movie = np.tile(ids.repeat(4).reshape(1, 2, 4), (2, 1, 1))
    features = {"label": [*ids, *ids], "t": [0, 0, 1, 1], "stage": [1, 2, 3, 4]}
    table = pd.read_csv(export(movie, tmp_path / "cells.csv", axes="TYX", features=features))
    assert table["label"].tolist() == [*ids, *ids]
    assert table["stage"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["t", "frame"])
def test_time_points_of_features_are_counted_from_0(name, stack, tmp_path):
    rows = {"label": [1, 1, 2, 2], name: [1, 2, 2, 3], "stage": [10, 11, 21, 22]}
    with pytest.raises(ExportError, match="from 0 to 2 along T, counted from 0, found 3"):
        export(stack, tmp_path / "cells.csv", axes="TYX", features=rows)
    longer = np.concatenate([stack, np.zeros_like(stack)])
    with pytest.raises(ExportError, match="object 1 at t = 2, where it is not"):
        export(longer, tmp_path / "cells.csv", axes="TYX", features=rows)
    late = np.concatenate([np.zeros_like(stack), stack])  # nothing is there at 0
    rows[name] = [3, 4, 4, 5]
    late[3][late[3] == 1] = 0  # erased by hand
    table = pd.read_csv(export(late, tmp_path / "cells.csv", axes="TYX", features=rows))
    assert table["stage"].tolist() == [11, 21, 22]
