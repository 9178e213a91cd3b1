"""Images with their labels as training and evaluation read them: names, kinds of files, ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_sam.export.formats import without_suffix
from napari_sam.files import ImageFileError, open_image
from napari_sam.files.pairs import labelled_pairs, parts_of_one, read_pair, read_stack_pair, refuse_masks
from napari_sam.label_ids import LabelError, numbered_anew, whole

SHAPE = (12, 16)


@pytest.fixture
def truth():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 3:9] = 1
    labels[7:11, 2:6] = 4
    return labels


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    return tmp_path


def put(folder, *names):
    for name in names:
        path = folder / name
        if path.suffix == ".npy":
            np.save(path, np.ones(SHAPE, np.uint8))
        else:
            Image.fromarray(np.ones(SHAPE, np.uint8)).save(path)


def names(folder):
    return [(image.name, labels.name) for image, labels in labelled_pairs(folder)]


def test_labels_have_the_name_of_the_file_or_its_stem_or_what_the_plugin_puts_behind(folder):
    put(folder, "images/a.tif", "images/b.png", "images/c.ome.tif", "images/d.npy", "images/._a.tif")
    put(folder, "labels/a.tif", "labels/b.tif", "labels/c_labels.tif", "labels/d.bmp", "labels/.b.png")
    assert names(folder) == [
        ("a.tif", "a.tif"), ("b.png", "b.tif"), ("c.ome.tif", "c_labels.tif"), ("d.npy", "d.bmp")
    ]  # fmt: skip
    assert [without_suffix(image) for image, _ in labelled_pairs(folder)] == ["a", "b", "c", "d"]


def test_images_of_the_same_stem_have_each_their_own_labels(folder):
    put(folder, "images/a.tif", "images/a.png", "labels/a.tif", "labels/a.png")
    assert names(folder) == [("a.png", "a.png"), ("a.tif", "a.tif")]
    (folder / "labels" / "a.png").unlink()
    with pytest.raises(ImageFileError, match=r"a.png and a.tif in .* both have the labels a.tif"):
        names(folder)
    (folder / "images" / "a.tif").unlink()
    put(folder, "labels/a.bmp")
    with pytest.raises(ImageFileError, match=r"a.bmp and a.tif in .* may both be the labels of a.png"):
        names(folder)


def test_an_image_without_labels_is_named_with_what_was_expected(folder):
    put(folder, "images/a.tif", "labels/b.tif")
    with pytest.raises(ImageFileError, match=r"a.tif has no label .*: expected a.tif, or a_labels.tif"):
        names(folder)


def test_pictures_are_read_as_they_are_segmented(tmp_path, truth, rng):
    """Grey with alpha and palettes are colours to the model, not numbers."""
    np.save(tmp_path / "l.npy", truth)
    grey = Image.fromarray(rng.integers(0, 255, SHAPE).astype(np.uint8))
    for name, mode in (("alpha.png", "LA"), ("palette.png", "P")):
        grey.convert(mode).save(tmp_path / name)
        pixels, labels = read_pair(tmp_path / name, tmp_path / "l.npy")
        with open_image(tmp_path / name) as image:
            np.testing.assert_array_equal(pixels, image.plane(0))
        assert pixels.shape == (*SHAPE, 3)
        np.testing.assert_array_equal(labels, truth)


def test_labels_with_axes_of_length_one_are_planes(tmp_path, truth, rng):
    stack = rng.integers(0, 255, (3, *SHAPE)).astype(np.uint8)
    known = np.stack([truth] * 3)
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    zarr.save_array(tmp_path / "labels.zarr", known[:, None])
    group = zarr.open_group(tmp_path / "named.zarr", mode="w")
    group.create_array("0", data=known[None, :, None])
    axes = [
        {"name": n, "type": t}
        for n, t in zip("tzcyx", ["time", "space", "channel", *["space"] * 2], strict=True)
    ]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * 5}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    tifffile.imwrite(tmp_path / "tz.tif", stack[None], imagej=True, metadata={"axes": "TZYX"})
    planes, labels, depth = read_stack_pair(tmp_path / "tz.tif", tmp_path / "named.zarr")
    assert depth == 3
    np.testing.assert_array_equal(planes, stack)
    np.testing.assert_array_equal(labels, known)
    with open_image(tmp_path / "named.zarr") as image:
        assert image.plane(1).shape == (*SHAPE, 1)
        np.testing.assert_array_equal(image.label_plane(1), truth)


def test_a_stack_that_does_not_say_its_axes_has_those_of_its_labels(tmp_path, truth, rng):
    for depth in (3, 4):
        stack = rng.integers(0, 255, (depth, *SHAPE)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="rgb", planarconfig="separate")
        with open_image(tmp_path / "stack.tif") as image:
            assert image.names == "SYX", "taken for colours"
        about = {"imagej": True, "metadata": {"axes": "ZYX"}}
        tifffile.imwrite(tmp_path / "labels.tif", np.stack([truth] * depth), **about)
        planes, labels, found = read_stack_pair(tmp_path / "stack.tif", tmp_path / "labels.tif")
        assert found == depth
        np.testing.assert_array_equal(planes, stack)
        np.testing.assert_array_equal(labels, [truth] * depth)
    # Colours of one plane stay colours, also beside labels with an axis of one position.
    colours = rng.integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", colours, photometric="rgb")
    tifffile.imwrite(tmp_path / "labels.tif", truth[None], **about)
    np.testing.assert_array_equal(read_pair(tmp_path / "stack.tif", tmp_path / "labels.tif")[0], colours)


def test_what_is_no_label_image_is_refused_by_name(tmp_path, truth):
    Image.fromarray(truth).save(tmp_path / "i.png")
    for labels, words in (
        (truth.astype(np.int16) - 1, "Expected labels of 0 and above, found -1"),
        (np.where(truth, np.nan, 1.0), "Expected whole numbers as labels, found fractions"),
        (truth / 3, "Expected whole numbers as labels, found fractions"),
    ):
        np.save(tmp_path / "odd.npy", labels)
        with pytest.raises(ImageFileError, match=f"odd.npy is no label image. {words}"):
            read_pair(tmp_path / "i.png", tmp_path / "odd.npy")
        with open_image(tmp_path / "odd.npy") as image, pytest.raises(ImageFileError, match=words):
            image.label_plane(0)
    Image.fromarray(np.stack([truth] * 3, -1)).save(tmp_path / "colours.png")
    with open_image(tmp_path / "colours.png") as image, pytest.raises(ImageFileError, match="is an image"):
        image.label_plane(0)


def test_ids_are_whole_numbers_however_they_are_stored(truth):
    for dtype in (bool, np.uint8, np.int64, np.float32):
        np.testing.assert_array_equal(
            whole(truth.astype(dtype)), truth.astype(bool) if dtype is bool else truth
        )
    with pytest.raises(LabelError, match="found dtype"):
        whole(truth.astype("S1"))


def test_high_ids_are_numbered_anew_in_their_order(truth):
    high = np.where(truth == 4, 3_000_000_000, truth * np.uint64(1_000_000_001)).astype(np.uint64)
    (small,) = numbered_anew([high])
    assert small.dtype == np.int32
    np.testing.assert_array_equal(small, np.where(truth == 4, 2, truth))
    # An id is the same object in all planes, and 0 is background also where none has any.
    one, two = numbered_anew([np.full((2, 2), 7), np.array([[9, 7]])])
    assert (one.tolist(), two.tolist()) == ([[1, 1], [1, 1]], [[2, 1]])
    assert numbered_anew([]) == []


def spots(count, value=1):
    plane = np.zeros((16, 64), np.uint16)
    plane[4:8, : 5 * count : 5] = value
    return plane


@pytest.mark.parametrize(
    ("images", "mask"),
    [
        ([[spots(5)], [spots(4)], [spots(2)]], True),  # one image happens to have two cells
        ([[spots(5), spots(0), spots(4), spots(2)]], True),
        ([[spots(5)], [spots(4)], [np.where(spots(2), np.arange(64) + 1, 0)]], False),
        ([[spots(5)], [spots(1)], [spots(1)]], False),  # one of several objects is in pieces
        ([[spots(3)]], False),  # a vessel
        ([[spots(10)], [spots(11)]], True),
        ([[spots(10)], [spots(3)]], False),
        ([[spots(12), spots(0)]], True),
        ([[np.roll(spots(1), 8 * t, 1) for t in range(8)]], False),  # a cell that moves fast
        ([[spots(1) if z % 5 == 0 else spots(0) for z in range(20)]], False),  # every fifth plane is labelled
        ([[spots(3, 1), spots(3, 2), spots(3, 3)]], False),
        ([[spots(0)], []], False),
    ],
)
def test_masks_are_told_from_objects_by_the_parts_in_their_planes(images, mask):
    parts = {Path(f"{n}.tif"): parts_of_one(planes) for n, planes in enumerate(images)}
    if not mask:
        refuse_masks(parts)
        return
    with pytest.raises(ImageFileError, match=r"in \d+ separate places in \d\.tif.*: this is a mask"):
        refuse_masks(parts)
