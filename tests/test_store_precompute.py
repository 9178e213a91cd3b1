import numpy as np
import pytest
import torch
from tests.fakes import DiscPredictor
from tests.interrupt import kill_until_done

from napari_sam.progress import finish, time_left
from napari_sam.store import EmbeddingCache, EmbeddingStore, EmbedResult, StoreError, embed_stack
from napari_sam.store.entry import MARK
from napari_sam.store.precompute import SAMPLE, nearest


class Drawn:
    """A stack that is drawn when it is asked for, as a stack on disk is read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        self.read.append(index)
        return np.random.default_rng(index).integers(0, 255, (24, 32, 3)).astype(np.uint8)


def test_all_planes_are_embedded_once(tmp_path):
    store, predictor, seen = EmbeddingStore(tmp_path / "s"), DiscPredictor(), []
    result = finish(embed_stack(predictor, Drawn(5), store), seen.append)
    assert (result.computed, result.found, predictor.encoded) == (5, 0, 5)
    assert [(p.done, p.total) for p in seen] == [(i, 5) for i in range(1, 6)]
    assert all(key in store for key in result.keys)
    again = finish(embed_stack(predictor, Drawn(5), store))
    assert (again.computed, again.found, again.keys) == (0, 5, result.keys)
    assert predictor.encoded == 5


def test_the_plane_on_show_and_its_neighbours_come_first(tmp_path):
    planes = Drawn(6)
    finish(embed_stack(DiscPredictor(), planes, EmbeddingStore(tmp_path / "s"), first=4))
    assert planes.read == [4, 5, 3, 2, 1, 0]


def test_the_work_follows_whoever_moves_on(tmp_path):
    planes, here = Drawn(8), [1]
    steps = embed_stack(DiscPredictor(), planes, EmbeddingStore(tmp_path / "s"), first=lambda: here[0])
    for _ in range(2):
        next(steps)
    here[0] = 6
    finish(steps)
    assert planes.read == [1, 2, 6, 7, 5, 4, 3, 0]
    assert [nearest([0, 9], here) for here in (-1, 4, 5, 20)] == [0, 0, 1, 1]


def test_what_is_in_memory_is_not_computed_again(tmp_path):
    predictor, memory = DiscPredictor(), EmbeddingCache(10**7)
    memory.put(predictor.embed(Drawn(3)[1]))
    store = EmbeddingStore(tmp_path / "s")
    finish(embed_stack(predictor, Drawn(3), store, known=memory))
    assert predictor.encoded == 3
    assert len(store) == 3


def test_cancel_keeps_what_is_finished_and_the_next_run_goes_on(tmp_path):
    store, predictor = EmbeddingStore(tmp_path / "s"), DiscPredictor()
    steps = embed_stack(predictor, Drawn(6), store)
    for _ in range(3):
        next(steps)
    steps.close()
    assert len(store) == predictor.encoded == 3
    assert finish(embed_stack(predictor, Drawn(6), store)).computed == 3


def test_what_is_damaged_is_embedded_again(tmp_path):
    store, predictor = EmbeddingStore(tmp_path / "s"), DiscPredictor()
    finish(embed_stack(predictor, Drawn(3), store))
    chunk = next(p for p in store.path.rglob("*") if p.is_file() and p.name != MARK)
    chunk.write_bytes(chunk.read_bytes()[:10])
    again = finish(embed_stack(predictor, Drawn(3), store))
    assert (again.computed, again.found, store.verify()) == (1, 2, [])


def test_another_contrast_or_model_is_another_embedding(tmp_path):
    store = EmbeddingStore(tmp_path / "s")
    finish(embed_stack(DiscPredictor(), Drawn(2), store))
    darker = [Drawn(2)[i] // 2 for i in range(2)]
    assert finish(embed_stack(DiscPredictor(), darker, store)).computed == 2
    assert finish(embed_stack(DiscPredictor(threshold=50), Drawn(2), store)).computed == 2
    assert len(store) == 6


def test_a_store_too_small_for_the_stack_is_said_at_once(tmp_path):
    predictor = DiscPredictor()
    store = EmbeddingStore(tmp_path / "s", max_bytes=10_000)
    with pytest.raises(StoreError, match=r"The 50 planes need about .* GB"):
        finish(embed_stack(predictor, Drawn(50), store))
    assert predictor.encoded == 1
    shared = EmbeddingStore(store.path, read_only=True)
    with pytest.raises(StoreError, match="reading only"):
        finish(embed_stack(predictor, Drawn(2), shared))


class Slide(Drawn):
    """Pictures of which some show nothing."""

    def __init__(self, count: int, shown: set[int]) -> None:
        super().__init__(count)
        self.shown = shown

    def __getitem__(self, index: int) -> np.ndarray:
        picture = super().__getitem__(index)
        return picture if index in self.shown else np.zeros_like(picture)


def embed_slide(slide: Slide, store: EmbeddingStore, predictor: DiscPredictor) -> EmbedResult:
    middle = len(slide) // 2
    return finish(
        embed_stack(predictor, slide, store, first=middle, blank=lambda rgb: rgb.max() == 0, unit="tile")
    )


SIZE = 24 * 32 * 4
"""Bytes of an embedding of a drawn picture."""


def test_empty_tiles_need_no_room(tmp_path):
    predictor = DiscPredictor()
    assert predictor.embed(Drawn(1)[0]).nbytes == SIZE
    store = EmbeddingStore(tmp_path / "s", max_bytes=5 * SIZE)
    assert embed_slide(Slide(32, {16}), store, DiscPredictor()).computed == 1
    # Those around the middle are there, as on a slide, and are all there is.
    result = embed_slide(Slide(1000, {499, 500, 501}), store, DiscPredictor())
    assert (result.computed, all(key in store for key in result.keys)) == (3, True)


def test_tiles_that_show_something_and_do_not_fit_are_refused_at_once(tmp_path):
    store = EmbeddingStore(tmp_path / "s", max_bytes=5 * SIZE)
    for count in (40, 4000):
        predictor, slide = DiscPredictor(), Slide(count, set(range(0, count, 2)))
        with pytest.raises(StoreError, match="tiles or so that show something need") as caught:
            embed_slide(slide, store, predictor)
        assert int(str(caught.value).split()[1]) == pytest.approx(count / 2, rel=0.2)
        assert predictor.encoded == 1
        assert len(slide.read) <= 1 + SAMPLE, "however many there are"


def test_a_store_that_fills_up_all_the_same_keeps_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam.store.precompute._Room._shown", 4)
    store, predictor = EmbeddingStore(tmp_path / "s", max_bytes=5 * SIZE), DiscPredictor()
    slide = Slide(32, set(range(10, 20)))
    with pytest.raises(StoreError, match="the tiles embedded so far fill it"):
        embed_slide(slide, store, predictor)
    there = [(predictor.pixels_key(slide[n]), predictor.model_id) in store for n in (16, 17, 15, 18, 14)]
    assert all(there), "the first ones above all"
    wider = EmbeddingStore(tmp_path / "s", max_bytes=20 * SIZE)
    result = embed_slide(slide, wider, predictor)
    assert (result.computed, result.found) == (5, 5)


def test_a_plane_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="from 0 to 2, found 3"):
        finish(embed_stack(DiscPredictor(), Drawn(3), EmbeddingStore(tmp_path / "s"), first=3))


def test_time_left_in_words():
    assert time_left(10, 0, 5) == time_left(10, 5, 0) == ""
    assert time_left(10, 5, 5) == ", 10 s left"
    assert time_left(10, 1, 1000) == ", 2 h 46 min left"


def embed_all(path: str, count: int) -> None:
    torch.set_num_threads(1)
    finish(embed_stack(DiscPredictor(encode_seconds=0.02), Drawn(count), EmbeddingStore(path)))


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_store(tmp_path):
    killed = kill_until_done(embed_all, (str(tmp_path / "killed"), 40), kills=12, longest=0.3)
    embed_all(str(tmp_path / "whole"), 40)
    assert killed >= 4
    whole, store = EmbeddingStore(tmp_path / "whole"), EmbeddingStore(tmp_path / "killed")
    assert store.verify() == []
    names = [{e.folder.relative_to(s.path) for e in s.entries()} for s in (whole, store)]
    assert names[0] == names[1]
    chunks = [p for p in whole.path.rglob("*") if p.is_file() and p.name != MARK]
    assert len(chunks) == 40
    for chunk in chunks:
        assert chunk.read_bytes() == (store.path / chunk.relative_to(whole.path)).read_bytes()
