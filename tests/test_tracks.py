import os
import sys
import time

import geff
import numpy as np
import pandas as pd
import pytest
import tifffile
from geff.validate.data import ValidationConfig
from typer.testing import CliRunner

from napari_sam.axes import make_axes
from napari_sam.cli import app
from napari_sam.tracks import (
    TrackError,
    Tracks,
    TrackSettings,
    find_tracks,
    save_tracks,
    track_frames,
    write_csv,
    write_ctc,
    write_geff,
)
from napari_sam.tracks.save import saving_steps


def frame(*discs, shape=(60, 100)):
    """Labels of discs (y, x, radius), numbered from 1 as given."""
    yy, xx = np.ogrid[: shape[0], : shape[1]]
    out = np.zeros(shape, np.int32)
    for number, (y, x, r) in enumerate(discs, start=1):
        out[(yy - y) ** 2 + (xx - x) ** 2 <= r * r] = number
    return out


def shown(tracks, frames):
    return np.stack([tracks.numbered(labels, t) for t, labels in enumerate(frames)])


MOVIE = [
    frame((20, 20, 7), (40, 70, 8)),
    frame((40, 73, 8), (21, 24, 7)),
    frame((22, 28, 7), (40, 76, 8), (10, 90, 5)),
]


def test_objects_keep_their_track_whatever_their_number():
    tracks = find_tracks(MOVIE)
    volume = shown(tracks, MOVIE)
    assert volume[0, 20, 20] == volume[1, 21, 24] == volume[2, 22, 28]
    assert volume[0, 40, 70] == volume[1, 40, 73] == volume[2, 40, 76]
    assert volume[2, 10, 90] == tracks.count == 3
    assert tracks.parents == {}


def test_ids_may_be_whole_floats():
    """As label images of many objects are kept for ImageJ."""
    expected = find_tracks(DIVIDING).table
    assert find_tracks([labels.astype(np.float32) for labels in DIVIDING]).table.equals(expected)


def test_ids_may_be_as_high_as_they_like(tmp_path):
    """Nothing counts up to the highest one: memory goes by the pixels."""
    high = 2**62
    numbers = np.array([0, high, 5], np.uint64)
    movie = [numbers[frame((20, 20 + t, 7), (40, 70, 8))] for t in range(3)]
    tracks = find_tracks(movie)
    assert tracks.table.groupby("track")["label"].unique().map(list).tolist() == [[5], [high]]
    expected = [1 * (labels > 0) + (labels > 5) for labels in movie]
    np.testing.assert_array_equal(shown(tracks, movie), expected)
    write_ctc(tracks, movie, tmp_path / "result")
    masks = [tifffile.imread(tmp_path / "result" / f"mask{t:03d}.tif") for t in range(3)]
    np.testing.assert_array_equal(masks, expected)


def test_a_cell_that_divides_has_two_daughters():
    movie = [
        frame((30, 50, 10)),
        frame((30, 50, 10)),
        frame((30, 43, 7), (30, 57, 7)),
        frame((30, 40, 7), (30, 60, 7)),
    ]
    tracks = find_tracks(movie)
    assert tracks.count == 3
    assert tracks.parents == {2: 1, 3: 1}
    data, graph = tracks.napari()
    assert data.shape == (6, 4)
    assert graph == {2: [1], 3: [1]}
    assert find_tracks(movie, TrackSettings(divisions=False)).parents == {}


def test_a_bud_is_no_division():
    movie = [frame((30, 50, 12)), frame((30, 50, 12), (30, 66, 3)), frame((30, 50, 12), (30, 67, 5))]
    tracks = find_tracks(movie, TrackSettings(max_distance=30))
    volume = shown(tracks, movie)
    assert volume[0, 30, 50] == volume[1, 30, 50] == volume[2, 30, 50] == 1
    assert volume[1, 30, 66] == volume[2, 30, 67] == 2
    assert tracks.parents == {}


def test_a_missing_frame_is_bridged_as_far_as_allowed():
    movie = [frame((30, 50, 10)), frame((5, 5, 3)), frame((30, 51, 10))]
    assert find_tracks(movie, TrackSettings(max_gap=1)).count == 2
    assert find_tracks(movie, TrackSettings(max_gap=0)).count == 3


