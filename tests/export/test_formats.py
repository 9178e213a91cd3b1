"""The table of formats, what every export checks, and that no half-written file stays."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_sam.axes import AxesError
from napari_sam.export import FORMATS, ExportError, atomic, export, format_of
from napari_sam.export.features import read_features
from napari_sam.export.formats import without_suffix
from napari_sam.files import open_image

ENDINGS = [f.suffixes[0] for f in FORMATS]


@pytest.mark.parametrize("known", FORMATS, ids=lambda f: f.name)
def test_a_format_is_found_by_each_of_its_endings_and_by_name(known):
    for suffix in known.suffixes:
        assert format_of(f"some/where/Cells{suffix.upper()}") is known
        assert without_suffix(f"some/where/cells{suffix}") == "cells"
    assert format_of("anything", known.name) is known
    assert callable(known.writer())


def test_an_unknown_ending_names_those_that_are_known(odd_shapes, tmp_path):
    with pytest.raises(ExportError, match=r"\.tif, .*\.png, .*\.csv, found 'cells\.doc'"):
        export(odd_shapes, tmp_path / "cells.doc")
    with pytest.raises(ExportError, match="tiff, ome-tiff, png"):
        export(odd_shapes, tmp_path / "cells.tif", format="word")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ENDINGS)
def test_what_is_no_label_image_is_refused_and_leaves_nothing(suffix, tmp_path):
    for wrong, words in [
        (np.full((8, 8), 0.5), "fractions|whole numbers"),
        (np.full((8, 8), -2), "0 and above"),
        (np.zeros((8, 8), complex), "whole numbers"),
    ]:
        with pytest.raises(ValueError, match=words):
            export(wrong, tmp_path / f"cells{suffix}")
    with pytest.raises(AxesError, match="2 to 5 axes"):
        export(np.zeros(4, int), tmp_path / f"cells{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ENDINGS)
def test_no_objects_is_a_valid_file(suffix, tmp_path):
    assert export(np.zeros((8, 9), int), tmp_path / f"cells{suffix}").exists()


@pytest.mark.parametrize("suffix", ENDINGS)
def test_a_write_that_fails_half_way_leaves_the_older_file_as_it_was(
    suffix, odd_shapes, tmp_path, monkeypatch
):
    path = export(odd_shapes, tmp_path / "folder" / f"cells{suffix}")
    before = contents(path)

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_move", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export(odd_shapes * 2, path)
    assert contents(path) == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ENDINGS)
def test_an_older_file_is_replaced_and_leftovers_of_a_killed_run_are_removed(suffix, odd_shapes, tmp_path):
    path = tmp_path / f"cells{suffix}"
    export(np.zeros((400, 400), int), path)
    path.with_name(f".{path.name}.partial").write_bytes(b"half")
    export(odd_shapes, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    once = contents(path)
    export(odd_shapes, path)
    # An OME-TIFF carries a new identity each time.
    assert suffix == ".ome.tif" or contents(path) == once, "the same labels give the same file"


@pytest.mark.parametrize("suffix", [e for e in ENDINGS if e != ".png"])
def test_a_stack_of_which_the_distance_of_planes_is_unknown_can_be_written(suffix, stack, tmp_path):
    units = ("pixel", "micrometer", "micrometer")
    path = export(stack, tmp_path / f"a{suffix}", axes="ZYX", spacing=(1, 0.3, 0.3), units=units)
    if suffix in (".tif", ".ome.tif", ".ome.zarr"):
        with open_image(path) as image:
            np.testing.assert_array_equal(image.labels()[:], stack)
            assert image.axes.units == units
            np.testing.assert_allclose(image.axes.spacing, (1, 0.3, 0.3))
    elif suffix == ".csv":
        columns = path.read_text().splitlines()[0].split(",")
        assert "volume_px" in columns
        assert not [c for c in columns if "um" in c.split("_")[-1]]
    elif suffix == ".geojson":
        assert "Area µm^2" in path.read_text(), "QuPath measures planes"


def contents(path):
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path.parent)): p.read_bytes() for p in files}


def test_a_folder_is_never_replaced_by_a_file(odd_shapes, tmp_path):
    (tmp_path / "cells.tif").mkdir()
    with pytest.raises(ExportError, match="is a folder, and a file is to be written"):
        export(odd_shapes, tmp_path / "cells.tif")


def test_a_place_that_cannot_be_written_to_is_said_in_words(odd_shapes, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match=r"could not be written .* Choose another folder"):
        export(odd_shapes, tmp_path / "file" / "cells.tif")


def test_axes_are_brought_to_order_for_every_format(stack, tmp_path):
    import tifffile

    moved = np.moveaxis(np.stack([stack, stack * 2]), 0, 1)  # ZTYX
    path = export(moved, tmp_path / "cells.tif", axes="ZTYX", spacing=(2, 5, 1, 1), units="um")
    np.testing.assert_array_equal(tifffile.imread(path), np.stack([stack, stack * 2]))


def test_lazy_arrays_are_read_plane_by_plane(stack, tmp_path):
    import tifffile

    class Lazy:
        shape, dtype = stack.shape, stack.dtype
        asked: list = []  # noqa: RUF012

        def __getitem__(self, index):
            self.asked.append(index)
            return stack[index]

    path = export(Lazy(), tmp_path / "cells.tif")
    np.testing.assert_array_equal(tifffile.imread(path), stack)
    assert set(Lazy.asked) == {(0,), (1,), (2,)}


@pytest.mark.parametrize("suffix", ENDINGS)
def test_what_cannot_be_read_is_not_said_of_what_is_written(suffix, odd_shapes, tmp_path):
    class Broken:
        shape, dtype = odd_shapes.shape, odd_shapes.dtype

        def __getitem__(self, index):
            raise OSError(5, "Input/output error", "/mnt/source.zarr")

    words = r"could not be read \(Input/output error: /mnt/source\.zarr\)\. Check that the disk"
    with pytest.raises(ExportError, match=f"The label image {words}"):
        export(Broken(), tmp_path / f"cells{suffix}")
    if suffix in (".csv", ".geojson", ".ome.zarr"):  # the others hold nothing of the image
        with pytest.raises(ExportError, match=f"The image {words}"):
            export(odd_shapes, tmp_path / f"cells{suffix}", image=Broken())
    assert list(tmp_path.iterdir()) == []


def test_a_feature_never_takes_the_place_of_the_id(odd_shapes, tmp_path):
    """It is written under another name, the same one in every format."""
    import pandas as pd
    import roifile

    about = {"label": ["nucleus", "debris"], "label_2": [3, 4], "label-value": [5, 6]}
    known = {"label_3": "debris", "label_2": 4, "label-value_2": 6}
    for features in ({"index": [1, 2], **about}, {1: {}, 2: {k: v[1] for k, v in about.items()}}):
        paths = {s: export(odd_shapes, tmp_path / f"a{s}", features=features) for s in ENDINGS}
        row = pd.read_csv(paths[".csv"]).set_index("label").loc[2]
        assert row[list(known)].to_dict() == known
        (roi,) = [r for r in roifile.roiread(paths[".zip"]) if r.name == "02"]
        assert roi.properties == {"label": 2, **known}
        (entry,) = [a for a in json.loads(paths[".json"].read_text())["annotations"] if a["label"] == 2]
        assert entry["attributes"] == known
        described = json.loads((paths[".ome.zarr"] / "zarr.json").read_text())["attributes"]["ome"]
        assert {"label-value": 2, **known} in described["image-label"]["properties"]
        detections = json.loads(paths[".geojson"].read_text())["features"]
        (measured,) = [f["properties"]["measurements"] for f in detections if f["properties"]["name"] == "2"]
        assert (measured["Label"], measured["Label 2"], measured["Label-value 2"]) == (2, 4, 6)


def features_by_id(features):
    return read_features(features).everywhere()


def test_features_of_a_movie_are_those_of_their_time_point():
    movie = {"label": [1, 1, 2], "t": [0, 1, 1], "stage": [4, 5, 6], "kind": ["a", "a", "b"]}
    found = read_features(movie, "TYX")
    assert found.of(1, {"t": 0}) == {"stage": 4, "kind": "a"}
    assert found.of(1, {"t": 1}) == {"stage": 5, "kind": "a"}
    assert found.of(2, {"t": 0}) == {}
    assert found.everywhere() == {1: {"kind": "a"}, 2: {"stage": 6, "kind": "b"}}
    # Of a table that does not fit the axes only what holds for an object throughout.
    assert read_features(movie).of(1, {}) == {"kind": "a"}
    frames = {"label": [1, 1], "frame": [0, 1], "stage": [4, 5]}
    assert read_features(frames, "TYX").of(1, {"t": 1}) == {"stage": 5}
    first_seen = {"label": [1, 2], "frame": [0, 1], "stage": [4, 5]}
    assert read_features(first_seen, "TYX").of(1, {"t": 2}) == {"frame": 0, "stage": 4}
    times = {"label": [1, 2], "t": [0.5, 1.5]}
    assert read_features(times, "TYX").of(1, {"t": 2}) == {"t": 0.5}


def test_features_come_from_tables_of_several_kinds():
    import pandas as pd

    expected = {3: {"predicted_iou": 0.5, "model": "a"}, 4: {"model": "b"}}
    columns = {"index": [0, 3, 4], "predicted_iou": [np.nan, 0.5, np.nan], "model": ["", "a", "b"]}
    assert features_by_id(pd.DataFrame(columns)) == expected
    assert features_by_id(columns) == expected
    assert features_by_id(expected) == expected
    assert features_by_id(None) == features_by_id(pd.DataFrame()) == {}
    with pytest.raises(ExportError, match="column 'index' or 'label'"):
        features_by_id({"name": ["a"]})


def test_what_a_table_does_not_know_is_left_out_whatever_its_type():
    import pandas as pd

    times = pd.to_datetime(["2020-01-01", None])
    columns = {
        "index": [1, 2],
        "text": pd.array(["a", pd.NA], dtype="string"),
        "number": pd.array([1, pd.NA], dtype="Int64"),
        "known": pd.array([True, pd.NA], dtype="boolean"),
        "kind": pd.Categorical(["x", None]),
        "time": times,
        "second": times.astype("datetime64[s]"),
        "delay": pd.to_timedelta([5, None], unit="s"),
        "object": pd.Series([[1, None], pd.NaT], dtype=object),
        "large": [1.0, np.inf],
    }
    found = features_by_id(pd.DataFrame(columns))
    assert found[1].keys() == columns.keys() - {"index"}
    assert (found[1]["text"], found[1]["number"], found[1]["known"]) == ("a", 1, True)
    assert found[1]["object"] == "[1, None]"
    assert found.get(2, {}) == {}
    times = {"a": np.datetime64("NaT", "ns"), "b": np.timedelta64("NaT"), "c": np.array([np.nan])}
    assert features_by_id({1: times}) == {1: {"c": "[nan]"}}


def test_ids_are_never_guessed():
    assert features_by_id({"index": [1, 2], "label": [1, 2], "kind": ["a", "b"]})[2] == {"kind": "b"}
    assert features_by_id({"index": [1, 2], "label": ["round", "long"]})[2] == {"label_2": "long"}
    assert features_by_id({"index": ["round", "long"], "label": [1, 2]})[2] == {"index": "long"}
    assert features_by_id({"index": [0, 1], "label": [np.nan, 1], "kind": ["", "a"]}) == {1: {"kind": "a"}}
    assert features_by_id({"label": np.array([1, 2], object), "kind": ["a", "b"]})[2] == {"kind": "b"}
    assert features_by_id({1: {"predicted_iou": np.float32(0.5), "none": np.nan}}) == {
        1: {"predicted_iou": 0.5}
    }
    with pytest.raises(ExportError, match="'index' and 'label' both look like the ids"):
        features_by_id({"index": [0, 1], "label": [1, 2]})
    for wrong in ([1.5, 2], [np.nan, 1], ["a", "b"], [-1, 2]):
        with pytest.raises(ExportError, match="is to hold the ids"):
            features_by_id({"label": wrong, "kind": ["a", "b"]})
    with pytest.raises(ExportError, match="several with the id 3"):
        features_by_id({"index": [0, 0, 3, 3], "kind": list("abcd")})
