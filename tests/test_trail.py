"""What was said and chosen on the planes of a stack, and the object that came of it; no window."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image, disc_mask

from napari_sam.progress import finish
from napari_sam.prompts import Point, Prompts
from napari_sam.propagate import propagate_object
from napari_sam.session.offers import Offer
from napari_sam.session.trail import ChoiceMemory, Trail, settled

CLICK = Prompts((Point(30, 30),))


def trail(radii=(0, 6, 8, 10, 8, 6, 0), anchors=None, faint=()):
    planes = []
    for number, radius in enumerate(radii):
        plane = disc_image((60, 90), [(30, 30, radius)] if radius else [], 150 if number in faint else 200)
        planes.append(np.repeat(plane[..., None], 3, -1))
    found = finish(propagate_object(DiscPredictor(), planes, anchors or {3: CLICK}))
    return Trail(found, len(planes), model="tiny")


def offer(prompts=CLICK, chosen=0):
    predictor = DiscPredictor()
    picture = np.repeat(disc_image((60, 90), [(30, 30, 9)])[..., None], 3, -1)
    return Offer(prompts, predictor.predict(predictor.embed(picture), prompts), chosen, "discs")


def same(mask):
    return mask


def test_confidence_by_plane_and_the_weakest_first():
    found = trail(faint=[4])
    assert [c is None for c in found.confidence] == [True, False, False, False, False, False, True]
    assert found.confidence[3] == 1
    order = [found.weak()]
    for _ in range(4):
        order.append(found.weak(order[-1]))
    assert order[0] == 4  # the faint one
    assert sorted(order[:4]) == [1, 2, 4, 5]  # not the one that was clicked
    assert order[4] == order[0]
    assert found.weak(after=3) == 4
    assert trail((0, 9, 0), {1: CLICK}).weak() == 1


def test_an_end_takes_away_what_lies_beyond_and_gives_it_back():
    found = trail((9,) * 9, {2: CLICK})
    ended = found.end_at(5)
    assert list(ended.planes) == [0, 1, 2, 3, 4]
    assert list(ended.end_at(1).planes) == [2, 3, 4]
    assert list(ended.end_at(5).planes) == list(range(9))
    # Between two clicks each side is taken away up to its own.
    both = trail((9,) * 9, {0: CLICK, 8: CLICK}).end_at(2)
    assert list(both.planes) == [0, 1, 5, 6, 7, 8]


def test_what_is_chosen_now_counts_more_than_what_was_followed():
    found = trail()
    better, new = disc_mask(30, 30, 3), disc_mask(30, 30, 2)
    masks = found.masks({4: better, 6: new})
    assert list(masks) == [1, 2, 3, 4, 5, 6]
    assert masks[4] is better
    record = found.record(masks, {3: CLICK})
    assert record["model"] == "tiny"
    assert record["planes"] == 6
    assert record["area"] == sum(mask.area for mask in masks.values())
    assert record["confidence"] == round(min(c for c in found.confidence if c is not None), 4)
    assert json.loads(record["prompt"]) == {"planes": {"3": {"points": [[30, 30, 1]]}}}


def test_who_comes_back_to_a_plane_finds_the_same_candidate_chosen():
    memory = ChoiceMemory()
    first = offer()
    assert memory.take("plane 3", first, same) is None
    picked = first.choose(2)
    assert memory.take("plane 3", picked, same) is None
    kept = memory.mask("plane 3", CLICK)
    assert kept is picked.choice.mask
    again = offer()  # predicted anew
    assert memory.take("plane 3", again, same) == 2
    assert memory.take("plane 3", again.choose(2), same) is None
    assert memory.mask("plane 3", CLICK) is kept  # the very same: nothing has changed
    assert memory.take("plane 3", again.choose(0), same) is None  # the person's wish
    assert memory.mask("plane 3", CLICK) is not kept
    assert memory.mask("plane 3", CLICK.with_point(30, 31)) is None
    assert memory.mask("plane 4", CLICK) is None
    moved = offer(CLICK.with_point(30, 31))
    assert memory.take("plane 3", moved, same) is None
    memory.clear()
    assert memory.mask("plane 3", moved.prompts) is None


@pytest.mark.parametrize("chosen", [CLICK, disc_mask(30, 30, 9), Prompts(mask=disc_mask(30, 30, 9))])
def test_anchors_that_say_the_same_are_the_same(chosen):
    copy = replace(chosen)
    assert settled({3: copy}, {3: chosen})[3] is chosen
    assert settled({4: copy}, {3: chosen})[4] is copy
    for other in (disc_mask(30, 30, 8), Prompts((Point(1, 1),))):
        assert settled({3: other}, {3: chosen})[3] is other
