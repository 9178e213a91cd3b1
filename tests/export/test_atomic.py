"""Results are put in place as a whole, by one writer at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from napari_sam.export import ExportError
from napari_sam.export.atomic import replacing
from napari_sam.locks import take_lock


def fail_after(_):
    raise RuntimeError("in the midst")


@pytest.mark.parametrize("folder", [False, True])
def test_what_was_there_stays_until_all_went_well(tmp_path, folder):
    def write(place, text):
        if folder:
            place.mkdir()
        (place / "x" if folder else place).write_text(text)

    path = tmp_path / "new" / "result"
    for text in ("first", "second"):
        with replacing(path, folder=folder) as beside:
            write(beside, text)
    with pytest.raises(RuntimeError, match="in the midst"), replacing(path, folder=folder) as beside:
        fail_after(write(beside, "third"))
    assert (path / "x" if folder else path).read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True])
def test_two_do_not_write_to_one_place_at_a_time(tmp_path, folder):
    """The second would remove, or add to, what the first has half written."""
    path = tmp_path / "result"
    with replacing(path, folder=folder) as beside:
        beside.mkdir() if folder else beside.write_text("mine")
        again = replacing(path, folder=folder)
        with pytest.raises(ExportError, match="is being written by another program or run"):
            again.__enter__()
        other = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, pathlib\n"
                "from napari_sam.export.atomic import replacing\n"
                f"with replacing(pathlib.Path(sys.argv[1]), folder={folder}): pass",
                str(path),
            ],
            capture_output=True,
            text=True,
        )
        assert "is being written by another program or run" in other.stderr
        assert beside.exists()
    assert path.exists()
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path, folder=folder) as beside:  # and then it may be written again
        beside.mkdir() if folder else beside.write_text("again")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no such place on this system")
def test_a_place_where_no_file_can_be_made_is_not_said_to_be_in_use():
    with (
        pytest.raises(ExportError, match=r"^/proc/x\.csv could not be written \(No such file"),
        replacing(Path("/proc/x.csv")),
    ):
        pass


def test_a_lock_that_its_owner_removes_at_that_moment_is_taken(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    acquire = FileLock.acquire
    tries = []

    def once_removed(self, *args, **options):
        tries.append(path.exists())
        if len(tries) == 1:
            raise Timeout(str(path))
        return acquire(self, *args, **options)

    monkeypatch.setattr(FileLock, "acquire", once_removed)
    lock = take_lock(path)
    assert lock is not None
    assert lock.is_locked
    assert tries == [False, True]
    lock.release()


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError])
def test_a_folder_comes_back_however_putting_another_in_its_place_ends(tmp_path, monkeypatch, step, error):
    path = tmp_path / "result"
    path.mkdir()
    (path / "x").write_text("first")
    calls = []

    def replace(source, target):
        calls.append(source)
        if len(calls) == step:
            raise error
        os.rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("napari_sam.export.atomic.os.replace", replace)
        with (
            pytest.raises((KeyboardInterrupt, ExportError)),
            replacing(path, folder=True) as beside,
        ):
            beside.mkdir()
    assert (path / "x").read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_had_stepped_aside_for_a_run_that_was_killed_comes_back(tmp_path):
    path, aside = tmp_path / "result", tmp_path / ".result.old"
    aside.mkdir()
    (aside / "x").write_text("first")
    with pytest.raises(RuntimeError, match="in the midst"), replacing(path, folder=True) as beside:
        fail_after(beside.mkdir())
    assert (path / "x").read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    aside.mkdir()  # killed when the new one was in place already
    with pytest.raises(RuntimeError, match="in the midst"), replacing(path, folder=True) as beside:
        fail_after(beside.mkdir())
    assert list(tmp_path.iterdir()) == [path]
    aside.write_text("mine")  # of files none steps aside
    with replacing(tmp_path / "file") as beside:
        beside.write_text("new")
    with replacing(tmp_path / "result.csv") as beside:
        beside.write_text("new")
    assert aside.read_text() == "mine"
