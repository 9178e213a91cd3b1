"""Evaluation from folder to JSON, with a predictor that needs no weights."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image
from scipy import ndimage
from tests.conftest import draw_cells
from tests.fakes import DiscPredictor, disc_image
from typer.testing import CliRunner

from napari_sam.evaluation.clicks import centre_click, correcting_click
from napari_sam.evaluation.command import evaluate_command
from napari_sam.evaluation.prompted import PROMPTS, objects_of, prompt_objects
from napari_sam.evaluation.report import TestPlane as Plane
from napari_sam.evaluation.report import drawn_planes, evaluate, read_planes, summary, table
from napari_sam.evaluation.sheet import worst_objects, write_sheet
from napari_sam.files import open_image
from napari_sam.folder import Pictures
from napari_sam.masks import Mask
from napari_sam.recipe import Recipe


@pytest.fixture
def predictor():
    return DiscPredictor()


@pytest.fixture
def planes():
    return [
        Plane(f"plane{k}", np.repeat(cells.image[..., None], 3, 2), cells.labels.astype(np.int32))
        for k, cells in enumerate(draw_cells(seed=seed) for seed in range(2))
    ]


def test_centre_click_is_deepest():
    pixels = np.zeros((9, 21), bool)
    pixels[3:6, :] = True
    pixels[:, :9] = True
    click = centre_click(Mask(10, 20, pixels))
    assert (click.y, click.x, click.positive) == (14, 24, True)


def test_correcting_click_finds_the_larger_error():
    truth = Mask(0, 0, np.ones((20, 20), bool))
    missed = Mask(0, 0, np.ones((20, 12), bool))
    click = correcting_click(truth, missed)
    assert click.positive
    assert 14 <= click.x <= 17
    more = correcting_click(missed, truth)
    assert not more.positive
    assert correcting_click(truth, truth) is None


def test_small_objects_are_left_out():
    labels = np.zeros((30, 30), np.int32)
    labels[:4, :4] = 1
    labels[10:15, 10:15] = 2
    assert [mask.area for mask in objects_of(labels)] == [25]


def test_prompting_finds_drawn_cells(predictor, planes):
    truth = objects_of(planes[0].labels)
    prompted = prompt_objects(predictor, predictor.embed(planes[0].image), truth)
    assert set(prompted.iou) == set(PROMPTS)
    for values in prompted.iou.values():
        assert values.shape == (len(truth),)
    assert prompted.iou["point1_oracle"].mean() > 0.8
    assert (prompted.iou["point1_oracle"] >= prompted.iou["point1_confident"]).all()
    assert prompted.iou["box"].mean() > 0.8


def test_summary_has_what_it_promises(predictor, planes):
    numbers = summary(list(evaluate(predictor, planes)))
    assert numbers["n_images"] == 2
    assert numbers["n_objects"] == sum(len(objects_of(p.labels)) for p in planes)
    assert set(numbers["miou"]) == set(PROMPTS)
    assert set(numbers["automatic"]) == {"ap50", "ap75", "map", "pq"}
    assert numbers["automatic"]["ap50"] > 0.8
    assert numbers["seconds_per_image"] > 0
    assert "| cells | 2 |" in table({"cells": numbers})


def test_prompted_only_leaves_automatic_out(predictor, planes):
    numbers = summary(list(evaluate(predictor, planes, automatic=False)))
    assert "automatic" not in numbers
    assert "–" in table({"cells": numbers})


def test_sheet_shows_the_worst(predictor, planes, tmp_path):
    results = list(evaluate(predictor, planes, automatic=False))
    worst = worst_objects(planes, results, 4)
    assert len(worst) == 4
    assert [f.iou for f in worst] == sorted(f.iou for f in worst)
    scores = np.concatenate([r.prompted.iou["point1_confident"] for r in results])
    assert worst[0].iou == scores.min()
    write_sheet(worst, tmp_path / "worst.png")
    with Image.open(tmp_path / "worst.png") as sheet:
        assert sheet.width > 600


def save_planes(planes, folder):
    """Write planes as a folder to measure on."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for plane in planes:
        Image.fromarray(plane.image).save(folder / "images" / f"{plane.name}.png")
        Image.fromarray(plane.labels.astype(np.uint16)).save(folder / "labels" / f"{plane.name}.png")


