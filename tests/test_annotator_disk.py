"""A folder of images, gone through without a window: what is drawn gets to the disk, whatever happens."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from tests.annotating import Person, folder_of_pictures, picture
from tests.interrupt import kill_until_done

from napari_sam.folder.annotate import STATE_FILE, AnnotationFolder


@pytest.fixture
def images(tmp_path):
    return folder_of_pictures(tmp_path)


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


def test_a_name_that_is_no_utf8_is_noted_and_read_again(images):
    name = os.fsdecode(b"caf\xe9.tif")
    try:
        tifffile.imwrite(images / name, picture())
    except (OSError, UnicodeError):
        pytest.skip("this disk takes no such name")
    person = Person(images)
    number = [entry.name for entry in person.annotator.entries].index(name)
    person.do("go", number)
    person.draw(1)
    person.do("mark", True)
    assert person.annotator.close() == ("", "")
    assert person.said == []
    assert (images / "labels" / STATE_FILE).is_file()
    later = AnnotationFolder(images, images / "labels")
    assert (later.current, later.first) == (name, number)
    entry = later.entries[number]
    assert (entry.name, entry.state, entry.objects) == (name, "done", 1)
    assert entry.labels.is_file()
    assert later.open(number).labels.max() == 1


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
        assert "No space left" in person.annotator.close()[0] or person.annotator.unsaved
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


def foreign(path, label):
    """Let somebody else write labels."""
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, np.full((48, 60), label, np.uint16))


def test_labels_that_came_after_they_were_read_ahead_are_read_again(images):
    person = Person(images)
    foreign(images / "labels" / "img1_labels.tif", 9)
    person.do("next")
    assert person.name == "img1.tif"
    assert person.labels.max() == 9


def test_labels_that_somebody_else_wrote_meanwhile_are_kept_beside(images):
    person = Person(images)
    mine = images / "labels" / "img0_labels.tif"
    foreign(mine, 9)
    person.draw(1)
    person.do("keep")
    assert labels_of(images, "img0") == [0, 1]
    aside = mine.with_name("img0_labels.tif.other")
    assert tifffile.imread(aside).min() == 9
    assert aside.name in person.said[-1]
    # Once; those written here are known, and so is a folder that is opened again.
    person.draw(2)
    person.do("keep")
    turn_to(person, images)
    person.runner.drain()
    person.draw(3)
    person.do("keep")
    assert labels_of(images, "img0") == [0, 1, 2, 3]
    assert [p.name for p in (images / "labels").glob("*.other*")] == [aside.name]
    foreign(mine, 8)
    person.draw(4)
    trouble, news = person.annotator.close()
    assert not trouble
    assert "img0_labels.tif.other1" in news


def test_a_backup_that_touches_the_labels_is_nobody_else(images):
    person = Person(images)
    person.draw(1)
    person.do("keep")
    mine = images / "labels" / "img0_labels.tif"
    os.utime(mine, ns=(1, 1))
    person.draw(2)
    person.do("keep")
    assert labels_of(images, "img0") == [0, 1, 2]
    assert list((images / "labels").glob("*.other*")) == []


def test_labels_of_somebody_else_are_shown_by_opening_again_where_nothing_was_drawn(images):
    person = Person(images)
    person.draw(1)
    person.do("keep")
    foreign(images / "labels" / "img0_labels.tif", 9)
    person.do("keep")
    person.do("keep")
    assert [words for words in person.said if "Somebody else" in words] == [person.said[-1]]
    turn_to(person, images)
    person.runner.drain()
    assert person.labels.min() == 9
    assert labels_of(images, "img0") == [9]


def test_a_save_while_another_one_writes_knows_what_that_has_written(images, monkeypatch):
    person = Person(images)
    person.draw(1)
    person.annotator.keep()
    writing, go_on = threading.Event(), threading.Event()
    save = AnnotationFolder.save

    def slow(*args):
        writing.set()
        go_on.wait(10)
        return save(*args)

    monkeypatch.setattr(AnnotationFolder, "save", slow)
    worker = threading.Thread(target=person.runner.queue.pop(0).run)
    worker.start()
    assert writing.wait(10)
    threading.Timer(0.2, go_on.set).start()
    assert person.annotator.close() == ("", "")  # while the worker writes
    worker.join()
    assert labels_of(images, "img0") == [0, 1]
    assert list((images / "labels").glob("*.other*")) == []


def test_what_is_drawn_while_the_same_folder_is_opened_again_stays(images):
    person = Person(images)
    person.draw(1)
    turn_to(person, images)
    while person.annotator.current is not None:
        person.runner.step()
    person.draw(2)
    person.runner.drain()
    assert person.name == "img0.tif"
    assert np.unique(person.labels).tolist() == [0, 1, 2]
    assert labels_of(images, "img0") == [0, 1, 2]
    assert not person.annotator.unsaved


def test_the_table_tells_of_objects_that_are_there(images):
    person = Person(images)
    table = images / "labels" / "img0_labels.features.csv"
    person.draw(1)
    person.draw(2)
    person.features = pd.DataFrame({"index": [1, 2, 5], "area": [32, 32, 1]})
    person.do("keep")
    assert pd.read_csv(table)["index"].tolist() == [1, 2]
    person.labels[:] = 0  # as undo leaves it: the rows stay with napari
    person.do("keep")
    assert not table.exists()
    person.draw(1)  # by hand now
    person.features = None
    person.do("next")
    person.do("previous")
    assert person.features is None


def test_a_table_that_a_spreadsheet_has_written_is_kept(images):
    person = Person(images)
    person.draw(1)
    person.features = pd.DataFrame({"index": [1], "area": [32]})
    person.do("keep")
    table = images / "labels" / "img0_labels.features.csv"
    table.write_text("index;area\n1;32\n")
    person.features = None
    person.draw(2)
    person.do("keep")
    assert table.read_text().startswith("index;area")
    person.features = pd.DataFrame({"index": [2], "area": [32]})
    person.do("keep")
    assert pd.read_csv(table)["index"].tolist() == [2]
    assert table.with_name(f"{table.name}.other").read_text().startswith("index;area")


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
    killed = kill_until_done(annotate_all, (str(images),), kills=16, longest=0.4)  # a run may take a fifth
    assert killed > 3
    out = images / "labels"
    for i in range(4):
        assert np.unique(tifffile.imread(out / f"img{i}_labels.tif")).tolist() == list(range(8))
    # A lock that a killed run could not take away is empty, and the next save takes it.
    left = {p.name for p in out.iterdir() if p.suffix != ".lock"}
    assert left == {STATE_FILE, *(f"img{i}_labels.tif" for i in range(4))}, "no half-written file stays"
    assert [(e.state, e.objects) for e in AnnotationFolder(images, out).entries] == [("in work", 7)] * 4
