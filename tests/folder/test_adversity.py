"""A disk that is full or read-only, inputs that are damaged: clear words, and what is finished is kept."""

from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from tests.fakes import DiscPredictor, disc_image
from tests.folder.test_work import RECIPE, write_stack
from typer.testing import CliRunner

from napari_sam.cli import app
from napari_sam.everything import AutomaticSettings
from napari_sam.files.refused import in_plain_words
from napari_sam.folder import plan, segment_files
from napari_sam.image import Contrast
from napari_sam.progress import finish
from napari_sam.tiling import TileDone, rgb_reader, segment_plane

SETTINGS = AutomaticSettings(pred_iou_thresh=0.5, stability_score_thresh=0.5, prompts="seeds")


@pytest.fixture
def mount(tmp_path):
    """Return a function that mounts a disk of its own in a folder, with `mount` options."""
    mounted = []

    def mount_it(options):
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, check=False) if sys.platform == "linux" else None
        if done is None or done.returncode:
            pytest.skip("mounting a small disk is not allowed here")
        mounted.append(place)
        return place

    yield mount_it
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk):
    """Leave no room on a disk; return the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


def run(source, out, predictor=None):
    (report,) = finish(segment_files(predictor or DiscPredictor(), plan([source], out), RECIPE))
    return report


def test_a_stack_for_which_there_is_no_room_says_so_at_once(tmp_path, mount):
    """Writing to a mapped file on a full disk would end the program without a word."""
    disk = mount("size=40k")
    report = run(write_stack(tmp_path / "stack.tif"), disk)
    assert report.status == "failed"
    assert "There is no room for the labels of this stack, 0.1 MB" in report.error
    assert "what is finished is kept" in report.error


def test_a_disk_that_gets_full_keeps_the_finished_planes(tmp_path, mount):
    disk, source = mount("size=400k"), write_stack(tmp_path / "stack.tif")
    steps = segment_files(DiscPredictor(), plan([source], disk), RECIPE)
    while "plane 4 of 6" not in next(steps).message:
        pass
    ballast = fill(disk)
    (report,) = finish(steps)
    assert report.status == "failed"
    assert "disk is full" in report.error
    finished = len(list(disk.glob(".*.work/*/*/*.npz")))
    assert finished == 3
    ballast.unlink()
    again = DiscPredictor()
    assert run(source, disk, again).status == "done"
    assert again.encoded == 6 - finished
    run(source, tmp_path / "whole")
    labels = [tifffile.imread(folder / "stack_labels.tif") for folder in (disk, tmp_path / "whole")]
    assert np.array_equal(*labels)


def test_tiles_on_a_disk_that_gets_full_are_kept(tmp_path, mount):
    disk = mount("size=1m")
    plane = disc_image((165, 230), [(y, x, 9) for y in (30, 64, 100, 130) for x in (30, 64, 128, 200)])
    read = rgb_reader(plane, contrast=Contrast(0, 255))

    def steps(folder, predictor):
        path = folder / "labels.ome.zarr"
        return segment_plane(predictor, read, plane.shape, path, SETTINGS, side=64, halo=16)

    first = steps(disk, DiscPredictor())
    done = 0
    while done < 4:
        done += isinstance(next(first), TileDone)
    ballast = fill(disk)
    with pytest.raises(OSError, match="No space left") as caught:
        finish(first)
    assert "disk is full" in in_plain_words(caught.value)
    ballast.unlink()
    again = DiscPredictor()
    result = finish(steps(disk, again))
    assert again.encoded <= 12 - 4
    whole = finish(steps(tmp_path, DiscPredictor()))
    labels = [zarr.open_array(r.path / "0", mode="r")[...] for r in (result, whole)]
    assert np.array_equal(*labels)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, mount):
    disk = mount("size=40k,ro")
    report = run(write_stack(tmp_path / "stack.tif"), disk)
    assert report.status == "failed"
    assert str(disk) in report.error
    assert "read-only" in report.error.lower()


def test_a_damaged_chunk_names_its_plane_and_a_repaired_image_is_seen_anew(tmp_path):
    stack = np.stack([disc_image((48, 64), [(20, 20 + z, 8), (30, 50, 7)]) for z in range(6)])
    array = zarr.create_array(tmp_path / "image.zarr", shape=stack.shape, chunks=(1, 48, 64), dtype="u1")
    array[:] = stack
    chunk = tmp_path / "image.zarr" / "c" / "4" / "0" / "0"
    good = chunk.read_bytes()
    chunk.write_bytes(good[: len(good) // 2])
    report = run(tmp_path / "image.zarr", tmp_path / "out")
    assert report.status == "failed"
    assert f"Plane 5 of {Path(tmp_path.name, 'image.zarr')} cannot be read" in report.error
    chunk.write_bytes(good)
    predictor = DiscPredictor()
    assert run(tmp_path / "image.zarr", tmp_path / "out", predictor).status == "done"
    # Whatever was written to the image, it is not the one that planes were kept of.
    assert predictor.encoded == 6


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "a.tif"), "The disk is full: a.tif"),
        (OSError(30, "Read-only file system", "a.tif"), "the disk is read-only"),
        (PermissionError(13, "Permission denied", "a.tif"), "you have no permission"),
        (OSError(2, "No such file or directory", "a.tif"), "a.tif is not there"),
        (OSError(20, "Not a directory", "a.tif"), "a.tif cannot be reached: on the way to it is a file"),
        (OSError(errno.EISDIR, "Is a directory", "a.tif"), "a.tif is a folder"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a.tif"), "a.tif is too long a name"),
        (OSError("plain"), "plain"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_what_a_disk_refuses_is_said_in_words(error, words):
    assert words in in_plain_words(error)
    assert "[Errno" not in in_plain_words(error)


def test_numbers_that_cannot_be_written_are_refused_before_everything_is_measured(mount, tmp_path):
    disk = mount("size=40k,ro")
    for option, name in (("--json", "score.json"), ("--worst", "worst.png")):
        refused = CliRunner().invoke(app, ["evaluate", str(tmp_path), option, str(disk / name)])
        assert refused.exit_code == 2
        said = "".join(refused.output.replace("│", "").split())
        assert f"{disk / name}cannotbewritten" in said