def test_voxels_count_as_what_they_are():
    """Ten planes apart is near in thin slices and far in thick ones."""
    first, second = np.zeros((2, 20, 40, 40), np.int32)
    first[2:6, 10:20, 10:20] = 1
    second[12:16, 10:20, 10:20] = 1
    settings = TrackSettings(max_distance=15)
    assert find_tracks([first, second], settings, spacing=(1, 1, 1)).count == 1
    assert find_tracks([first, second], settings, spacing=(5, 1, 1)).count == 2
    data, _ = find_tracks([first, second], settings).napari()
    assert data[0].tolist() == [1, 0, 3.5, 14.5, 14.5]


@pytest.mark.parametrize("thickness", [0.1, 5.0])
def test_one_plane_has_no_thickness(thickness):
    """How far an object may move goes by its outline, as in a movie without Z."""
    movie = [frame((20, 20 + 12 * t, 6)) for t in range(3)]
    flat = find_tracks(movie, spacing=(0.5, 0.5))
    thin = find_tracks([labels[None] for labels in movie], spacing=(thickness, 0.5, 0.5))
    assert flat.count == thin.count == 1
    pd.testing.assert_frame_equal(thin.table.drop(columns="z"), flat.table)


def test_a_table_with_the_parent_of_each_track(tmp_path):
    movie = [frame((30, 50, 10)), frame((30, 43, 7), (30, 57, 7))]
    write_csv(find_tracks(movie, TrackSettings(max_distance=20)), tmp_path / "tracks.csv")
    table = pd.read_csv(tmp_path / "tracks.csv")
    assert table["track"].tolist() == [1, 2, 3]
    assert table["parent"].tolist() == [0, 1, 1]
    assert set(table) == {"track", "frame", "label", "y", "x", "area", "parent"}


def test_a_folder_of_the_cell_tracking_challenge(tmp_path):
    movie = [
        frame((30, 50, 10), (10, 10, 5)),
        frame((30, 43, 7), (30, 57, 7)),
        frame((30, 41, 7), (30, 60, 7), (10, 10, 5)),
        frame(),
    ]
    tracks = find_tracks(movie, TrackSettings(max_distance=20))
    write_ctc(tracks, movie, tmp_path / "RES")
    written = (tmp_path / "RES" / "res_track.txt").read_text().splitlines()
    lines = [tuple(map(int, row.split())) for row in written]
    masks = [tifffile.imread(tmp_path / "RES" / f"mask{t:03d}.tif") for t in range(4)]
    assert masks[0].dtype == np.uint16
    seen = {(t, int(i)) for t, mask in enumerate(masks) for i in np.unique(mask) if i}
    # Every track is there in each frame from its first to its last, and nowhere else.
    assert seen == {(t, i) for i, begin, end, _ in lines for t in range(begin, end + 1)}
    by_id = {line[0]: line for line in lines}
    mother = masks[0][30, 50]
    assert by_id[masks[1][30, 43]][3] == by_id[masks[1][30, 57]][3] == mother
    # The gap in the middle cuts the small one in two, the second the child of the first.
    assert by_id[masks[2][10, 10]][3] == masks[0][10, 10]


DIVIDING = [
    frame((30, 50, 10), (10, 10, 5)),
    frame((30, 43, 7), (30, 57, 7)),
    frame((30, 41, 7), (30, 60, 7), (10, 10, 5)),
]


def test_a_graph_that_its_own_library_reads(tmp_path):
    tracks = find_tracks(DIVIDING, TrackSettings(max_distance=20))
    path = tmp_path / "tracks.geff"
    axes = make_axes(3, "TYX", (30, 0.5, 0.25), ("s", "µm", "µm"))
    for _ in range(2):  # an older one makes way
        write_geff(tracks, path, axes)
    checks = ValidationConfig(graph=True, tracklet=True, lineage=True)
    graph, about = geff.read(path, structure_validation=True, data_validation=checks)
    assert [(a.name, a.type, a.unit, a.scale, a.scaled_unit) for a in about.axes] == [
        ("t", "time", "frame", 30, "second"),
        ("y", "space", "pixel", 0.5, "micrometer"),
        ("x", "space", "pixel", 0.25, "micrometer"),
    ]
    nodes = {(d["t"], d["label"]): n for n, d in graph.nodes(data=True)}
    assert len(nodes) == 7
    assert {k[:2] for k in graph.edges} == {
        (nodes[0, 1], nodes[1, 1]),
        (nodes[0, 1], nodes[1, 2]),
        (nodes[1, 1], nodes[2, 1]),
        (nodes[1, 2], nodes[2, 2]),
        (nodes[0, 2], nodes[2, 3]),  # over the frame in which it is missing
    }
    family = {graph.nodes[nodes[k]]["lineage"] for k in ((0, 1), (1, 1), (1, 2), (2, 2))}
    assert len(family) == 1
    assert graph.nodes[nodes[0, 2]]["lineage"] not in family


