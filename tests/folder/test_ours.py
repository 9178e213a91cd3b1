"""What lies at an output and is not the run's own stays."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from tests.fakes import DiscPredictor, disc_image
from tests.folder.test_run import lines, run, write_images

from napari_sam.export import FORMATS, ExportError, atomic, export, table
from napari_sam.folder import MANIFEST, images_among, plan, read_manifest, segment_files
from napari_sam.folder import run as segmenting
from napari_sam.folder.annotate import AnnotationFolder, Snapshot
from napari_sam.folder.manifest import stamp_output
from napari_sam.folder.ours import mark
from napari_sam.progress import finish
from napari_sam.recipe import Recipe

OTHER = Recipe(diameter=20.0)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def draw(path):
    """Labels as a person draws them: one object with the id 42."""
    labels = np.zeros((48, 80), np.uint16)
    labels[4:9, 4:9] = 42
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, labels)


def mark_all(job):
    """Marks as a run leaves them that is killed before its line."""
    for output in job.outputs:
        mark(job.source, output, [stamp_output(output)])


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def top(path):
    return int(tifffile.imread(path).max())


def test_labels_that_no_run_has_written_stay(tmp_path, out):
    images = write_images(tmp_path / "in", 3)
    draw(out / "img1_labels.tif")
    jobs = plan(images, out)
    predictor = DiscPredictor()
    reports = run(jobs, out, predictor=predictor)
    assert [r.status for r in reports] == ["done", "failed", "done"]
    assert "img1_labels.tif is there already and was not written by this run" in reports[1].error
    assert "--overwrite" in reports[1].error
    assert predictor.encoded == 2, "nothing was computed for nothing"
    assert top(jobs[1].outputs[0]) == 42
    assert [line["source"] for line in lines(out)] == [str(images[0]), str(images[2])]
    assert [r.status for r in run(jobs, out, overwrite=True)] == ["done"] * 3
    assert top(jobs[1].outputs[0]) == 2


def test_labels_of_the_same_image_are_replaced_until_somebody_changes_them(tmp_path, out):
    images = write_images(tmp_path / "in", 2)
    jobs = plan(images, out, ["tiff", "table"])
    run(jobs, out)
    assert [r.status for r in run(jobs, out, recipe=OTHER)] == ["done"] * 2
    draw(jobs[0].outputs[0])
    again = run(jobs, out)
    assert [r.status for r in again] == ["failed", "done"]
    assert "was changed after it was written" in again[0].error
    assert top(jobs[0].outputs[0]) == 42
    # What was corrected is still the result of a run with these settings.
    assert [r.status for r in run(jobs, out, recipe=OTHER, resume=True)] == ["kept", "done"]
    assert run(plan(images, out, ["table"]), out)[0].status == "done", "each file for itself"


def test_labels_of_another_image_of_the_same_name_stay(tmp_path, out):
    (first,) = plan(write_images(tmp_path / "a", 1), out)
    (second,) = plan(write_images(tmp_path / "b", 1), out)
    tifffile.imwrite(second.source, disc_image((48, 80), [(12, 14, 7), (30, 60, 7)]))
    run([first], out)
    (report,) = run([second], out, resume=True)
    assert report.status == "failed"
    assert f"holds the labels of {first.source}" in report.error
    assert run([first], out, resume=True)[0].status == "kept"
    assert run([second], out, overwrite=True)[0].objects == 2
    assert run([first], out, resume=True)[0].status == "failed", "these are the other's labels now"
    assert run([second], out, resume=True)[0].status == "kept"


@pytest.mark.parametrize("state", ["in work", "done"])
def test_labels_that_were_corrected_in_the_dock_stay(tmp_path, out, state):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out)
    run(jobs, out)
    folder = AnnotationFolder(tmp_path / "in", out)
    opened = folder.open(0)
    folder.save(Snapshot(0, np.where(opened.labels > 0, 7, 0), None, opened.axes))
    folder.note([type(folder.entries[0])(source=image, labels=jobs[0].outputs[0], state=state)], "")
    for manifest in (out / MANIFEST, None):
        steps = segment_files(DiscPredictor(), jobs, Recipe(), manifest=manifest)
        (report,) = finish(steps)
        assert report.status == "failed"
        assert "done (annotation.json)" in report.error if state == "done" else "changed" in report.error
    assert top(jobs[0].outputs[0]) == 7


def test_labels_that_were_only_looked_at_are_replaced_and_those_that_are_done_are_not(tmp_path, out):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out)
    run(jobs, out)
    folder = AnnotationFolder(tmp_path / "in", out)
    entry = folder.entries[0]
    folder.note([entry], "")
    assert json.loads((out / "annotation.json").read_text())["images"]["img0.tif"]["state"] == "in work"
    assert run(jobs, out)[0].status == "done"
    folder.note([type(entry)(source=image, labels=entry.labels, state="done")], "")
    assert run(jobs, out)[0].status == "failed"


def test_lines_of_earlier_versions_are_read(tmp_path, out):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out)
    run(jobs, out)
    (line,) = lines(out)
    del line["written"]
    (out / MANIFEST).write_text(json.dumps(line) + "\n")
    assert read_manifest(out / MANIFEST)[str(image)].written == ()
    assert run(jobs, out)[0].status == "done"


def test_an_image_that_failed_in_between_does_not_lose_its_files(tmp_path, out):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out)
    run(jobs, out)
    good = image.read_bytes()
    image.write_bytes(b"no image")
    assert run(jobs, out)[0].status == "failed"
    image.write_bytes(good)
    assert run(jobs, out)[0].status == "done"


def test_a_run_that_was_killed_before_its_line_knows_its_files_again(tmp_path, out):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out)
    draw(jobs[0].outputs[0])
    mark_all(jobs[0])
    assert run(jobs, out)[0].status == "done"
    assert sorted(p.name for p in out.iterdir()) == ["img0_labels.tif", MANIFEST]
    mark_all(jobs[0])
    folder = AnnotationFolder(tmp_path / "in", out)
    opened = folder.open(0)
    folder.save(Snapshot(0, opened.labels * 5, None, opened.axes))
    assert run(jobs, out)[0].status == "failed", "somebody worked on them since"


@pytest.mark.parametrize("place", ["_move", "add_to_manifest"])
@pytest.mark.parametrize("corrected", [False, True])
def test_a_killed_run_knows_what_it_wrote_and_not_what_somebody_made_of_it(
    tmp_path, out, monkeypatch, place, corrected
):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out, ["tiff"])
    module = atomic if place == "_move" else segmenting
    usual = getattr(module, place)

    def kill(*args):
        if place == "_move":
            usual(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, place, kill)
        with pytest.raises(KeyboardInterrupt):
            run(jobs, out)
    if corrected:
        draw(jobs[0].outputs[0])
    (report,) = run(jobs, out)
    assert report.status == ("failed" if corrected else "done")
    assert top(jobs[0].outputs[0]) == (42 if corrected else 1)
    if not corrected:
        assert names_in(out) == ["img0_labels.tif", MANIFEST]


def test_labels_that_a_killed_run_was_to_replace_stay_with_those_who_made_them(tmp_path, out, monkeypatch):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out)
    draw(jobs[0].outputs[0])

    def kill(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "_move", kill)
        with pytest.raises(KeyboardInterrupt):
            run(jobs, out, overwrite=True)
    assert run(jobs, out)[0].status == "failed"
    assert top(jobs[0].outputs[0]) == 42


def test_after_two_kills_the_labels_of_the_first_are_still_the_runs_own(tmp_path, out, monkeypatch):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out)

    def kill(*args):
        raise KeyboardInterrupt

    for module, name in ((segmenting, "add_to_manifest"), (atomic, "_move")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, kill)
            with pytest.raises(KeyboardInterrupt):
                run(jobs, out)
    assert run(jobs, out)[0].status == "done"


def test_what_was_written_before_a_format_failed_is_the_runs_until_somebody_corrects_it(
    tmp_path, out, monkeypatch
):
    (image,) = write_images(tmp_path / "in", 1)
    jobs = plan([image], out, ["tiff", "table"])

    def full(*args):
        raise OSError(28, "No space left on device")

    for corrected in (False, True):
        with monkeypatch.context() as patched:
            patched.setattr(table, "write", full)
            assert run(jobs, out)[0].status == "failed"
        assert [p for p in names_in(out) if p.endswith(".writing")] == []
        if corrected:
            draw(jobs[0].outputs[0])
        (report,) = run(plan([image], out), out)
        assert report.status == ("failed" if corrected else "done")
    assert "was changed after it was written" in report.error
    assert top(jobs[0].outputs[0]) == 42


def test_a_format_that_holds_no_stack_is_refused_before_the_work(tmp_path, out):
    tifffile.imwrite(
        tmp_path / "stack.tif", np.zeros((4, 48, 80), np.uint8), imagej=True, metadata={"axes": "ZYX"}
    )
    predictor = DiscPredictor()
    (report,) = run(plan([tmp_path / "stack.tif"], out, ["tiff", "png"]), out, predictor=predictor)
    assert report.status == "failed"
    assert "A PNG holds one plane, found an array of shape (4, 48, 80)" in report.error
    assert predictor.encoded == 0
    assert names_in(out) == [MANIFEST]


def test_the_docks_table_goes_with_the_labels_that_it_tells_of(tmp_path, out):
    (image,) = write_images(tmp_path / "in", 1)
    folder = AnnotationFolder(tmp_path / "in", out)
    labels = np.zeros((48, 80), np.uint16)
    labels[30:40, 60:70] = 1
    known = pd.DataFrame({"index": [1], "note": ["mitosis"]})
    folder.save(Snapshot(0, labels, known, folder.open(0).axes))
    jobs = plan([image], out)
    assert run(jobs, out)[0].status == "failed"
    assert folder.open(0).features is not None, "nothing was written, and the table stays"
    (report,) = run(jobs, out, overwrite=True)
    assert AnnotationFolder(tmp_path / "in", out).open(0).features is None
    aside = out / "img0_labels.features.csv.other"
    assert pd.read_csv(aside)["note"].tolist() == ["mitosis"]
    assert f"is now {aside}" in report.note


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_an_image_whose_name_is_no_text_is_one_like_any_other(tmp_path, out):
    (image,) = write_images(tmp_path / "in", 1)
    image = image.rename(tmp_path / "in" / os.fsdecode(b"caf\xe9.tif"))
    jobs = plan([image], out, [known.name for known in FORMATS])
    assert run(jobs, out)[0].status == "done"
    assert run(jobs, out)[0].status == "done"
    for output in jobs[0].outputs:
        assert output.exists()
    (out / MANIFEST).unlink()
    mark_all(jobs[0])
    assert run(jobs, out)[0].status == "done"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_image_is_never_replaced_by_its_labels(tmp_path, overwrite):
    (image,) = write_images(tmp_path / "in", 1)
    before = image.read_bytes()
    (tmp_path / "link.tif").symlink_to(image)
    for jobs in (plan([image], image), plan([image], tmp_path / "link.tif")):
        with pytest.raises(ExportError, match="which is one of the images"):
            finish(segment_files(DiscPredictor(), jobs, Recipe(), overwrite=overwrite))
    tifffile.imwrite(tmp_path / "in" / "img0_labels.tif", np.zeros((48, 80), np.uint8))
    both = plan(sorted((tmp_path / "in").glob("*.tif")), tmp_path / "in")
    with pytest.raises(ExportError, match=r"img0_labels.tif, which is one of the images"):
        run(both, tmp_path / "in", overwrite=overwrite)
    assert image.read_bytes() == before


def test_labels_are_added_to_the_zarr_of_their_image(tmp_path):
    pixels = disc_image((48, 80), [(12, 14, 7)])
    path = export(np.full_like(pixels, 42), tmp_path / "a.ome.zarr", image=pixels)
    labels = path / "labels" / "objects"

    def add(**options):
        return finish(segment_files(DiscPredictor(), plan([path], path), Recipe(), **options))[0]

    report = add()
    assert report.status == "failed", "these labels are somebody's, and nobody named them"
    assert f"{labels} is there already and was not written by this run" in report.error
    assert zarr.open_array(labels / "0", mode="r")[0, 0] == 42
    assert (add(overwrite=True).status, zarr.open_array(labels / "0", mode="r")[0, 0]) == ("done", 0)
    shutil.rmtree(labels)
    assert (add().status, add().status) == ("done", "failed")


def test_labels_in_the_zarr_of_an_image_are_the_runs_own_until_somebody_changes_them(tmp_path):
    (image,) = write_images(tmp_path / "in", 1)
    out = tmp_path / "out"
    path = export(np.zeros((48, 80), np.uint8), out / "img0_labels.ome.zarr", image=tifffile.imread(image))
    shutil.rmtree(path / "labels")
    jobs = plan([image], out, ["ome-zarr"])
    assert [run(jobs, out)[0].status for _ in range(2)] == ["done", "done"]
    (path / "note.txt").write_text("mine")  # beside them, and not in them
    assert run(jobs, out)[0].status == "done"
    zarr.open_array(path / "labels" / "objects" / "0", mode="r+")[0, 0] = 42
    assert "was changed after it was written" in run(jobs, out)[0].error
    assert run(jobs, out, resume=True)[0].status == "kept"
    shutil.rmtree(path / "labels")
    assert run(jobs, out, resume=True)[0].status == "done", "the image alone is not what was made"


def test_files_are_known_by_whatever_way_they_are_reached(tmp_path, out, monkeypatch):
    images = write_images(tmp_path / "in", 1)
    run(plan(images, out), out)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for folder in (Path("../in"), tmp_path / "link"):
        (report,) = run(plan([folder / "img0.tif"], Path("../out")), Path("../out"), resume=True)
        assert report.status == "kept"
        (report,) = run(plan([folder / "img0.tif"], Path("../out")), Path("../out"))
        assert report.status == "done"


def test_a_folder_that_was_moved_with_its_images_goes_on(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    run(plan(write_images(project / "in", 2), project / "out"), project / "out")
    project.rename(tmp_path / "moved")
    out = tmp_path / "moved" / "out"
    images = sorted((tmp_path / "moved" / "in").glob("*.tif"))
    assert [r.status for r in run(plan(images, out), out, resume=True)] == ["kept", "kept"]
    assert [r.status for r in run(plan(images, out), out)] == ["done", "done"]


def test_pixels_of_an_ome_zarr_that_changed_are_segmented_again(tmp_path, out):
    discs = [(12, 14, 7), (30, 40, 6)]
    store = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    scales = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    store.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": scales}]
    pixels = store.create_array("0", shape=(48, 80), chunks=(48, 80), dtype="u1")
    pixels[:] = disc_image((48, 80), discs)
    jobs = plan([tmp_path / "a.zarr"], out)
    assert run(jobs, out)[0].objects == 2
    # Labels that are added to it leave the image as it was.
    (tmp_path / "a.zarr" / "labels").mkdir()
    (tmp_path / "a.zarr" / "labels" / ".zattrs").write_text("{}")
    assert run(jobs, out, resume=True)[0].status == "kept"
    pixels[:] = disc_image((48, 80), discs[:1])
    (report,) = run(jobs, out, resume=True)
    assert (report.status, report.objects) == ("done", 1)


def test_labels_among_the_images_are_told_from_them(tmp_path, out):
    images = write_images(tmp_path / "in", 2)
    folder = tmp_path / "in"
    run(plan(images[:1], folder), folder)
    draw(folder / "img1_labels.tif")
    draw(folder / "cells_labels.tif")  # there is no image 'cells'
    files = sorted(folder.glob("*.tif"))
    found, labels = images_among(files, [], out)
    assert [f.name for f in found] == ["cells_labels.tif", "img0.tif", "img1.tif"]
    assert [f.name for f in labels] == ["img0_labels.tif", "img1_labels.tif"]
    # A shell that spells out a pattern names them all.
    assert len(images_among(files, files, out)[0]) == 3
    assert images_among(labels[:1], labels[:1], out) == (labels[:1], [])
    assert images_among(labels[:1], [], out) == ([], labels[:1])


def test_images_that_are_links_to_one_file_are_images_of_their_own(tmp_path, out):
    (image,) = write_images(tmp_path / "in", 1)
    (tmp_path / "in" / "link.tif").symlink_to(image)
    images = sorted((tmp_path / "in").glob("*.tif"))
    assert [r.status for r in run(plan(images, out), out)] == ["done", "done"]
    assert [r.source for r in run(plan(images, out), out, resume=True)] == [str(i) for i in images]
    assert {r.status for r in run(plan(images, out), out, resume=True)} == {"kept"}
