import json

import numpy as np
import pytest
import tifffile
from tests.fakes import DiscPredictor, disc_image
from typer.testing import CliRunner

from napari_sam.evaluation.report import read_planes
from napari_sam.evaluation.stacks import evaluate_stack, read_stack, score_links, score_stack
from napari_sam.files import open_image
from napari_sam.folder import Pictures, settle_contrast
from napari_sam.linking import MOVIE, LinkSettings
from napari_sam.progress import finish
from napari_sam.recipe import Recipe


def planes(*rows):
    """Planes of one row of pixels, ten a digit."""
    return [np.repeat([[int(c) for c in row]], 10, axis=1) for row in rows]


def test_the_truth_scores_one_whatever_its_ids():
    truth = planes("1102", "1102", "0332")
    other = [np.array([0, 70, 5, 9])[plane] for plane in truth]
    score = score_stack(truth, other)
    assert (score.planes, score.volume.ap[0], score.volume.pq) == (1, 1, 1)
    assert (score.link_precision, score.link_recall) == (1, 1)
    assert (score.volume.truth, score.volume.found) == (3, 3)


def test_links_are_counted_one_by_one():
    truth = planes("1102", "1102", "1102")  # four links
    broken = planes("1102", "1102", "3302")  # one is missing
    swapped = planes("1102", "2201", "2201")  # two are wrong
    assert score_links(truth, broken) == (1, 0.75)
    assert score_links(truth, swapped) == (0.5, 0.5)
    assert score_stack(truth, swapped).planes == 1


def test_an_outline_that_is_no_object_has_no_right_link():
    truth = planes("1111", "1111")
    half = planes("1000", "1000")
    assert score_links(truth, half) == (0, 0)
    assert score_links(planes("0000", "0000"), planes("0000", "0000")) == (1, 1)


def drawn(count=5):
    stack = [disc_image((48, 64), [(20, 20 + z, 8), (30, 50, 7)]) for z in range(count)]
    truth = []
    for plane in stack:
        labels = np.zeros(plane.shape, np.uint16)
        labels[plane > 100] = 40
        labels[:, 36:][plane[:, 36:] > 100] = 7
        truth.append(labels)
    return np.stack(stack), np.stack(truth)


