"""The predictor for official models against the reference's predictor, same weights and prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.model.small import VIT, small_sam
from tests.model.test_parity import reference_sam
from tests.reference import segment_anything

from napari_sam.image import ImageError
from napari_sam.masks import Box, Mask
from napari_sam.predictor.official import STATES, SamPredictor
from napari_sam.prompts import Point, PromptError, Prompts

SHAPE = (90, 150)


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 255, (9, 15, 3))
    return np.kron(coarse, np.ones((10, 10, 1))).astype(np.uint8)


@pytest.fixture(scope="module")
def ours():
    return SamPredictor(small_sam(), "small", "small-weights", torch.device("cpu"))


@pytest.fixture(scope="module")
def theirs(ours, picture):
    model = reference_sam(VIT)
    model.load_state_dict(ours.model.state_dict())
    predictor = segment_anything().SamPredictor(model.eval())
    predictor.set_image(picture)
    return predictor


@pytest.fixture(scope="module")
def embedding(ours, picture):
    return ours.embed(picture)


PROMPTS = {
    "point": (Prompts((Point(40, 70),)), {"point_coords": [[70, 40]], "point_labels": [1]}),
    "points": (
        Prompts((Point(40, 70), Point(10, 20, positive=False))),
        {"point_coords": [[70, 40], [20, 10]], "point_labels": [1, 0]},
    ),
    "box": (Prompts(box=Box(10, 20, 61, 91)), {"box": [20, 10, 90, 60]}),
    "box and point": (
        Prompts((Point(40, 70),), Box(10, 20, 61, 91)),
        {"point_coords": [[70, 40]], "point_labels": [1], "box": [20, 10, 90, 60]},
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_same_masks_and_qualities_as_the_reference(name, ours, theirs, embedding):
    prompts, arguments = PROMPTS[name]
    arguments = {k: np.array(v) for k, v in arguments.items()}
    three, quality, low = theirs.predict(**arguments, multimask_output=True)
    one, one_quality, _ = theirs.predict(**arguments, multimask_output=False)
    batch = ours.decode(embedding, [prompts])
    np.testing.assert_allclose(batch.iou[0], [*one_quality, *quality], rtol=1e-4, atol=1e-5)
    logits = batch.logits(np.zeros(3, int), np.array([1, 2, 3]))
    np.testing.assert_allclose(logits, low, rtol=1e-3, atol=1e-4 * np.abs(low).max())
    for candidate in ours.predict(embedding, prompts):
        expected = one[0] if candidate.level == 0 else three[candidate.level - 1]
        assert np.mean(candidate.mask.to_plane(SHAPE) != expected) < 1e-3


@torch.inference_mode()
def test_states_of_the_last_few_embeddings_are_kept(ours, embedding, monkeypatch):
    prepare, prepared = ours.model.prepare, []
    monkeypatch.setattr(ours.model, "prepare", lambda *args: prepared.append(1) or prepare(*args))
    several = [replace(embedding, pixels=str(number)) for number in range(STATES + 2)]
    states = [ours.state(one) for one in several]
    assert len(prepared) == len(several)
    assert len(ours._states) == STATES
    assert len({state.image.positions.data_ptr() for state in states}) == 1
    assert ours.state(several[-1]) is states[-1]
    assert ours.state(several[2]) is states[2]
    ours.state(several[0])  # the least recently used is gone, not the one that was just asked for
    assert ours.state(several[2]) is states[2]
    assert len(prepared) == len(several) + 1


def test_the_chosen_logits_feed_the_next_click(ours, theirs, embedding):
    first = ours.predict(embedding, Prompts((Point(40, 70),)))
    _, _, low = theirs.predict(np.array([[70, 40]]), np.array([1]))
    clicks = {"point_coords": np.array([[70, 40], [30, 30]]), "point_labels": np.array([1, 0])}
    level = first[1].level
    _, quality, _ = theirs.predict(**clicks, mask_input=low[level - 1][None], multimask_output=False)
    prompts = Prompts((Point(40, 70), Point(30, 30, positive=False)))
    again = ours.predict(embedding, prompts, previous=first[1])
    assert again[0].level == 0
    assert again[0].predicted_iou == pytest.approx(quality[0], rel=1e-3, abs=1e-4)


def test_one_point_offers_three_masks_and_more_prompts_the_single_mask_first(ours, embedding):
    ambiguous = ours.predict(embedding, Prompts((Point(40, 70),)))
    assert [c.level for c in ambiguous] == [1, 2, 3]
    assert ambiguous.best.predicted_iou == max(c.predicted_iou for c in ambiguous)
    clear = ours.predict(embedding, Prompts(box=Box(10, 20, 60, 90)))
    assert len(clear) == 3
    assert clear.best.level == 0


def test_a_mixed_batch_equals_one_by_one(ours, embedding):
    mask = Mask.from_plane(np.ones((20, 30)), 30, 40)
    mixed = [p for p, _ in PROMPTS.values()] + [Prompts(box=mask.box, mask=mask), Prompts(mask=mask)]
    together = ours.predict_each(embedding, mixed)
    for prompts, found in zip(mixed, together, strict=True):
        alone = ours.predict(embedding, prompts)
        assert [c.level for c in found] == [c.level for c in alone]
        for a, b in zip(found, alone, strict=True):
            assert a.predicted_iou == pytest.approx(b.predicted_iou, rel=1e-4, abs=1e-5)
            np.testing.assert_allclose(a.logits, b.logits, rtol=1e-3, atol=1e-4 * np.abs(b.logits).max())


def test_prompts_that_cannot_be_used_are_refused_in_plain_words(ours, embedding):
    with pytest.raises(PromptError, match="no positive point"):
        ours.predict(embedding, Prompts((Point(1, 1, positive=False),)))
    with pytest.raises(PromptError, match="outside the image"):
        ours.predict(embedding, Prompts((Point(500, 1),)))
    with pytest.raises(PromptError, match="no prompt"):
        ours.predict_each(embedding, []) or ours.decode(embedding, [])


def test_pictures_that_are_not_8_bit_rgb_are_refused(ours):
    with pytest.raises(ImageError, match=r"8-bit RGB.*float64 \(4, 4\)"):
        ours.embed(np.zeros((4, 4)))


def test_an_embedding_of_another_model_is_refused(ours, embedding):
    other = SamPredictor(small_sam(seed=1), "other", "other-weights", torch.device("cpu"))
    with pytest.raises(ValueError, match=r"another|made by the model"):
        other.predict(embedding, Prompts((Point(40, 70),)))


def test_the_key_of_an_embedding_is_known_before_it_is_made(ours, picture, embedding):
    assert embedding.key == (ours.pixels_key(picture), "small-weights")
    assert ours.pixels_key(picture // 2) != embedding.pixels
