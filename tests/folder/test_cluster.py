import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.fakes import DiscPredictor, disc_image

from napari_sam.files import open_image
from napari_sam.folder import (
    Cluster,
    ClusterError,
    NamedModel,
    connect,
    local_workers,
    plan,
    segment_files,
    shared_out,
)
from napari_sam.folder.ahead import embed_image
from napari_sam.folder.cluster import run_pieces
from napari_sam.progress import Notice, finish
from napari_sam.recipe import Recipe
from napari_sam.store import EmbeddingStore

pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

RECIPE = Recipe(contrast=((0.0, 255.0),))


@dataclass(frozen=True)
class Discs:
    """The test's model as workers load it."""

    encode_seconds: float = 0.0
    threads: int = 1

    def load(self):
        return DiscPredictor(encode_seconds=self.encode_seconds)


@pytest.fixture(scope="module")
def client():
    with local_workers(2) as client:
        yield client


def write_images(folder):
    folder.mkdir()
    stack = np.stack([disc_image((48, 64), [(20, 20 + z, 8), (30, 50, 7)]) for z in range(8)])
    tifffile.imwrite(folder / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    for i in range(4):
        tifffile.imwrite(folder / f"plane{i}.tif", disc_image((48, 64), [(20, 20 + i, 8)]))
    (folder / "broken.tif").write_bytes(b"II*\0 this is no TIFF")
    return sorted(folder.glob("*.tif"))


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_workers_give_what_one_process_gives_bit_for_bit(tmp_path, client):
    sources = write_images(tmp_path / "in")
    alone = finish(segment_files(DiscPredictor(), plan(sources, tmp_path / "alone"), RECIPE))
    predictor = DiscPredictor()
    jobs = plan(sources, tmp_path / "together")
    together = finish(segment_files(predictor, jobs, RECIPE, cluster=Cluster(client, Discs())))
    assert predictor.encoded == 0  # the workers did it all
    assert [r.status for r in together] == [r.status for r in alone]
    assert sum(r.status == "failed" for r in together) == 1
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")


def test_tiles_of_a_huge_plane_are_shared_out(tmp_path, client, monkeypatch):
    monkeypatch.setattr("napari_sam.folder.work.HUGE", 100 * 100)
    plane = disc_image((900, 1000), [(768, 768, 30), (300, 760, 20), (100, 100, 15)])
    tifffile.imwrite(tmp_path / "huge.tif", plane)
    predictor = DiscPredictor()
    jobs = plan([tmp_path / "huge.tif"], tmp_path / "out")
    (report,) = finish(segment_files(predictor, jobs, RECIPE, cluster=Cluster(client, Discs())))
    assert (report.status, report.objects, predictor.encoded) == ("done", 3, 0)
    assert np.array_equal(tifffile.imread(jobs[0].outputs[0]) > 0, plane > 100)


def test_tiles_of_a_huge_plane_have_the_contrast_that_was_asked_for(tmp_path, client, monkeypatch):
    """One pixel is so bright that all else is dark where it counts, and no sample sees it."""
    monkeypatch.setattr("napari_sam.folder.work.HUGE", 100 * 100)
    monkeypatch.setattr("napari_sam.tiling.read.BAND", 100)
    plane = disc_image((900, 1000), [(768, 768, 30), (300, 760, 20)]).astype(np.uint16)
    plane[531, 277] = 60_000
    tifffile.imwrite(tmp_path / "huge.tif", plane)
    for contrast, objects in (("plane", 3), ("range", 1)):
        jobs = plan([tmp_path / "huge.tif"], tmp_path / contrast)
        for cluster in (None, Cluster(client, Discs())):
            recipe = Recipe(contrast=contrast)
            (report,) = finish(segment_files(DiscPredictor(), jobs, recipe, cluster=cluster, overwrite=True))
            assert (report.status, report.objects) == ("done", objects), (contrast, cluster)


def test_tiles_of_a_stack_of_huge_planes_are_shared_out(tmp_path, client, monkeypatch):
    monkeypatch.setattr("napari_sam.folder.work.HUGE", 100 * 100)
    planes = [disc_image((900, 1000), [(768, 768 + z, 30), (300, 760, 20)]) for z in range(3)]
    tifffile.imwrite(tmp_path / "huge.tif", np.stack(planes), imagej=True, metadata={"axes": "ZYX"})
    alone = plan([tmp_path / "huge.tif"], tmp_path / "alone")
    finish(segment_files(DiscPredictor(), alone, RECIPE))
    predictor = DiscPredictor()
    jobs = plan([tmp_path / "huge.tif"], tmp_path / "together")
    (report,) = finish(segment_files(predictor, jobs, RECIPE, cluster=Cluster(client, Discs())))
    assert (report.status, report.objects, predictor.encoded) == ("done", 2, 0)
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")


def test_workers_take_what_was_embedded_ahead_of_time(tmp_path, client):
    sources = [s for s in write_images(tmp_path / "in") if s.stem == "stack"]
    with open_image(sources[0]) as image:
        finish(embed_image(DiscPredictor(), image, RECIPE, EmbeddingStore(tmp_path / "store")))
    # A worker that has to encode takes longer than this test is given.
    cluster = Cluster(client, Discs(encode_seconds=1000.0))
    jobs = plan(sources, tmp_path / "out")
    (report,) = finish(
        segment_files(DiscPredictor(), jobs, RECIPE, cluster=cluster, store=tmp_path / "store")
    )
    assert (report.status, report.objects) == ("done", 2)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process as only POSIX can")
def test_a_killed_worker_costs_only_its_unit(tmp_path, client):
    sources = [s for s in write_images(tmp_path / "in") if s.stem != "broken"]
    predictor = DiscPredictor()
    steps = segment_files(
        predictor, plan(sources, tmp_path / "out"), RECIPE, cluster=Cluster(client, Discs(encode_seconds=0.2))
    )
    killed = []
    for step in steps:
        if ": plane " in step.message and step.done == 3:
            victim = sorted(client.run(os.getpid).values())[0]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            client.wait_for_workers(1)
    assert len(killed) == 1
    assert predictor.encoded == 0
    finish(segment_files(DiscPredictor(), plan(sources, tmp_path / "alone"), RECIPE))
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_cancel_takes_back_what_was_not_begun(tmp_path, client):
    sources = [s for s in write_images(tmp_path / "in") if s.stem == "stack"]
    steps = segment_files(
        DiscPredictor(), plan(sources, tmp_path / "out"), RECIPE, cluster=Cluster(client, Discs(0.2))
    )
    next(steps)
    steps.close()
    done = len(list((tmp_path / "out").rglob("*.npz")))
    assert 1 <= done <= 4
    predictor = DiscPredictor()
    finish(segment_files(predictor, plan(sources, tmp_path / "out"), RECIPE))
    assert predictor.encoded <= 7


@dataclass(frozen=True)
class Naps:
    """A unit that takes its time."""

    number: int

    def run(self, predictor):
        time.sleep(0.1)


def test_workers_that_join_late_are_all_kept_busy(monkeypatch):
    monkeypatch.setattr("napari_sam.folder.cluster.LEAST", 2)
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as workers,
        distributed.Client(workers) as client,
    ):
        steps = run_pieces(Cluster(client, Discs()), [Naps(n) for n in range(80)])
        first = next(steps)
        assert isinstance(first, Notice)
        assert first.message == "waiting for workers"
        workers.scale(8)
        client.wait_for_workers(8)
        busy = [sum(map(bool, client.processing().values())) for _ in steps]
        assert max(busy) == 8


