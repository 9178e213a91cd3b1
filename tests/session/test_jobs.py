"""Work of the session that takes its time, fails, or is overtaken."""

from __future__ import annotations

import threading
import time

import numpy as np
from tests.fakes import DiscPredictor, disc_mask
from tests.session.books import DISCS, LabelBook, Planes, picture

from napari_sam.masks import mask_iou
from napari_sam.progress import SILENT, Progress, finish
from napari_sam.prompts import Point, Prompts
from napari_sam.session import Filters
from napari_sam.session.work import in_steps


def test_status_follows_model_and_plane(session, runner):
    said = []
    session.status_changed.connect(lambda: said.append(session.status.phase))
    planes = Planes()
    session.look_at(("image", 0), planes[0])
    session.use_model("discs")
    runner.drain()
    assert said[0] == "loading"
    assert said[-2:] == ["embedding", "ready"]
    assert str(session.status).startswith("discs on cpu · embedded in 0.")
    session.look_away()
    assert str(session.status) == "discs on cpu · open an image to begin"


def test_going_back_to_a_plane_costs_no_encoding(session, runner, predictor, ready):
    session.look_at(("image", 1), ready[1])
    runner.drain()
    assert not session.status.cached
    session.look_at(("image", 0), ready[0])
    runner.drain()
    assert predictor.encoded == 2
    assert session.status.cached
    assert "from memory" in str(session.status)


def test_another_contrast_embeds_again_and_keeps_prompts_and_choice(
    session, runner, predictor, prompts, ready
):
    prompts.click(20, 24)
    runner.drain()
    session.choose(2)
    session.look_at(("image", 0), lambda: picture(value=180))
    runner.drain()
    assert predictor.encoded == 2
    assert len(session.offers) == 1
    assert session.offers[0].chosen == 2


def test_overtaken_outcomes_are_ignored(session, runner, prompts):
    prompts.click(20, 24)
    first = runner.queue.pop()
    prompts.put([Prompts((Point(60, 40),))])
    runner.run(first)
    assert session.offers == ()
    runner.drain()
    assert mask_iou(session.offers[0].choice.mask, disc_mask(*DISCS[2])) > 0.99


def test_an_embedding_of_a_plane_that_was_left_is_ignored_but_kept(session, runner, ready, predictor):
    session.look_at(("image", 1), ready[1])
    late = runner.queue.pop()
    session.look_at(("image", 0), ready[0])
    runner.run(late)
    assert session.embedding is None
    runner.drain()
    session.look_at(("image", 1), ready[1])
    runner.drain()
    assert predictor.encoded == 2


def test_a_download_tells_how_far_it_is_and_can_be_cancelled(session, runner, predictor):
    steps, asked = [], []
    session.progressed.connect(lambda kind, step: steps.append((kind, step.done, step.total)))

    def download(name, *, device, progress, cancelled):
        progress(1, 2)
        progress(2, 2)
        asked.append(cancelled())
        return predictor

    session._load_model = download
    session.use_model("vit_b")
    runner.drain()
    assert steps == [("load", 1, 2), ("load", 2, 2)]
    assert asked == [False]
    assert session.predictor is predictor

    def endless(name, *, device, progress, cancelled):
        progress(1, 2)
        while not cancelled():
            time.sleep(0.001)
        asked.append(True)
        raise OSError("cancelled")

    session._load_model = endless
    session.use_model("vit_l")
    steps = runner.queue.pop().run()
    assert next(steps).message == "Downloading vit_l"
    steps.close()
    while len(asked) < 2:  # it stops when it asks next
        time.sleep(0.001)


def test_loading_that_reports_nothing_lets_others_have_their_turn():
    """A server may not answer for a minute: neither clicks nor Cancel wait for it."""
    answered, stopped = threading.Event(), threading.Event()

    def stalled(progress, cancelled):
        while not cancelled():
            answered.wait(0.01)
        stopped.set()

    steps = in_steps(stalled, "Downloading vit_b")
    assert [next(steps), next(steps)] == [SILENT, SILENT]
    steps.close()
    assert stopped.wait(5)

    def slow(progress, cancelled):
        progress(1, 2)
        answered.wait(0.3)
        return "loaded"

    told = []
    assert finish(in_steps(slow, "Downloading vit_b"), told.append) == "loaded"
    assert set(told) == {Progress(1, 2, "Downloading vit_b")}
    assert len(told) > 1


