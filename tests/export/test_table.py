from __future__ import annotations

import numpy as np
import pandas as pd

from napari_sam.export import export


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
