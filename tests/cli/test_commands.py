"""All commands as a person at a terminal meets them: help, mistakes, errors; and those of few words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.terminal import invoke, run_main

import napari_sam.predictor
from napari_sam import cli
from napari_sam.export import FORMATS
from napari_sam.predictor import load_model

COMMANDS = ["demo", "models", "segment", "embed", "export", "train", "evaluate"]


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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version():
    assert invoke("--version").output == f"napari-sam-cells {napari_sam.__version__}\n"


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
    for off in ("0", ""):
        monkeypatch.setenv("NAPARI_SAM_DEBUG", off)
        assert "Traceback" not in run_main(monkeypatch, capsys, *words)[1].err
    monkeypatch.delenv("NAPARI_SAM_DEBUG")
    assert "Traceback" not in run_main(monkeypatch, capsys, *words)[1].err


def test_every_format_is_named_where_one_is_chosen():
    names = ",".join(known.name for known in FORMATS)
    assert f"{names};repeatit." in "".join(invoke("segment", "--help").output.split())
    page = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"
    assert f"{names.replace(',', ', ')}; repeat it." in page.read_text(encoding="utf-8")


def test_a_movie_with_a_z_of_one_plane_is_tracked(tmp_path):
    labels = np.zeros((3, 1, 20, 30), np.uint16)
    for t in range(3):
        labels[t, 0, 4:10, 4 + t : 10 + t] = t + 1
    np.save(tmp_path / "z.npy", labels)
    done = invoke("track", tmp_path / "z.npy", "--axes", "TZYX", "-o", tmp_path / "z.csv")
    assert done.exit_code == 0, done.output
    assert "1 tracks, 0 divisions" in done.output