def test_a_graph_of_nothing_and_of_volumes(tmp_path):
    write_geff(find_tracks([frame(), frame()]), tmp_path / "empty.geff")
    assert len(geff.read(tmp_path / "empty.geff")[0]) == 0
    volume = np.repeat(frame((30, 50, 10))[None], 3, axis=0)
    write_geff(find_tracks([volume, volume]), tmp_path / "volume.geff")
    graph, about = geff.read(tmp_path / "volume.geff")
    assert [axis.name for axis in about.axes] == ["t", "z", "y", "x"]
    assert graph.nodes[0]["z"] == 1


def test_tracks_of_any_layer(tmp_path):
    tracks = find_tracks(DIVIDING, TrackSettings(max_distance=20))
    again = Tracks.of_napari(*tracks.napari(), tracks.table[["label", "area"]])
    assert again.table["label"].tolist() == tracks.table["label"].tolist()
    assert again.parents == tracks.parents
    columns = [c for c in tracks.table if c != "label"]
    pd.testing.assert_frame_equal(again.table[columns], tracks.table[columns], check_dtype=False)
    # Of somebody else's layer: numbers of its own, a track that goes on as another one, no labels.
    other = Tracks.of_napari([[7, 0, 1, 1], [7, 1, 1, 2], [9, 2, 1, 3]], {9: [7]})
    assert (other.count, other.parents) == (2, {9: 7})
    write_geff(other, tmp_path / "other.geff")
    checks = ValidationConfig(graph=True, tracklet=True, lineage=True)
    graph, about = geff.read(tmp_path / "other.geff", data_validation=checks)
    assert sorted(graph.edges) == [(0, 1), (1, 2)]
    assert about.track_node_props == {"lineage": "lineage"}
    with pytest.raises(TrackError, match="merge cannot be saved"):
        Tracks.of_napari([[1, 0, 0, 0], [2, 0, 9, 9], [3, 1, 5, 5]], {3: [1, 2]})
    with pytest.raises(TrackError, match="track, frame"):
        Tracks.of_napari(np.zeros((2, 6)))
    with pytest.raises(TrackError, match="do not say which labels"):
        write_ctc(other, [], tmp_path)


def test_a_mother_that_lives_on(tmp_path):
    """As a yeast that buds, in somebody's layer: edges go on in time, and every track ends at a birth."""
    rows = [[1, 0, 30, 50], [1, 1, 30, 50], [1, 2, 30, 50], [2, 1, 30, 80], [2, 2, 30, 80], [3, 0, 5, 5]]
    graph = {2: [1], 3: [2], 9: [1]}  # the third begins before its mother, the last is not there
    tracks = Tracks.of_napari(rows, graph, {"label": [1, 1, 1, 2, 2, 2]})
    write_geff(tracks, tmp_path / "tracks.geff")
    checks = ValidationConfig(graph=True, tracklet=True, lineage=True)
    found, about = geff.read(tmp_path / "tracks.geff", structure_validation=True, data_validation=checks)
    times = dict(found.nodes(data="t"))
    assert sorted((times[a], times[b]) for a, b in found.edges) == [(0, 1), (0, 1), (1, 2), (1, 2)]
    assert about.track_node_props == {"lineage": "lineage"}
    budding = [frame((30, 50, 9), (5, 5, 3)), *[frame((30, 50, 9), (30, 80, 5))] * 2]
    write_ctc(tracks, budding, tmp_path / "RES")
    lines = (tmp_path / "RES" / "res_track.txt").read_text().splitlines()
    assert lines == ["1 0 0 0", "2 1 2 1", "3 1 2 1", "4 0 0 0"]


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_masks_of_volumes_are_stacks_and_no_colours(tmp_path, depth):
    volume = np.repeat(frame((30, 50, 9))[None], depth, axis=0)
    write_ctc(find_tracks([volume, volume]), [volume, volume], tmp_path)
    with tifffile.TiffFile(tmp_path / "mask000.tif") as file:
        assert len(file.pages) == depth
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), volume)


