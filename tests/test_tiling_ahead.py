"""Large planes that are embedded ahead of time, in the tiles that segmenting and prompts use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.fakes import DiscPredictor, disc_image, disc_mask
from tests.interrupt import kill_until_done
from tests.test_storage import Desk
from tests.test_tiling import HALO, SETTINGS, SIDE, Counting

from napari_sam.image import Contrast
from napari_sam.levels import FULL
from napari_sam.masks import Box, mask_iou
from napari_sam.progress import finish
from napari_sam.prompts import Point, Prompts
from napari_sam.propagate import propagate_object
from napari_sam.session import View
from napari_sam.session.work import tiles_of
from napari_sam.store import EmbeddingStore, StoreError
from napari_sam.store.tiled import FILE, boxes_of
from napari_sam.tiling import TileGrid, rgb_reader, segment_tiled_stack
from napari_sam.tiling.ahead import embed_tiles
from napari_sam.tiling.large_plane import LargePlane, Level
from napari_sam.tiling.pyramid import LabelPyramid

SHAPE = (200, 230)
TILES = 4 * 4
DISCS = [(64, 64, 14), (40, 170, 12), (150, 128, 10)]
PLAIN = Contrast(0, 255)


class Measuring(DiscPredictor):
    """Scales by the diameter, as the built-in model does: embeddings at another diameter are others."""

    uses_diameter = True

    def estimate_diameter(self, image):
        return 24.0 if image.max() > 100 else None


def grainy(plane, seed):
    """The same plane with a little noise: no two tiles of it are alike."""
    return plane + np.random.default_rng(seed).integers(0, 30, plane.shape).astype(np.uint8)


def planes_of(count=3):
    return [
        Counting(grainy(disc_image(SHAPE, [(y + z, x, r) for y, x, r in DISCS]), z)) for z in range(count)
    ]


def embed(planes, store, predictor, **options):
    reads = [rgb_reader(plane, contrast=PLAIN) for plane in planes]
    return embed_tiles(predictor, reads, SHAPE, store, **{"side": SIDE, "halo": HALO, **options})


def segment(planes, path, predictor, kept=()):
    reads = [rgb_reader(plane, contrast=PLAIN) for plane in planes]
    steps = segment_tiled_stack(predictor, reads, SHAPE, path, SETTINGS, side=SIDE, halo=HALO, kept=kept)
    return LabelPyramid(finish(steps).path).levels[0][...]


def test_the_note_of_a_store_cuts_planes_as_segmenting_does():
    for shape in [SHAPE, (64, 64), (1, 500), (129, 63)]:
        grid = TileGrid(shape, SIDE, HALO)
        assert list(boxes_of(shape, SIDE, HALO)) == [(grid.inner(n), grid.outer(n)) for n in range(len(grid))]


@pytest.mark.parametrize("model", [DiscPredictor, Measuring])
def test_segmenting_afterwards_calls_no_encoder(model, tmp_path):
    planes, store, predictor = planes_of(), EmbeddingStore(tmp_path / "s"), model()
    seen = []
    result = finish(embed(planes, store, predictor), seen.append)
    assert (result.computed, result.found, result.unit) == (3 * TILES, 0, "tile")
    assert (seen[-1].done, seen[-1].total) == (3 * TILES, 3 * TILES)
    assert len(store) == 3 * TILES
    again = model()
    labels = segment(planes, tmp_path / "a.zarr", again, (store,))
    assert again.encoded == 0
    assert max(plane.largest for plane in planes) <= (SIDE + 2 * HALO) ** 2, "no plane is read whole"
    fresh = model()
    assert np.array_equal(labels, segment(planes, tmp_path / "b.zarr", fresh))
    assert fresh.encoded == 3 * TILES
    assert labels.max() == len(DISCS)


def test_the_plane_on_show_comes_first(tmp_path):
    planes, store = planes_of(), EmbeddingStore(tmp_path / "s")
    steps = embed(planes, store, DiscPredictor(), first=lambda: 2)
    for _ in range(TILES):
        next(steps)
    assert planes[2].largest
    assert not planes[0].largest


def test_cancel_keeps_what_is_finished_and_the_next_run_goes_on(tmp_path):
    planes, store, predictor = planes_of(), EmbeddingStore(tmp_path / "s"), DiscPredictor()
    steps = embed(planes, store, predictor)
    for _ in range(20):
        next(steps)
    steps.close()
    assert len(store) == predictor.encoded == 20
    result = finish(embed(planes, store, predictor))
    assert (result.computed, result.found) == (3 * TILES - 20, 20)
    assert finish(embed(planes, store, predictor)).computed == 0


def embed_all(path: str) -> None:
    torch.set_num_threads(1)
    finish(embed(planes_of(), EmbeddingStore(path), DiscPredictor(encode_seconds=0.01)))


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_store(tmp_path):
    assert kill_until_done(embed_all, [str(tmp_path / "s")], kills=3, longest=1.5)
    store = EmbeddingStore(tmp_path / "s")
    assert store.verify() == []
    predictor = DiscPredictor()
    segment(planes_of(), tmp_path / "a.zarr", predictor, (store,))
    assert predictor.encoded == 0


def test_tiles_without_anything_to_see_are_left_out(tmp_path):
    plane = grainy(disc_image(SHAPE, DISCS[:1]), 0)
    plane[:, 100:] = 0
    store, predictor = EmbeddingStore(tmp_path / "s"), DiscPredictor()
    result = finish(embed([plane], store, predictor))
    # The columns from 128 - 16 on see nothing but black.
    assert result.computed == len(result.keys) == predictor.encoded == 4 * 2
    again = DiscPredictor()
    segment([plane], tmp_path / "a.zarr", again, (store,))
    assert again.encoded == 0


def test_what_cannot_be_done_is_said_before_much_is_read(tmp_path):
    planes, predictor = planes_of(), DiscPredictor()
    small = EmbeddingStore(tmp_path / "s", max_bytes=100_000)
    with pytest.raises(StoreError, match=r"The 48 tiles need about .* GB.*embed fewer tiles"):
        finish(embed(planes, small, predictor))
    assert predictor.encoded == 1
    planes = planes_of()
    with pytest.raises(StoreError, match="reading only"):
        finish(embed(planes, EmbeddingStore(small.path, read_only=True), Measuring()))
    assert not any(plane.largest for plane in planes)


# --- prompts ----------------------------------------------------------------------------------------------

WIDE = (1900, 2500)
FAR = [(300, 400, 14), (900, 800, 12), (1500, 2200, 10)]


def large_plane(z=0):
    counting = Counting(grainy(disc_image(WIDE, [(y + z, x, r) for y, x, r in FAR]), z))
    return LargePlane((Level(WIDE, FULL, rgb_reader(counting, contrast=PLAIN)),)), counting


@pytest.mark.parametrize("diameter", [None, 30.0])
@pytest.mark.parametrize("model", [DiscPredictor, Measuring])
def test_clicks_afterwards_call_no_encoder(model, diameter, tmp_path):
    plane, counting = large_plane()
    desk = Desk(model()).open(tmp_path / "s").load()
    desk.storage.precompute_tiles([plane], lambda: 0, diameter)
    desk.runner.drain()
    assert desk.storage.text == "Every tile is in the folder: 12 embedded."
    assert counting.largest <= 1024**2
    # Another day: another session on the same folder.
    desk = Desk(model()).open(tmp_path / "s").load()
    desk.session.set_diameter(diameter)
    desk.session.look_at("slide", View(plane, plane.in_view(Box(200, 200, 700, 800), 1)))
    desk.runner.drain()
    assert desk.session.status.stored
    for y, x, r in FAR:
        desk.session.set_prompts([Prompts((Point(y, x),))])
        desk.runner.drain()
        assert mask_iou(desk.session.offers[0].choice.mask, disc_mask(y, x, r)) > 0.95
    assert desk.failures == []
    assert desk.predictor.encoded == 0
    # Tiles at another scale are others.
    if model is Measuring:
        desk.session.set_diameter(55.0)
        desk.runner.drain()
        assert desk.predictor.encoded == 1


class Sizing(Measuring):
    """Finds another diameter where the picture is brighter."""

    def estimate_diameter(self, image):
        return 40.0 if image.max() > 215 else super().estimate_diameter(image)


def test_planes_of_one_shape_in_one_store_each_keep_their_own_tiles(tmp_path):
    """Slides of one scanner: equal shapes, other cells; and a second model, which does not scale."""
    slides = [disc_image(WIDE, [(y + 5 * z, x, r) for y, x, r in FAR], value=180 + 40 * z) for z in range(2)]
    slides = [
        LargePlane((Level(WIDE, FULL, rgb_reader(grainy(slide, z), contrast=PLAIN)),))
        for z, slide in enumerate(slides)
    ]
    for predictor in (Sizing(), DiscPredictor(name="plain")):
        for slide in slides:
            desk = Desk(predictor).open(tmp_path / "s").load()
            desk.storage.precompute_tiles([slide], lambda: 0, None)
            desk.runner.drain()
    assert EmbeddingStore(tmp_path / "s").tiles(WIDE).diameters == (None, 40.0, 24.0)
    for predictor in (Sizing(), DiscPredictor(name="plain")):
        for number, slide in enumerate(slides):
            desk = Desk(predictor).open(tmp_path / "s").load()
            desk.session.look_at(number, View(slide, slide.in_view(Box(200, 200, 700, 800), 1)))
            desk.runner.drain()
            assert desk.session.status.stored
            desk.session.set_prompts([Prompts((Point(FAR[2][0] + 5 * number, FAR[2][1]),))])
            desk.runner.drain()
            assert desk.failures == []
            assert len(desk.session.offers) == 1
        assert predictor.encoded == 0


def test_following_afterwards_calls_no_encoder(tmp_path):
    planes = [large_plane(3 * z)[0] for z in range(4)]
    desk = Desk().open(tmp_path / "s").load()
    desk.storage.precompute_tiles(planes, lambda: 0, None)
    desk.runner.drain()
    tiles, encoded = tiles_of(WIDE, desk.shelf, None), desk.predictor.encoded
    y, x, r = FAR[0]
    steps = propagate_object(desk.predictor, planes, {0: Prompts((Point(y, x),))}, tiles=tiles)
    result = finish(steps)
    assert list(result.planes) == [0, 1, 2, 3]
    assert mask_iou(result.planes[3].mask, disc_mask(y + 9, x, r)) > 0.95
    assert desk.predictor.encoded == encoded


def test_a_damaged_note_costs_nothing_but_the_tiles(tmp_path):
    store = EmbeddingStore(tmp_path / "s")
    store.note_tiles(SHAPE, 64, 32, None)
    assert store.tiles(SHAPE).boxes == boxes_of(SHAPE, 64, 32)
    assert store.tiles((9, 9)) is None
    store.note_tiles(SHAPE, 64, 16, 20.0)
    store.note_tiles((9, 9), 4, 2, None)
    other = EmbeddingStore(tmp_path / "s")
    assert other.tiles(SHAPE).diameters == (20,), "those of another cut are gone"
    assert other.tiles((9, 9)) is not None
    for damage in ("{", "[]", "7", '{"200x230": 7}', '{"200x230": {"side": 64}}'):
        (store.path / FILE).write_text(damage)
        assert store.tiles(SHAPE) is None
    assert sorted(path.name for path in store.path.iterdir()) == [FILE, "zarr.json"]
