import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image, disc_mask

from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.progress import finish
from napari_sam.prompts import Point, PromptError, Prompts
from napari_sam.propagate import deepest_point, propagate_object
from napari_sam.propagation import PlaneFollowed, PropagationSettings
from napari_sam.store import EmbeddingCache
from napari_sam.tiling.large_plane import LargePlane, Level

SHAPE = (60, 90)
CLICK = Prompts((Point(30, 30),))


def planes_of(*discs):
    """Pictures with the discs (y, x, radius) of each plane."""
    return [np.repeat(disc_image(SHAPE, plane)[..., None], 3, -1) for plane in discs]


def ball(*radii, y=30, x=30):
    """A round object through planes, and a second one further right that is always there."""
    return planes_of(*([(y, x, r), (30, 75, 9)] if r else [(30, 75, 9)] for r in radii))


def follow(planes, anchors, predictor=None, **options):
    return finish(propagate_object(predictor or DiscPredictor(), planes, anchors, **options))


def test_an_object_is_followed_both_ways_until_it_ends():
    result = follow(ball(0, 6, 8, 10, 11, 10, 8, 6, 0), {4: CLICK})
    assert list(result.planes) == [1, 2, 3, 4, 5, 6, 7]
    for plane, radius in zip(range(1, 8), (6, 8, 10, 11, 10, 8, 6), strict=True):
        assert mask_iou(result.planes[plane].mask, disc_mask(30, 30, radius)) > 0.95
        assert result.planes[plane].anchor == 4
    assert result.planes[4].overlap == 1
    assert result.planes[1].overlap == pytest.approx((6 / 8) ** 2, abs=0.05)


def test_it_may_drift_and_only_the_plane_before_counts():
    planes = planes_of(*([(30, 20 + 3 * i, 9)] for i in range(15)))
    result = follow(planes, {0: Prompts((Point(30, 20),))})
    assert list(result.planes) == list(range(15))
    assert mask_iou(result.planes[14].mask, disc_mask(30, 62, 9)) > 0.95


@pytest.mark.parametrize(
    ("radii", "settings", "last"),
    [
        ((9, 9, 5, 5), PropagationSettings(min_iou=0.5), 1),
        ((9, 9, 5, 5), PropagationSettings(min_iou=0.1, max_growth=5), 3),
        ((9, 9, 14, 14), PropagationSettings(min_iou=0.1, max_growth=2), 1),
        ((9, 6, 3, 2), PropagationSettings(min_iou=0.1, max_growth=5, min_area=50), 1),
        ((9, 9, 9, 9), PropagationSettings(min_predicted_iou=0.99), 0),
    ],
)
def test_what_ends_an_object(radii, settings, last):
    result = follow(ball(*radii), {0: CLICK}, settings=settings)
    assert max(result.planes) == last


def test_the_plane_of_least_confidence_is_found():
    planes = ball(10, 10, 10, 10, 10)
    planes[3] = np.where(planes[3] > 100, 150, planes[3]).astype(np.uint8)
    result = follow(planes, {0: CLICK})
    assert list(result.planes) == [0, 1, 2, 3, 4]
    assert result.weakest == 3
    assert result.planes[3].confidence < 0.8 < result.planes[4].confidence
    assert all(0 <= one.confidence <= 1 for one in result.planes.values())


def test_a_mask_that_fits_only_itself_ends_where_the_object_does():
    """A model that copies its mask prompt would follow a cell for ever: the picture says where it ends."""

    class Copying(DiscPredictor):
        def _object(self, labels, prompt, before):
            if prompt.mask is not None:
                return prompt.mask.to_plane(labels.shape), True
            return super()._object(labels, prompt, before)

    result = follow(ball(9, 9, 9, 9, 0, 0, 0), {1: CLICK}, Copying())
    assert list(result.planes) == [0, 1, 2, 3]


@pytest.mark.parametrize(("grey", "last"), [(150, 2), (90, 1), (250, 2)])
def test_fading_ends_an_object_and_a_little_of_it_does_not(grey, last):
    planes = ball(9, 9, 9)
    planes[2] = np.where(planes[2] > 100, grey, planes[2]).astype(np.uint8)
    result = follow(planes, {0: CLICK}, DiscPredictor(threshold=60))
    assert max(result.planes) == last


