"""Prompts and what is offered for them, on drawn discs."""

from __future__ import annotations

import sys
from functools import partial
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
from tests.fakes import disc_mask
from tests.session.books import DISCS, LabelBook, Planes, PromptBook, picture

from napari_sam.candidates import Candidates
from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.prompts import Point, Prompts
from napari_sam.session import LevelMemory, Offer


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


def test_the_level_is_asked_for_while_others_are_picked():
    """As the worker does, while objects are committed in the window."""
    candidates = Candidates(tuple(SimpleNamespace(level=level) for level in (1, 2, 3)), preferred=0)
    offers = [Offer(Prompts(), candidates, 0, "m", picked_level=level) for level in (1, 2, 3)]
    memory, over, interval = LevelMemory(), Event(), sys.getswitchinterval()

    def commit():
        while not over.is_set():
            for offer in offers:
                memory.remember(offer)

    window = Thread(target=commit)
    sys.setswitchinterval(1e-6)
    window.start()
    try:
        chosen = {memory.preselect(candidates) for _ in range(5000)}
    finally:
        over.set()
        window.join()
        sys.setswitchinterval(interval)
    assert chosen <= {0, 1, 2}


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


def test_a_click_while_masks_wait_for_another_contrast_makes_all_of_them_anew(session, runner, ready):
    """The embedding has come, the masks have not: those on show are of the old picture."""
    larger = picture([(20, 24, 12), *DISCS[1:]])
    first, other = Prompts((Point(20, 24),)), Prompts((Point(60, 40),))
    session.set_prompts([first, other])
    runner.drain()
    before = session.offers[0].choice.area
    session.look_at(("image", 0), lambda: larger)
    runner.step()
    assert session.rgb is larger
    session.set_prompts([first, other.with_point(62, 42)])
    runner.drain()
    assert session.offers[0].choice.area > before
    assert mask_iou(session.offers[0].choice.mask, disc_mask(20, 24, 12)) > 0.99


def test_choices_hold_in_another_contrast(session, runner, prompts):
    prompts.click(20, 24)
    runner.drain()
    session.choose(0)
    session.look_at(("image", 0), lambda: picture([(20, 24, 12), *DISCS[1:]]))
    runner.drain()
    assert session.offers[0].chosen == 0


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
