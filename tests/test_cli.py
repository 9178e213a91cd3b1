"""The command line as a person at a terminal meets it: what it prints, exit codes, files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from tests.fakes import DiscPredictor, disc_image
from typer.testing import CliRunner

import napari_sam.predictor
from napari_sam import cli
from napari_sam.axes import Axes
from napari_sam.export import export as write
from napari_sam.files import open_image
from napari_sam.predictor import load_model

COMMANDS = ["demo", "models", "segment", "embed", "export", "train", "evaluate"]


@pytest.fixture
def discs(monkeypatch):
    """Commands get the predictor that finds discs; a name other than the built-in's is looked up."""
    asked = []

    def load(name, *, device="auto"):
        asked.append((name, device))
        return DiscPredictor() if name == "built-in" else load_model(name, device=device)

    monkeypatch.setattr(napari_sam.predictor, "load_model", load)
    return asked


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(1, 3):
        tifffile.imwrite(folder / f"img{i}.tif", disc_image((48, 60), [(12, 14, 7), (30, 40, 6)][:i]))
    return folder


def invoke(*words):
    return CliRunner().invoke(cli.app, [str(w) for w in words])


def run_main(monkeypatch, capsys, *words):
    """Run as the installed script does; return the exit code and what was printed."""
    monkeypatch.setattr(sys, "argv", ["napari-sam", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr()


def test_help_names_every_command_and_is_quick():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from napari_sam.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for command in COMMANDS:
        assert f"  {command} " in done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "napari", "zarr", "tifffile", "scipy"}
    # What takes time is what is imported; the machine may be busy, so that seconds would tell nothing.
    ours = {name for name in loaded if name.startswith("napari_sam")}
    assert len(ours) < 20, sorted(ours)


def test_a_name_that_the_terminal_cannot_show_ends_nothing(tmp_path):
    np.save(tmp_path / "labels.npy", np.eye(9, dtype=np.uint8))
    out = [tmp_path / "α-SMA.tif", tmp_path / "b.tif"]
    words = ["export", tmp_path / "labels.npy", "-o", out[0], "-o", out[1]]
    done = subprocess.run(
        [sys.executable, "-c", "from napari_sam.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )
    assert "\\u03b1-SMA.tif" in done.stdout
    assert all(path.exists() for path in out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version():
    assert invoke("--version").output == f"napari-sam-cells {napari_sam.__version__}\n"


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
    assert "bad.tif: failed. bad.tif cannot be read" in result.stderr
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


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["segment"], "Missing"),
        (["segment", "none.tif", "-o", "out"], "There is no file or folder 'none.tif'"),
        (["segment", "IMAGE", "-o", "out", "-f", "word"], "tiff, ome-tiff, png"),
        (["segment", "IMAGE", "-o", "out", "--model", "vit_x"], "'vit_x', which is neither"),
        (["segment", "IMAGE", "-o", "out", "--device", "abacus"], "'abacus' cannot be used"),
        (["segment", "IMAGE", "-o", "out", "--device", "abacus"], "value for --device"),
        (["segment", "IMAGE", "-o", "out", "--channels", "red"], "three channels such as"),
        (["segment", "IMAGE", "-o", "out", "--channels=-,-,-"], "three channels such as"),
        (["segment", "IMAGE", "-o", "out.jpg"], "of no format that labels are written in"),
        (["track", "IMAGE", "-o", "tracks.json"], "ends in .csv or .geff, or that of a folder"),
        (["segment", "IMAGE", "-o", "out", "--settings", "none.yaml"], "cannot be read"),
        (["segment", "IMAGE", "-o", "out", "--min-area", "9", "--max-area", "2"], "no mask could be kept"),
        (["export", "IMAGE", "-o", "cells.doc"], "found 'cells.doc'"),
        (["export", "IMAGE", "-o", "a.tif", "--spacing", "wide"], "Expected numbers such as"),
        (["export", "IMAGE", "-o", "a.tif", "--spacing", "1,2,3"], "one pixel size above 0"),
        (["models", "--download", "vit_x"], "found 'vit_x'"),
        (["models", "--from", "mine.pth"], "--download NAME --from mine.pth"),
        (["fly"], "No such command"),
    ],
)
def test_mistakes_of_usage_are_said_in_words_with_exit_code_2(
    words, text, images, tmp_path, monkeypatch, discs
):
    monkeypatch.chdir(tmp_path)
    if "--device" in words:
        monkeypatch.setattr(napari_sam.predictor, "load_model", load_model)
    result = invoke(*[images / "img1.tif" if w == "IMAGE" else w for w in words])
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", "").split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_exporting_labels(tmp_path):
    labels = np.zeros((3, 20, 20), np.uint16)
    labels[1, 4:10, 4:10] = 3
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "scores.csv").write_text("label,predicted_iou\n3,0.75\n")
    np.save(tmp_path / "image.npy", labels * 2)
    result = invoke(
        "export",
        tmp_path / "labels.npy",
        *("-o", tmp_path / "a.tif", "-o", tmp_path / "a.csv", "-o", tmp_path / "a.json"),
        *("--spacing", "2,0.5,0.5", "--units", "um"),
        *("--features", tmp_path / "scores.csv", "--image", tmp_path / "image.npy"),
    )
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)
    header, row = (tmp_path / "a.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(cells["volume_um3"]) == 18
    assert float(cells["intensity_mean"]) == 6
    (annotation,) = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert annotation["score"] == 0.75
    # A TIFF that does not say its axes has those of its labels; an image of another size is refused.
    tifffile.imwrite(tmp_path / "image.tif", labels * 2, photometric="minisblack")
    command = (
        "export",
        tmp_path / "a.tif",
        "-o",
        tmp_path / "c.csv",
        "-o",
        tmp_path / "c.geojson",
        "--image",
    )
    assert invoke(*command, tmp_path / "image.tif").exit_code == 0
    assert "intensity_mean" in (tmp_path / "c.csv").read_text()
    tifffile.imwrite(tmp_path / "small.tif", labels[:, :9], photometric="minisblack")
    result = invoke(*command, tmp_path / "small.tif")
    assert result.exit_code != 0
    assert "(3, 9, 20)" in (result.output or str(result.exception))
    # The file's own calibration counts when none is given.
    assert invoke("export", tmp_path / "a.tif", "-o", tmp_path / "b.tif").exit_code == 0
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.imagej_metadata["spacing"] == 2
        assert file.imagej_metadata["unit"] == "micron"


def test_a_pixel_size_leaves_the_time_between_frames_alone(tmp_path):
    labels = np.zeros((4, 20, 30), np.uint16)
    about = {"axes": "TYX", "finterval": 5.0, "unit": "pixel"}
    tifffile.imwrite(tmp_path / "movie.tif", labels, imagej=True, metadata=about)
    command = ["export", tmp_path / "movie.tif", "-o", tmp_path / "new.tif"]
    assert invoke(*command, "--spacing", "0.5", "--units", "um").exit_code == 0
    with open_image(tmp_path / "new.tif") as image:
        assert image.axes == Axes("TYX", (5, 0.5, 0.5), ("second", "micrometer", "micrometer"))
    assert invoke(*command, "--spacing", "2,0.5,0.5").exit_code == 0
    with open_image(tmp_path / "new.tif") as image:
        assert image.axes.spacing == (2, 0.5, 0.5)


@pytest.mark.parametrize(
    ("units", "seconds"),
    [(("--units", "um"), 5), (("--units", "s, um,um"), 5), (("--units", "min,um,um"), 300)],
)
def test_the_time_between_frames_is_given_with_the_pixel_size(units, seconds, tmp_path):
    np.save(tmp_path / "movie.npy", np.zeros((4, 20, 30), np.uint16))
    command = ["export", tmp_path / "movie.npy", "--axes", "TYX", "-o", tmp_path / "new.tif"]
    assert invoke(*command, "--spacing", "5,0.5,0.25", *units).exit_code == 0
    with open_image(tmp_path / "new.tif") as image:
        assert image.axes.units == ("second", "micrometer", "micrometer")
        np.testing.assert_allclose(image.axes.spacing, (seconds, 0.5, 0.25))


def test_units_that_do_not_fit_the_axes_are_refused(tmp_path):
    np.save(tmp_path / "movie.npy", np.zeros((4, 20, 30), np.uint16))
    command = ["export", tmp_path / "movie.npy", "--axes", "TYX", "-o", tmp_path / "new.tif"]
    for units, words in (
        ("um,um", "Expected one unit for each of the axes T, Y, X, found ['um', 'um']"),
        ("um,um,um", "Expected a unit of time, such as s, for the axis T, found micrometer"),
        ("frame,um,um", "Expected a unit of time, such as s, for the axis T, found frame"),
        ("s", "Expected a unit of length, such as um, for the axis Y, found second"),
    ):
        result = invoke(*command, "--spacing", "5,0.5,0.5", "--units", units)
        assert result.exit_code == 2
        assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "new.tif").exists()


