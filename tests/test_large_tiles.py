"""Large planes of which micro-sam has encoded tiles: prompts are seen in these, the encoder rests."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import zarr
from tests.fakes import disc_image, disc_mask
from tests.test_storage import Desk, Sam
from tests.test_store_microsam import write_store
from tests.test_tiling import Counting

from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame
from napari_sam.levels import FULL
from napari_sam.masks import Box, mask_iou
from napari_sam.prompts import Point, Prompts
from napari_sam.session import View
from napari_sam.store.microsam_adopt import picture
from napari_sam.tiling.large_plane import LargePlane, Level

SHAPE, TILE, HALO = (500, 620), 128, 16
SIDE = TILE + 2 * HALO
CELL = 16
DISCS = [(60, 70, 14), (128, 256, 11), (300, 384, 12), (480, 600, 10)]
LARGE = (400, 150, 75)


class TileSam(Sam):
    """Finds its blobs in feature maps that `write_pictures` has written, as SAM would."""

    def _decode(self, embedding, group, prompts, previous):
        if "image" in embedding.features:
            embedding = restored(embedding)
        return super()._decode(embedding, group, prompts, previous)


def resampled(count, size):
    """The nearest of ``size`` pixels for each of ``count``."""
    return ((np.arange(count) + 0.5) * size / count).astype(int)


def packed(rgb):
    """A picture at the size that the encoder sees, as a map of 256 features for each 16 x 16 pixels."""
    frame = Frame.longest_side(rgb.shape[:2], SIDE)
    rows, columns = (resampled(n, s) for n, s in zip(frame.model_shape, rgb.shape, strict=False))
    square = np.zeros((1, 1, SIDE, SIDE), np.float32)
    square[0, 0, : len(rows), : len(columns)] = 1.0 + rgb[np.ix_(rows, columns)][..., 0]
    return torch.nn.functional.pixel_unshuffle(torch.from_numpy(square), CELL).numpy()


def restored(embedding):
    """What `DiscPredictor` makes of the picture in a map."""
    from scipy import ndimage as ndi

    square = torch.nn.functional.pixel_shuffle(embedding.features["image"], CELL)[0, 0].numpy()
    shape, (height, width) = embedding.frame.image_shape, embedding.frame.model_shape
    rows, columns = resampled(shape[0], height), resampled(shape[1], width)
    labels, _ = ndi.label(square[np.ix_(rows, columns)] > 100)
    features = {"labels": torch.from_numpy(labels.astype(np.int32))}
    return Embedding(features, Frame(shape, shape, centred=True), embedding.model_id, embedding.pixels)


def write_pictures(path, image, missing=()):
    """Write a store of tiles as micro-sam does, with maps that hold the tiles' pictures."""
    write_store(path, image, tile=(TILE, TILE), halo=(HALO, HALO))
    features = zarr.open_group(path, mode="r+")["features"]
    height, width = image.shape
    corners = [(y, x) for y in range(0, height, TILE) for x in range(0, width, TILE)]
    for number, (y, x) in enumerate(corners):
        outer = Box(y - HALO, x - HALO, y + TILE + HALO, x + TILE + HALO).clip(image.shape)
        values = packed(picture(image[outer.slices]))
        if number in missing:
            values = np.zeros_like(values)
        features.create_array(str(number), data=values, overwrite=True)


def large(image, to_rgb=picture):
    return LargePlane((Level(image.shape, FULL, lambda box: to_rgb(image[box.slices])),))


@pytest.fixture
def image():
    return disc_image(SHAPE, [*DISCS, LARGE]).astype(np.uint16) * 10


@pytest.fixture
def open_store(tmp_path, image, monkeypatch):
    """Open a store with the large plane in view; nothing more than some rows is ever read at once."""
    monkeypatch.setattr("napari_sam.store.microsam_adopt.WHOLE", 100**2)
    monkeypatch.setattr("napari_sam.store.microsam_adopt.ROWS", 20)

    def open_it(missing=(), to_rgb=picture):
        write_pictures(tmp_path / "e.zarr", image, missing)
        desk = Desk(TileSam()).load().open(tmp_path / "e.zarr")
        counting = Counting(image)
        desk.storage.match(lambda: counting)
        desk.runner.drain()
        assert "tiles are used" in desk.storage.text
        assert counting.largest <= SIDE**2
        desk.plane = large(image, to_rgb)
        desk.show = partial(show, desk)
        desk.show(Box(0, 0, 250, 300))
        return desk

    return open_it


