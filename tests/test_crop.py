import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image, disc_mask

from napari_sam.image import Contrast
from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.prompts import Point, PromptError, Prompts
from napari_sam.store import EmbeddingCache
from napari_sam.tiling import crop_around, predict_anywhere, rgb_reader

SHAPE = (900, 1200)
PLANE = disc_image(SHAPE, [(450, 610, 12), (20, 1180, 9), (455, 660, 8), (700, 300, 150)])


class Reader:
    """Reads boxes and says which."""

    def __init__(self):
        self.read = rgb_reader(PLANE, contrast=Contrast(0, 255))
        self.boxes = []

    def __call__(self, box):
        self.boxes.append(box)
        return self.read(box)


def ask(prompts, predictor=None, read=None, **options):
    return predict_anywhere(
        predictor or DiscPredictor(), read or Reader(), SHAPE, prompts, side=128, **options
    )


@pytest.mark.parametrize("disc", [(450, 610, 12), (20, 1180, 9)])
def test_a_click_anywhere_gives_a_mask_of_the_plane(disc):
    y, x, r = disc
    reader = Reader()
    offer = ask(Prompts((Point(y, x),)), read=reader)
    assert mask_iou(offer.best, disc_mask(y, x, r)) > 0.95
    assert len(offer.masks) == 3
    assert [b.height * b.width for b in reader.boxes] == [128 * 128]


def test_an_object_larger_than_the_crop_is_seen_from_further_away():
    reader = Reader()
    offer = ask(Prompts((Point(700, 300),)), read=reader)
    assert mask_iou(offer.best, disc_mask(700, 300, 150)) > 0.97
    assert [b.height for b in reader.boxes] == [128, 256, 512]


def test_boxes_and_masks_move_with_the_crop():
    boxed = ask(Prompts(box=Box(435, 595, 466, 626)))
    masked = ask(Prompts(mask=disc_mask(450, 610, 6)))
    for offer in (boxed, masked):
        assert mask_iou(offer.best, disc_mask(450, 610, 12)) > 0.95


def test_a_large_prompt_gets_a_large_crop():
    box = crop_around(Prompts(box=Box(100, 100, 400, 500)), SHAPE, side=128)
    assert (box.height, box.width) == (800, 800)
    assert crop_around(Prompts((Point(5, 5),)), (90, 70), side=128) == Box(0, 0, 90, 70)


def test_the_next_click_stays_in_the_crop_and_costs_no_encoding():
    predictor, cache = DiscPredictor(), EmbeddingCache(10**8)
    first = ask(Prompts((Point(450, 610),)), predictor, kept=(cache,))
    corrected = Prompts((Point(450, 610), Point(452, 618, positive=False)))
    second = ask(corrected, predictor, previous=first, chosen=first.candidates.best, kept=(cache,))
    assert second.box == first.box
    assert predictor.encoded == 1
    assert not second.best.crop(Box(452, 618, 453, 619)).any()
    ask(Prompts((Point(455, 618),)), predictor, kept=(cache,))
    assert predictor.encoded == 1  # near enough to share the crop


def test_a_click_far_off_moves_the_crop_so_that_all_points_are_seen():
    first = ask(Prompts((Point(450, 610),)))
    both = ask(Prompts((Point(450, 610), Point(455, 660))), previous=first, chosen=first.candidates.best)
    assert both.box != first.box
    joined = Mask.union([disc_mask(450, 610, 12), disc_mask(455, 660, 8)])
    assert mask_iou(both.best, joined) > 0.95


def test_every_crop_holds_its_prompts_and_lies_in_the_plane(rng):
    for _ in range(300):
        shape = tuple(rng.integers(20, 2000, 2).tolist())
        points = tuple(
            Point(*(rng.random(2) * (np.array(shape) - 1)), positive=bool(k == 0)) for k in range(3)
        )
        crop = crop_around(Prompts(points[: rng.integers(1, 4)]), shape, side=256)
        assert 0 <= crop.y0 < crop.y1 <= shape[0]
        assert 0 <= crop.x0 < crop.x1 <= shape[1]
        assert crop.y0 - 0.5 <= points[0].y <= crop.y1
        assert crop.x0 - 0.5 <= points[0].x <= crop.x1


def test_nothing_to_look_for_is_refused():
    with pytest.raises(PromptError, match="nothing says which object"):
        ask(Prompts((Point(10, 10, positive=False),)))


def test_what_lies_outside_is_refused_in_pixels_of_the_plane():
    read = Reader()
    with pytest.raises(PromptError, match="rows 2000 to 2001, columns 100 to 101, the plane has 900 rows"):
        ask(Prompts((Point(2000, 100),)), read=read)
    assert read.boxes == []


def test_what_is_no_height_and_width_is_refused():
    with pytest.raises(ValueError, match=r"height and width of a plane, found the shape \(900, 1200, 3\)"):
        predict_anywhere(DiscPredictor(), Reader(), (*SHAPE, 3), Prompts((Point(450, 610),)))
