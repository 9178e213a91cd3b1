"""What is committed, taken back and done again, on drawn discs."""

from __future__ import annotations

from functools import partial

import pytest
from tests.fakes import DiscPredictor, disc_mask
from tests.session.books import DISCS, LabelBook, picture

from napari_sam.masks import mask_iou
from napari_sam.prompts import Point, Prompts
from napari_sam.session import Filters, NotNowError


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


@pytest.mark.parametrize("what", ["model", "contrast"])
def test_undo_sees_the_clicks_with_the_model_and_the_contrast_of_now(session, runner, prompts, what):
    """Masks of another model would feed the next click, and be written under that model's name."""
    prompts.click(20, 24)
    runner.drain()
    before = session.offers[0].choice.area
    prompts.click(22, 26)
    runner.drain()
    larger = picture([(20, 24, 12), *DISCS[1:]])
    if what == "model":
        session._load_model = lambda name, **_: DiscPredictor(name="other", stride=2)
        session.use_model("other")
    else:
        session.look_at(("image", 0), lambda: larger)
    runner.drain()
    session.undo()
    runner.drain()
    assert session.prompts == (Prompts((Point(20, 24),)),)
    assert {offer.model for offer in session.offers} == {session.predictor.name}
    assert {offer.source for offer in session.offers} == {session.embedding.key}
    assert (session.offers[0].choice.area > before) == (what == "contrast")
    prompts.click(21, 25)
    runner.drain()
    assert session.errors == []


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


def test_commits_that_were_undone_can_be_made_again_from_another_plane(session, runner, prompts, ready):
    book = LabelBook()
    for place in ((20, 24), (60, 40)):
        prompts.click(*place)
        runner.drain()
        session.commit(book.write, partial(prompts.put, ()))
    written = list(book.written)
    session.undo()
    session.undo()
    session.look_at(("image", 1), ready[1])
    runner.drain()
    assert session.history.redoable == "commit"
    session.redo()
    session.redo()
    assert [one.mask.box for one in book.written] == [one.mask.box for one in written]


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


@pytest.mark.parametrize("reason", [OSError, NotNowError])
def test_undo_of_what_cannot_be_reached_just_now_is_tried_again(session, runner, prompts, reason):
    away = [reason("the drive is away")]
    reverted = []

    def write(objects):
        def revert():
            if away:
                raise away.pop()
            reverted.append(objects)

        return revert

    prompts.click(20, 24)
    runner.drain()
    session.commit(write, partial(prompts.put, ()))
    session.undo()
    assert session.errors == ["This step could not be carried out: the drive is away"]
    assert session.history.undoable == "commit"
    session.undo()
    assert len(reverted) == 1
    assert session.history.redoable == "commit"


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


def test_what_is_accepted_is_what_the_filters_say_though_the_worker_is_not_so_far(session, runner, ready):
    book = LabelBook()
    session.segment_everything()
    runner.drain()
    session.filter_automatic(Filters(0.5, 0.5))
    runner.drain()
    session.filter_automatic(Filters(1.0, 0.5))
    assert len(session.sifted) == len(DISCS)
    assert session.accept_automatic(book.write) == 0
    assert "lower the filters" in session.errors.pop()
    assert session.sifted.removed["predicted IoU"] == len(DISCS), "that is what is shown then, too"
    assert "filter" not in session.running
    session.filter_automatic(Filters(0.5, 0.5, min_area=500))
    late = runner.queue[-1]
    assert session.accept_automatic(book.write) == len(book.written) == 2
    runner.run(late)
    assert session.automatic is session.sifted is None
    assert session.accept_automatic(book.write) == 0
