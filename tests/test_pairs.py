"""Images with their labels as training and evaluation read them: names, kinds of files, ids."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from scipy import ndimage

from napari_sam.export.formats import without_suffix
from napari_sam.files import ImageFileError, open_image
from napari_sam.files.no_labels import parts_of, refuse_masks
from napari_sam.files.pairs import labelled_pairs, open_pair
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


def read(image, labels, axes=None, **options):
    """All planes of an image, and their labels."""
    with open_pair(image, labels, axes, **options) as (file, truth):
        return list(file.planes()), truth


def names(folder):
    return [(image.name, labels.name) for image, labels in labelled_pairs(folder)]


def test_a_folder_that_is_not_there_and_one_without_labels_are_told_apart(tmp_path):
    with pytest.raises(ImageFileError, match="There is no folder"):
        list(labelled_pairs(tmp_path / "elsewhere"))
    with pytest.raises(ImageFileError, match="was expected to hold two folders"):
        list(labelled_pairs(tmp_path))


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


def test_older_labels_are_not_taken_in_place_of_corrected_ones(folder):
    put(folder, "images/a.tif", "labels/a.tif", "labels/a_labels.tif")
    with pytest.raises(ImageFileError, match=r"a.tif and a_labels.tif in .* may both be the labels of a.tif"):
        names(folder)


def test_an_image_without_labels_is_named_with_what_was_expected(folder):
    put(folder, "images/a.tif", "labels/b.tif")
    with pytest.raises(ImageFileError, match=r"a.tif has no label .*: expected a.tif, or a_labels.tif") as no:
        names(folder)
    assert f"Either label it, or take the image out of {folder / 'images'}" in str(no.value)
    put(folder, "labels/A.TIF")
    with pytest.raises(
        ImageFileError, match=r"Either rename A\.TIF, which differs in capital letters, or take"
    ):
        names(folder)


def test_labels_lie_where_the_dock_puts_them_or_beside_the_images(folder):
    """A folder of the two has its labels in `labels`, also where the dock has put others among the images."""
    put(folder, "images/a.tif")
    (folder / "labels").rmdir()
    (folder / "images" / "labels").mkdir()
    put(folder, "images/labels/a_labels.tif")
    assert names(folder) == [("a.tif", "a_labels.tif")]
    (folder / "labels").mkdir()
    with pytest.raises(ImageFileError, match=rf"no label image of the same name in {folder / 'labels'}:"):
        names(folder)


def test_names_that_look_the_same_are_the_same(folder):
    """A Mac takes umlauts apart; where both spellings are there, each image has the labels of its own."""
    one, apart = normalize("NFC", "Zelle ü"), normalize("NFD", "Zelle ü")
    put(folder, f"images/{one}.tif", f"labels/{apart}.tif")
    if len(list((folder / "images").iterdir())) == 1 and (folder / "images" / f"{apart}.tif").exists():
        pytest.skip("this disk takes the two for one")
    assert names(folder) == [(f"{one}.tif", f"{apart}.tif")]
    (folder / "labels" / f"{apart}.tif").rename(folder / "labels" / f"{apart}_labels.tif")
    assert names(folder) == [(f"{one}.tif", f"{apart}_labels.tif")]
    (folder / "labels" / f"{apart}_labels.tif").unlink()
    put(folder, f"images/{apart}.tif", f"labels/{one}.tif", f"labels/{apart}.tif")
    assert {(image, labels) for image, labels in names(folder)} == {
        (f"{name}.tif", f"{name}.tif") for name in (one, apart)
    }


def test_pictures_are_read_as_they_are_segmented(tmp_path, truth, rng):
    """Grey with alpha and palettes are colours to the model, not numbers."""
    np.save(tmp_path / "l.npy", truth)
    grey = Image.fromarray(rng.integers(0, 255, SHAPE).astype(np.uint8))
    for name, mode in (("alpha.png", "LA"), ("palette.png", "P")):
        grey.convert(mode).save(tmp_path / name)
        (pixels,), labels = read(tmp_path / name, tmp_path / "l.npy", single=True)
        with open_image(tmp_path / name) as image:
            np.testing.assert_array_equal(pixels, image.plane(0))
        assert pixels.shape == (*SHAPE, 3)
        np.testing.assert_array_equal(labels, [truth])


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
    planes, labels = read(tmp_path / "tz.tif", tmp_path / "named.zarr")
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
        planes, labels = read(tmp_path / "stack.tif", tmp_path / "labels.tif")
        np.testing.assert_array_equal(planes, stack)
        np.testing.assert_array_equal(labels, [truth] * depth)
    # Colours of one plane stay colours, also beside labels with an axis of one position.
    colours = rng.integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", colours, photometric="rgb")
    tifffile.imwrite(tmp_path / "labels.tif", truth[None], **about)
    planes, labels = read(tmp_path / "stack.tif", tmp_path / "labels.tif", single=True)
    np.testing.assert_array_equal(planes, [colours])
    np.testing.assert_array_equal(labels, [truth])


def test_channels_that_lie_last_are_no_planes_where_the_labels_say_so(tmp_path, truth, rng):
    """A file of numbers says nothing of its axes: its labels do, with or without axes of one position."""
    pixels = rng.integers(0, 255, (4, *SHAPE, 2)).astype(np.uint8)
    one, several = truth[None], np.stack([truth] * 4)
    for image, labels in ((pixels[0], truth), (pixels[0], one), (pixels, several), (pixels[:1], one)):
        np.save(tmp_path / "image.npy", image)
        np.save(tmp_path / "labels.npy", labels)
        planes, known = read(tmp_path / "image.npy", tmp_path / "labels.npy")
        np.testing.assert_array_equal(planes, pixels[: len(planes)])
        np.testing.assert_array_equal(known, np.stack([truth] * len(planes)))
    assert len(planes) == 1


def test_axes_that_the_files_say_wrong_can_be_said(tmp_path, truth, rng):
    """Three planes that were saved as red, green and blue, and so were their labels."""
    stack = rng.integers(0, 255, (3, *SHAPE)).astype(np.uint8)
    for name, pixels in (("image", stack), ("labels", np.stack([truth] * 3))):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageFileError, match="has channels or colours"):
        read(tmp_path / "image.tif", tmp_path / "labels.tif")
    planes, labels = read(tmp_path / "image.tif", tmp_path / "labels.tif", "zyx")
    np.testing.assert_array_equal(planes, stack)
    np.testing.assert_array_equal(labels, [truth] * 3)
    # What the image has beyond its labels are channels.
    np.save(tmp_path / "image.npy", stack)
    np.save(tmp_path / "labels.npy", truth)
    (plane,), _ = read(tmp_path / "image.npy", tmp_path / "labels.npy", "CYX", single=True)
    np.testing.assert_array_equal(plane, np.moveaxis(stack, 0, -1))
    with pytest.raises(ImageFileError, match=r"image\.npy has the shape .* found 'TZYX'"):
        read(tmp_path / "image.npy", tmp_path / "image.npy", "TZYX")


def test_labels_that_were_saved_as_jpeg_are_refused(tmp_path, truth):
    """Around each object the compression makes up others."""
    large = np.kron(truth, np.ones((5, 5), np.uint8)) * 40
    Image.fromarray(large).save(tmp_path / "i.png")
    Image.fromarray(large).save(tmp_path / "l.JPG", quality=95)
    with Image.open(tmp_path / "l.JPG") as picture:
        assert len(np.unique(np.asarray(picture))) > 3
    with pytest.raises(ImageFileError, match=r"l\.JPG is a JPEG, which keeps no exact numbers"):
        read(tmp_path / "i.png", tmp_path / "l.JPG")


def test_what_is_no_label_image_is_refused_by_name(tmp_path, truth):
    Image.fromarray(truth).save(tmp_path / "i.png")
    for labels, words in (
        (truth.astype(np.int16) - 1, "Expected labels of 0 and above, found -1"),
        (np.where(truth, np.nan, 1.0), "Expected whole numbers as labels, found fractions"),
        (truth / 3, "Expected whole numbers as labels, found fractions"),
    ):
        np.save(tmp_path / "odd.npy", labels)
        with pytest.raises(ImageFileError, match=f"odd.npy is no label image. {words}"):
            read(tmp_path / "i.png", tmp_path / "odd.npy")
        with open_image(tmp_path / "odd.npy") as image, pytest.raises(ImageFileError, match=words):
            image.label_plane(0)
    Image.fromarray(np.stack([truth] * 3, -1)).save(tmp_path / "colours.png")
    with open_image(tmp_path / "colours.png") as image, pytest.raises(ImageFileError, match="is an image"):
        image.label_plane(0)


def test_a_file_is_not_an_image_and_its_own_labels(tmp_path, truth):
    Image.fromarray(truth).save(tmp_path / "a.tif")
    (tmp_path / "link.tif").symlink_to(tmp_path / "a.tif")
    for labels in ("a.tif", "link.tif"):
        with pytest.raises(ImageFileError, match=r"a\.tif is given as an image and as the labels of it"):
            read(tmp_path / "a.tif", tmp_path / labels)


def test_damaged_labels_are_told_from_the_image_of_the_same_name(folder, truth):
    about = {"compression": "zlib"}
    large = np.random.default_rng(0).integers(0, 9, (64, 64)).astype(np.uint16)
    for name in ("images", "labels"):
        tifffile.imwrite(folder / name / "b.tif", large, **about)
    whole_file = (folder / "labels" / "b.tif").read_bytes()
    (folder / "labels" / "b.tif").write_bytes(whole_file[:-900])
    pair = folder / "images" / "b.tif", folder / "labels" / "b.tif"
    with pytest.raises(ImageFileError, match=r"labels.b\.tif cannot be read .* Is the file complete\?"):
        read(*pair)
    pair[1].write_bytes(b"")
    with pytest.raises(ImageFileError, match=r"^labels.b\.tif cannot be read"):
        read(*pair)
    pair[1].write_bytes(whole_file)
    pair[0].write_bytes(whole_file[:-900])
    with pytest.raises(ImageFileError, match=r"^Plane 1 of images.b\.tif cannot be read"):
        read(*pair)


def test_a_stack_among_planes_is_sent_where_stacks_go(tmp_path, truth):
    for name in ("i.tif", "l.tif"):
        tifffile.imwrite(tmp_path / name, np.stack([truth] * 5), imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(
        ImageFileError, match=r"image = and labels = .* evaluate it by its name, with --labels"
    ):
        read(tmp_path / "i.tif", tmp_path / "l.tif", single=True)
    tifffile.imwrite(tmp_path / "i.tif", truth[:5])
    tifffile.imwrite(tmp_path / "l.tif", truth)
    with pytest.raises(ImageFileError, match="Expected one plane") as refused:
        read(tmp_path / "i.tif", tmp_path / "l.tif", single=True)
    assert "A stack does not" not in str(refused.value)


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


def classes(count):
    """Classes of pixels as ilastik writes them: 1 is background, 2 cells."""
    return spots(count) + 1


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
        ([[classes(12)], [classes(11)], [classes(4)]], True),  # one image happens to have few cells
        ([[classes(12)], [classes(2)], [classes(3)]], False),  # one of several objects is in many pieces
        ([[classes(12)], [np.arange(4)[None] + 1]], False),
    ],
)
def test_masks_are_told_from_objects_by_the_parts_in_their_planes(images, mask):
    parts = {Path(f"{n}.tif"): parts_of(planes) for n, planes in enumerate(images)}
    if not mask:
        refuse_masks(parts)
        return
    kind = "this is a mask" if parts[Path("0.tif")].ids == 1 else "these are classes of pixels"
    with pytest.raises(ImageFileError, match=rf"in \d+ separate places in \d\.tif.*: {kind}"):
        refuse_masks(parts)


def test_one_mask_among_label_images_is_refused_by_name():
    good, mask, vessel = np.where(spots(9), np.arange(64) // 5 + 1, 0), spots(10), spots(9)
    refuse_masks({Path("a.tif"): parts_of([good]), Path("b.tif"): parts_of([vessel])})
    for among in ([mask], [mask, spots(11), spots(0)]):
        with pytest.raises(
            ImageFileError, match=r"a single one in 1\d separate places in b\.tif, while other"
        ):
            refuse_masks({Path("a.tif"): parts_of([good]), Path("b.tif"): parts_of(among)})


def test_specks_of_a_brush_beside_an_object_make_no_mask():
    many, one = np.where(spots(9), np.arange(64) // 5 + 1, 0), np.zeros((64, 64), int)
    one[5:25, 5:25], one[40, 5:60:4] = 1, 1
    refuse_masks({Path("a.tif"): parts_of([many]), Path("b.tif"): parts_of([one])})


def blobs(rng, side=96):
    """Grey values as a microscope gives them: smooth objects, and noise."""
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), 6)
    return (smooth - smooth.min()) / np.ptp(smooth) + rng.normal(0, 0.02, (side, side)).clip(-0.05, 0.05)


@pytest.mark.parametrize(("greys", "dtype"), [(200, np.uint8), (4000, np.uint16), (60_000, np.uint16)])
def test_an_image_is_no_label_image(rng, greys, dtype):
    image = (blobs(rng).clip(0, 1) * greys).astype(dtype)
    for planes in ([image], [image * 0, image, image, image]):
        with pytest.raises(ImageFileError, match=r"lie about as the greys of an image do in b\.tif"):
            refuse_masks({Path("a.tif"): parts_of([spots(4) * 0]), Path("b.tif"): parts_of(planes)})


def test_objects_in_pieces_are_objects(rng):
    """Some that are cut up, one that is all debris, and one that is all that is no cell; or the tiniest."""
    labels = np.kron(np.arange(1, 65, dtype=np.uint16).reshape(8, 8), np.ones((12, 12), np.uint16))
    labels[::2][(labels[::2] % 3) == 0] = 0  # a third of them in six pieces each
    debris = np.where(rng.random(labels.shape) < 0.1, 65, labels)
    background = np.where(labels == 0, 66, debris)
    halves = np.where((labels % 2 == 0) & (np.arange(96) % 4 == 0), 0, labels)
    tiny = np.zeros((64, 64), np.uint16)
    tiny[::2, ::2] = np.arange(1, 1025).reshape(32, 32)
    dendrites = np.zeros((120, 120), np.uint16)  # sections of a few cells, each in two dozen places
    for n, (y, x) in enumerate(np.ndindex(12, 12)):
        dendrites[10 * y : 10 * y + 6, 10 * x : 10 * x + 6] = 1 + (5 * n) % 6
    for plane in (labels, debris, background, halves, tiny, dendrites):
        refuse_masks({Path("a.tif"): parts_of([plane] * 4)})
