import errno
from collections.abc import Sequence
from pathlib import Path
from types import GeneratorType

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image
from tests.interrupt import kill_until_done

from napari_sam.everything import AutomaticSettings
from napari_sam.linking import LinkSettings
from napari_sam.progress import Progress, finish
from napari_sam.stack import PlaneDone, object_table, segment_stack
from napari_sam.store import EmbeddingCache
from napari_sam.units import UnitFolder

SHAPE = (64, 96)


def picture(*discs):
    return np.repeat(disc_image(SHAPE, discs)[..., None], 3, -1)


def run(planes, predictor=None, settings=None, **options):
    """Segment, and return the volume as it was given out, the steps and the result."""
    seen = []
    steps = segment_stack(predictor or DiscPredictor(), planes, settings, **options)
    result = finish(steps, seen.append)
    done = [s for s in seen if isinstance(s, PlaneDone)]
    return np.stack([d.labels for d in done]), done, result


STACK = [
    picture((20, 20, 8), (40, 70, 9)),
    picture((40, 72, 10), (21, 21, 9)),
    picture((22, 22, 8), (40, 74, 9), (10, 50, 6)),
]


def test_objects_have_one_id_through_the_planes():
    volume, done, result = run(STACK)
    assert [d.plane for d in done] == [0, 1, 2]
    assert volume[0, 20, 20] == volume[1, 21, 21] == volume[2, 22, 22] > 0
    assert volume[0, 40, 70] == volume[1, 40, 72] == volume[2, 40, 74] > 0
    assert volume[2, 10, 50] == 3
    assert (result.planes, result.count, result.lengths.tolist()) == (3, 3, [0, 3, 3, 1])
    assert result.unchanged


def test_the_table_speaks_of_the_same_ids():
    volume, done, _ = run(STACK)
    for d in done:
        ids = d.table["index"].tolist()
        assert sorted(ids) == [i for i in np.unique(d.labels) if i]
        for row in d.table.itertuples():
            assert d.labels[round(row.point_y), round(row.point_x)] == row.index
            assert row.area == np.count_nonzero(volume[d.plane] == row.index)


def test_short_objects_are_dropped_at_the_end():
    volume, _, result = run(STACK, link=LinkSettings(min_length=2))
    final = result.relabelling[volume]
    assert (result.count, result.unchanged) == (2, False)
    assert final[2, 10, 50] == 0
    assert final.max() == 2


def test_without_linking_each_plane_counts_by_itself():
    volume, _, result = run(STACK, link=False)
    assert [plane.max() for plane in volume] == [2, 2, 3]
    assert result.unchanged
    assert (result.count, result.lengths.tolist()) == (7, [0, 3, 3, 1])


def test_one_row_an_object_of_the_stack():
    _, done, result = run(STACK, link=LinkSettings(min_length=2))
    table = object_table([d.table for d in done], result, (2.0, "micrometer"))
    assert table["index"].tolist() == [1, 2]
    assert table["planes"].tolist() == [3, 3]
    assert "plane" not in table
    parts = [d.table[d.table["index"] == 1] for d in done]
    assert table["area"][0] == sum(int(part["area"].iloc[0]) for part in parts)
    assert table["volume_um3"][0] == 2 * table["area"][0]


def test_without_linking_objects_of_the_same_number_have_rows_of_their_own():
    volume, done, result = run(STACK, link=False)
    table = object_table([d.table for d in done], result)
    assert len(table) == result.count == 7
    assert table.columns[:2].tolist() == ["index", "plane"]
    for row in table.itertuples():
        assert (row.area, row.planes) == (np.count_nonzero(volume[row.plane] == row.index), 1)


@pytest.mark.parametrize("link", [True, False])
def test_a_stack_without_objects_has_a_table_without_rows(link):
    _, done, result = run([picture(), picture()], link=link)
    table = object_table([d.table for d in done], result, (2.0, "micrometer"))
    assert (len(table), result.count) == (0, 0)
    assert {"index", "predicted_iou", "stability", "area", "planes", "volume_um3"} <= set(table)


def test_planes_are_read_one_at_a_time_and_only_once():
    read = []

    def planes():
        for number, plane in enumerate(STACK):
            read.append(number)
            yield plane

    steps = segment_stack(DiscPredictor(), planes())
    assert isinstance(steps, GeneratorType)
    while not isinstance(step := next(steps), PlaneDone):
        assert isinstance(step, Progress)
    assert (step.plane, read) == (0, [0])
    finish(steps)
    assert read == [0, 1, 2]


def test_progress_counts_planes():
    seen = []
    finish(segment_stack(DiscPredictor(), STACK), seen.append)
    assert {s.total for s in seen} == {3}
    assert [s.done for s in seen] == sorted(s.done for s in seen)
    assert seen[-1].done == 3
    assert seen[0].message == "plane 1 of 3: embedding"


