"""GeoJSON read back with geopandas and shapely, in QuPath's frame: the origin is a pixel's corner."""

from __future__ import annotations

import json
import uuid

import geopandas
import numpy as np
import pytest
import shapely

from napari_sam.export import export


def fill(shape, geometry):
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(geometry, x, y)


@pytest.mark.parametrize("name", ["odd_shapes", "random_shapes"])
def test_polygons_are_valid_and_give_the_labels_back(name, request, tmp_path):
    labels = request.getfixturevalue(name)
    frame = geopandas.read_file(export(labels, tmp_path / "cells.geojson"))
    assert frame.geometry.is_valid.all()
    again = np.zeros_like(labels)
    for label, geometry in zip(frame["name"], frame.geometry, strict=True):
        again[fill(labels.shape, geometry)] = int(label)
        assert geometry.area == (labels == int(label)).sum()
    np.testing.assert_array_equal(again, labels)


def test_outlines_turn_as_geojson_asks(odd_shapes, tmp_path):
    for feature in read(export(odd_shapes, tmp_path / "cells.geojson")):
        geometry = feature["geometry"]
        parts = geometry["coordinates"]
        for outer, *holes in [parts] if geometry["type"] == "Polygon" else parts:
            assert shapely.LinearRing(outer).is_ccw
            assert not any(shapely.LinearRing(h).is_ccw for h in holes)
            assert outer[0] == outer[-1]


def read(path):
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    return document["features"]


def test_features_are_what_qupath_reads(odd_shapes, tmp_path):
    features = {
        "index": [1, 2],
        "predicted_iou": [0.75, 0.5],
        "class": ["Tumour", "Stroma"],
        "note": ["a", "b"],
    }
    path = export(
        odd_shapes,
        tmp_path / "cells.geojson",
        spacing=0.5,
        units="µm",
        features=features,
        image=odd_shapes * 10.0,
    )
    first, second, third, *_ = read(path)
    for feature in (first, second, third):
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert feature["properties"]["objectType"] == "detection"
    assert [f["properties"]["classification"]["name"] for f in (first, second, third)] == [
        "Tumour",
        "Stroma",
        "Cell",
    ]
    measured = first["properties"]["measurements"]
    assert measured["Label"] == 1
    assert measured["Area px^2"] == 12
    assert measured["Area µm^2"] == 3
    assert measured["Predicted IoU"] == 0.75
    assert measured["Intensity mean"] == 10
    assert "Perimeter µm" in measured
    assert "note" not in {k.lower() for k in measured}
    assert all(isinstance(v, (int, float)) for v in measured.values())
    assert "plane" not in first["geometry"]


def test_what_was_measured_wins_over_features_and_each_frame_has_its_own(stack, tmp_path):
    features = {"label": [1, 1, 2, 2], "t": [0, 1, 1, 2], "stage": [10, 11, 21, 22]}
    features |= {"area_px": [0] * 4, "intensity_mean": [0] * 4, "predicted_iou": [0.1, 0.2, 0.3, 0.4]}
    path = export(stack, tmp_path / "cells.geojson", axes="TYX", features=features, image=stack * 3)
    measured = [feature["properties"]["measurements"] for feature in read(path)]
    names = ["Label", "Stage", "Area px^2", "Intensity mean", "Predicted IoU"]
    assert [[m[name] for name in names] for m in measured] == [
        [1, 10, 36, 3, 0.1],
        [1, 11, 36, 3, 0.2],
        [2, 21, 72, 6, 0.3],
        [2, 22, 72, 6, 0.4],
    ]


def test_ids_stay_the_same_and_differ_between_objects(odd_shapes, tmp_path):
    ids = [
        [f["id"] for f in read(export(odd_shapes, tmp_path / f"{n}.geojson", image_name="x.tif"))]
        for n in "ab"
    ]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0])


def test_objects_of_a_stack_lie_in_their_planes(stack, tmp_path):
    movie = np.stack([stack, stack[::-1]])
    again = np.zeros_like(movie)
    for feature in read(export(movie, tmp_path / "cells.geojson")):
        place = feature["geometry"].pop("plane")
        assert place["c"] == -1
        plane = again[place["t"], place["z"]]
        plane[fill(plane.shape, shapely.geometry.shape(feature["geometry"]))] = int(
            feature["properties"]["name"]
        )
    np.testing.assert_array_equal(again, movie)


def test_intensities_that_are_no_numbers_are_left_out(odd_shapes, tmp_path):
    image = np.full(odd_shapes.shape, np.nan, np.float32)

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    text = export(odd_shapes, tmp_path / "cells.geojson", image=image).read_text()
    first = json.loads(text, parse_constant=refuse)["features"][0]
    assert not [name for name in first["properties"]["measurements"] if "Intensity" in name]
    assert "Area px^2" in first["properties"]["measurements"]
