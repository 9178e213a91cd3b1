"""Objects of a movie as tracks, and linked stacks, in the real window."""

from __future__ import annotations

import sys

import geff
import numpy as np
import pandas as pd
import pytest
import tifffile
from geff.validate.data import ValidationConfig
from napari.layers import Tracks
from qtpy.QtWidgets import QFileDialog, QMessageBox
from tests.fakes import disc_image

from napari_sam._napari.track_run import Frames, find
from napari_sam.progress import finish
from napari_sam.tracks import TrackError, TrackSettings

pytestmark = pytest.mark.gui

SHAPE = (60, 100)
GEOMETRY = {
    "scale": (30, 0.5, 0.25),
    "translate": (0, 4, 2),
    "units": ("s", "um", "um"),
    "axis_labels": ("t", "y", "x"),
}


def labels_of(*frames) -> np.ndarray:
    """Labels of discs (y, x, radius) of each frame, numbered as they come."""
    out = np.zeros((len(frames), *SHAPE), np.int32)
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    for plane, discs in zip(out, frames, strict=True):
        for number, (cy, cx, r) in enumerate(discs, start=1):
            plane[(y - cy) ** 2 + (x - cx) ** 2 <= r * r] = number
    return out


MOVIE = labels_of(
    [(30, 50, 10), (12, 12, 5)],
    [(13, 13, 5), (30, 50, 10)],
    [(30, 43, 7), (30, 57, 7), (14, 14, 5)],
    [(30, 60, 7), (30, 41, 7), (15, 15, 5)],
)
"""One disc divides, one goes on; they change their numbers."""


@pytest.fixture
def track_desk(open_desk):
    """Return a function that opens a window with a movie's labels and the section Tracks unfolded."""

    def open_it(movie=MOVIE, **geometry):
        geometry = geometry or GEOMETRY
        desk = open_desk(image=(movie > 0).astype(np.uint8) * 200, **geometry).wait_ready()
        desk.labels = desk.viewer.add_labels(movie.copy(), name="cells", **geometry)
        desk.panel = desk.dock.tracks_panel
        desk.dock.stack.failed.connect(desk.errors.append)
        for title, section in desk.dock.sections.items():
            section.set_expanded(title == "Tracks")
        desk.panel.labels.pick(desk.labels)
        return desk

    return open_it


def track(desk) -> Tracks:
    before = set(desk.viewer.layers)
    desk.press_button(desk.panel.run)
    desk.until(lambda: "track" not in desk.session.running)
    return next(layer for layer in desk.viewer.layers if isinstance(layer, Tracks) and layer not in before)


def save(desk, monkeypatch, path, name: str) -> None:
    """Choose a format and press the button; the dialog answers with a path."""
    formats = desk.panel.format
    formats.setCurrentIndex([formats.itemData(n).name for n in range(formats.count())].index(name))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(path))
    desk.press_button(desk.panel.save)
    desk.until(lambda: "track" not in desk.session.running)


