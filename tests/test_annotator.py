"""A folder of images, gone through without a window: nothing is lost, whatever happens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from tests.fakes import DiscPredictor, disc_image
from tests.interrupt import kill_until_done
from tests.runner import QueueRunner

from napari_sam.files import ImageFileError
from napari_sam.folder.annotate import STATE_FILE, AnnotationFolder, Snapshot
from napari_sam.session import AnnotationSession
from napari_sam.session.annotator import FolderAnnotator
from napari_sam.session.folder_jobs import Look
from napari_sam.store import EmbeddingCache


def picture(number=0, shape=(48, 60)):
    return disc_image(shape, [(20, 24 + number, 9)])


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        tifffile.imwrite(folder / f"img{i}.tif", picture(i))
    return folder


class Person:
    """Draws on what is shown, as the window would let a person do."""

    def __init__(self, images: Path, labels: Path | None = None, predictor=None) -> None:
        self.predictor = predictor or DiscPredictor()
        self.session = AnnotationSession(EmbeddingCache(10**8), lambda name, **_: self.predictor)
        self.runner = QueueRunner(self.session)
        self.annotator = FolderAnnotator(self.session, self.snapshot, lambda: Look(None, "displayed", None))
        self.shown = None
        self.labels = None
        self.features = None
        self.said: list[str] = []
        self.annotator.opened.connect(self.show)
        self.annotator.said.connect(self.said.append)
        self.session.failed.connect(self.said.append)
        self.session.use_model("discs")
        self.runner.drain()
        self.annotator.begin(str(images), str(labels or images / "labels"))
        self.runner.drain()

    def show(self, opened):
        self.shown = opened
        self.labels = np.zeros(opened.shape, np.uint16) if opened.labels is None else opened.labels.copy()
        self.features = opened.features

    def snapshot(self, number):
        return Snapshot(number, self.labels.copy(), self.features, self.shown.axes)

    def draw(self, label, value=None):
        self.labels[..., 5 * label : 5 * label + 4, :8] = label
        self.annotator.touch()

    def do(self, act, *args):
        getattr(self.annotator, act)(*args)
        self.runner.drain()

    @property
    def name(self):
        return self.annotator.entries[self.annotator.current].name

    @property
    def states(self):
        return [(e.state, e.objects) for e in self.annotator.entries]


def test_forth_and_back_with_everything_saved(images):
    person = Person(images)
    assert person.name == "img0.tif"
    person.draw(1)
    person.draw(2)
    person.do("next")
    assert person.name == "img1.tif"
    assert person.labels.max() == 0
    written = tifffile.imread(images / "labels" / "img0_labels.tif")
    assert np.unique(written).tolist() == [0, 1, 2]
    assert person.states == [("in work", 2), ("new", 0), ("new", 0), ("new", 0)]
    assert not (images / "labels" / "img1_labels.tif").exists(), "nothing was drawn on it"
    person.do("previous")
    assert np.array_equal(person.labels, written)
    person.do("go", 3)
    person.do("next")
    assert person.said == ["This is the last image."]
    assert person.name == "img3.tif"


def test_looking_at_images_writes_no_labels(images):
    first = Person(images)
    first.draw(1)
    first.do("keep")
    path = images / "labels" / "img0_labels.tif"
    before = path.stat().st_mtime_ns
    person = Person(images)
    for _ in range(3):
        person.do("next")
    person.do("go", 0)
    person.do("keep")
    assert path.stat().st_mtime_ns == before


def test_work_goes_on_where_it_was_left_on_another_machine(images, tmp_path):
    person = Person(images)
    person.draw(1)
    person.features = pd.DataFrame(
        {"index": [1], "predicted_iou": [0.91], "prompt": ['{"points":[[5,5,1]]}']}
    )
    person.do("finish")
    assert person.states[0] == ("done", 1)
    person.do("next")
    person.draw(3)
    assert person.annotator.close() == ""
    moved = tmp_path / "elsewhere"
    shutil.move(images, moved)
    later = Person(moved)
    assert later.name == "img2.tif"
    assert later.states == [("done", 1), ("new", 0), ("in work", 1), ("new", 0)]
    assert later.labels.max() == 3
    later.do("go", 0)
    assert later.features["predicted_iou"].tolist() == [0.91]
    assert json.loads(later.features["prompt"][0]) == {"points": [[5, 5, 1]]}


def test_done_goes_to_the_next_that_is_not(images):
    person = Person(images)
    person.do("go", 2)
    person.do("finish")
    person.do("finish")
    person.do("finish")
    assert person.name == "img1.tif"
    person.do("finish")
    assert person.said[-1] == "All images are done."
    assert [state for state, _ in person.states] == ["done"] * 4
    person.do("mark", False)
    assert person.states[1][0] == "in work"


def test_a_broken_image_is_marked_with_its_reason_and_skipped_both_ways(images):
    (images / "img1.tif").write_bytes(b"no image")
    person = Person(images)
    person.do("next")
    assert person.name == "img2.tif"
    broken = person.annotator.entries[1]
    assert broken.state == "broken"
    assert "img1.tif cannot be read" in broken.error
    person.do("previous")
    assert person.name == "img0.tif"
    person.do("go", 1)
    assert person.name == "img0.tif", "who asks for it by name stays where they are, and is told why"
    assert "img1.tif cannot be read" in person.said[-1]
    # Whoever repairs it can open it.
    tifffile.imwrite(images / "img1.tif", picture())
    person.do("go", 1)
    assert person.name == "img1.tif"
    assert person.states[1] == ("new", 0)


def test_that_a_file_holds_more_images_is_said(images):
    with tifffile.TiffWriter(images / "img1.tif") as file:
        for _ in range(3):
            file.write(picture(1), metadata={"axes": "YX"}, contiguous=False)
    person = Person(images)
    assert person.said == []
    person.do("next")
    assert person.name == "img1.tif"
    (said,) = person.said
    assert "img1.tif: It holds 3 images, of which the first is read" in said


def test_a_broken_first_image_is_no_end(images):
    (images / "img0.tif").write_bytes(b"no image")
    (images / "img3.tif").write_bytes(b"no image")
    person = Person(images)
    assert person.name == "img1.tif"
    person.do("go", 3)
    assert person.name == "img1.tif"
    assert "img3.tif cannot be read" in person.said[-1]
    person.do("next")
    person.do("next")
    assert person.name == "img2.tif"
    assert person.said[-1] == "This is the last image."


def test_labels_that_do_not_fit_are_left_alone(images):
    (images / "labels").mkdir()
    other = np.ones((9, 9), np.uint8)
    tifffile.imwrite(images / "labels" / "img0_labels.tif", other)
    person = Person(images)
    assert person.name == "img1.tif"
    assert "have the shape (9, 9)" in person.annotator.entries[0].error
    person.annotator.close()
    assert np.array_equal(tifffile.imread(images / "labels" / "img0_labels.tif"), other)


def test_the_next_image_is_there_already_with_its_embedding(images):
    person = Person(images)
    assert person.predictor.encoded == 1, "img1 was embedded ahead"
    read = []
    person.annotator.folder.open = lambda number: read.append(number)
    person.annotator.next()
    assert person.name == "img1.tif", "at once"
    assert read == []
    person.session.look_at(1, lambda: person.shown.picture((), None, "displayed"))
    person.runner.drain()
    assert person.session.status.cached


def test_images_of_all_kinds(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    volume = np.stack([picture(z) for z in range(5)]).astype(np.uint16) * 100
    tifffile.imwrite(
        folder / "a.tif", volume, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    )
    two = np.stack([picture(), picture(3) // 4])
    tifffile.imwrite(folder / "b.ome.tif", two, ome=True, metadata={"axes": "CYX"})
    Image.fromarray(np.repeat(picture()[..., None], 3, -1)).save(folder / "c.png")
    np.save(folder / "d.npy", picture(2, (30, 90)).astype(np.float32))
    person = Person(folder)
    assert (person.shown.shape, person.shown.axes.names, person.shown.middle) == ((5, 48, 60), "ZYX", (2,))
    assert person.shown.axes.spacing[0] == 2.0
    person.draw(2)
    person.do("next")
    assert (len(person.shown.channels), person.shown.shape) == (2, (48, 60))
    assert [c.high for c in person.shown.contrast] == [200, 50]
    seen = person.shown.picture((), (0, None, 1), "displayed")
    assert [seen[20, 24].tolist(), seen[..., 1].max()] == [[255, 0, 255], 0]
    person.draw(1)
    person.do("next")
    assert person.shown.rgb
    assert np.array_equal(person.shown.picture((), None, "displayed")[..., 0], picture())
    person.do("next")
    assert person.shown.shape == (30, 90)
    person.draw(4)
    person.annotator.close()
    again = Person(folder)
    assert [e.objects for e in again.annotator.entries] == [1, 1, 0, 1]
    again.do("go", 0)
    assert again.labels.shape == (5, 48, 60)
    with tifffile.TiffFile(folder / "labels" / "a_labels.tif") as file:
        assert file.imagej_metadata["spacing"] == 2.0


def test_what_the_command_line_has_segmented_is_there_to_be_corrected(images):
    from napari_sam.folder import MANIFEST, plan, segment_files
    from napari_sam.progress import finish
    from napari_sam.recipe import Recipe

    out = images / "labels"
    out.mkdir()
    jobs = plan(sorted(images.glob("*.tif")), out)
    finish(segment_files(DiscPredictor(), jobs[:2], Recipe(), manifest=out / MANIFEST))
    person = Person(images)
    assert person.states == [("in work", 1), ("in work", 1), ("new", 0), ("new", 0)]
    assert person.labels.max() == 1


def test_labels_beside_their_images_are_no_images(images):
    person = Person(images, images)
    person.draw(1)
    person.do("next")
    assert (images / "img0_labels.tif").exists()
    assert [e.name for e in Person(images, images).annotator.entries] == [f"img{i}.tif" for i in range(4)]


def test_a_save_that_is_overtaken_by_the_next_one_is_known_to_it(images):
    person = Person(images)
    saved = images / "labels" / "img0_labels.tif"
    person.draw(1)
    person.do("keep")
    drawn = tifffile.imread(saved)
    person.labels[:] = 0
    person.annotator.keep()
    running = person.runner.queue.pop(0)
    running.run()  # written, but the next request comes before anybody hears of it
    assert not tifffile.imread(saved).any()
    person.draw(1)
    person.do("keep")
    assert np.array_equal(tifffile.imread(saved), drawn)


def test_a_disk_that_is_full_costs_nothing(images, monkeypatch):
    person = Person(images)
    person.draw(1)
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(tifffile, "imwrite", lambda *_, **__: (_ for _ in ()).throw(full))
        person.do("next")
        assert "No space left" in person.said[0]
        assert "Nothing is lost" in person.said[0]
        assert person.annotator.unsaved
        # Back on the image, what was drawn is there although it is on no disk.
        person.do("previous")
        assert person.labels.max() == 1
        person.do("next")
        assert "No space left" in person.annotator.close() or person.annotator.unsaved
    assert [p.name for p in (images / "labels").glob("*.tif")] == []


def test_after_the_disk_has_room_again_all_is_written(images, monkeypatch):
    person = Person(images)
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(tifffile, "imwrite", lambda *_, **__: (_ for _ in ()).throw(full))
        for label in (1, 2):
            person.draw(label)
            person.do("next")
    person.draw(3)
    person.do("next")
    assert not person.annotator.unsaved
    tops = [tifffile.imread(images / "labels" / f"img{i}_labels.tif").max() for i in range(3)]
    assert tops == [1, 2, 3]


@pytest.fixture
def other(tmp_path):
    """Give another folder, in which the first image has labels."""
    folder = tmp_path / "other"
    (folder / "labels").mkdir(parents=True)
    for i in range(2):
        tifffile.imwrite(folder / f"other{i}.tif", picture(i))
    tifffile.imwrite(folder / "labels" / "other0_labels.tif", np.full((48, 60), 77, np.uint16))
    return folder


def labels_of(folder, name):
    return np.unique(tifffile.imread(folder / "labels" / f"{name}_labels.tif")).tolist()


def fill_disk(folder, monkeypatch):
    """Let nothing more be written below a folder."""
    write = tifffile.imwrite

    def full(path, *args, **keywords):
        if str(path).startswith(str(folder)):
            raise OSError(28, "No space left on device")
        return write(path, *args, **keywords)

    monkeypatch.setattr("tifffile.imwrite", full)


def turn_to(person, folder):
    person.annotator.begin(str(folder), str(folder / "labels"))


def test_what_one_folder_could_not_take_is_not_written_to_another(images, other, monkeypatch):
    person = Person(images)
    fill_disk(images, monkeypatch)
    person.draw(1)
    turn_to(person, other)
    person.runner.drain()
    assert person.name == "other0.tif"
    assert labels_of(other, "other0") == [77]
    assert person.annotator.unsaved
    assert "Nothing is lost" in person.said[-1]
    monkeypatch.undo()
    person.do("keep")
    assert labels_of(images, "img0") == [0, 1]
    assert not person.annotator.unsaved
    assert labels_of(other, "other0") == [77]


def test_what_is_drawn_while_another_folder_is_listed_and_read_is_saved(images, other):
    person = Person(images)
    turn_to(person, other)
    person.draw(1)
    person.runner.step()
    while person.annotator.folder.images != other:
        person.runner.step()
    assert person.annotator.current is None
    person.draw(2)
    person.runner.drain()
    assert person.name == "other0.tif"
    assert labels_of(images, "img0") == [0, 1, 2]
    assert labels_of(other, "other0") == [77]
    assert AnnotationFolder(images, images / "labels").entries[0].state == "in work"


def test_what_is_drawn_while_the_next_image_is_read_is_saved(images):
    person = Person(images)
    person.annotator.go(2)  # not the next one, which is there already
    person.draw(3)
    person.runner.drain()
    assert person.name == "img2.tif"
    assert labels_of(images, "img0") == [0, 3]


@pytest.mark.parametrize("taken", [False, True])
def test_labels_that_could_not_be_written_go_where_there_is_room(images, tmp_path, monkeypatch, taken):
    person = Person(images)
    room = tmp_path / "room" / "labels"
    if taken:
        room.mkdir(parents=True)
        tifffile.imwrite(room / "img0_labels.tif", np.full((48, 60), 5, np.uint16))
    fill_disk(images, monkeypatch)
    person.draw(1)
    person.do("keep")
    person.annotator.begin(str(images), str(room))
    person.runner.drain()
    # Labels that are there already are not overwritten: those that could not be written wait further.
    assert labels_of(room.parent, "img0") == ([5] if taken else [0, 1])
    assert person.annotator.unsaved == taken


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: shutil.rmtree(f), "no folder"),
        (lambda f: [p.unlink() for p in f.glob("*.tif")], "found none"),
        (lambda f: (f / "labels").write_text("a file"), "cannot be made"),
    ],
)
def test_folders_that_cannot_be_used_are_refused_in_words(images, change, words):
    change(images)
    person = Person(images)
    assert words in person.said[0]
    assert person.annotator.folder is None


def test_a_state_file_of_something_else_is_not_overwritten(images):
    (images / "labels").mkdir()
    (images / "labels" / STATE_FILE).write_text('{"version": 9}')
    with pytest.raises(ImageFileError, match="something else"):
        AnnotationFolder(images, images / "labels")


def annotate_all(images: str) -> None:
    """Draw one object more on every image, saving after each."""
    person = Person(Path(images))
    person.do("go", 0)
    for number in range(4):
        person.do("go", number)
        for label in range(1, 8):
            person.labels[..., 5 * label : 5 * label + 4, :8] = label
            person.do("keep")


def test_killed_at_any_moment_everything_that_was_saved_is_there(images):
    killed = kill_until_done(annotate_all, (str(images),), kills=10, longest=0.6)
    assert killed > 3
    out = images / "labels"
    for i in range(4):
        assert np.unique(tifffile.imread(out / f"img{i}_labels.tif")).tolist() == list(range(8))
    left = {p.name for p in out.iterdir()}
    assert left == {STATE_FILE, *(f"img{i}_labels.tif" for i in range(4))}, "no half-written file stays"
    assert [(e.state, e.objects) for e in AnnotationFolder(images, out).entries] == [("in work", 7)] * 4