def test_features_of_any_name_are_kept_in_a_graph(tmp_path):
    """Each is a folder, hence what a name of a folder cannot have is replaced."""
    names = ["area/px", "area:px", "area_px", "", "..", "mean (a.u.)"]
    tracks = Tracks.of_napari([[1, 0, 5, 5], [1, 1, 5, 6]], {}, {n: [k, k] for k, n in enumerate(names)})
    write_geff(tracks, tmp_path / "tracks.geff")
    graph, _ = geff.read(tmp_path / "tracks.geff", structure_validation=True)
    found = {k: v for k, v in graph.nodes[0].items() if k not in ("t", "y", "x", "track", "lineage")}
    expected = ["area_px", "area_px_2", "area_px_3", "feature", "feature_2", "mean (a.u.)"]
    assert found == {name: k for k, name in enumerate(expected)}


def test_thousands_of_divisions_are_written_in_a_moment(tmp_path):
    mothers = np.arange(12_000) * 3 + 1
    rows = [(mother + k, int(k > 0), 0, 0) for mother in mothers for k in range(3)]
    tracks = Tracks.of_napari(rows, {int(mother) + k: int(mother) for mother in mothers for k in (1, 2)})
    began = time.thread_time()
    write_geff(tracks, tmp_path / "tracks.geff")
    assert time.thread_time() - began < 2


def test_a_folder_holds_the_new_result_and_what_is_not_ours(tmp_path):
    place = tmp_path / "RES"
    long = [*DIVIDING, DIVIDING[-1]]
    write_ctc(find_tracks(long), long, place)
    (place / "notes.txt").write_text("mine")
    tracks = find_tracks(DIVIDING)
    write_ctc(tracks, DIVIDING, place)
    expected = {"mask000.tif", "mask001.tif", "mask002.tif", "res_track.txt", "notes.txt"}
    assert {file.name for file in place.iterdir()} == expected
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    edited = [DIVIDING[0], np.where(DIVIDING[1] == 2, 0, DIVIDING[1]), DIVIDING[2]]
    for changed in (edited, DIVIDING[:2]):
        with pytest.raises(TrackError, match="are not those that were tracked"):
            write_ctc(tracks, changed, place)
    steps = saving_steps(tracks, place, frames=DIVIDING)
    next(steps), next(steps)
    steps.close()
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    with pytest.raises(TrackError, match="holds the labels too"):
        save_tracks(tracks, tmp_path / "other")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mask007.tif").write_bytes(b"mine")
    with pytest.raises(
        TrackError, match=r"mine holds masks that are no older result.* Choose another folder"
    ):
        save_tracks(tracks, tmp_path / "mine", frames=DIVIDING)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["mask007.tif"]
    with pytest.raises(TrackError):
        write_ctc(tracks, edited, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def killed_while_placing(tracks, place, monkeypatch, moves):
    """Write a result in a process of which nothing is left after so many masks are in place."""

    class Killed(BaseException):
        pass

    done = []

    def replace(source, target):
        if len(done) == moves:
            raise Killed
        done.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("napari_sam.tracks.ctc.os.replace", replace)
        with pytest.raises(Killed):
            write_ctc(tracks, DIVIDING, place)


@pytest.mark.parametrize("moves", [0, 2, 3])
def test_new_masks_never_lie_beside_old_tracks(tmp_path, monkeypatch, moves):
    place = tmp_path / "RES"
    long = [*DIVIDING, DIVIDING[-1]]
    write_ctc(find_tracks(long), long, place)
    tracks = find_tracks(DIVIDING)
    killed_while_placing(tracks, place, monkeypatch, moves)
    assert not (place / "res_track.txt").exists()
    # The masks that are left are known as those of a run that was broken off, even by a run that fails.
    if moves:
        with pytest.raises(TrackError, match="are not those that were tracked"):
            write_ctc(tracks, DIVIDING[:2], place)
    write_ctc(tracks, DIVIDING, place)
    expected = ["mask000.tif", "mask001.tif", "mask002.tif", "res_track.txt"]
    assert sorted(file.name for file in place.iterdir()) == expected


def test_two_do_not_write_to_one_folder_of_the_challenge_at_a_time(tmp_path):
    tracks, place = find_tracks(DIVIDING), tmp_path / "RES"
    steps = saving_steps(tracks, place, frames=DIVIDING)
    next(steps), next(steps)
    with pytest.raises(TrackError, match="RES is being written by another program or run"):
        write_ctc(tracks, DIVIDING, place)
    for _ in steps:
        pass
    expected = ["mask000.tif", "mask001.tif", "mask002.tif", "res_track.txt"]
    assert sorted(file.name for file in place.iterdir()) == expected


def test_labels_that_cannot_be_read_are_not_said_of_what_is_written(tmp_path):
    def broken():
        yield DIVIDING[0]
        raise OSError(5, "Input/output error")

    with pytest.raises(TrackError, match=r"The labels could not be read \(Input/output error\)"):
        write_ctc(find_tracks(DIVIDING), broken(), tmp_path / "RES")
    assert not (tmp_path / "RES").exists()


def test_tracks_are_saved_by_the_ending_of_the_name(tmp_path):
    tracks = find_tracks(DIVIDING)
    assert save_tracks(tracks, tmp_path / "tracks.csv") == tmp_path / "tracks.csv"
    assert len(pd.read_csv(tmp_path / "tracks.csv")) == len(tracks.table)


def test_tracking_tells_how_far_it_is():
    steps = track_frames(DIVIDING)
    assert [next(steps).done for _ in range(3)] == [1, 2, 3]
    steps.close()


def test_without_laptrack_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "laptrack", None)
    with pytest.raises(TrackError, match=r'pip install "napari-sam-cells\[tracking\]"'):
        find_tracks(DIVIDING)