def test_two_anchors_meet_in_the_middle():
    result = follow(ball(*[9] * 9), {0: CLICK, 8: CLICK})
    assert [one.anchor for one in result.planes.values()] == [0, 0, 0, 0, 0, 8, 8, 8, 8]


@pytest.mark.parametrize(("gap", "anchors"), [(2, [0, 0, 8, 8, 8, 8, 8, 8]), (6, [0, 0, 0, 0, 0, 0, 8, 8])])
def test_where_one_side_loses_it_the_other_goes_on(gap, anchors):
    radii = [9] * 9
    radii[gap] = 0
    result = follow(ball(*radii), {0: CLICK, 8: CLICK})
    assert list(result.planes) == [plane for plane in range(9) if plane != gap]
    assert [one.anchor for one in result.planes.values()] == anchors


def test_beyond_the_middle_it_has_to_look_as_on_its_anchor_too():
    planes = ball(*[9] * 6, 0, 9, 9)  # the other side loses it on plane 6
    for plane, grey in enumerate((200, 190, 180, 170, 160, 150)):
        planes[plane] = np.where(planes[plane] > 100, grey, planes[plane]).astype(np.uint8)
    both, one = follow(planes, {0: CLICK, 8: CLICK}), follow(planes, {0: CLICK})
    assert both.planes[5].anchor == 0
    assert both.planes[5].likeness == one.planes[5].likeness < 0.9


def test_a_correction_costs_only_what_it_touches():
    predictor, planes = DiscPredictor(), ball(*[9] * 12)
    cache = EmbeddingCache(10**8)
    first = follow(planes, {0: CLICK, 6: CLICK, 11: CLICK}, predictor, kept=(cache,))
    before = predictor.decoded
    corrected = Prompts((Point(30, 31),))
    second = follow(planes, {0: CLICK, 6: CLICK, 11: corrected}, predictor, previous=first, kept=(cache,))
    assert predictor.decoded - before == 1 + 2 * 4  # the anchor, and the four planes up to the next one
    assert all(second.planes[i] is first.planes[i] for i in range(7))
    assert second.planes[9].anchor == 11
    before = predictor.decoded
    third = follow(planes, {0: CLICK, 3: CLICK, 6: CLICK, 11: corrected}, predictor, previous=second)
    assert predictor.decoded - before == 1 + 2 * 4
    assert third.planes[9] is second.planes[9]
    before = predictor.decoded
    follow(planes, {0: CLICK, 3: CLICK, 6: CLICK, 11: corrected}, predictor, previous=third)
    assert predictor.decoded == before


def test_a_mask_that_was_chosen_is_an_anchor_as_it_is():
    given = disc_mask(30, 30, 7)
    result = follow(ball(9, 9, 9), {1: given}, settings=PropagationSettings(point=False))
    assert result.planes[1].mask is given
    assert mask_iou(result.planes[2].mask, disc_mask(30, 30, 9)) > 0.95


@pytest.mark.parametrize("kind", ["mask", "box", "point"])
def test_each_kind_of_prompt_is_enough(kind):
    settings = PropagationSettings(**{name: name == kind for name in ("mask", "box", "point")})
    result = follow(ball(9, 9, 9), {0: CLICK}, settings=settings)
    assert list(result.planes) == [0, 1, 2]


def test_planes_come_out_as_they_are_found_and_closing_stops():
    predictor = DiscPredictor()
    steps = propagate_object(predictor, ball(*[9] * 10), {0: CLICK})
    seen = [next(steps) for _ in range(3)]
    steps.close()
    assert [type(s) for s in seen] == [PlaneFollowed] * 3
    assert [s.found.plane for s in seen] == [0, 1, 2]
    assert predictor.encoded == 3


