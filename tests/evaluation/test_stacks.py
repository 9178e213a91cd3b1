import json

import numpy as np
import pytest
import tifffile
from tests.fakes import DiscPredictor, disc_image
from typer.testing import CliRunner

from napari_sam.evaluation.stacks import evaluate_stack, read_stack, score_links, score_stack
from napari_sam.linking import LinkSettings
from napari_sam.progress import finish


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
    pictures, known = read_stack(tmp_path / "image.tif", tmp_path / "labels.tif")
    score = finish(evaluate_stack(DiscPredictor(), pictures, known))
    assert (score.volume.ap[-1], score.link_precision, score.link_recall) == (1, 1, 1)
    short = finish(evaluate_stack(DiscPredictor(), pictures, known, link=LinkSettings(min_length=6)))
    assert (short.volume.found, short.link_recall) == (0, 0)


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
    done = run(app, ["evaluate", str(tmp_path / "movie"), "--movie"])
    assert done.exit_code == 0, done.output
    assert "(2 true, 2 found)" in done.output
    assert run(app, [*asked[:2], "--labels", str(tmp_path / "none.tif")]).exit_code == 1