def test_of_the_zarr_of_an_image_its_labels_are_exported(tmp_path):
    pixels = disc_image((40, 60), [(12, 14, 7)])
    labels = (pixels > 100).astype(np.uint8) * 7
    image = write(labels, tmp_path / "cells.ome.zarr", image=pixels)
    result = invoke("export", image, "-o", tmp_path / "a.tif")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)
    assert f"the labels that lie in it are taken, {image / 'labels' / 'objects'}" in result.stderr
    shutil.copytree(image / "labels" / "objects", image / "labels" / "nuclei")
    refused = invoke("export", image, "-o", tmp_path / "b.tif")
    assert refused.exit_code == 2
    said = "".join(refused.stderr.replace("│", "").split())
    assert all(str(image / "labels" / name) in said for name in ("nuclei", "objects"))
    assert invoke("export", image / "labels" / "nuclei", "-o", tmp_path / "b.tif").exit_code == 0
    # Without labels in it, it may be a label image that does not say so.
    shutil.rmtree(image / "labels")
    assert invoke("export", image, "-o", tmp_path / "c.tif").exit_code == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "c.tif"), pixels)


def test_labels_are_not_exported_over_their_image(tmp_path):
    pixels = np.arange(400, dtype=np.uint16).reshape(20, 20)
    tifffile.imwrite(tmp_path / "cells.tif", pixels)
    tifffile.imwrite(tmp_path / "labels.tif", pixels % 2)
    image = tmp_path / "cells.tif"
    result = invoke("export", tmp_path / "labels.tif", "--image", image, "-o", image)
    assert result.exit_code == 2
    assert "which is one of the images" in " ".join(result.stderr.replace("│", " ").split())
    np.testing.assert_array_equal(tifffile.imread(image), pixels)


