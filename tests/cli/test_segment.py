"""`napari-sam segment` as a person at a terminal meets it: what it prints, exit codes, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
from tests.fakes import DiscPredictor, disc_image
from tests.terminal import invoke, run_main

import napari_sam.predictor


def test_segmenting_a_folder(discs, images, tmp_path):
    out = tmp_path / "out"
    result = invoke(
        "segment", images, "-o", out, "-f", "tiff", "-f", "table", "-f", "geojson", "--device", "cpu"
    )
    assert result.exit_code == 0, result.output
    assert discs == [("built-in", "cpu")]
    assert "img1.tif: 1 objects in" in result.output
    assert "img2.tif: 2 objects in" in result.output
    assert {p.name for p in out.iterdir()} == {
        "manifest.jsonl",
        *(f"img{i}_labels{s}" for i in (1, 2) for s in (".tif", ".csv", ".geojson")),
    }
    assert tifffile.imread(out / "img2_labels.tif").max() == 2
    again = invoke("segment", images, "-o", out, "-f", "tiff", "-f", "table", "-f", "geojson", "--resume")
    assert again.output.count("done before") == 2


def test_one_broken_image_makes_the_exit_code_1_and_costs_nothing_else(discs, images, tmp_path):
    (images / "bad.tif").write_text("no image")
    result = invoke("segment", images / "*.tif", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"bad.tif: failed. {Path('images', 'bad.tif')} cannot be read" in result.stderr
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["failed", "done", "done"]


def test_labels_beside_their_images_are_not_taken_for_images(discs, images):
    for _ in range(2):
        assert invoke("segment", images, "-o", images).exit_code == 0
    assert {p.name for p in images.glob("*.tif")} == {
        "img1.tif",
        "img2.tif",
        "img1_labels.tif",
        "img2_labels.tif",
    }


def test_labels_that_lie_among_the_images_are_left_out_of_every_run(discs, images, tmp_path):
    assert invoke("segment", images, "-o", images).exit_code == 0
    again = invoke("segment", images, "-o", tmp_path / "other")
    assert "2 label image(s) left out: img1_labels.tif, img2_labels.tif" in again.stderr
    assert len(list((tmp_path / "other").glob("*.tif"))) == 2
    embedded = invoke("embed", images, "-o", tmp_path / "store")
    assert "2 label image(s) left out" in embedded.stderr
    assert "nothing but labels" in invoke("embed", tmp_path / "other", "-o", tmp_path / "store").stderr
    assert invoke("embed", images / "img1_labels.tif", "-o", tmp_path / "store").exit_code == 0


def test_resuming_one_file_is_said_to_begin_anew(discs, images, tmp_path):
    words = ("segment", images / "img1.tif", "-o", tmp_path / "one.tif")
    assert invoke(*words).exit_code == 0
    assert "one file is always made anew" in invoke(*words, "--resume").stderr


def test_the_image_itself_is_never_written_over(discs, images):
    before = (images / "img1.tif").read_bytes()
    for words in (("-o", images / "img1.tif"), ("-o", images / "img1.tif", "--overwrite")):
        result = invoke("segment", images / "img1.tif", *words)
        assert result.exit_code == 2
        assert "which is one of the images" in " ".join(result.stderr.replace("│", "").split())
    assert (images / "img1.tif").read_bytes() == before


def test_labels_of_somebody_else_are_replaced_only_when_asked(discs, images, tmp_path):
    mine = tmp_path / "out" / "img2_labels.tif"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    result = invoke("segment", images, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "img1.tif: 1 objects" in result.output
    assert "was not written by this run or one before it" in result.stderr
    assert mine.read_bytes() == b"mine"
    assert invoke("segment", images, "-o", tmp_path / "out", "--overwrite").exit_code == 0
    assert tifffile.imread(mine).max() == 2


def test_of_several_images_in_a_file_the_first_is_segmented_and_that_is_said(discs, tmp_path):
    with tifffile.TiffWriter(tmp_path / "stage.ome.tif") as file:
        for _ in range(3):
            file.write(disc_image((48, 60), [(12, 14, 7)]), metadata={"axes": "YX"})
    result = invoke("segment", tmp_path / "stage.ome.tif", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "stage.ome.tif: It holds 3 images, of which the first is read" in result.stderr
    (line,) = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert "holds 3 images" in json.loads(line)["note"]


def test_one_image_into_one_file(discs, images, tmp_path):
    result = invoke("segment", images / "img2.tif", "-o", tmp_path / "cells.zip")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "cells.zip").exists()
    assert not list(tmp_path.rglob("manifest.jsonl"))


def test_a_stack_is_linked_and_calibrated(discs, tmp_path):
    volume = np.stack([disc_image((48, 60), [(12 + i, 14, 7)]) for i in range(3)])
    tifffile.imwrite(
        tmp_path / "stack.tif",
        volume,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 3.0},
    )
    result = invoke("segment", tmp_path / "stack.tif", "-o", tmp_path / "out.tif")
    assert result.exit_code == 0, result.output
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.imagej_metadata["spacing"] == 3.0
        assert file.imagej_metadata["unit"] == "micron"
        labels = file.asarray()
    assert labels.shape == volume.shape
    assert np.unique(labels).tolist() == [0, 1]


def test_options_win_over_the_settings_file(discs, images, tmp_path):
    (tmp_path / "settings.yaml").write_text("automatic: {min_area: 290}\ncontrast: [[0, 255]]\n")
    words = ("segment", images / "img2.tif", "-s", tmp_path / "settings.yaml", "-o")
    assert "1 objects" in invoke(*words, tmp_path / "a.tif").output
    assert "2 objects" in invoke(*words, tmp_path / "a.tif", "--min-area", 10).output
    assert "0 objects" in invoke(*words, tmp_path / "a.tif", "--min-area", 500).output


def test_stopping_keeps_what_is_finished(monkeypatch, capsys, images, tmp_path):
    class Stopped(DiscPredictor):
        def _encode(self, image, diameter):
            if self.encoded == 1:
                raise KeyboardInterrupt
            return super()._encode(image, diameter)

    monkeypatch.setattr(napari_sam.predictor, "load_model", lambda name, *, device: Stopped())
    code, printed = run_main(monkeypatch, capsys, "segment", images, "-o", tmp_path / "out")
    assert code == 130
    assert "What was finished is kept" in printed.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"img1_labels.tif", "manifest.jsonl"}
