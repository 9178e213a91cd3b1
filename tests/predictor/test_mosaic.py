"""Prompts on a plane that was embedded in tiles give what the plane as a whole gives."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image, disc_mask

from napari_sam.embedding import TiledEmbedding
from napari_sam.everything import generate
from napari_sam.geometry import Frame, Window
from napari_sam.masks import Box, Mask, mask_iou
from napari_sam.predictor.mosaic import put_in, tile_of
from napari_sam.progress import finish
from napari_sam.prompts import Point, Prompts

SHAPE = (120, 150)
DISCS = [(30, 40, 12), (60, 75, 14), (90, 120, 10)]


def grid(inner=(60, 75), halo=20):
    tiles = []
    for y in range(0, SHAPE[0], inner[0]):
        for x in range(0, SHAPE[1], inner[1]):
            box = Box(y, x, y + inner[0], x + inner[1])
            wide = Box(box.y0 - halo, box.x0 - halo, box.y1 + halo, box.x1 + halo).clip(SHAPE)
            tiles.append((box, wide))
    return tuple(tiles)


@pytest.fixture
def rgb():
    return np.repeat(disc_image(SHAPE, DISCS)[..., None], 3, axis=-1)


def tiled(predictor, rgb):
    tiles = grid()
    parts = {}

    def load(number):
        if number not in parts:
            parts[number] = predictor.embed(rgb[tiles[number][1].slices])
        return parts[number]

    return TiledEmbedding({}, Frame(SHAPE, SHAPE), predictor.model_id, "plane", tiles=tiles, load=load)


def test_clicks_and_boxes_land_where_they_were_set(rgb):
    predictor = DiscPredictor()
    embedding = tiled(predictor, rgb)
    y, x, r = DISCS[1]
    asked = [Prompts((Point(cy, cx),)) for cy, cx, _ in DISCS]
    asked.append(Prompts((), Box(y - r, x - r, y + r + 1, x + r + 1)))
    found = predictor.predict_each(embedding, asked)
    for candidates, disc in zip(found, [*DISCS, DISCS[1]], strict=True):
        assert mask_iou(candidates.best.mask, disc_mask(*disc)) > 0.95
    assert predictor.encoded == 2, "only the tiles that were asked for"


@pytest.mark.parametrize(("y", "x"), [(-0.4, 40), (119.4, 120), (70, -0.5), (70, 149.4)])
def test_a_click_into_the_outer_half_of_a_border_pixel_counts(rgb, y, x):
    predictor = DiscPredictor()
    assert len(predictor.predict(tiled(predictor, rgb), Prompts((Point(y, x),)))) > 0


def test_of_clicks_that_no_tile_holds_together_the_last_one_counts():
    predictor, shape = DiscPredictor(), (40, 300)
    wide = np.repeat(disc_image(shape, [(20, 20, 9), (20, 280, 9)])[..., None], 3, axis=-1)
    tiles = tuple(
        (Box(0, x, 40, x + 100), Box(0, max(x - 10, 0), 40, min(x + 110, 300))) for x in (0, 100, 200)
    )
    embedding = TiledEmbedding(
        {}, Frame(shape, shape), predictor.model_id, "plane", tiles=tiles,
        load=lambda number: predictor.embed(wide[tiles[number][1].slices]),
    )  # fmt: skip
    clicks = (Point(20, 20), Point(20, 280), Point(5, 290, positive=False))
    found = predictor.predict(embedding, Prompts(clicks)).best.mask
    assert mask_iou(found, disc_mask(20, 280, 9)) > 0.9
    # Nor does a box or a mask come along into a tile that it does not reach.
    far = Mask(10, 270, np.ones((20, 20), bool))
    found = predictor.predict(embedding, Prompts((Point(20, 20),), mask=far)).best.mask
    assert mask_iou(found, disc_mask(20, 20, 9)) > 0.9
    boxed = Prompts(box=Box(11, 11, 30, 30), mask=far)
    assert mask_iou(predictor.predict(embedding, boxed).best.mask, disc_mask(20, 20, 9)) > 0.9


def test_a_second_click_is_fed_what_the_first_one_gave(rgb):
    predictor = DiscPredictor()
    embedding = tiled(predictor, rgb)
    y, x, _ = DISCS[0]
    first = predictor.predict(embedding, Prompts((Point(y, x),)))
    both = Prompts((Point(y, x), Point(y + 8, x, positive=False)))
    fed = []
    decode = predictor._decode
    predictor._decode = lambda *args: (fed.extend(args[3]), decode(*args))[1]
    again = predictor.predict(embedding, both, previous=first.best)
    assert fed[0].window.frame.image_shape == (80, 95), "in the tile's own pixels"
    assert again.best.area < first.best.area
    # Logits of another tile say nothing about this one.
    other = predictor.predict(embedding, Prompts((Point(*DISCS[2][:2]),)))
    predictor.predict(embedding, both, previous=other.best)
    assert fed[1] is None


def test_every_object_is_found_in_its_tile(rgb):
    predictor = DiscPredictor(seeds=False)
    result = finish(generate(predictor, rgb, embedding=tiled(predictor, rgb)))
    labels, _ = result.labels()
    for disc in DISCS:
        here = labels == labels[disc[0], disc[1]]
        assert mask_iou(Mask.from_plane(here), disc_mask(*disc)) > 0.5


@pytest.mark.parametrize("scale", [1.6, 0.75])
def test_logits_mean_the_same_on_the_plane_as_in_the_tile(scale, rng):
    tile, shape = Box(37, 52, 101, 132), (300, 400)
    frame = Frame((64, 80), (round(64 * scale), round(80 * scale)))
    window = Window(frame, (0, 0), 4, (32, 32))
    logits = rng.normal(size=(32, 32)).astype(np.float32)  # noise: the worst case
    placed = put_in(window, tile, shape)
    inner = Box(8, 8, 56, 72)
    # Model pixels of the plane and of the tile are not in step: less than a pixel's difference for noise.
    np.testing.assert_allclose(
        placed.upsample(logits, inner.shift(tile.y0, tile.x0)),
        window.upsample(logits, inner),
        rtol=0,
        atol=0.15,
    )


def test_a_prompt_goes_to_the_tile_that_holds_all_of_it():
    tiles = grid()
    assert tile_of(Prompts((Point(10, 10),)), tiles) == 0
    assert tile_of(Prompts((), Box(40, 45, 75, 78)), tiles) == 0
    assert tile_of(Prompts((), Box(41, 50, 90, 93)), tiles) == 2
    assert tile_of(Prompts((Point(119, 149),)), tiles) == len(tiles) - 1