def show(desk, box):
    desk.session.look_at("slide", View(desk.plane, desk.plane.in_view(box, 1)))
    desk.runner.drain()


def ask(desk, *prompts):
    desk.session.set_prompts(prompts)
    desk.runner.drain()
    assert desk.failures == []
    return [offer.choice.mask for offer in desk.session.offers]


def fits(mask, disc):
    return mask_iou(mask, disc_mask(*disc)) > 0.9


def test_prompts_anywhere_without_the_encoder(open_store):
    desk = open_store()
    assert desk.session.status.stored
    clicks = [Prompts((Point(y, x),)) for y, x, _ in DISCS]
    for click, disc in zip(clicks, DISCS, strict=True):
        (mask,) = ask(desk, click)
        assert fits(mask, disc)
    masks = ask(desk, *clicks)  # all at once
    assert all(fits(mask, disc) for mask, disc in zip(masks, DISCS, strict=True))
    y, x, r = DISCS[1]
    (mask,) = ask(desk, Prompts(box=Box(y - r, x - r, y + r + 1, x + r + 1)))
    assert fits(mask, DISCS[1])
    desk.show(Box(250, 300, 500, 600))
    (mask,) = ask(desk, clicks[3])
    assert fits(mask, DISCS[3])
    assert desk.predictor.encoded == 0, "the encoder is not called"


def test_the_second_click_stays_in_the_tile_and_is_fed_the_first(open_store):
    desk = open_store()
    y, x, _ = DISCS[1]
    (mask,) = ask(desk, Prompts((Point(y, x),)))
    first = desk.session.offers[0].choice
    (less,) = ask(desk, Prompts((Point(y, x), Point(y + 8, x, positive=False))))
    second = desk.session.offers[0].choice
    assert second.seen.sight == first.seen.sight
    assert 0 < less.area < mask.area
    assert desk.predictor.encoded == 0


def test_the_mask_under_the_mouse_is_from_the_tile_there(open_store):
    desk = open_store()
    for y, x, r in DISCS:
        desk.session.hover(y, x)
        desk.runner.drain()
        assert fits(desk.session.hovered, (y, x, r))
    assert desk.predictor.encoded == 0


def test_an_object_larger_than_its_tile_is_encoded(open_store):
    """What no tile holds is looked at as without the store."""
    desk = open_store()
    y, x, _ = LARGE
    (mask,) = ask(desk, Prompts((Point(y, x),)))
    assert fits(mask, LARGE)
    assert desk.predictor.encoded >= 1


def test_tiles_that_micro_sam_had_not_come_to(open_store):
    desk = open_store(missing=(0, 13))
    (mask,) = ask(desk, Prompts((Point(*DISCS[1][:2]),)))
    assert fits(mask, DISCS[1])
    assert desk.predictor.encoded == 0
    (mask,) = ask(desk, Prompts((Point(*DISCS[0][:2]),)))
    assert fits(mask, DISCS[0])
    assert desk.predictor.encoded == 1


def test_with_another_contrast_what_is_in_view_is_encoded(open_store):
    desk = open_store(to_rgb=lambda raw: np.repeat((raw // 10).astype(np.uint8)[..., None], 3, axis=-1))
    assert not desk.session.status.stored
    assert desk.predictor.encoded == 1
    (mask,) = ask(desk, Prompts((Point(*DISCS[0][:2]),)))
    assert fits(mask, DISCS[0])
    assert desk.predictor.encoded == 1


def test_all_objects_in_view_are_those_of_the_view(open_store):
    desk = open_store()
    desk.session.segment_everything()
    desk.runner.drain()
    shape = desk.session.automatic.shape
    assert shape != (SIDE, SIDE)
    assert min(shape) > SIDE
    assert desk.predictor.encoded == 1
