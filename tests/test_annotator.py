"""A folder of images, gone through without a window: its images, their states, the order."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from tests.annotating import Person, folder_of_pictures, picture
from tests.fakes import DiscPredictor

from napari_sam.files import ImageFileError
from napari_sam.folder.annotate import STATE_FILE, AnnotationFolder


@pytest.fixture
def images(tmp_path):
    return folder_of_pictures(tmp_path)


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


def test_who_turns_back_before_the_other_image_is_read_stays(images):
    person = Person(images)
    told = []
    person.annotator.changed.connect(lambda: told.append(person.annotator.current))
    person.annotator.go(3)
    person.annotator.go(0)
    assert "open" not in person.session.running
    assert told == [0], "the list shows again which image is open"
    person.runner.drain()
    assert person.name == "img0.tif"
    encoded = person.predictor.encoded
    person.do("next")
    assert person.name == "img1.tif"
    assert person.predictor.encoded == encoded + 1, "of img2.tif: img1.tif was embedded ahead all the same"


def test_steps_count_from_the_image_that_is_being_read(images):
    person = Person(images)
    person.annotator.go(1)
    person.annotator.next()
    person.runner.drain()
    assert person.name == "img2.tif"
    person.annotator.go(1)
    person.annotator.previous()
    person.annotator.previous()
    assert person.said == ["This is the first image."]
    person.runner.drain()
    assert person.name == "img0.tif"
    person.annotator.go(3)
    person.annotator.go(3)
    assert [job.kind for job in person.runner.queue].count("open") == 1
    for _ in range(3):
        person.annotator.previous()
    assert "open" not in person.session.running, "back at the image on show"


def test_an_image_that_breaks_on_the_way_back_is_skipped_in_that_direction(images):
    person = Person(images)
    person.do("go", 1)
    (images / "img2.tif").write_bytes(b"no image")
    person.annotator.go(3)
    person.annotator.previous()
    person.runner.drain()
    assert person.name == "img1.tif"


def test_a_folder_that_was_given_up_is_no_trouble_of_another(images):
    person = Person(images)
    said = []
    person.annotator.said.connect(said.append)
    person.session.commit(lambda objects: lambda: None)
    assert person.said == ["There is no mask to commit yet. Click inside an object or draw a box around it."]
    person.annotator.begin(str(images), str(images / "labels"))
    person.session.cancel("list")
    assert said == []
    person.annotator.begin(str(images / "nowhere"), str(images / "labels"))
    person.runner.drain()
    assert said == [f"There is no folder {images / 'nowhere'}."]


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


def test_an_image_without_objects_has_empty_labels_once_it_is_done(images):
    person = Person(images)
    path = images / "labels" / "img0_labels.tif"
    person.do("keep")
    assert not path.exists()
    person.do("finish")
    assert person.name == "img1.tif"
    assert tifffile.imread(path).shape == (48, 60)
    assert not tifffile.imread(path).any()
    assert not (images / "labels" / "img1_labels.tif").exists()
    person.do("mark", True)
    person.do("mark", False)
    assert (images / "labels" / "img1_labels.tif").exists()
    assert person.annotator.close() == ("", "")
    # Done by an earlier version, which wrote none: they are written once it is looked at.
    path.unlink()
    later = Person(images)
    assert later.states[0] == ("done", 0)
    later.do("go", 0)
    assert path.exists()
    # One that is gone again is written anew with what is drawn only.
    later.draw(1)
    later.do("keep")
    path.unlink()
    later.do("keep")
    assert not path.exists()


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
    assert person.annotator.close() == ("", "")
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