def test_embedding_ahead_of_time_goes_on_where_it_stopped(discs, images, tmp_path):
    first = invoke("embed", images / "img1.tif", "-o", tmp_path / "store")
    assert "1 planes embedded, 0 were there already" in first.output
    both = invoke("embed", images, "-o", tmp_path / "store")
    assert both.exit_code == 0
    assert "img1.tif: 0 planes embedded, 1 were there already" in both.output
    assert "img2.tif: 1 planes embedded" in both.output
    (images / "bad.tif").write_text("no image")
    broken = invoke("embed", images, "-o", tmp_path / "store")
    assert broken.exit_code == 1
    assert "bad.tif: failed." in broken.stderr


def test_large_planes_are_embedded_in_tiles(discs, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam.folder.work.HUGE", 1000**2)
    planes = np.random.default_rng(0).integers(0, 60, (2, 1000, 1600)).astype(np.uint8)
    planes[:, 300:330, 400:440] = 200
    tifffile.imwrite(tmp_path / "stack.tif", planes, metadata={"axes": "ZYX"})
    done = invoke("embed", tmp_path / "stack.tif", "-o", tmp_path / "store")
    assert "stack.tif: 12 tiles embedded, 0 were there already" in done.output
    again = invoke("embed", tmp_path / "stack.tif", "-o", tmp_path / "store")
    assert "stack.tif: 0 tiles embedded, 12 were there already" in again.output


def test_models_are_listed_with_licence_size_and_place(tmp_path):
    listed = invoke("models").output.splitlines()
    assert listed[0].split() == ["NAME", "LICENCE", "SIZE", "WHERE", "FOR"]
    rows = {line.split()[0]: line for line in listed[1:]}
    assert "in the package" in rows["built-in"]
    assert "Apache-2.0" in rows["vit_b"]
    assert "375 MB" in rows["vit_b"]
    assert "to download" in rows["vit_b"]
    assert "none stated" in invoke("models", "--all").output


def test_a_file_that_is_not_the_published_model_is_refused(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"weights")
    result = invoke("models", "--download", "vit_b", "--from", tmp_path / "mine.pth")
    assert result.exit_code == 2
    assert "Expected the published file" in result.stderr


def test_errors_are_one_sentence_without_a_traceback(monkeypatch, capsys, discs, images, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    words = ("embed", images, "-o", tmp_path / "taken")
    code, printed = run_main(monkeypatch, capsys, *words)
    assert code == 1
    assert printed.err.startswith("Error: ")
    assert "Traceback" not in printed.err
    assert "unexpected" not in printed.err


def test_what_nobody_foresaw_says_how_to_see_more(monkeypatch, capsys, images, tmp_path):
    def broken(name, *, device):
        raise KeyError("surprise")

    monkeypatch.setattr(napari_sam.predictor, "load_model", broken)
    words = ("segment", images, "-o", tmp_path / "out")
    code, printed = run_main(monkeypatch, capsys, *words)
    assert code == 1
    assert (
        printed.err
        == "Error: unexpected KeyError: 'surprise' Set NAPARI_SAM_DEBUG=1 to see where it happened.\n"
    )
    monkeypatch.setenv("NAPARI_SAM_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["napari-sam", *map(str, words)])
    with pytest.raises(KeyError, match="surprise"):
        cli.main()


@pytest.mark.parametrize("command", ["segment", "embed", "evaluate"])
def test_where_an_error_happened_is_shown_when_asked(command, monkeypatch, capsys, discs, tmp_path):
    (tmp_path / "broken.tif").write_text("no image")
    words = {
        "segment": ["segment", tmp_path / "broken.tif", "-o", tmp_path / "out"],
        "embed": ["embed", tmp_path / "broken.tif", "-o", tmp_path / "store"],
        "evaluate": ["evaluate", tmp_path / "broken.tif", "--labels", tmp_path / "broken.tif"],
    }[command]
    code, printed = run_main(monkeypatch, capsys, *words)
    assert code == 1
    assert "broken.tif cannot be read" in printed.err
    assert "Traceback" not in printed.err
    monkeypatch.setenv("NAPARI_SAM_DEBUG", "1")
    code, printed = run_main(monkeypatch, capsys, *words)
    assert code == 1
    assert "Traceback" in printed.err
    assert "in open_image" in printed.err
    monkeypatch.delenv("NAPARI_SAM_DEBUG")
    assert "Traceback" not in run_main(monkeypatch, capsys, *words)[1].err


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