def test_objects_are_tracked_and_saved(track_desk, tmp_path, monkeypatch):
    desk = track_desk()
    active = desk.viewer.layers.selection.active
    assert not desk.panel.save.isEnabled()
    assert desk.panel.distance.suffix() == " µm"
    layer = track(desk)
    assert "4 tracks, 1 division, in the layer 'cells: tracks'." in desk.panel.text.text()
    for name in ("scale", "translate", "rotate", "shear", "affine"):
        assert np.allclose(getattr(layer, name), getattr(desk.labels, name))
    assert layer.units == desk.labels.units
    assert desk.viewer.layers.selection.active is active
    # The one that divides has two daughters; the other is one track through all frames.
    (mother,) = {m for mothers in layer.graph.values() for m in mothers}
    assert len(layer.graph) == 2
    assert layer.data[layer.data[:, 0] == mother][:, 1].tolist() == [0, 1]
    numbered = desk.viewer.layers["cells: by track"].data
    (through,) = {int(numbered[t, 12 + t, 12 + t]) for t in range(4)}
    assert numbered[0, 30, 50] == numbered[1, 30, 50] == mother
    assert {int(numbered[2, 30, 43]), int(numbered[2, 30, 57])} == set(layer.graph)
    assert through not in {mother, *layer.graph}
    assert np.array_equal(numbered > 0, MOVIE > 0)
    assert np.array_equal(desk.labels.data, MOVIE)
    # The three formats, read back by others.
    save(desk, monkeypatch, tmp_path / "cells", "csv")
    table = pd.read_csv(tmp_path / "cells.csv")
    assert set(table.loc[table["parent"] > 0, "track"]) == set(layer.graph)
    assert len(table) == len(layer.data) == 10
    save(desk, monkeypatch, tmp_path / "cells.geff", "geff")
    checks = ValidationConfig(graph=True, tracklet=True, lineage=True)
    graph, about = geff.read(tmp_path / "cells.geff", data_validation=checks)
    assert (len(graph.nodes), len(graph.edges)) == (10, 8)
    assert [(a.scale, a.scaled_unit) for a in about.axes] == [
        (30, "second"),
        (0.5, "micrometer"),
        (0.25, "micrometer"),
    ]
    save(desk, monkeypatch, tmp_path / "01_RES", "ctc")
    assert len((tmp_path / "01_RES" / "res_track.txt").read_text().splitlines()) == 4
    masks = np.stack([tifffile.imread(tmp_path / "01_RES" / f"mask{t:03d}.tif") for t in range(4)])
    assert np.array_equal(masks > 0, MOVIE > 0)
    assert "Written to" in desk.panel.text.text()
    assert desk.errors == []
    # An older result is replaced only by who says so.
    asked = []
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *a: (asked.append(a[2]), answers.pop(0))[1])
    (tmp_path / "01_RES" / "mask003.tif").write_bytes(b"older")
    save(desk, monkeypatch, tmp_path / "01_RES", "ctc")
    assert "01_RES is there already. Replace it?" in asked[0]
    assert (tmp_path / "01_RES" / "mask003.tif").read_bytes() == b"older"
    # Labels that were edited since are not what was tracked: it is said, and the folder stays as it is.
    desk.labels.data[2][desk.labels.data[2] == 1] = 0
    save(desk, monkeypatch, tmp_path / "01_RES", "ctc")
    assert not answers
    assert "Track them again" in desk.errors.pop()
    assert tifffile.imread(tmp_path / "01_RES" / "mask002.tif").any()


def test_voxels_count_as_what_they_are(track_desk):
    """The same pixels: near when frames are finely sampled along Y, far when a row is ten times as high."""
    movie = labels_of([(15, 50, 5)], [(24, 50, 5)], [(33, 50, 5)])
    desk = track_desk(movie, scale=(1, 1, 1))
    desk.panel.distance.setValue(12)
    assert len(np.unique(track(desk).data[:, 0])) == 1
    desk.labels.scale = (1, 10, 1)
    assert len(np.unique(track(desk).data[:, 0])) == 3
    assert desk.errors == []


def test_volumes_over_time(track_desk):
    volume = np.repeat(MOVIE[:, None], 3, axis=1)
    desk = track_desk(volume, scale=(1, 4, 1, 1))
    layer = track(desk)
    assert layer.data.shape == (10, 5)
    assert set(layer.data[:, 2]) == {1.0}
    assert desk.viewer.layers["cells: by track"].data.shape == volume.shape