def test_workers_in_another_folder_find_what_relative_paths_mean(tmp_path, monkeypatch, client):
    write_images(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    source = Path("in/stack.tif")
    with open_image(source) as image:
        finish(embed_image(DiscPredictor(), image, RECIPE, EmbeddingStore(Path("store"))))
    client.run(os.chdir, "/")
    predictor = DiscPredictor()
    cluster = Cluster(client, Discs(encode_seconds=1000.0))
    steps = segment_files(
        predictor, plan([source], Path("out")), RECIPE, cluster=cluster, store=Path("store")
    )
    assert not [step for step in steps if isinstance(step, Notice)]
    assert predictor.encoded == 0
    (tmp_path / "mine.safetensors").touch()
    assert NamedModel("mine.safetensors").name == str(tmp_path / "mine.safetensors")
    assert (NamedModel("built-in").name, NamedModel("vit_b").name) == ("built-in", "vit_b")


@dataclass(frozen=True)
class Absent:
    """A model that workers do not find."""

    threads: int = 1

    def load(self):
        raise FileNotFoundError("there is no model here")


def test_units_that_fail_on_workers_are_told_and_done_here(tmp_path, client):
    sources = [s for s in write_images(tmp_path / "in") if s.stem == "stack"]
    predictor = DiscPredictor()
    steps = segment_files(
        predictor, plan(sources, tmp_path / "out"), RECIPE, cluster=Cluster(client, Absent())
    )
    (told,) = [step for step in steps if isinstance(step, Notice)]
    assert told.message.startswith("8 of 8 units failed on the workers")
    assert "there is no model here" in told.message
    assert predictor.encoded == 8


def test_the_command_line_asks_for_workers():
    with shared_out(None, None, Discs()) as cluster:
        assert cluster is None
    with local_workers(1) as running:
        address = running.scheduler.address
        with shared_out(2, address, Discs()) as cluster:
            assert cluster.client.scheduler.address == address


def test_a_scheduler_that_does_not_answer_is_said_in_plain_words():
    with pytest.raises(ClusterError, match="No scheduler answers at"), connect("tcp://127.0.0.1:9", 0.5):
        pass