def test_empty_movies_and_wrong_numbers(tmp_path):
    empty = find_tracks([frame(), frame()])
    assert (empty.count, empty.parents) == (0, {})
    assert empty.napari()[0].shape == (0, 4)
    write_ctc(empty, [frame(), frame()], tmp_path)
    assert not tifffile.imread(tmp_path / "mask001.tif").any()
    with pytest.raises(TrackError, match="no frame to track"):
        find_tracks([])
    with pytest.raises(TrackError, match="distances between pixels"):
        find_tracks(MOVIE, spacing=(1, 1, 1))
    for distance in (0, np.nan, np.inf):
        with pytest.raises(TrackError, match="distance above 0"):
            TrackSettings(max_distance=distance)
    with pytest.raises(TrackError, match="Frame 1: Expected labels of 0 and above"):
        find_tracks([frame().astype(int) - 1])
    with pytest.raises(TrackError, match="Expected frames of shape"):
        find_tracks(DIVIDING[0])
    many = pd.DataFrame({"track": np.arange(1, 65537), "frame": 0, "label": 1, "y": 0.0, "x": 0.0, "area": 1})
    with pytest.raises(TrackError, match="at most 65535"):
        write_ctc(Tracks(many, {}), [], tmp_path)


def test_a_real_movie_is_tracked_as_its_authors_did(labelled_data):
    truth = [_png(path) for path in sorted((labelled_data / "yeastvision" / "labels").iterdir())]
    rng = np.random.default_rng(0)
    frames = [np.concatenate([[0], rng.permutation(int(t.max())) + 1])[t] for t in truth]
    tracks = find_tracks(frames)
    expected, found = _links(truth), _links(shown(tracks, frames))
    assert len(expected & found) >= 0.98 * len(expected)
    assert len(expected & found) >= 0.98 * len(found)


def _png(path):
    from PIL import Image

    return np.array(Image.open(path)).astype(np.int32)


def _links(movie):
    """Pairs of pixels in neighbouring frames that belong to one object, one for each object."""
    links = set()
    for t in range(len(movie) - 1):
        for i in np.intersect1d(movie[t], movie[t + 1]):
            if i:
                links.add((t, *(int(np.flatnonzero(movie[s] == i)[0]) for s in (t, t + 1))))
    return links


