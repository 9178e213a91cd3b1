"""Folders: names, the manifest, files that fail, going on after an interruption."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from tests.fakes import DiscPredictor, disc_image
from tests.interrupt import kill_until_done
from tests.test_files import write_ome_parts

from napari_sam.export import ExportError, export
from napari_sam.files import open_image
from napari_sam.folder import MANIFEST, FileDone, Job, plan, read_manifest, segment_files
from napari_sam.folder.manifest import stamp_output
from napari_sam.folder.ours import mark
from napari_sam.progress import finish
from napari_sam.recipe import Recipe


def write_images(folder, count=4):
    folder.mkdir(exist_ok=True)
    for i in range(count):
        discs = [(12, 14, 7)] + [(30, 12 + 16 * k, 5) for k in range(i)]
        tifffile.imwrite(folder / f"img{i}.tif", disc_image((48, 80), discs))
    return sorted(folder.glob("*.tif"))


def run(jobs, out, **options):
    recipe = options.pop("recipe", Recipe())
    predictor = options.pop("predictor", None) or DiscPredictor()
    return finish(segment_files(predictor, jobs, recipe, manifest=out / MANIFEST, **options))


def lines(out):
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]


def test_every_image_gets_its_files_and_its_line(tmp_path):
    images, out = write_images(tmp_path / "in"), tmp_path / "out"
    reports = run(plan(images, out, ["tiff", "table"]), out)
    assert [r.status for r in reports] == ["done"] * 4
    assert [r.objects for r in reports] == [1, 2, 3, 4]
    for image, line, report in zip(images, lines(out), reports, strict=True):
        assert line["source"] == str(image)
        assert line["objects"] == report.objects
        assert line["seconds"] >= 0
        labels, table = (Path(p) for p in line["outputs"])
        assert labels == out / f"{image.stem}_labels.tif"
        assert len(np.unique(tifffile.imread(labels))) == report.objects + 1
        measured = pd.read_csv(table)
        assert len(measured) == report.objects
        assert {"predicted_iou", "area_px", "intensity_mean"} <= set(measured)


def test_a_broken_file_is_reported_and_the_next_one_follows(tmp_path):
    images, out = write_images(tmp_path / "in"), tmp_path / "out"
    images[1].write_bytes(b"no image")
    images[2].unlink()
    reports = run(plan(images, out), out)
    assert [r.status for r in reports] == ["done", "failed", "failed", "done"]
    assert "img1.tif cannot be read" in reports[1].error
    assert "There is no file" in reports[2].error
    assert sorted(p.name for p in out.iterdir()) == ["img0_labels.tif", "img3_labels.tif", MANIFEST]


def test_resuming_does_only_what_is_missing(tmp_path):
    images, out = write_images(tmp_path / "in"), tmp_path / "out"
    jobs = plan(images, out)
    images[1].write_bytes(b"no image")
    run(jobs, out)
    assert [r.status for r in run(jobs, out, resume=True)] == ["kept", "failed", "kept", "kept"]
    write_images(tmp_path / "in", 2)  # img0 is touched and img1 repaired
    os.utime(images[0], (1, 1))
    jobs[2].outputs[0].unlink()
    again = run(jobs, out, resume=True)
    assert [r.status for r in again] == ["done", "done", "done", "kept"]
    assert again[3].objects == 4
    other = run(jobs, out, resume=True, recipe=Recipe(diameter=20.0))
    assert [r.status for r in other] == ["done"] * 4, "other settings, other results"
    assert [r.status for r in run(jobs, out)] == ["done"] * 4, "without resume everything is done again"


def test_resuming_with_another_model_or_other_axes_does_it_again(tmp_path):
    images, out = write_images(tmp_path / "in", 2), tmp_path / "out"
    jobs = plan(images, out)
    run(jobs, out)
    other = DiscPredictor(name="discs", threshold=120)
    assert other.model_id != DiscPredictor().model_id
    assert [r.status for r in run(jobs, out, resume=True, predictor=other)] == ["done"] * 2
    assert [r.status for r in run(jobs, out, resume=True, predictor=other, axes="YX")] == ["done"] * 2
    assert [r.status for r in run(jobs, out, resume=True, predictor=other, axes="yx")] == ["kept"] * 2


def test_a_line_that_was_cut_off_is_no_line(tmp_path):
    images, out = write_images(tmp_path / "in", 2), tmp_path / "out"
    jobs = plan(images, out)
    run(jobs, out)
    text = (out / MANIFEST).read_text()
    (out / MANIFEST).write_text(text[: len(text) - 30])
    mark(
        images[1], jobs[1].outputs[0], [stamp_output(jobs[1].outputs[0])]
    )  # taken away only after the line is whole
    assert list(read_manifest(out / MANIFEST)) == [str(images[0])]
    assert [r.status for r in run(jobs, out, resume=True)] == ["kept", "done"]
    assert len(read_manifest(out / MANIFEST)) == 2, "the next line is readable although one was cut off"


def test_steps_say_which_image_is_done(tmp_path):
    images, out = write_images(tmp_path / "in", 2), tmp_path / "out"
    steps = []
    finish(segment_files(DiscPredictor(), plan(images, out), Recipe()), steps.append)
    done = [s for s in steps if isinstance(s, FileDone)]
    assert [(s.done, s.total, s.report.objects) for s in done] == [(1, 2, 1), (2, 2, 2)]
    assert not (out / MANIFEST).exists()


def slow_run(inputs: Path, out: Path) -> None:
    images = sorted(inputs.glob("*.tif"))
    run(plan(images, out, ["tiff", "imagej"]), out, resume=True, predictor=DiscPredictor(encode_seconds=0.05))


def test_after_kills_the_results_are_those_of_a_run_without(tmp_path):
    write_images(tmp_path / "in", 6)
    slow_run(tmp_path / "in", tmp_path / "whole")
    killed = kill_until_done(slow_run, (tmp_path / "in", tmp_path / "cut"), kills=12, longest=0.5)
    assert killed > 3
    for path in (tmp_path / "whole").glob("img*"):
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes(), path.name
    names = {p.name for p in (tmp_path / "cut").iterdir()}
    assert names == {p.name for p in (tmp_path / "whole").iterdir()}, "no half-written file stayed"
    assert {r.status for r in read_manifest(tmp_path / "cut" / MANIFEST).values()} == {"done"}


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["a/x.tif", "a/y.ome.tif"], ["x_labels.tif", "y_labels.tif"]),
        (["a/x.tif", "b/x.tif"], ["a_x_labels.tif", "b_x_labels.tif"]),
        (["x.tif", "x.png"], ["x_tif_labels.tif", "x_png_labels.tif"]),
        (["x.ome.zarr"], ["x_labels.tif"]),
        (["x.tif", "x.ome.tif"], ["x_tif_labels.tif", "x_ome_tif_labels.tif"]),
        (["x.zarr", "x.ome.zarr", "y.tif"], ["x_zarr_labels.tif", "x_ome_zarr_labels.tif", "y_labels.tif"]),
        (["x.tif", "x.png", "x_tif.png"], ["x_tif_labels.tif", "x_png_labels.tif", "x_tif_2_labels.tif"]),
        (["a/Cell.tif", "b/cell.tif"], ["a_Cell_labels.tif", "b_cell_labels.tif"]),
        (["Cell.tif", "cell.tif"], ["Cell_tif_labels.tif", "cell_tif_2_labels.tif"]),
        (["a/x.tif", "b/x.tif", "a_x.tif"], ["a_x_tif_labels.tif", "b_x_labels.tif", "a_x_tif_2_labels.tif"]),
    ],
)
def test_names_never_come_up_twice(sources, names, tmp_path):
    jobs = plan([tmp_path / s for s in sources], tmp_path / "out")
    assert [j.outputs for j in jobs] == [(tmp_path / "out" / n,) for n in names]


def test_one_image_may_be_written_to_a_file_of_any_name(tmp_path):
    assert plan([Path("x.tif")], tmp_path / "cells.zip") == [Job(Path("x.tif"), (tmp_path / "cells.zip",))]
    (job,) = plan([Path("x.tif")], tmp_path / "results", ["png", "coco"])
    assert [p.name for p in job.outputs] == ["x_labels.png", "x_labels.json"]
    with pytest.raises(ExportError, match="found 'word'"):
        plan([Path("x.tif")], tmp_path, ["word"])


def test_an_ome_zarr_that_is_there_is_the_file_and_not_a_folder_for_it(tmp_path):
    (image,) = write_images(tmp_path / "in", 1)
    zarr = tmp_path / "img.ome.zarr"
    for _ in range(2):
        jobs = plan([image], zarr, ["ome-zarr"])
        assert jobs == [Job(image, (zarr,))]
        (report,) = finish(segment_files(DiscPredictor(), jobs, Recipe()))
        assert (report.status, report.error) == ("done", "")
    assert sorted(p.name for p in zarr.iterdir()) == ["0", "zarr.json"]
    (tmp_path / "plain.zarr").mkdir()
    with pytest.raises(ExportError, match=r"is a folder and no OME-Zarr"):
        plan([image], tmp_path / "plain.zarr")


def test_labels_lie_where_their_image_lies(tmp_path):
    image, pixels = tmp_path / "moved.ome.zarr", disc_image((48, 80), [(12, 14, 7)])
    origin = {"Y": 100.0, "X": 200.0}
    export(np.zeros(pixels.shape, int), image, image=pixels, origin=origin, spacing=0.5, units="um")
    (report,) = run(plan([image], tmp_path / "out.ome.zarr", ["ome-zarr"]), tmp_path)
    assert (report.objects, report.error) == (1, "")
    with open_image(tmp_path / "out.ome.zarr") as labels:
        assert labels.origin == origin
        assert labels.axes.of("Y") == (0.5, "micrometer")


def test_formats_that_do_not_fit_the_files_ending_are_refused(tmp_path):
    with pytest.raises(ExportError, match=r"as tiff, as a.tif ends, found table"):
        plan([Path("x.tif")], tmp_path / "a.tif", ["table"])
    with pytest.raises(ExportError, match=r"found tiff, table\. Give"):
        plan([Path("x.tif")], tmp_path / "a.tif", ["tiff", "table"])
    assert plan([Path("x.tif")], tmp_path / "a.tif", ["tiff"])[0].outputs == (tmp_path / "a.tif",)
    (tmp_path / "b.tif").mkdir()
    assert plan([Path("x.tif")], tmp_path / "b.tif")[0].outputs == (tmp_path / "b.tif" / "x_labels.tif",)


def test_one_file_for_several_images_and_a_file_of_another_kind_are_refused(tmp_path):
    both = [Path("x.tif"), Path("y.tif")]
    run(plan(write_images(tmp_path / "in", 1), tmp_path / "labels.ome.zarr"), tmp_path)
    for name in ("labels.ome.zarr", "new.tif"):
        with pytest.raises(ExportError, match=f"There are 2 images, and {name} is one file. Name a folder"):
            plan(both, tmp_path / name)
    (tmp_path / "b.tif").mkdir()
    assert plan(both, tmp_path / "b.tif")[1].outputs == (tmp_path / "b.tif" / "y_labels.tif",)
    notes = tmp_path / "notes.doc"
    notes.write_text("mine")
    for sources in (both, both[:1]):
        with pytest.raises(ExportError, match=r"notes.doc is a file, and of no format .* Name a folder"):
            plan(sources, notes)
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("contrast", ["stack", "plane", "range"])
def test_a_plane_without_a_value_does_not_end_its_stack(tmp_path, contrast):
    """A scan that broke off leaves planes of NaN; what the others hold is wanted all the same."""
    stack = np.stack([disc_image((40, 50), [(20, 24, 8)], 200)] * 3).astype(np.float32)
    stack[1] = np.nan
    tifffile.imwrite(tmp_path / "scan.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    recipe = Recipe(contrast=contrast)
    (report,) = finish(
        segment_files(DiscPredictor(), plan([tmp_path / "scan.tif"], tmp_path / "out"), recipe)
    )
    assert (report.status, report.error) == ("done", "")
    labels = tifffile.imread(tmp_path / "out" / "scan_labels.tif")
    assert [int((plane > 0).sum() > 100) for plane in labels] == [1, 0, 1]
    # Alone, such a plane is a mistake that is told.
    tifffile.imwrite(tmp_path / "empty.tif", stack[1])
    (report,) = finish(
        segment_files(DiscPredictor(), plan([tmp_path / "empty.tif"], tmp_path / "out"), Recipe())
    )
    assert "no finite pixel value" in report.error


@pytest.mark.parametrize("resume", [False, True])
def test_a_name_that_gets_too_long_fails_alone(tmp_path, resume):
    images, out = write_images(tmp_path / "in", 3), tmp_path / "out"
    # The disk takes 255 characters: with "_labels" they are more.
    images[1] = images[1].rename(tmp_path / "in" / f"{'a' * 250}.tif")
    reports = run(plan(images, out), out, resume=resume)
    assert [r.status for r in reports] == ["done", "failed", "done"]
    assert "is too long a name for the disk. Choose a shorter one" in reports[1].error


def test_resuming_notices_a_change_in_any_file_of_an_image(tmp_path):
    planes = [disc_image((20, 30), [(9, 12, 5)]).astype(np.uint16)] * 2
    files, out = write_ome_parts(tmp_path / "in", planes, [[0, 1]]), tmp_path / "out"
    jobs = plan(files[:1], out)
    assert [r.status for r in run(jobs, out)] == ["done"]
    assert [r.status for r in run(jobs, out, resume=True)] == ["kept"]
    os.utime(files[1], (1, 4_000_000_000))
    assert [r.status for r in run(jobs, out, resume=True)] == ["done"]
    files[1].unlink()
    assert [r.status for r in run(jobs, out, resume=True)] == ["done"], "less than there was"
    assert [r.status for r in run(jobs, out, resume=True)] == ["kept"]


def label_names(jobs):
    return [job.outputs[0].name for job in jobs]


def test_only_names_that_come_up_twice_get_longer(tmp_path):
    sources = [tmp_path / name for name in ("a/x.tif", "b/x.tif", "b/y.tif")]
    expected = ["a_x_labels.tif", "b_x_labels.tif", "y_labels.tif"]
    assert label_names(plan(sources, tmp_path / "out")) == expected


def test_one_more_image_renames_none_that_was_segmented(tmp_path):
    out = tmp_path / "out"
    images = [write_images(tmp_path / name, 1)[0] for name in ("a", "b", "c")]
    run(plan(images[:1], out), out)
    jobs = plan(images[:2], out)
    assert label_names(jobs) == ["img0_labels.tif", "b_img0_labels.tif"]
    assert [r.status for r in run(jobs, out, resume=True)] == ["kept", "done"]
    # Nor does one that is not among them this time, nor another format.
    jobs = plan(images[1:], out, ["tiff", "ome-zarr"])
    assert [j.outputs[1].name for j in jobs] == ["b_img0_labels.ome.zarr", "img0_labels.ome.zarr"]
    # A name that another image has taken since is that one's.
    run(plan(images[2:], out), out, overwrite=True)
    assert label_names(plan(images, out)) == ["a_img0_labels.tif", "b_img0_labels.tif", "img0_labels.tif"]