def test_a_stack_is_segmented_linked_and_scored(tmp_path):
    stack, truth = drawn()
    tifffile.imwrite(tmp_path / "image.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "labels.tif", truth, imagej=True, metadata={"axes": "ZYX"})
    pictures, known, *_ = read_stack(tmp_path / "image.tif", tmp_path / "labels.tif")
    score = finish(evaluate_stack(DiscPredictor(), pictures, known))
    assert (score.volume.ap[-1], score.link_precision, score.link_recall) == (1, 1, 1)
    short = finish(evaluate_stack(DiscPredictor(), pictures, known, link=LinkSettings(min_length=6)))
    assert (short.volume.found, short.link_recall) == (0, 0)
    # What linking leaves out was found in the planes nevertheless.
    assert short.planes == 1


@pytest.mark.parametrize("same_ids", [True, False])
def test_the_time_points_of_a_hyperstack_are_volumes_of_their_own(tmp_path, same_ids):
    """Objects that lie one above the other at the seam of two time points are not linked."""
    stack, truth = drawn()
    later = truth if same_ids else np.where(truth, truth + 100, 0).astype(np.uint16)
    for name, volumes in (("image", (stack, stack)), ("labels", (truth, later))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.stack(volumes), imagej=True, metadata={"axes": "TZYX"})
    pictures, known, depth, _ = read_stack(tmp_path / "image.tif", tmp_path / "labels.tif")
    assert (len(pictures), depth) == (10, 5)
    steps = list(evaluate_stack(DiscPredictor(), pictures, known, depth=depth))
    assert (steps[-1].done, steps[-1].total) == (10, 10)
    score = finish(evaluate_stack(DiscPredictor(), pictures, known, depth=depth))
    assert (score.volume.truth, score.volume.found) == (4, 4)
    assert (score.volume.ap[-1], score.link_precision, score.link_recall) == (1, 1, 1)


def test_colours_of_8_bits_are_left_as_they_are(tmp_path, rng):
    """As `napari-sam segment` leaves them, whatever their contrast."""
    dim = rng.integers(120, 140, (3, 16, 20, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", dim, photometric="rgb", metadata={"axes": "ZYXS"})
    tifffile.imwrite(tmp_path / "labels.tif", np.ones((3, 16, 20), np.uint8), photometric="minisblack")
    pictures = read_stack(tmp_path / "image.tif", tmp_path / "labels.tif").pictures
    np.testing.assert_array_equal(pictures, dim)


@pytest.mark.parametrize(("axes", "link"), [("ZCYX", LinkSettings()), ("TCYX", MOVIE)])
def test_a_stack_is_taken_as_it_is_segmented(tmp_path, rng, axes, link):
    """Dim channels of 8 bits are channels, and planes along time are linked as those of a movie."""
    bright = rng.integers(2, 250, (3, 40, 50))
    stack = np.stack([bright // 30, bright, bright // 25], 1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", stack, imagej=True, metadata={"axes": axes})
    tifffile.imwrite(tmp_path / "labels.tif", np.ones((3, 40, 50), np.uint8), photometric="minisblack")
    found = read_stack(tmp_path / "image.tif", tmp_path / "labels.tif")
    with open_image(tmp_path / "image.tif") as image:
        pictures = list(Pictures(image, settle_contrast(image, Recipe())))
    np.testing.assert_array_equal(found.pictures, pictures)
    assert (pictures[0].max((0, 1)) > 250).all()
    assert (found.depth, found.link) == (3, link)


def test_labels_of_another_shape_are_refused(tmp_path):
    stack, truth = drawn()
    tifffile.imwrite(tmp_path / "image.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "labels.tif", truth[:3], imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(ValueError, match="a stack and its labels of the same shape"):
        read_stack(tmp_path / "image.tif", tmp_path / "labels.tif")


def test_the_command_reports_stacks_and_movies(tmp_path, monkeypatch):
    from napari_sam.cli import app

    monkeypatch.setattr("napari_sam.predictor.load_model", lambda *_, **__: DiscPredictor())
    stack, truth = drawn()
    tifffile.imwrite(tmp_path / "image.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "labels.tif", truth, imagej=True, metadata={"axes": "ZYX"})
    run = CliRunner().invoke
    asked = ["evaluate", str(tmp_path / "image.tif"), "--labels", str(tmp_path / "labels.tif")]
    done = run(app, [*asked, "--json", str(tmp_path / "score.json")])
    assert done.exit_code == 0, done.output
    assert "links   precision 1.000  recall 1.000" in done.output
    for option in (["--worst", str(tmp_path / "w.png")], ["--prompted-only"], ["--limit", "1"]):
        refused = run(app, [*asked, *option])
        assert refused.exit_code == 2
        assert "for folders of planes" in refused.output
    assert json.loads((tmp_path / "score.json").read_text())["volume"]["truth"] == 2
    for name, planes_ in (("images", stack), ("labels", truth)):
        (tmp_path / "movie" / name).mkdir(parents=True)
        for t, plane in enumerate(planes_):
            tifffile.imwrite(tmp_path / "movie" / name / f"t{t}.tif", plane)
    refused = run(app, ["evaluate", str(tmp_path / "movie"), *asked[2:]])
    assert refused.exit_code == 2
    assert "is a folder, and --labels is for one stack" in " ".join(refused.output.replace("│", "").split())
    refused = run(app, ["evaluate", str(tmp_path / "movie" / "images" / "t0.tif")])
    assert refused.exit_code == 2
    assert "is a file, and its labels are not named" in " ".join(refused.output.replace("│", "").split())
    done = run(app, ["evaluate", str(tmp_path / "movie"), "--movie"])
    assert done.exit_code == 0, done.output
    assert "(2 true, 2 found)" in done.output
    assert run(app, [*asked[:2], "--labels", str(tmp_path / "none.tif")]).exit_code == 1
    # Three planes that were saved as red, green and blue.
    for name, planes_ in (("image", stack[:3]), ("labels", truth[:3])):
        tifffile.imwrite(tmp_path / f"{name}.tif", planes_, photometric="rgb", planarconfig="separate")
    assert run(app, asked).exit_code == 1
    done = run(app, [*asked, "--axes", "ZYX"])
    assert done.exit_code == 0, done.output
    assert "links   precision 1.000  recall 1.000" in done.output


def test_a_stack_with_a_mask_for_labels_is_refused(tmp_path):
    mask = np.zeros((2, 3, 24, 32), np.uint8)
    mask[..., 4:8, ::8] = 255
    for axes, labels in (("ZYX", mask[0]), ("TZYX", mask)):
        for name in ("image", "labels"):
            tifffile.imwrite(tmp_path / f"{name}.tif", labels, imagej=True, metadata={"axes": axes})
        with pytest.raises(ValueError, match=r"in 4 separate places in .*labels\.tif: this is a mask"):
            read_stack(tmp_path / "image.tif", tmp_path / "labels.tif")


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        for t in range(8, 12):
            tifffile.imwrite(tmp_path / name / f"t{t}.tif", np.full((8, 8), t, np.uint8))
    frames = [int(plane.labels[0, 0]) for plane in read_planes(tmp_path)]
    assert frames == [8, 9, 10, 11]