def test_the_command_writes_tables_and_folders(tmp_path):
    movie = np.stack([frame((30, 50, 10)), frame((30, 43, 7), (30, 57, 7))]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "movie.tif", movie, imagej=True, metadata={"axes": "TYX"})
    run = CliRunner().invoke
    asked = ["track", str(tmp_path / "movie.tif"), "--max-distance", "20", "-o"]
    graph = tmp_path / "t.geff"
    done = run(app, [*asked, str(tmp_path / "t.csv"), "-o", str(tmp_path / "RES"), "-o", str(graph)])
    assert done.exit_code == 0, done.output
    assert "3 tracks, 1 divisions" in done.output
    assert len(pd.read_csv(tmp_path / "t.csv")) == 3
    assert sorted(geff.read(graph)[0].edges) == [(0, 1), (0, 2)]
    assert (tmp_path / "RES" / "res_track.txt").read_text() == "1 0 0 0\n2 1 1 1\n3 1 1 1\n"
    tifffile.imwrite(tmp_path / "plane.tif", movie[0])
    refused = run(app, ["track", str(tmp_path / "plane.tif"), "-o", str(tmp_path / "t.csv")])
    assert refused.exit_code == 2
    assert "Expected a movie" in refused.output


def test_volumes_in_time_are_tracked_with_their_spacing(tmp_path):
    movie = np.zeros((2, 20, 40, 40), np.uint16)
    movie[0, 2:6, 10:20, 10:20] = 1
    movie[1, 12:16, 10:20, 10:20] = 1
    for spacing, count in ((1.0, 1), (5.0, 2)):
        path = tmp_path / f"movie{spacing}.tif"
        about = {"axes": "TZYX", "spacing": spacing, "unit": "um"}
        tifffile.imwrite(path, movie, imagej=True, resolution=(1, 1), metadata=about)
        asked = ["track", str(path), "--max-distance", "15", "-o", str(tmp_path / "t.csv")]
        done = CliRunner().invoke(app, asked)
        assert f"{count} tracks" in done.output


def test_planes_and_their_distance_may_have_different_units(tmp_path):
    movie = np.zeros((2, 20, 40, 40), np.uint16)
    movie[0, 2:6, 10:20, 10:20] = 1
    movie[1, 12:16, 10:20, 10:20] = 1  # 10 planes of 500 nm further
    about = {"axes": "TZYX", "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0, "PhysicalSizeZ": 500.0}
    about |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm", "PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(tmp_path / "movie.ome.tif", movie, metadata=about)
    for distance, count in ((6, 1), (3, 2)):
        words = ["track", str(tmp_path / "movie.ome.tif"), "--max-distance", str(distance), "-o"]
        done = CliRunner().invoke(app, [*words, str(tmp_path / "t.csv")])
        assert f"{count} tracks" in done.output
    tifffile.imwrite(tmp_path / "movie.ome.tif", movie, metadata={**about, "PhysicalSizeZUnit": "pt"})
    refused = CliRunner().invoke(app, [*words, str(tmp_path / "t.csv")])
    assert refused.exit_code == 2
    assert "Give all axes the same unit" in " ".join(refused.output.replace("│", "").split())


def test_a_movie_with_one_channel_is_tracked_where_it_lies(tmp_path):
    movie = np.zeros((2, 1, 3, 30, 40), np.uint16)
    movie[:, 0, 1, 5:9, 20:30] = 1
    tifffile.imwrite(tmp_path / "movie.ome.tif", movie, metadata={"axes": "TCZYX"})
    asked = ["track", str(tmp_path / "movie.ome.tif"), "-o", str(tmp_path / "t.csv")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    row = pd.read_csv(tmp_path / "t.csv").iloc[0]
    assert (row["z"], row["y"], row["x"]) == (1, 6.5, 24.5)
    tifffile.imwrite(tmp_path / "colours.ome.tif", np.repeat(movie, 2, axis=1), metadata={"axes": "TCZYX"})
    refused = CliRunner().invoke(app, ["track", str(tmp_path / "colours.ome.tif"), *asked[2:]])
    assert refused.exit_code == 2
    assert "it is an image" in " ".join(refused.output.replace("│", "").split())