def test_a_model_that_is_given_up_leaves_all_as_it_was(session, runner, predictor):
    planes = Planes()
    session.look_at(("image", 0), planes[0])
    session.use_model("vit_l")
    session.cancel("load")
    assert "no model was loaded" in str(session.status)
    assert session.asked_model is None
    runner.queue.clear()
    session.use_model("discs", "cpu")
    runner.drain()
    session.use_model("vit_l", "cuda")
    assert "loading" in str(session.status)
    session.cancel("load")
    assert session.status.phase == "ready"
    assert session.asked_model == ("discs", "cpu")
    runner.drain()
    assert session.predictor is predictor
    session.look_at(("image", 1), planes[1])
    session.use_model("vit_l")
    session.cancel("load")
    assert session.status.phase == "embedding"
    session.look_away()
    session.use_model("vit_l")
    session.cancel("load")
    assert session.status.phase == "no image"


def test_objects_tell_the_model_that_made_them_not_the_one_that_came_after(session, runner, prompts):
    book = LabelBook()
    session.segment_everything()
    prompts.click(20, 24)
    runner.drain()
    session._load_model = lambda name, **_: DiscPredictor(name="others")
    session.use_model("others")
    runner.step()
    assert session.predictor.name == "others"
    session.commit(book.write)
    session.filter_automatic(Filters(0.5, 0.5))
    runner.drain()
    session.accept_automatic(book.write)
    assert [one.record["model"] for one in book.written] == ["discs"] * (1 + len(DISCS))
    prompts.put([Prompts((Point(60, 40),))])
    runner.drain()
    session.commit(book.write)
    assert book.written[-1].record["model"] == "others"


def test_a_hover_that_fails_says_nothing(session, runner, ready):
    session.hover(-500, 24)
    runner.drain()
    assert session.errors == []
    assert not session.running


def test_failures_are_told_in_words(session, runner, prompts):
    prompts.put([Prompts((Point(500, 500),))])
    runner.drain()
    assert "outside the image" in session.errors[0]
    session.look_at(("image", 2), lambda: np.zeros((3, 3)))
    runner.drain()
    assert "Expected an 8-bit RGB plane" in session.errors[1]
    assert "Expected an 8-bit RGB plane" in str(session.status)


def test_every_object_of_the_plane(session, runner, ready):
    steps = []
    session.progressed.connect(lambda kind, step: steps.append((kind, step)))
    session.segment_everything()
    assert "everything" in session.running
    runner.drain()
    assert not session.running
    assert {kind for kind, _ in steps} == {"everything"}
    session.filter_automatic(Filters(0.5, 0.5))
    runner.drain()
    assert len(session.sifted.objects) == len(DISCS)
    assert session.sifted.labels.max() == len(DISCS)
    best = [max(mask_iou(o.mask, disc_mask(*d)) for o in session.sifted.objects) for d in DISCS]
    assert min(best) > 0.8
    first = session.sifted.objects[0]
    assert np.array_equal(first.mask.to_plane((90, 100)), session.sifted.labels == 1)
    assert first.record["area"] == first.mask.area
    assert first.record["model"] == "discs"

    # Filters say what they removed, and nothing is computed for it.
    decoded = session.predictor.decoded
    session.filter_automatic(Filters(0.5, 0.5, min_area=500))
    runner.drain()
    assert len(session.sifted.objects) < len(DISCS)
    assert sum(session.sifted.removed.values()) > 0
    assert session.predictor.decoded == decoded


def test_everything_without_an_image_says_what_is_missing(session, runner):
    session.segment_everything()
    assert "choose an image" in session.errors[0]


def test_cancelled_work_has_no_effect(session, runner, ready):
    over = []
    session.finished.connect(lambda kind, outcome: over.append((kind, outcome)))
    session.segment_everything()
    session.cancel("everything")
    assert runner.cancelled == ["everything"]
    assert over == [("everything", None)]
    runner.drain()
    assert session.automatic is None


def test_closing_gives_up_everything(session, runner, prompts):
    prompts.click(20, 24)
    session.segment_everything()
    session.close()
    assert {"predict", "everything"} <= set(runner.cancelled)
    runner.drain()
    assert session.offers == ()
    assert session.automatic is None


def test_the_diameter_matters_to_models_that_use_it(session, runner, predictor, ready, monkeypatch):
    session.set_diameter(12)
    assert not runner.queue
    monkeypatch.setattr(type(predictor), "uses_diameter", property(lambda self: True))
    session.set_diameter(14)
    runner.drain()
    assert session.embedding.pixels.endswith("@14")
