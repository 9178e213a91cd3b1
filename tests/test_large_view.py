"""What is seen of a plane that is never read whole, and prompts anywhere on it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_mask
from tests.gui.large_images import drawn_pyramid

from napari_sam.image import Contrast, plane_to_rgb
from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.prompts import Point, PromptError, Prompts
from napari_sam.session import AnnotationSession, View
from napari_sam.store import EmbeddingCache
from napari_sam.tiling.large_plane import MOST, READ, LargePlane, Level
from napari_sam.tiling.seen import predict_seen, see

SHAPE = (40_000, 30_000)
GIANT = (20_000, 12_000, 900)


def large_plane(levels=6, shape=SHAPE, giants=(GIANT,)):
    pyramid = drawn_pyramid(shape, levels, giants)

    def reader(level):
        return lambda box: plane_to_rgb(level[box.slices], contrast=Contrast(0, 255))

    return LargePlane(
        tuple(
            Level(level.shape, tuple(f / d for f, d in zip(shape, level.shape, strict=True)), reader(level))
            for level in pyramid
        )
    ), pyramid


def ask(plane, view, *prompts, before=None, predictor=None, **options):
    before = before or [None] * len(prompts)
    return predict_seen(predictor or DiscPredictor(), plane, view, prompts, before, **options)


def look(plane, box, scale=1.0, predictor=None):
    return see(predictor or DiscPredictor(), plane, plane.in_view(Box(*box), scale))


@pytest.mark.parametrize("scale", [0.05, 1, 3, 7.7, 30, 400])
@pytest.mark.parametrize("corner", [(0, 0), (17_000, 11_111), (39_900, 29_900), (-500, -500)])
def test_the_view_is_seen_at_its_magnification(scale, corner):
    """What is encoded covers the view, about as finely as the screen shows it, in pictures of some size."""
    plane, _ = large_plane()
    view = Box(*corner, corner[0] + 750 * scale, corner[1] + 900 * scale)
    sight = plane.in_view(view, scale)
    on_plane = view.clip(SHAPE)
    assert on_plane.intersect(sight.area) == on_plane
    assert plane.serves(sight, view, scale)
    assert max(sight.box.height, sight.box.width) <= 1.5 * MOST + 128
    assert plane.read(sight).shape == (sight.box.height, sight.box.width, 3)
    if scale >= 1:
        assert 1 / 1.6 < np.mean(sight.factors) / scale < 2.5 or scale == 400


def test_a_plane_without_levels_is_seen_in_part_and_never_read_whole():
    plane, (level,) = large_plane(levels=1)
    sight = plane.in_view(Box(0, 0, *SHAPE), 40)
    picture = plane.read(sight)
    assert level.read <= (1.2 * READ) ** 2
    assert max(picture.shape) <= 1.5 * MOST
    assert Box(19_900, 14_900, 20_100, 15_100).intersect(sight.area).height == 200  # the middle


def test_small_moves_need_no_new_sight():
    plane, _ = large_plane()
    view = Box(10_000, 10_000, 10_800, 10_900)
    sight = plane.in_view(view, 1)
    assert plane.serves(sight, view.shift(100, -150), 1)
    assert not plane.serves(sight, view.shift(900, 0), 1)
    assert not plane.serves(plane.in_view(Box(8000, 8000, 12_000, 12_500), 5), view, 1)  # too coarse


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_clicks_in_view_give_masks_of_the_plane(scale):
    plane, _ = large_plane()
    view = look(plane, (5000, 7000, 5000 + 600 * scale, 7000 + 600 * scale), scale)
    (found,) = ask(plane, view, Prompts((Point(5250, 7350),)))
    assert mask_iou(found.best.mask, disc_mask(5250, 7350, 20)) > (0.97 if scale == 1 else 0.8)
    assert found.best.picture.shape == view.picture.shape


def test_prompts_outside_of_the_view_get_a_crop_of_their_own():
    plane, _ = large_plane()
    predictor, cache = DiscPredictor(), EmbeddingCache(10**9)
    view = look(plane, (0, 0, 600, 600), predictor=predictor)
    for y, x in ((30_050, 20_050), (39_950, 50), (50, 29_950)):
        (found,) = ask(plane, view, Prompts((Point(y, x),)), predictor=predictor, kept=(cache,))
        assert mask_iou(found.best.mask, disc_mask(y, x, 20)) > 0.97
        encoded = predictor.encoded
        again = Prompts((Point(y, x), Point(y + 12, x, positive=False)))
        (found,) = ask(plane, view, again, before=[found.best], predictor=predictor, kept=(cache,))
        assert predictor.encoded == encoded  # the object stays in its crop
        assert not found.best.mask.crop(Box(y + 12, x, y + 13, x + 1)).any()


def test_an_object_larger_than_the_view_is_seen_from_further_away():
    plane, pyramid = large_plane()
    y, x, radius = GIANT
    view = look(plane, (y - 300, x - 300, y + 300, x + 300))
    (found,) = ask(plane, view, Prompts((Point(y, x),)))
    assert mask_iou(found.best.mask, disc_mask(y, x, radius)) > 0.97
    assert sum(level.read * 4**k for k, level in enumerate(pyramid)) < 0.1 * SHAPE[0] * SHAPE[1]


def test_boxes_larger_than_any_picture():
    plane, _ = large_plane(giants=((20_000, 15_000, 4000),))
    view = look(plane, (0, 0, 600, 600))
    (found,) = ask(plane, view, Prompts(box=Box(15_990, 10_990, 24_010, 19_010)))
    box = found.best.mask.box
    assert np.allclose(box, (16_000, 11_000, 24_001, 19_001), atol=32)


def test_many_objects_of_one_view_at_once():
    plane, _ = large_plane()
    view = look(plane, (5000, 7000, 5600, 7600))
    prompts = [Prompts((Point(5050 + 100 * k, 7050 + 100 * k),)) for k in range(5)]
    prompts.insert(2, Prompts((Point(30_050, 20_050),)))
    found = ask(plane, view, *prompts)
    for p, candidates in zip(prompts, found, strict=True):
        (point,) = p.points
        assert mask_iou(candidates.best.mask, disc_mask(point.y, point.x, 20)) > 0.97


def test_a_prompt_outside_the_plane_is_refused():
    plane, _ = large_plane()
    with pytest.raises(PromptError, match="lies outside the image"):
        ask(plane, look(plane, (0, 0, 600, 600)), Prompts((Point(-400, 20),)))


def test_specks_are_not_blown_up():
    """A model that works at a scale of its own would encode a hundred times the picture."""

    class Scaled(DiscPredictor):
        uses_diameter = True

        def estimate_diameter(self, image):
            return 2.0

    plane, _ = large_plane()
    predictor = Scaled()
    far, near = plane.in_view(Box(0, 0, 30_000, 30_000), 32), plane.in_view(Box(0, 0, 600, 600), 1)
    assert plane.diameter(predictor, far, plane.read(far), 40) >= 20
    assert plane.diameter(predictor, far, plane.read(far), None) >= 20
    assert plane.diameter(predictor, near, plane.read(near), 40) == 40
    assert plane.diameter(DiscPredictor(), near, plane.read(near), 40) is None


class Runner:
    """Runs a session's jobs as they are asked for."""

    def __init__(self, session):
        self.session, self.jobs = session, []
        session.job_requested.connect(self.jobs.append)

    def run(self):
        while self.jobs:
            job = self.jobs.pop(0)
            try:
                outcome = job.run()
                if hasattr(outcome, "send"):
                    while True:
                        next(outcome)
            except StopIteration as end:
                outcome = end.value
            except ValueError as error:
                self.session.receive_failure(job, str(error))
                continue
            self.session.receive(job, outcome)