def test_a_run_that_was_given_up_goes_on_where_it_was():
    predictor, planes = DiscPredictor(), ball(*[9] * 12)
    steps = propagate_object(predictor, planes, {0: CLICK, 6: CLICK})
    seen = [next(steps) for _ in range(2 + 5 + 3)]  # both anchors, the planes between, three beyond
    steps.close()
    so_far = seen[-1].so_far
    assert list(so_far.planes) == list(range(10))
    assert so_far.weakest in so_far.planes
    before = predictor.decoded
    result = follow(planes, {0: CLICK, 6: CLICK}, predictor, previous=so_far)
    assert list(result.planes) == list(range(12))
    assert predictor.decoded - before == 2 * 5  # only the stretch that was not complete
    # A correction keeps what it does not touch in sight from the first step on.
    steps = propagate_object(predictor, planes, {0: CLICK, 6: CLICK, 9: CLICK}, previous=result)
    assert list(next(steps).so_far.planes) == [*range(7), 9]


def test_the_middle_of_an_object_depends_on_the_size_of_its_pixels():
    """A stack from the side: 8 planes high and 40 pixels wide, with planes 10 pixels apart."""
    shape = np.zeros((8, 60), bool)
    shape[:, :40] = True
    shape[3:5, 40:] = True
    shape[0:2, 20:] = False
    flat, real = (deepest_point(Mask.from_plane(shape), spacing) for spacing in ((1, 1), (10, 1)))
    assert flat.x < 20
    assert (real.y, real.x) != (flat.y, flat.x)
    depth = min(real.x + 1, 40 - real.x)  # nothing is nearer than the sides
    assert depth == pytest.approx(20, abs=2)


def test_the_deepest_point_lies_inside_even_a_ring():
    ring = disc_mask(30, 30, 12).to_plane(SHAPE) & ~disc_mask(30, 30, 8).to_plane(SHAPE)
    point = deepest_point(Mask.from_plane(ring))
    assert ring[int(point.y), int(point.x)]


def test_what_cannot_be_followed_is_refused():
    planes = ball(9, 9)
    with pytest.raises(PromptError, match="one plane at least"):
        follow(planes, {})
    with pytest.raises(PromptError, match="planes 0 to 1, found some on plane 2"):
        follow(planes, {2: CLICK})
    with pytest.raises(PromptError, match="mask on plane 0 is empty"):
        follow(planes, {0: Mask(0, 0, np.zeros((0, 0), bool))})
    with pytest.raises(PromptError, match="no positive point"):
        follow(planes, {0: Prompts((Point(3, 3, positive=False),))})
    with pytest.raises(ValueError, match="Nothing would prompt"):
        PropagationSettings(mask=False, box=False, point=False)
    with pytest.raises(ValueError, match="growth above 1"):
        PropagationSettings(max_growth=1)


# --- planes that are never read whole ---------------------------------------------------------------------

HUGE = (20_000, 20_000)
PATCH = 2048
"""Pixels on a side of the most that may be read at once."""