def test_what_is_missing_is_said(track_desk, monkeypatch):
    desk = track_desk()
    monkeypatch.setitem(sys.modules, "laptrack", None)
    desk.press_button(desk.panel.run)
    desk.until(lambda: desk.errors)
    assert 'pip install "napari-sam-cells[tracking]"' in desk.errors.pop()
    assert not [layer for layer in desk.viewer.layers if isinstance(layer, Tracks)]
    # A plane is no movie, and is not offered; with too many axes it is said.
    desk.viewer.layers.remove(desk.labels)
    assert not desk.panel.run.isEnabled()
    desk.viewer.add_labels(np.zeros((5, 5), int))
    assert not desk.panel.run.isEnabled()
    desk.viewer.add_labels(np.zeros((2, 2, 2, 5, 5), int), name="five axes")
    desk.press_button(desk.panel.run)
    assert "found 5 axes" in desk.errors.pop()


def test_removing_the_labels_or_closing_in_the_middle(track_desk):
    desk = track_desk(np.repeat(MOVIE, 10, axis=0))
    desk.press_button(desk.panel.run)
    desk.viewer.layers.remove(desk.labels)
    desk.until(lambda: not desk.dock.bench.dispatch.worker.busy)
    assert "Stopped" in desk.panel.text.text()
    assert not [layer for layer in desk.viewer.layers if isinstance(layer, Tracks)]
    again = desk.viewer.add_labels(np.repeat(MOVIE, 10, axis=0))
    desk.panel.labels.pick(again)
    desk.press_button(desk.panel.run)
    desk.dock.close_down()
    assert not desk.dock.bench.dispatch.worker.busy


def test_labels_that_are_painted_in_while_they_are_tracked():
    movie = MOVIE.copy()

    def painted_in():
        for number, step in enumerate(find(Frames(movie), TrackSettings(), (1, 1), True)):
            if number == len(movie):
                movie[1, :5, :5] = 77
            yield step

    with pytest.raises(TrackError, match="The labels of frame 1 were changed while they were tracked"):
        finish(painted_in())


def test_labels_with_very_great_numbers():
    usual = finish(find(Frames(MOVIE), TrackSettings(), (1, 1), True)).renumbered
    great = np.where(MOVIE > 0, MOVIE.astype(np.uint64) + 2**62, 0)
    assert np.array_equal(finish(find(Frames(great), TrackSettings(), (1, 1), True)).renumbered, usual)


def test_tracks_of_somebody_else_are_saved(track_desk, tmp_path, monkeypatch):
    desk = track_desk()
    desk.viewer.add_tracks(
        np.array([[5, 0, 1, 1], [5, 1, 2, 2], [8, 2, 3, 3]]), graph={8: [5]}, name="theirs"
    )
    save(desk, monkeypatch, tmp_path / "theirs.csv", "csv")
    assert pd.read_csv(tmp_path / "theirs.csv")["parent"].tolist() == [0, 0, 5]
    save(desk, monkeypatch, tmp_path / "RES", "ctc")
    assert "holds the labels too" in desk.errors.pop()


@pytest.mark.parametrize("suffix", [".csv", ".geff"])
def test_napari_saves_tracks_by_itself(suffix, tmp_path, npe2pm):
    data = np.array([[1, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3], [3, 2, 4, 4]])
    layer = Tracks(data, graph={2: [1], 3: [1]}, scale=(30, 0.5, 0.5), units=("s", "um", "um"))
    with npe2pm.tmp_plugin(package="napari-sam-cells"):
        written = layer.save(str(tmp_path / f"tracks{suffix}"), plugin="napari-sam-cells")
    assert written == [str(tmp_path / f"tracks{suffix}")]
    if suffix == ".csv":
        assert pd.read_csv(written[0])["parent"].tolist() == [0, 0, 1, 1]
    else:
        assert sorted(geff.read(written[0])[0].edges) == [(0, 1), (1, 2), (1, 3)]


def test_napari_is_told_why_tracks_are_not_saved(tmp_path, npe2pm):
    data = np.array([[1, 0, 1, 1], [2, 0, 9, 9], [3, 1, 5, 5]])
    layer = Tracks(data, graph={3: [1, 2]})
    with (
        npe2pm.tmp_plugin(package="napari-sam-cells"),
        pytest.raises(OSError, match="Tracks that merge cannot be saved"),
    ):
        layer.save(str(tmp_path / "tracks.csv"), plugin="napari-sam-cells")