def test_a_session_keeps_its_offer_while_the_view_moves():
    plane, _ = large_plane()
    session = AnnotationSession(EmbeddingCache(10**9), lambda name, **_: DiscPredictor())
    runner = Runner(session)
    session.use_model("discs")
    session.look_at("slide", View(plane, plane.in_view(Box(0, 0, 600, 600), 1)))
    runner.run()
    assert "in view: 768 × 768 px" in str(session.status)
    session.set_prompts([Prompts((Point(150, 250),))])
    runner.run()
    offer = session.offers[0]
    session.look_at("slide", View(plane, plane.in_view(Box(9000, 9000, 12_000, 12_000), 4)))
    assert session.status.phase == "embedding"
    assert session.offers == (offer,)
    runner.run()
    assert "at 1:4" in str(session.status)
    assert session.offers == (offer,)
    written = []
    session.commit(lambda objects: written.extend(objects) or (lambda: None))
    assert mask_iou(written[0].mask, disc_mask(150, 250, 20)) > 0.97
    session.hover(9050, 9050)
    runner.run()
    assert session.hovered.box.intersect(Box(9000, 9000, 9100, 9100)) == session.hovered.box
    session.set_prompts([Prompts((Point(45_000, 1),))])
    failures = []
    session.failed.connect(failures.append)
    runner.run()
    assert "outside the image" in failures[0]
    assert Mask.union([written[0].mask]).area == written[0].record["area"]
