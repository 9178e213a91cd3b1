"""The dock's behaviour without a dock: every decision of the session, on drawn discs."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image, disc_mask
from tests.runner import QueueRunner

from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.prompts import Point, Prompts
from napari_sam.session import AnnotationSession, Filters
from napari_sam.store import EmbeddingCache

DISCS = [(20, 24, 8), (20, 70, 10), (60, 40, 12)]


def picture(discs=DISCS, value=200):
    return np.repeat(disc_image((90, 100), discs, value)[..., None], 3, axis=2)


class Planes:
    """Planes that count how often they are read."""

    def __init__(self, *planes):
        self.planes = planes or (picture(), picture(DISCS[:2]))
        self.reads = 0

    def __getitem__(self, index):
        return partial(self.read, index)

    def read(self, index):
        self.reads += 1
        return self.planes[index]


class LabelBook:
    """Stands for a Labels layer: remembers what is written, and takes it out again."""

    def __init__(self):
        self.written = []

    def write(self, objects):
        self.written += objects

        def revert():
            for one in objects:
                self.written.remove(one)

        return revert


class PromptBook:
    """Stands for the prompt layers: holds prompts, tells the session of every change."""

    def __init__(self, session):
        self.session = session
        self.prompts = ()
        self.tell()

    def tell(self):
        self.session.set_prompts(self.prompts, partial(self.put, self.prompts))

    def put(self, prompts):
        self.prompts = tuple(prompts)
        self.tell()

    def click(self, y, x, positive=True):
        self.put((Prompts.merge([*self.prompts, Prompts((Point(y, x, positive),))]),))


@pytest.fixture
def predictor():
    return DiscPredictor()


@pytest.fixture
def session(predictor):
    session = AnnotationSession(EmbeddingCache(10_000_000), lambda name, **_: predictor)
    session.errors = []
    session.failed.connect(session.errors.append)
    return session


@pytest.fixture
def runner(session):
    return QueueRunner(session)


@pytest.fixture
def ready(session, runner):
    """Give a session that has a model and looks at the first plane."""
    planes = Planes()
    session.use_model("discs")
    session.look_at(("image", 0), planes[0])
    runner.drain()
    return planes


@pytest.fixture
def prompts(session, ready):
    return PromptBook(session)


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


def test_a_click_gives_three_candidates_with_the_best_preselected(session, runner, prompts):
    prompts.click(20, 24)
    assert session.offers == ()
    runner.drain()
    (offer,) = session.offers
    assert [c.level for c in offer.candidates] == [1, 2, 3]
    assert offer.choice.level == 2
    assert mask_iou(offer.choice.mask, disc_mask(*DISCS[0])) > 0.99


def test_more_than_one_point_offers_the_single_mask_first(session, runner, prompts):
    prompts.click(20, 24)
    prompts.click(22, 26)
    runner.drain()
    assert session.offers[0].choice.level == 0


def test_a_click_before_the_embedding_is_there_is_not_lost(session, runner):
    session.look_at(("image", 0), Planes()[0])
    PromptBook(session).click(20, 24)
    session.use_model("discs")
    runner.drain()
    assert len(session.offers) == 1


def test_choosing(session, runner, prompts):
    prompts.click(20, 24)
    runner.drain()
    session.choose(0)
    assert session.offers[0].choice.level == 1
    session.choose_next()
    session.choose_next()
    assert session.offers[0].choice.level == 3
    session.choose_next()
    assert session.offers[0].choice.level == 1
    session.choose(7)
    assert session.offers[0].choice.level == 1


def test_the_chosen_logits_feed_the_next_click(session, runner, prompts, predictor, monkeypatch):
    given = []
    real = predictor.predict_each

    def spy(embedding, prompts, previous):
        given.append(previous)
        return real(embedding, prompts, previous)

    monkeypatch.setattr(predictor, "predict_each", spy)
    prompts.click(20, 24)
    runner.drain()
    session.choose(2)
    chosen = session.offers[0].choice
    prompts.click(20, 70)
    runner.drain()
    assert given == [[None], [chosen]]
    # A deleted click must not come back with the logits that it made.
    prompts.put([Prompts((Point(20, 70),))])
    runner.drain()
    assert given[-1] == [None]


def test_the_level_that_is_chosen_is_preselected_for_the_next_object(session, runner, prompts):
    book = LabelBook()
    prompts.click(20, 24)
    runner.drain()
    session.choose(0)
    session.commit(book.write, partial(prompts.put, ()))
    prompts.click(20, 70)
    runner.drain()
    assert session.offers[0].choice.level == 1
    session.commit(book.write, partial(prompts.put, ()))
    # A level that was merely accepted does not count as a wish.
    assert list(session.levels._recent) == [1]


def test_commit_writes_the_choice_with_its_record_and_clears_the_prompts(session, runner, prompts):
    book = LabelBook()
    prompts.click(20, 24)
    prompts.click(22, 26)
    runner.drain()
    assert session.commit(book.write, partial(prompts.put, ())) == 1
    (written,) = book.written
    assert mask_iou(written.mask, disc_mask(*DISCS[0])) > 0.99
    assert written.record["predicted_iou"] == pytest.approx(0.92)
    assert 0 < written.record["stability"] <= 1
    assert written.record["area"] == written.mask.area
    assert written.record["model"] == "discs"
    assert written.record["prompt"] == '{"points":[[20,24,1],[22,26,1]]}'
    assert prompts.prompts == ()
    assert session.prompts == session.offers == ()


def test_commit_of_nothing_says_what_to_do(session, runner, ready):
    assert session.commit(LabelBook().write) == 0
    assert "Click inside an object" in session.errors[0]


def test_a_commit_that_fails_changes_nothing(session, runner, prompts):
    prompts.click(20, 24)
    runner.drain()

    def refuse(objects):
        raise ValueError("read-only")

    with pytest.raises(ValueError, match="read-only"):
        session.commit(refuse, partial(prompts.put, ()))
    assert len(session.offers) == len(prompts.prompts) == 1
    assert session.history.undoable == "prompt"


def test_undo_takes_back_commits_and_clicks_and_redo_makes_them_again(session, runner, prompts):
    book = LabelBook()
    prompts.click(20, 24)
    runner.drain()
    session.choose(2)
    first = session.offers
    prompts.click(22, 26)
    runner.drain()
    session.commit(book.write, partial(prompts.put, ()))
    assert session.history.undoable == "commit"

    session.undo()
    assert book.written == []
    assert len(prompts.prompts[0].points) == 2
    assert session.offers[0].choice.level == 0
    session.undo()
    assert len(prompts.prompts[0].points) == 1
    # The offers of that moment come back as they were, the choice too.
    assert session.offers == first
    session.undo()
    assert prompts.prompts == session.offers == ()
    session.undo()  # nothing left, nothing happens

    for _ in range(3):
        session.redo()
    assert len(book.written) == 1
    assert prompts.prompts == session.offers == ()
    assert not runner.queue


def test_a_new_click_after_undo_forgets_what_was_undone(session, runner, prompts):
    prompts.click(20, 24)
    session.undo()
    prompts.click(60, 40)
    assert session.history.redoable is None


def test_undo_of_a_commit_on_another_plane_leaves_the_present_one_alone(session, runner, prompts, ready):
    book = LabelBook()
    prompts.click(20, 24)
    runner.drain()
    session.commit(book.write, partial(prompts.put, ()))
    session.look_at(("image", 1), ready[1])
    runner.drain()
    assert session.history.undoable == "commit"
    session.undo()
    assert book.written == []
    assert session.prompts == ()


def test_clicks_cannot_be_undone_from_another_plane(session, runner, prompts, ready):
    prompts.click(20, 24)
    session.look_at(("image", 1), ready[1])
    assert session.history.undoable is None


def test_undo_of_what_is_gone_says_so(session, runner, prompts):
    def write(objects):
        def revert():
            raise RuntimeError("the layer 'cells' was removed")

        return revert

    prompts.click(20, 24)
    runner.drain()
    session.commit(write, partial(prompts.put, ()))
    session.undo()
    assert session.errors == ["This step cannot be taken back any more: the layer 'cells' was removed"]


def test_boxes_and_masks_are_prompts_too(session, runner, prompts):
    box = disc_mask(*DISCS[1]).box
    prompts.put([Prompts(box=box)])
    runner.drain()
    assert session.offers[0].choice.level == 0
    assert mask_iou(session.offers[0].choice.mask, disc_mask(*DISCS[1])) > 0.99
    drawn = Mask.from_plane(np.ones((9, 9)), 56, 36)
    prompts.put([Prompts(box=drawn.box, mask=drawn)])
    runner.drain()
    assert mask_iou(session.offers[0].choice.mask, disc_mask(*DISCS[2])) > 0.99
    # The same mask read anew from its layer is no change.
    again = Mask.from_plane(np.ones((9, 9)), 56, 36)
    prompts.put([Prompts(box=again.box, mask=again)])
    assert not runner.queue


def test_each_prompt_its_own_object(session, runner, prompts, predictor):
    prompts.put([Prompts((Point(20, 24),)), Prompts(box=Box(10, 60, 31, 81))])
    runner.drain()
    assert predictor.decoded == 2
    prompts.put([*prompts.prompts, Prompts((Point(60, 40),))])
    runner.drain()
    # Only the new object was computed.
    assert predictor.decoded == 3
    book = LabelBook()
    assert session.commit(book.write, partial(prompts.put, ())) == 3
    assert [mask_iou(w.mask, disc_mask(*d)) > 0.99 for w, d in zip(book.written, DISCS, strict=True)]
    assert session.history.undoable == "commit of 3 objects"
    session.undo()
    assert book.written == []
    assert len(session.offers) == 3


def test_only_negative_points_ask_for_nothing(session, runner, prompts):
    prompts.click(20, 24, positive=False)
    runner.drain()
    assert session.offers == ()


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


def test_hover_shows_what_a_click_would_give(session, runner, prompts):
    shown = []
    session.hover_changed.connect(lambda: shown.append(session.hovered))
    session.hover(20, 24)
    runner.drain()
    assert mask_iou(session.hovered, disc_mask(*DISCS[0])) > 0.99
    prompts.click(20, 24)
    assert session.hovered is None
    session.hover(60, 40)
    runner.drain()
    assert session.hovered is None
    assert len(shown) == 2


def test_a_mouse_that_keeps_moving_does_not_overtake_its_answers(session, runner, ready):
    for x in range(20, 71, 5):
        session.hover(20, x)
    assert len(runner.queue) == 1
    runner.drain()
    # The first place and the last were asked for, nothing in between.
    assert mask_iou(session.hovered, disc_mask(*DISCS[1])) > 0.99
    assert session.predictor.decoded == 2


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
    assert asked == [False, True]


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


def test_automatic_masks_are_written_as_one_decision(session, runner, ready):
    book = LabelBook()
    assert session.accept_automatic(book.write) == 0
    assert "Run Segment all" in session.errors.pop()
    session.segment_everything()
    runner.drain()
    session.filter_automatic(Filters(0.5, 0.5))
    runner.drain()
    assert session.accept_automatic(book.write) == len(DISCS)
    assert session.automatic is session.sifted is None
    assert session.history.undoable == f"{len(DISCS)} automatic objects"
    session.undo()
    assert book.written == []
    session.redo()
    assert len(book.written) == len(DISCS)


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