def test_groups_of_images_are_measured_by_themselves(monkeypatch, planes, tmp_path):
    monkeypatch.setattr("napari_sam.predictor.load_model", lambda *a, **k: DiscPredictor())
    several = [*planes, replace(planes[0], name="plane2")]
    save_planes(several, tmp_path)
    app = typer.Typer()
    app.command()(evaluate_command)
    out = tmp_path / "out.json"
    (tmp_path / "index.csv").write_text("name,stain\nplane0,red\nplane1,blue\nplane2,\n")
    result = CliRunner().invoke(app, [str(tmp_path), "--by", "stain", "--json", str(out)])
    assert result.exit_code == 0, result.output
    numbers = json.loads(out.read_text())
    red, blue = numbers["groups"]["red"], numbers["groups"]["blue"]
    assert list(numbers["groups"]) == ["blue", "red"]
    assert (numbers["n_images"], red["n_images"], blue["n_images"]) == (3, 1, 1)
    assert numbers["n_objects"] == 2 * red["n_objects"] + blue["n_objects"]
    weights = np.array([2 * red["n_objects"], blue["n_objects"]])
    boxes = np.array([red["miou"]["box"], blue["miou"]["box"]])
    assert numbers["miou"]["box"] == pytest.approx(weights @ boxes / weights.sum(), abs=2e-4)
    assert numbers["automatic"]["pq"] == pytest.approx(
        (2 * red["automatic"]["pq"] + blue["automatic"]["pq"]) / 3, abs=2e-4
    )
    assert f"| {tmp_path.name}: blue | 1 |" in result.output
    # What is missing is said before everything is measured.
    monkeypatch.setattr("napari_sam.predictor.load_model", lambda *a, **k: pytest.fail("measured"))
    refused = CliRunner().invoke(app, [str(tmp_path), "--by", "dye"])
    assert refused.exit_code == 1
    assert "found no ['dye']" in refused.output.replace("\n", "")


def test_command_writes_json(monkeypatch, planes, tmp_path):
    import napari_sam.predictor

    monkeypatch.setattr(napari_sam.predictor, "load_model", lambda *a, **k: DiscPredictor())
    save_planes(planes, tmp_path)
    app = typer.Typer()
    app.command()(evaluate_command)
    out = tmp_path / "out.json"
    result = CliRunner().invoke(app, [str(tmp_path), "--json", str(out), "--prompted-only", "--limit", "1"])
    assert result.exit_code == 0, result.output
    numbers = json.loads(out.read_text())
    assert numbers["n_images"] == 1
    assert "automatic" not in numbers
    assert CliRunner().invoke(app, [str(tmp_path / "nowhere")]).exit_code == 1
    # An older file stays as it is where nothing was measured.
    assert CliRunner().invoke(app, [str(tmp_path / "nowhere"), "--json", str(out)]).exit_code == 1
    assert json.loads(out.read_text()) == numbers
    # What cannot be written is refused before everything is measured.
    monkeypatch.setattr(napari_sam.predictor, "load_model", lambda *a, **k: pytest.fail("measured"))
    for option, file in (("--json", "nodir/x.json"), ("--worst", "nodir/w.png"), ("--worst", "w.foo")):
        refused = CliRunner().invoke(app, [str(tmp_path), option, str(tmp_path / file)])
        assert refused.exit_code == 2, file
        assert file.split("/")[0] in refused.output.replace("\n", "").replace("│", "")


