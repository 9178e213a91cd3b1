"""Stacks of planes that are never read whole."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from tests.fakes import DiscPredictor, disc_image
from tests.test_tiling import HALO, SETTINGS, SIDE, Counting

from napari_sam.image import Contrast
from napari_sam.linking import LinkSettings
from napari_sam.progress import finish
from napari_sam.stack import segment_stack
from napari_sam.tiling import PlaneFilled, TilingError, rgb_reader, segment_tiled_stack

SHAPE = (200, 230)


def discs(z):
    """Objects that go through the planes, one across a seam, one that moves, one on a single plane."""
    found = [(64, 64, 14), (40 + 3 * z, 170, 12), (150, 128, 10)]
    return [*found, (150, 30, 9)] if z == 1 else found


@pytest.fixture
def planes():
    return [Counting(disc_image(SHAPE, discs(z))) for z in range(4)]


def segment(planes, path, *, predictor=None, **options):
    reads = [rgb_reader(plane, contrast=Contrast(0, 255)) for plane in planes]
    options = {"side": SIDE, "halo": HALO, **options}
    return segment_tiled_stack(predictor or DiscPredictor(), reads, SHAPE, path, SETTINGS, **options)


def labels_of(path):
    return zarr.open_array(path / "0", mode="r")[...]


def whole(planes, link):
    """What comes out where each plane is read whole."""
    pictures = [np.stack([plane.plane] * 3, axis=-1) for plane in planes]
    out = []

    def keep(step):
        if hasattr(step, "labels"):
            out.append(step.labels)

    result = finish(segment_stack(DiscPredictor(), pictures, SETTINGS, link=link), keep)
    return result.relabelling[np.stack(out)]


def same_objects(one, other):
    pairs = {(int(a), int(b)) for a, b in zip(one.ravel(), other.ravel(), strict=True)}
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


@pytest.mark.parametrize("link", [True, LinkSettings(min_length=2)])
def test_objects_are_those_of_planes_that_are_read_whole(planes, tmp_path, link, monkeypatch):
    monkeypatch.setattr("napari_sam.linking.BLOCK", 100)  # several blocks a plane
    result = finish(segment(planes, tmp_path / "s.ome.zarr", link=link, voxel=(2.0, "micrometer")))
    labels = labels_of(result.path)
    assert labels.shape == (4, *SHAPE)
    assert same_objects(labels, whole(planes, link))
    assert sorted(np.unique(labels)) == list(range(4 if link is not True else 5))
    table = result.table.set_index("index")
    assert [int((labels == i).sum()) for i in table.index] == table["area"].tolist()
    assert sorted(table["planes"]) == ([4, 4, 4] if link is not True else [1, 4, 4, 4])
    assert table["volume_um3"].tolist() == (2 * table["area"]).tolist()
    # Nothing larger than a tile and its halo was read; nothing is left beside the labels.
    assert max(plane.largest for plane in planes) <= (SIDE + 2 * HALO) ** 2
    assert [p.name for p in tmp_path.iterdir()] == ["s.ome.zarr"]


def test_planes_by_themselves(planes, tmp_path):
    result = finish(segment(planes, tmp_path / "s.ome.zarr", link=False))
    labels = labels_of(result.path)
    assert [int(plane.max()) for plane in labels] == [3, 4, 3, 3]
    # The first object of one plane is not that of another.
    assert len(result.table) == 13
    for row in result.table.itertuples():
        assert row.area == np.count_nonzero(labels[row.plane] == row.index)


def test_planes_of_nothing(tmp_path):
    blank = [np.full(SHAPE, 20, np.uint8)] * 2
    result = finish(segment(blank, tmp_path / "s.ome.zarr"))
    assert not labels_of(result.path).any()
    assert len(result.table) == 0


def test_tiles_and_planes_are_seen_as_they_come(planes, tmp_path):
    path = tmp_path / "s.ome.zarr"
    filled, seen, done = [], [], []
    for step in segment(planes, path):
        done.append(step.done)
        if len(done) % 4 == 0:  # all planes are read each time
            seen.append(int(np.count_nonzero(labels_of(path))) if path.exists() else 0)
        if isinstance(step, PlaneFilled):
            filled.append(step.plane)
    assert filled == [0, 1, 2, 3]
    assert seen == sorted(seen)
    assert len(set(seen)) > 2 * len(planes)
    assert done == sorted(done)


def test_a_run_that_is_killed_anywhere_goes_on(planes, tmp_path):
    predictor, path = DiscPredictor(), tmp_path / "s.ome.zarr"
    calm = labels_of(finish(segment(planes, tmp_path / "calm.ome.zarr")).path)
    encoded, runs = 0, 0
    for stop in (1, 7, 23, 41):
        steps = segment(planes, path, predictor=predictor)
        for _ in range(stop):
            next(steps)
        steps.close()
        assert predictor.encoded >= encoded
        encoded, runs = predictor.encoded, runs + 1
    result = finish(segment(planes, path, predictor=predictor))
    assert np.array_equal(labels_of(result.path), calm)
    # Each tile once, but for those that were being made when a run was stopped.
    tiles = 4 * 4 * 4
    assert predictor.encoded <= tiles + runs
    # Complete: asked again, nothing is done but clear what is left where it was killed at its very end.
    (tmp_path / ".s.ome.zarr.planes").mkdir()
    encoded = predictor.encoded
    again = finish(segment(planes, path, predictor=predictor))
    assert predictor.encoded == encoded
    assert again.table.equals(result.table)
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(TilingError, match="other settings"):
        finish(segment(planes, path, link=False))


def test_another_stack_in_the_same_place_is_refused(planes, tmp_path):
    finish(segment(planes, tmp_path / "s.ome.zarr"))
    planes[2] = Counting(disc_image(SHAPE, discs(0)))
    with pytest.raises(TilingError, match="or from another image"):
        finish(segment(planes, tmp_path / "s.ome.zarr"))


def test_volumes_are_those_of_the_scale_of_now(planes, tmp_path):
    path, predictor = tmp_path / "s.ome.zarr", DiscPredictor()
    areas = finish(segment(planes, path, predictor=predictor, voxel=(1.0, "micrometer"))).table["area"]
    encoded = predictor.encoded
    again = finish(segment(planes, path, predictor=predictor, voxel=(0.5, "nanometer"))).table
    assert predictor.encoded == encoded
    assert [name for name in again if name.startswith("volume")] == ["volume_nm3"]
    np.testing.assert_allclose(again["volume_nm3"], 0.5 * areas)
    unknown = finish(segment(planes, path, predictor=predictor)).table
    assert not [name for name in unknown if name.startswith("volume")]


def test_two_runs_of_a_stack_at_a_time_are_refused(planes, tmp_path):
    first = segment(planes, tmp_path / "s.ome.zarr")
    next(step for step in first if isinstance(step, PlaneFilled))
    with pytest.raises(TilingError, match="Another run is writing"):
        finish(segment(planes, tmp_path / "s.ome.zarr"))
    assert len(finish(first).table) > 0
