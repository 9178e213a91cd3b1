import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import zarr

from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame
from napari_sam.store import EmbeddingStore, StoreError
from napari_sam.store.entry import MARK


def make(pixels: str, seed: int = 0, model: str = "m", side: int = 16) -> Embedding:
    draw = torch.Generator().manual_seed(seed)
    maps = torch.randn(1, 8, side, side, generator=draw)
    features = {
        "image": maps,
        "half": maps.bfloat16(),
        "last": maps.half().contiguous(memory_format=torch.channels_last),
        "plane": (maps[0, :3] * 20).to(torch.uint8).permute(1, 2, 0),
    }
    return Embedding(features, Frame((30, 20), (60, 40), centred=True), model, pixels, seconds=1.5)


def same(a: Embedding, b: Embedding) -> bool:
    facts = [(e.frame, e.model_id, e.pixels, e.seconds, sorted(e.features)) for e in (a, b)]
    return facts[0] == facts[1] and all(
        t.dtype == b.features[n].dtype and torch.equal(t, b.features[n]) for n, t in a.features.items()
    )


def age(store: EmbeddingStore, key, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(store._folder(key) / MARK, (then, then))


def chunk_of(store: EmbeddingStore, key, array="image") -> Path:
    return next(p for p in (store._folder(key) / array).rglob("*") if p.is_file() and p.name != MARK)


def test_what_was_put_comes_back_bit_for_bit(tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    a = make("ab12@9.5")
    assert store.get(a.key) is None
    store.put(a)
    back = EmbeddingStore(tmp_path / "store").get(a.key)
    assert same(a, back)
    # Rounding of what follows may depend on how a map lies in memory.
    assert back.features["last"].stride() == a.features["last"].stride()
    assert a.key in store
    assert ("ab12", "m") not in store
    assert store.get(("ab12@9.5", "other")) is None
    assert len(store) == 1


def test_a_store_that_was_deleted_meanwhile_is_made_anew(tmp_path):
    store = EmbeddingStore(tmp_path / "store", 10**9)
    store.put(make("ab12"))
    shutil.rmtree(tmp_path / "store")
    store.put(make("cd34"))
    assert len(EmbeddingStore(tmp_path / "store")) == 1
    shutil.rmtree(tmp_path / "store")
    store.note_tiles((9000, 9000), 1024, 128, None)
    assert EmbeddingStore(tmp_path / "store").tiles((9000, 9000)) is not None


def test_any_zarr_reader_can_walk_the_store(tmp_path):
    EmbeddingStore(tmp_path / "store").put(make("ab12"))
    root = zarr.open_group(tmp_path / "store", mode="r")
    assert root.attrs["format"] == "napari-sam embeddings"
    entry = root["m"]["ab"]["ab12"]
    assert entry["image"].chunks == entry["image"].shape == (1, 8, 16, 16)
    assert entry.attrs["frame"]["image_shape"] == [30, 20]


def test_names_that_are_no_file_names_are_kept_apart(tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    wild = make("ab/../cd", model="xxh128:12/../..")
    store.put(wild)
    assert same(store.get(wild.key), wild)
    assert {p.name for p in tmp_path.iterdir()} == {"store"}


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone"])
def test_a_damaged_chunk_is_noticed_and_computed_again(tmp_path, harm, caplog):
    store = EmbeddingStore(tmp_path / "store")
    a = make("ab12")
    store.put(a)
    chunk = chunk_of(store, a.key)
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes({"flip": content, "cut": content[:-5], "empty": b""}[harm])
    assert store.verify() == [store._folder(a.key)]
    with caplog.at_level(logging.WARNING):
        assert store.get(a.key) is None
    assert "damaged and is computed again" in caplog.text
    assert a.key not in store
    store.put(a)
    assert same(store.get(a.key), a)


@pytest.mark.parametrize("name", [MARK, f"image/{MARK}", "image", "image/c", "image/c/0/0/0/0"])
@pytest.mark.parametrize("code", ["EMFILE", "EACCES"])
def test_what_the_disk_does_not_give_now_is_kept(tmp_path, monkeypatch, caplog, code, name):
    """Too many open files, or a network disk that is away for a moment, say nothing about the entry."""
    store = EmbeddingStore(tmp_path / "store")
    a = make("ab12")
    store.put(a)
    withheld = str(store._folder(a.key) / name)

    def failing(call):
        def called(path, *args, **kwargs):
            if str(path) == withheld:
                raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), withheld)
            return call(path, *args, **kwargs)

        return called

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Path, "open", failing(Path.open))
        patch.setattr(Path, "read_bytes", failing(Path.read_bytes))
        patch.setattr(Path, "stat", failing(Path.stat))
        patch.setattr(os, "scandir", failing(os.scandir))
        assert store.get(a.key) is None
        if name != MARK:  # else it is no entry that is gone through
            with pytest.raises(OSError, match=os.strerror(getattr(errno, code))):
                store.verify()
    assert "cannot be read now" in caplog.text
    assert os.strerror(getattr(errno, code)) in caplog.text
    assert same(store.get(a.key), a)


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process as only POSIX can")
def test_a_process_without_a_free_file_handle_deletes_nothing(tmp_path):
    import resource

    store = EmbeddingStore(tmp_path / "store")
    a = make("ab12")
    store.put(a)
    assert same(store.get(a.key), a)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    for free in range(8):
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 9, before[1]))
        try:
            with suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            for number in held[len(held) - free :]:
                os.close(number)
            del held[len(held) - free :]
            found = store.get(a.key)
        finally:
            for number in held:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert found is None or same(found, a)
        assert free or found is None
        assert a.key in store
    assert same(store.get(a.key), a)