class HugeDiscs:
    """A plane with the discs (y, x, radius), drawn when it is read; it refuses to be read in large pieces."""

    def __init__(self, *discs, factor=1):
        self.discs, self.factor = discs, factor
        self.shape = tuple(n // factor for n in HUGE)
        self.read = 0

    def __call__(self, box):
        assert max(box.height, box.width) <= PATCH, f"{box.height} x {box.width} pixels were read at once"
        self.read += int(box.height * box.width)
        rows, columns = (np.arange(s.start, s.stop) for s in box.slices)
        y, x = (v * self.factor + (self.factor - 1) / 2 for v in (rows, columns))
        plane = np.full((y.size, x.size), 20, np.uint8)
        for cy, cx, radius in self.discs:
            plane[np.hypot(y[:, None] - cy, x - cx) <= radius] = 200
        return np.repeat(plane[..., None], 3, -1)


def huge_planes(*discs, levels=3):
    """Planes with the discs of each, and what reads them."""
    readers = [[HugeDiscs(*plane, factor=2**k) for k in range(levels)] for plane in discs]
    planes = [LargePlane(tuple(Level(r.shape, (r.factor, r.factor), r) for r in of)) for of in readers]
    return planes, [reader for of in readers for reader in of]


def huge_ball(*radii, step=0):
    """An object that wanders by ``step`` pixels a plane, beside one that is always there."""
    return huge_planes(
        *(
            [(9_000 + step * z, 15_000, r), (9_000, 15_300, 20)] if r else [(9_000, 15_300, 20)]
            for z, r in enumerate(radii)
        )
    )


def test_on_huge_planes_only_the_surroundings_of_the_object_are_read():
    radii = (0, 12, 16, 20, 22, 20, 16, 12, 0)
    planes, readers = huge_ball(*radii)
    predictor = DiscPredictor()
    result = follow(planes, {4: Prompts((Point(9_000, 15_000),))}, predictor)
    assert list(result.planes) == [1, 2, 3, 4, 5, 6, 7]
    for z, one in result.planes.items():
        assert mask_iou(one.mask, disc_mask(9_000, 15_000, radii[z])) > 0.99
        assert one.mask.pixels.size < 50**2
        assert one.agreement > 0.99
    assert predictor.encoded == len(planes)
    assert sum(reader.read for reader in readers) < 2 * len(planes) * 1024**2


def test_on_huge_planes_the_result_is_that_of_planes_that_are_read_whole():
    """The same object on small planes, from the same prompts, ends on the same planes with the same masks."""
    radii, corner = (30, 28, 26, 24, 22, 12, 12), (8_700, 14_700)
    huge, _ = huge_ball(*radii, step=3)
    small = [np.ascontiguousarray(p.levels[0].read(Box(*corner, 9_300, 15_500))) for p in huge]
    far = follow(huge, {0: Prompts((Point(9_000, 15_000),))})
    near = follow(small, {0: Prompts((Point(300, 300),))})
    assert list(far.planes) == list(near.planes) == list(range(5))
    for z, one in near.planes.items():
        assert mask_iou(one.mask.shift(*corner), far.planes[z].mask) == 1
        assert far.planes[z].confidence == pytest.approx(one.confidence)


def test_a_huge_object_is_followed_from_far_away_and_out_of_the_first_view():
    """It is wider than what may be read at full resolution, and grows beyond the view of the plane before."""
    planes, readers = huge_ball(900, 1100, 1300, 1500)
    result = follow(planes, {0: disc_mask(9_000, 15_000, 900)})
    assert list(result.planes) == [0, 1, 2, 3]
    assert mask_iou(result.planes[3].mask, disc_mask(9_000, 15_000, 1500)) > 0.98
    assert all(reader.read == 0 for reader in readers[::3])  # nothing at full resolution
    # One click says nothing of its size: it is looked at from further and further away.
    planes, _ = huge_ball(900, 900)
    result = follow(planes, {0: Prompts((Point(9_000, 15_000),))})
    assert mask_iou(result.planes[1].mask, disc_mask(9_000, 15_000, 900)) > 0.98


def test_it_may_wander_across_huge_planes():
    planes, _ = huge_ball(*[40] * 60, step=25)
    result = follow(planes, {0: Prompts((Point(9_000, 15_000),))})
    assert list(result.planes) == list(range(60))
    assert mask_iou(result.planes[59].mask, disc_mask(9_000 + 25 * 59, 15_000, 40)) > 0.99


def test_a_correction_on_huge_planes_costs_only_what_it_touches():
    planes, _ = huge_ball(*[20] * 12)
    predictor, kept = DiscPredictor(), (EmbeddingCache(10**9),)
    click = Prompts((Point(9_000, 15_000),))
    first = follow(planes, {0: click, 8: click}, predictor, kept=kept)
    encoded, decoded = predictor.encoded, predictor.decoded
    mask = disc_mask(9_000, 15_000, 18)
    second = follow(planes, {0: click, 8: click, 10: mask}, predictor, previous=first, kept=kept)
    assert predictor.decoded - decoded == 2 * 2  # planes 9 and 11, two prompts each
    assert predictor.encoded == encoded  # the surroundings are the same
    assert second.planes[10].mask is mask
    assert second.planes[11].anchor == 10
