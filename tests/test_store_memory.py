from threading import Thread

import numpy as np
import pytest
import torch

from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame
from napari_sam.store import EmbeddingCache, embed_once


def make(pixels: str, kilobytes: int = 1, model: str = "m") -> Embedding:
    return Embedding({"image": torch.zeros(256 * kilobytes)}, Frame((8, 8), (8, 8)), model, pixels)


def test_what_was_put_is_found_and_counted():
    cache = EmbeddingCache(10_000)
    a = make("a", 3)
    cache.put(a)
    assert cache.get(("a", "m")) is a
    assert cache.get(("a", "other model")) is None
    assert cache.nbytes == 3 * 1024
    cache.put(make("a", 2))
    assert (cache.nbytes, len(cache)) == (2 * 1024, 1)
    cache.clear()
    assert (cache.nbytes, len(cache)) == (0, 0)


def test_the_one_used_longest_ago_goes_first():
    cache = EmbeddingCache(3 * 1024)
    for name in "abc":
        cache.put(make(name))
    cache.get(("a", "m"))
    cache.put(make("d"))
    assert [name for name in "abcd" if (name, "m") in cache] == ["a", "c", "d"]


def test_asking_whether_it_is_there_is_not_a_use():
    cache = EmbeddingCache(2 * 1024)
    cache.put(make("a"))
    cache.put(make("b"))
    assert ("a", "m") in cache
    cache.put(make("c"))
    assert ("a", "m") not in cache


def test_too_large_a_one_is_not_kept_and_throws_nothing_out():
    cache = EmbeddingCache(2 * 1024)
    cache.put(make("a"))
    cache.put(make("huge", 3))
    assert ("a", "m") in cache
    assert ("huge", "m") not in cache


def test_a_smaller_limit_forgets_at_once():
    cache = EmbeddingCache(4 * 1024)
    for name in "abcd":
        cache.put(make(name))
    cache.max_bytes = 1024
    assert [name for name in "abcd" if (name, "m") in cache] == ["d"]
    with pytest.raises(ValueError, match="zero bytes or more, found -1"):
        cache.max_bytes = -1


def test_threads_do_not_break_the_count():
    cache = EmbeddingCache(8 * 1024)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(500):
            name = str(rng.integers(20))
            cache.put(make(name, int(rng.integers(1, 4))))
            cache.get((name, "m"))

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert cache.nbytes == sum(e.nbytes for e in cache._kept.values()) <= 8 * 1024


class CountingPredictor:
    model_id = "m"

    def __init__(self) -> None:
        self.calls = 0

    def pixels_key(self, image, diameter=None) -> str:
        return f"{image.sum()}@{diameter}"

    def embed(self, image, *, diameter=None) -> Embedding:
        self.calls += 1
        return make(self.pixels_key(image, diameter))


def test_a_plane_is_embedded_once():
    predictor = CountingPredictor()
    quick, slow = EmbeddingCache(1024), EmbeddingCache(10 * 1024)
    planes = [np.full((4, 4, 3), value, np.uint8) for value in (1, 2)]
    first = embed_once(predictor, planes[0], quick, slow)
    embed_once(predictor, planes[1], quick, slow)
    assert first.key not in quick
    assert embed_once(predictor, planes[0], quick, slow) is first
    assert first.key in quick
    assert predictor.calls == 2
    embed_once(predictor, planes[0], quick, slow, diameter=5.0)
    assert predictor.calls == 3