def test_files_are_put_in_place_when_they_are_complete(monkeypatch, planes, tmp_path):
    monkeypatch.setattr("napari_sam.predictor.load_model", lambda *a, **k: DiscPredictor())
    save_planes(planes, tmp_path)
    app = typer.Typer()
    app.command()(evaluate_command)
    results = tmp_path / "results"
    results.mkdir()
    numbers, sheet, link = (results / name for name in ("out.json", "worst.png", "link.json"))
    older = b"\x89PNG\r\n\x1a\n older"
    for file in (numbers, sheet):
        file.write_bytes(older)
    asked = [str(tmp_path), "--prompted-only", "--limit", "1"]

    def full(source, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("napari_sam.export.atomic._move", full)
        for option, file in (("--json", numbers), ("--worst", sheet)):
            failed = CliRunner().invoke(app, [*asked, option, str(file)])
            assert failed.exit_code == 1
            assert f"{file} could not be written (No space left on device)" in failed.output
            assert file.read_bytes() == older
    link.symlink_to(tmp_path / "elsewhere.json")
    for place in (numbers, link):
        done = CliRunner().invoke(app, [*asked, "--json", str(place), "--worst", str(sheet)])
        assert done.exit_code == 0, done.output
        assert json.loads(place.read_text())["n_images"] == 1
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    assert link.is_symlink(), "what it points to is written to"
    assert sorted(file.name for file in results.iterdir()) == ["link.json", "out.json", "worst.png"]


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written_over_what_is_evaluated(monkeypatch, tmp_path):
    monkeypatch.setattr("napari_sam.predictor.load_model", lambda *a, **k: pytest.fail("measured"))
    app = typer.Typer()
    app.command()(evaluate_command)
    data = tmp_path / "data"
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
        for file in ("a.png", "b.png"):
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(data / name / file)
    (data / "images" / "b.png").rename(tmp_path / "far.png")
    (data / "images" / "b.png").symlink_to(tmp_path / "far.png")
    (tmp_path / "images").symlink_to(data / "images")
    (tmp_path / "link.png").symlink_to(data / "labels" / "a.png")
    (tmp_path / "link.json").symlink_to(data / "labels" / "a.png")
    (tmp_path / "notes.png").write_text("no picture")
    stack = [str(tmp_path / "stack.tif"), "--labels", str(tmp_path / "ids.json")]
    for file in ("stack.tif", "ids.json"):
        (tmp_path / file).write_text("")
    before = everything_in(tmp_path)
    for asked, option, file, words in (
        ([str(data)], "--json", "data/labels/a.png", "ends in .json"),
        ([str(data)], "--json", "out.txt", "ends in .json"),
        ([str(data)], "--json", "data/labels/new.json", "would lie among those"),
        ([str(data)], "--json", "link.json", "is a file that is evaluated"),
        ([str(data)], "--worst", "data/images/b.png", "is a file that is evaluated"),
        ([str(data)], "--worst", "data/images/worst.png", "would lie among those"),
        ([str(data)], "--worst", "images/worst.png", "would lie among those"),
        ([str(data)], "--worst", "far.png", "is a file that is evaluated"),
        ([str(data)], "--worst", "link.png", "is a file that is evaluated"),
        ([str(data)], "--worst", "notes.png", "is there already, and no PNG"),
        (stack, "--json", "ids.json", "is a file that is evaluated"),
        (stack, "--json", "stack.tif", "ends in .json"),
    ):
        refused = CliRunner().invoke(app, [*asked, option, str(tmp_path / file)])
        assert refused.exit_code == 2, (file, refused.output)
        assert words in " ".join(refused.output.replace("│", "").split()), file
    assert everything_in(tmp_path) == before


def test_numbers_go_to_the_terminal_where_they_are_sent(monkeypatch, planes, tmp_path, capfd):
    monkeypatch.setattr("napari_sam.predictor.load_model", lambda *a, **k: DiscPredictor())
    save_planes(planes, tmp_path)
    app = typer.Typer()
    app.command()(evaluate_command)
    if not Path("/dev/stdout").exists():
        pytest.skip("no /dev/stdout")
    asked = [str(tmp_path), "--prompted-only", "--limit", "1", "--json", "/dev/stdout"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert '"n_images": 1' in capfd.readouterr().out


def test_what_is_for_others_is_refused_before_everything_is_measured(monkeypatch, tmp_path):
    app = typer.Typer()
    app.command()(evaluate_command)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / name / "a.png")
    monkeypatch.setattr("napari_sam.predictor.load_model", lambda *a, **k: pytest.fail("measured"))
    refused = CliRunner().invoke(app, [str(tmp_path), "--min-planes", "2"])
    assert refused.exit_code == 2
    assert "This is for stacks" in refused.output
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = CliRunner().invoke(app, [str(tmp_path), "--worst", str(tmp_path / "worst.png")])
    assert refused.exit_code == 2
    assert "The sheet needs matplotlib: pip install" in refused.output


def test_planes_are_spread_over_the_folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        for k in range(9):
            Image.fromarray(np.full((8, 8), k, np.uint8)).save(tmp_path / name / f"{k}.png")
    assert [p.name for p in read_planes(tmp_path, 3)] == ["0", "4", "8"]


def test_labels_of_another_size_are_refused(tmp_path):
    for name, side in (("images", 16), ("labels", 8)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.ones((side, side), np.uint8)).save(tmp_path / name / "a.png")
    with pytest.raises(ValueError, match=r"found \(16, 16\) in .*a\.png and \(8, 8\) in"):
        list(read_planes(tmp_path))


def test_planes_are_measured_as_they_are_segmented(tmp_path, rng):
    """Dim channels of 8 bits are channels where the file says so; axes can be said where it says nothing."""
    bright = rng.integers(2, 250, (40, 50))
    channels = np.stack([bright // 30, bright, bright[::-1] // 25]).astype(np.uint8)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "labels" / "a.npy", np.ones(bright.shape, np.uint8))
    image = tmp_path / "images" / "a.tif"
    tifffile.imwrite(image, channels, imagej=True, metadata={"axes": "CYX"})
    (plane,) = read_planes(tmp_path)
    with open_image(image) as file:
        np.testing.assert_array_equal(plane.image, Pictures(file, Recipe())[0])
    assert (plane.image.max((0, 1)) > 250).all()
    image.unlink()
    np.save(image.with_suffix(".npy"), channels)
    np.testing.assert_array_equal(next(read_planes(tmp_path, axes="CYX")).image, plane.image)
    # Colours stay what they are.
    image.with_suffix(".npy").unlink()
    colours = np.moveaxis(channels, 0, -1)
    Image.fromarray(np.ascontiguousarray(colours)).save(image.with_suffix(".png"))
    np.testing.assert_array_equal(next(read_planes(tmp_path)).image, colours)


def test_drawn_planes_are_always_the_same():
    first, second = list(drawn_planes(3, 128)), list(drawn_planes(3, 128))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.labels, b.labels)
    assert len({plane.name for plane in first}) == 3


def test_what_is_too_small_is_left_out_and_counted(predictor):
    """Discs of 16 pixels that are found are no false positives; missed ones alone score nothing."""
    drawn = disc_image((64, 64), [(20, 20, 9), (50, 50, 2)])
    labels = ndimage.label(drawn > 100)[0]
    assert (np.bincount(labels.ravel())[1:] < 20).tolist() == [False, True]
    only_small = np.where(labels == 2, labels, 0)
    flat = np.full_like(drawn, drawn.min())
    planes = [
        Plane("both", np.repeat(drawn[..., None], 3, 2), labels),
        Plane("missed", np.repeat(flat[..., None], 3, 2), only_small),
        Plane("none", np.repeat(flat[..., None], 3, 2), labels * 0),
        Plane("false", np.repeat(np.where(labels == 1, drawn, flat)[..., None], 3, 2), only_small),
    ]
    results = list(evaluate(predictor, planes))
    both, missed, none, false = (result.automatic for result in results)
    assert (both.truth, both.found, both.ap[0]) == (1, 1, 1)
    assert missed is None
    assert (none.truth, none.ap[0]) == (0, 1)
    assert (false.truth, false.found, false.ap[0]) == (0, 1, 0)
    numbers = summary(results)
    assert (numbers["n_objects"], numbers["n_small"]) == (1, 3)
    assert numbers["automatic"]["ap50"] == pytest.approx(2 / 3, abs=1e-4)
    assert summary(results[1:2])["automatic"]["ap50"] is None
    assert "–" in table({"small": summary(results[1:2])})


def test_worst_objects_of_high_ids(predictor, planes):
    high = [replace(p, labels=np.where(p.labels, p.labels + np.uint32(2e9), 0)) for p in planes]
    worst = [worst_objects(p, list(evaluate(predictor, p, automatic=False)), 3) for p in (planes, high)]
    assert [f.iou for f in worst[0]] == [f.iou for f in worst[1]]
    np.testing.assert_array_equal(worst[0][0].picture, worst[1][0].picture)


def test_masks_and_pictures_of_nothing_are_refused_by_name(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    mask = (disc_image((48, 64), [(12, 12, 6), (36, 14, 6), (24, 44, 8)]) > 100) * np.uint8(255)
    for k in range(3):
        Image.fromarray(mask).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray(mask).save(tmp_path / "labels" / f"{k}.png")
    Image.fromarray(mask).save(tmp_path / "images" / "empty.png")
    Image.fromarray(mask * 0).save(tmp_path / "labels" / "empty.png")
    with pytest.raises(ValueError, match=r"in 3 separate places in .*0\.png.* this is a mask") as refused:
        list(read_planes(tmp_path))
    assert "2 other" in str(refused.value)
    # One cell in pieces among others is no mask.
    Image.fromarray(np.where(mask, ndimage.label(mask)[0], 0).astype(np.uint8)).save(
        tmp_path / "labels" / "1.png"
    )
    assert len(list(read_planes(tmp_path))) == 4
    (tmp_path / "images" / "1.png").unlink()
    np.save(tmp_path / "images" / "1.npy", np.full(mask.shape, np.nan))
    with pytest.raises(ValueError, match=r"1\.npy: The plane has no finite pixel value"):
        list(read_planes(tmp_path))