# --- stacks: options of the linking -------------------------------------------------------------------


def stack_with_a_gap() -> np.ndarray:
    """One object that is missing in planes 2 and 3, and one that is in a single plane."""
    planes = [[(30, 30, 10)], [(30, 30, 10), (30, 75, 8)], [], [], [(30, 30, 10)]]
    return np.stack([disc_image(SHAPE, discs) for discs in planes])


@pytest.mark.parametrize(
    ("step", "cases"),
    [
        (
            2.0,
            [
                (0, 1, 0, 3),  # in planes: the gap is too long, so that there are two, and the small one
                (0, 2, 0, 2),
                (0, 2, 2, 1),  # what is in one plane only is dropped
                (1, 1.0, 0, 3),  # 1 µm is less than a plane
                (1, 4.0, 2.5, 1),  # a plane of 2 µm is thinner than 2.5 µm
            ],
        ),
        (0.5, [(1, 1.0, 0, 2)]),  # 1 µm is two planes of half a micrometre
    ],
)
def test_gap_and_length_in_planes_or_in_micrometres(open_desk, step, cases):
    desk = open_desk(image=stack_with_a_gap(), scale=(step, 1, 1), units=("um",) * 3).wait_ready()
    desk.dock.sections["Stack"].set_expanded(True)
    panel = desk.dock.stack_panel
    panel.unit.setCurrentIndex(1)
    assert (panel.gap.value(), panel.length.value()) == (step, step)
    panel.unit.setCurrentIndex(0)
    assert (panel.gap.value(), panel.length.value()) == (1, 1)
    for unit, gap, length, count in cases:
        panel.unit.setCurrentIndex(unit)
        panel.gap.setValue(gap)
        panel.length.setValue(length)
        desk.press_button(panel.run)
        desk.until(lambda: panel.text.text() != "" and "stack" not in desk.session.running)
        layer = desk.dock.tracks_panel.labels.layer  # at hand for tracking
        assert layer.name == "discs: stack"
        assert layer.data.max() == len(layer.features) == count
        first = int(layer.data[0, 30, 30])
        row = layer.features.set_index("index").loc[first]
        assert row["volume_um3"] == pytest.approx(step * np.count_nonzero(layer.data == first))
        desk.viewer.layers.remove(layer)


@pytest.mark.parametrize(("step", "unit"), [(1 / 3, "um"), (0.0003, "mm"), (0.9996, "um")])
def test_what_is_set_in_planes_stays_whatever_a_plane_is_in_the_unit(open_desk, step, unit):
    desk = open_desk(image=stack_with_a_gap(), scale=(step, 1, 1), units=(unit,) * 3).wait_ready()
    panel = desk.dock.stack_panel
    panel.gap.setValue(2)
    panel.length.setValue(3)
    chosen = panel.link_settings()
    for unit_number in (1, 0):
        panel.unit.setCurrentIndex(unit_number)
        assert panel.link_settings() == chosen
        per_plane = panel.unit.currentData()
        assert panel.length.value() == pytest.approx(3 * per_plane, rel=0.05)
    assert (panel.gap.value(), panel.length.value()) == (2, 3)
    # What is typed counts as it is typed.
    panel.unit.setCurrentIndex(1)
    panel.length.setValue(panel.length.value() + 1.5 * step)
    assert panel.link_settings().min_length == 5


def test_lengths_are_offered_where_the_image_has_them(open_desk):
    desk = open_desk(image=stack_with_a_gap()).wait_ready()
    panel = desk.dock.stack_panel
    desk.dock.sections["Stack"].set_expanded(True)
    assert not panel.unit.isEnabled()
    assert panel.linking.isVisible()
    panel.link.setChecked(False)
    assert not panel.linking.isVisible()
    assert panel.link_settings() is False
