"""The folder of embeddings as the dock uses it, without the dock."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image
from tests.runner import QueueRunner
from tests.test_store_microsam import MODEL, write_store

from napari_sam.masks import Box
from napari_sam.session import AnnotationSession, Storage
from napari_sam.store import EmbeddingCache, EmbeddingStore, Shelf
from napari_sam.store.microsam_adopt import picture


def rgb(value=200):
    return np.repeat(disc_image((48, 60), [(20, 24, 9)], value)[..., None], 3, axis=-1)


class Desk:
    """A session with a folder, and what they said."""

    def __init__(self, predictor=None, memory=10**8):
        self.predictor = predictor or DiscPredictor()
        self.shelf = Shelf(EmbeddingCache(memory))
        self.session = AnnotationSession(self.shelf, lambda name, **_: self.predictor)
        self.storage = Storage(self.session, self.shelf)
        self.runner = QueueRunner(self.session)
        self.failures: list[str] = []
        self.session.failed.connect(self.failures.append)

    def open(self, path, **options):
        self.storage.open(str(path), **options)
        self.runner.drain()
        return self

    def look(self, *pictures):
        for number, one in enumerate(pictures):
            self.session.look_at(number, lambda one=one: one)
            self.runner.drain()
        return self.session.status

    def load(self):
        self.session.use_model("discs")
        self.runner.drain()
        return self


def test_planes_seen_once_are_there_in_the_next_session(tmp_path):
    first = Desk().open(tmp_path / "s").load()
    assert first.look(rgb(), rgb(150)).stored is False
    assert first.predictor.encoded == 2
    second = Desk().open(tmp_path / "s").load()
    assert "2 embeddings" in second.storage.text
    status = second.look(rgb(), rgb(150))
    assert status.stored
    assert second.predictor.encoded == 0, "the encoder is not called"
    assert "from the folder" in str(status)
    assert second.look(rgb(150)).stored is False, "now it is in memory"


def test_a_stack_ahead_of_time_goes_on_where_it_stopped(tmp_path):
    planes = [rgb(120 + i) for i in range(5)]
    desk = Desk().open(tmp_path / "s").load()
    desk.storage.precompute(planes, lambda: 3, None)
    steps = desk.runner.queue.pop().run()
    for _ in range(3):
        next(steps)
    steps.close()
    again = Desk().open(tmp_path / "s").load()
    again.storage.precompute(planes, lambda: 3, None)
    again.runner.drain()
    assert again.predictor.encoded == 3
    assert again.storage.text == "Every plane is in the folder: 3 embedded, 2 were there before."
    assert again.look(*planes).stored
    assert again.predictor.encoded == 3


def test_a_full_disk_costs_the_place_on_disk_only(tmp_path, monkeypatch):
    desk = Desk().open(tmp_path / "s").load()
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("napari_sam.store.disk.write_entry", lambda *_: (_ for _ in ()).throw(full))
    assert desk.look(rgb()).phase == "ready"
    assert "No space left" in desk.storage.trouble
    assert "Make room" in desk.storage.trouble
    desk.storage.precompute([rgb(130)], lambda: 0, None)
    desk.runner.drain()
    assert "No space left" in desk.storage.text
    assert desk.failures == [desk.storage.text]
    monkeypatch.undo()
    assert desk.look(rgb(140)).phase == "ready"
    assert desk.storage.trouble == ""


def test_what_else_failed_is_not_said_of_the_folder(tmp_path):
    desk = Desk().open(tmp_path / "s").load()
    before = desk.storage.text
    desk.session.commit(lambda objects: lambda: None)
    assert "no mask to commit" in desk.failures[0]
    desk.storage.precompute([rgb()], lambda: 0, None)
    desk.session.cancel("precompute")
    assert desk.storage.text == before


def test_a_shared_folder_is_read_and_never_written(tmp_path):
    Desk().open(tmp_path / "s").load().look(rgb())
    desk = Desk().open(tmp_path / "s", read_only=True).load()
    assert not desk.storage.writable
    assert desk.look(rgb()).stored
    assert desk.look(rgb(150)).phase == "ready"
    assert desk.storage.trouble == ""
    assert len(EmbeddingStore(tmp_path / "s")) == 1
    desk.storage.precompute([rgb()], lambda: 0, None)
    assert desk.failures == ["The planes cannot be embedded yet: choose a folder in which you may write."]


def test_a_folder_that_is_something_else_is_refused_in_words(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    desk = Desk().open(tmp_path).load()
    assert "found other files" in desk.storage.text
    assert desk.failures == [desk.storage.text]
    assert desk.look(rgb()).phase == "ready"
    desk.open("")
    assert desk.storage.text == "Embeddings are kept in memory only."


class Sam(DiscPredictor):
    """A model with the identity of one that micro-sam knows."""

    def __init__(self):
        super().__init__()
        self.model_id = MODEL


def test_a_store_of_micro_sam_is_recognised_and_used(tmp_path, rng):
    image = rng.integers(100, 4000, (3, 96, 72)).astype(np.uint16)
    maps = write_store(tmp_path / "e.zarr", image, missing={1})
    desk = Desk(Sam()).load().open(tmp_path / "e.zarr")
    matched: list[bool] = []
    desk.storage.matched.connect(lambda: matched.append(True))
    assert desk.storage.text == "micro-sam's, vit_b_lm, 3 planes."
    desk.storage.match(lambda: image)
    desk.runner.drain()
    assert desk.storage.text == "micro-sam's, vit_b_lm, 3 planes: its 3 planes are used."
    assert matched == [True]
    status = desk.look(*(picture(image[z]) for z in (0, 2)))
    assert status.stored
    assert desk.predictor.encoded == 0
    assert np.array_equal(desk.session.embedding.features["image"].numpy(), maps[2, ""])
    assert not desk.look(picture(image[1])).stored, "micro-sam had not come to it"
    assert desk.predictor.encoded == 1
    assert not desk.storage.writable


def test_tiles_of_micro_sam_are_used_for_the_plane(tmp_path, rng):
    image = rng.integers(100, 4000, (2, 96, 72)).astype(np.uint16)
    maps = write_store(tmp_path / "e.zarr", image, tile=(40, 40))
    desk = Desk(Sam()).load().open(tmp_path / "e.zarr")
    assert desk.storage.text == "micro-sam's, vit_b_lm, 2 planes in tiles."
    desk.storage.match(lambda: image)
    desk.runner.drain()
    assert "its 12 tiles are used" in desk.storage.text
    assert desk.look(picture(image[0]), picture(image[1])).stored
    assert desk.predictor.encoded == 0
    embedding = desk.session.embedding
    assert embedding.tiles[3] == (Box(40, 32 + 8, 80, 72), Box(32, 32, 88, 72))
    assert np.array_equal(embedding.load(3).features["image"].numpy(), maps[1, "3"])
    # Another store never gets what is not its own.
    desk.open(tmp_path / "own")
    desk.storage.precompute([picture(image[1])], lambda: 0, None)
    desk.runner.drain()
    assert desk.predictor.encoded == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda i: i + 1, "another image"), (lambda i: i[:2], "3 planes of")],
)
def test_another_image_is_not_taken_for_micro_sams(tmp_path, rng, change, words):
    image = rng.integers(100, 4000, (3, 96, 72)).astype(np.uint16)
    write_store(tmp_path / "e.zarr", image)
    desk = Desk(Sam()).load().open(tmp_path / "e.zarr")
    desk.storage.match(lambda: change(image))
    desk.runner.drain()
    assert words in desk.storage.text
    assert not desk.look(picture(image[0])).stored
    desk.storage.match(None)
    assert "choose its image" in desk.storage.text