@pytest.mark.parametrize("text", ["", "[]", '{"attributes": {"features": []}}', "null"])
def test_a_mark_that_says_nothing_is_damage(tmp_path, text):
    store = EmbeddingStore(tmp_path / "store")
    a = make("ab12")
    store.put(a)
    (store._folder(a.key) / MARK).write_text(text)
    assert store.get(a.key) is None
    assert a.key not in store


def test_an_array_of_which_a_file_is_missing_is_damage(tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    for pixels, missing in (("ab12", "image"), ("cd34", f"half/{MARK}")):
        a = make(pixels)
        store.put(a)
        path = store._folder(a.key) / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert store.verify() == [store._folder(a.key)]
        assert store.get(a.key) is None
        assert a.key not in store


def test_an_entry_without_its_mark_does_not_exist(tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    a = make("ab12")
    store.put(a)
    (store._folder(a.key) / MARK).unlink()
    assert a.key not in store
    assert store.get(a.key) is None
    store.put(a)
    assert same(store.get(a.key), a)


def test_a_full_store_forgets_what_was_used_longest_ago(tmp_path):
    entries = [make(f"{i}{i}00", seed=i) for i in range(6)]
    probe = EmbeddingStore(tmp_path / "probe")
    probe.put(entries[0])
    size = probe.nbytes
    store = EmbeddingStore(tmp_path / "store", max_bytes=int(4.9 * size))
    for i, entry in enumerate(entries[:4]):
        store.put(entry)
        age(store, entry.key, 1000 - i)
    assert store.get(entries[0].key) is not None  # now the one used last
    store.put(entries[4])
    assert [e.key in store for e in entries] == [True, False, True, True, True, False]
    assert store.nbytes <= store.max_bytes
    # A second process sees the same limit although it did not write what is there.
    EmbeddingStore(store.path, max_bytes=int(2.9 * size)).put(entries[5])
    assert entries[5].key in store
    assert len(store) == 2


def test_leftovers_of_killed_writers_are_swept_up_later(tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    store.put(make("ab12"))
    left = store.path / "m" / "ab" / ".0123"
    left.mkdir()
    (left / "image").write_bytes(b"half a chunk")
    EmbeddingStore(store.path).put(make("ab13"))
    assert left.exists()  # it may still be at work
    os.utime(left, (0, 0))
    EmbeddingStore(store.path).put(make("ab14"))
    assert not left.exists()
    assert len(store) == 3


def test_a_shared_store_is_read_and_never_touched(tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    a, b = make("ab12"), make("ab13")
    store.put(a)
    store.put(b)
    chunk_of(store, b.key).write_bytes(b"")
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.path.rglob("*")}
    shared = EmbeddingStore(store.path, read_only=True)
    assert same(shared.get(a.key), a)
    assert shared.get(b.key) is None
    with pytest.raises(StoreError, match="reading only"):
        shared.put(make("ab14"))
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.path.rglob("*")} == before


def test_folders_that_are_no_store_are_refused_and_left_alone(tmp_path):
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match="found other files"):
        EmbeddingStore(foreign)
    assert [p.name for p in foreign.iterdir()] == ["holiday.jpg"]
    zarr.create_group(tmp_path / "image.zarr", attributes={"ome": {}})
    with pytest.raises(StoreError, match="Expected a store of embeddings of version 1"):
        EmbeddingStore(tmp_path / "image.zarr")
    with pytest.raises(StoreError, match="no store of embeddings"):
        EmbeddingStore(tmp_path / "missing", read_only=True)
    with pytest.raises(StoreError, match="cannot be made"):
        EmbeddingStore("/proc/store")


FULL_DISK = """
import resource, sys, torch
sys.path.insert(0, {tests!r})
from test_store_disk import make
from napari_sam.store import EmbeddingStore, StoreError
store = EmbeddingStore({path!r})
store.put(make("ab12"))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.put(make("ab13", side=64))
except StoreError as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process as only POSIX can")
def test_a_disk_that_takes_no_more_is_a_clear_error_and_keeps_what_is_finished(tmp_path):
    code = FULL_DISK.format(tests=str(Path(__file__).parent), path=str(tmp_path / "store"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "could not be written" in done.stdout
    assert "Everything finished is kept" in done.stdout
    store = EmbeddingStore(tmp_path / "store")
    assert same(store.get(("ab12", "m")), make("ab12"))
    assert ("ab13", "m") not in store
    assert not list(store.path.rglob(".*"))


def write_all(path: str, seed: int) -> None:
    store = EmbeddingStore(path)
    for i in range(6):
        store.put(make(f"{i}{i}00", seed))


def test_processes_that_write_the_same_do_not_disturb_each_other(tmp_path):
    workers = [
        get_context("spawn").Process(target=write_all, args=(str(tmp_path / "store"), seed))
        for seed in range(3)
    ]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    store = EmbeddingStore(tmp_path / "store")
    assert len(store) == 6
    assert store.verify() == []


def test_the_mark_is_the_last_thing_written(tmp_path, monkeypatch):
    """Whatever fails on the way, at any file, leaves no entry."""
    from zarr.storage import _local

    a = make("ab12")
    real, count = _local._put, 0
    EmbeddingStore(tmp_path / "store").put(make("ab99"))
    for failing in range(20):
        count = 0

        def put(path, value, exclusive=False, failing=failing):
            nonlocal count
            count += 1
            if count > failing:
                raise OSError(28, "No space left on device")
            return real(path, value, exclusive)

        store = EmbeddingStore(tmp_path / "store")
        monkeypatch.setattr(_local, "_put", put)
        try:
            store.put(a)
            break
        except StoreError as error:
            assert "No space left on device" in str(error)  # noqa: PT017
            assert a.key not in store
            assert not list(store.path.rglob(".*"))
    assert failing > len(a.features)
    assert same(store.get(a.key), a)


def test_an_entry_gets_its_name_when_the_disk_has_all_of_it(tmp_path, monkeypatch):
    store, a = EmbeddingStore(tmp_path / "store"), make("ab12")
    real, synced = os.fsync, set()

    def fsync(number):
        assert a.key not in store
        synced.add(os.fstat(number).st_ino)
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    store.put(a)
    assert {p.stat().st_ino for p in store._folder(a.key).rglob("*") if p.is_file()} <= synced


def test_attributes_are_plain_json(tmp_path):
    store = EmbeddingStore(tmp_path / "store")
    a = make("ab12")
    store.put(a)
    attributes = json.loads((store._folder(a.key) / MARK).read_text())["attributes"]
    assert attributes["features"]["half"]["dtype"] == "bfloat16"
    assert attributes["pixels"] == "ab12"


def test_what_a_file_manager_leaves_does_not_occupy_a_folder(tmp_path):
    (tmp_path / ".DS_Store").write_bytes(b"x")
    EmbeddingStore(tmp_path).put(make("ab12"))
    assert "ab12" in {entry.folder.name for entry in EmbeddingStore(tmp_path).entries()}