def test_cancel_keeps_finished_planes_and_touches_no_other():
    predictor = DiscPredictor()
    steps = segment_stack(predictor, STACK)
    done = []
    for step in steps:
        if isinstance(step, PlaneDone):
            done.append(step)
            if len(done) == 2:
                steps.close()
    assert predictor.encoded == 2
    assert [d.plane for d in done] == [0, 1]


def test_embeddings_are_taken_from_where_they_are_kept():
    predictor, cache = DiscPredictor(), EmbeddingCache(10**8)
    run(STACK, predictor, kept=(cache,))
    run(STACK, predictor, kept=(cache,))
    assert (predictor.encoded, len(cache)) == (3, 3)


def test_settings_of_the_automatic_masks_are_followed():
    volume, _, result = run(STACK, settings=AutomaticSettings(pred_iou_thresh=0.5, min_area=150))
    assert result.count == 2
    assert volume[2, 10, 50] == 0


def test_an_empty_plane_is_a_plane():
    volume, _, result = run([STACK[0], picture(), STACK[1]])
    assert not volume[1].any()
    assert volume[2, 21, 21] == volume[0, 20, 20]
    assert result.planes == 3


def test_no_plane_and_planes_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="no plane to segment"):
        finish(segment_stack(DiscPredictor(), []))
    with pytest.raises(ValueError, match="one shape"):
        finish(segment_stack(DiscPredictor(), [STACK[0], STACK[1][:40]]))


class Reading(Sequence):
    """A stack that says which planes were read."""

    def __init__(self, planes):
        self.planes, self.read = planes, []

    def __len__(self):
        return len(self.planes)

    def __getitem__(self, index):
        self.read.append(index)
        return self.planes[index]


def test_finished_planes_are_neither_computed_nor_read_again(tmp_path):
    predictor, folder = DiscPredictor(), UnitFolder(tmp_path / "planes")
    steps = segment_stack(predictor, STACK, finished=folder)
    for step in steps:
        if isinstance(step, PlaneDone) and step.plane == 1:
            break
    steps.close()
    assert folder.missing(3) == [2]
    planes = Reading(STACK)
    volume, done, result = run(planes, predictor, finished=folder)
    assert planes.read == [2]
    assert predictor.encoded == 3
    expected, same, whole = run(STACK)
    assert np.array_equal(volume, expected)
    assert result.lengths.tolist() == whole.lengths.tolist()
    for a, b in zip(done, same, strict=True):
        assert a.table.equals(b.table)


def test_a_damaged_plane_is_computed_again(tmp_path):
    predictor, folder = DiscPredictor(), UnitFolder(tmp_path / "planes")
    run(STACK, predictor, finished=folder)
    content = folder.file(1).read_bytes()
    folder.file(1).write_bytes(content[: len(content) // 2])
    folder.file(2).write_bytes(b"")
    run(STACK, predictor, finished=folder)
    assert predictor.encoded == 5
    folder.clear()
    assert not folder.path.exists()


def test_whichever_bit_of_a_unit_flips_it_is_noticed_or_does_no_harm(tmp_path):
    folder = UnitFolder(tmp_path / "planes")
    run(STACK[:1], finished=folder)
    unit, content = folder.read(0), folder.file(0).read_bytes()
    noticed = 0
    for place in range(0, 8 * len(content), 37):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        folder.file(0).write_bytes(flipped)
        found = folder.read(0)
        noticed += found is None
        assert found is None or (np.array_equal(found.labels, unit.labels) and found.table.equals(unit.table))
    assert noticed > 100


def test_a_unit_that_cannot_be_read_now_is_kept(tmp_path, monkeypatch):
    folder = UnitFolder(tmp_path / "planes")
    run(STACK[:1], finished=folder)

    def fail(error):
        def failing(*args, **options):
            raise error

        return failing

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", fail(MemoryError()))
        with pytest.raises(MemoryError):
            folder.read(0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail(OSError(errno.EIO, "Input/output error")))
        assert folder.read(0) is None
    assert folder.read(0) is not None


def segment_all(folder: str, out: str) -> None:
    volume, *_ = run(STACK * 4, DiscPredictor(encode_seconds=0.03), finished=UnitFolder(folder))
    np.save(out, volume)


def test_killed_at_any_moment_the_stack_is_the_same(tmp_path):
    folder, out = tmp_path / "planes", tmp_path / "volume.npy"
    assert kill_until_done(segment_all, (str(folder), str(out)), kills=12, longest=0.4) >= 4
    assert np.array_equal(np.load(out), run(STACK * 4)[0])
