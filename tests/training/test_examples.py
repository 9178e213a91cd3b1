"""Batches: what is asked for is there, where it is said to be."""

import dataclasses

import numpy as np
import pytest
import torch

from napari_sam.model.builtin import CELL, LOGIT_STRIDE
from napari_sam.training.augment import change_look, random_crop
from napari_sam.training.data import LabelledPlane, Source, load_folder, load_stack
from napari_sam.training.drawn import KINDS, draw_plane
from napari_sam.training.examples import Batches, Recipe, make_batch

RECIPE = Recipe(sides=(128,), pixels=2 * 128**2, prompts=6, drawn=0.0)


@pytest.fixture
def plane():
    """Three bright discs of radius 10, 14 and 10."""
    y, x = np.mgrid[:160, :160]
    labels = np.zeros((160, 160), np.int32)
    for label, (cy, cx, r) in enumerate(((40, 40, 10), (80, 110, 14), (125, 50, 10)), 1):
        labels[np.hypot(y - cy, x - cx) < r] = label
    image = np.where(labels > 0, 200, 30).astype(np.uint8)[..., None]
    return LabelledPlane(image, labels[None])


@pytest.fixture
def source(plane):
    return Source("discs", [plane], np.ones(1))


def test_diameter_is_the_median(plane):
    assert plane.diameter == pytest.approx(20, rel=0.05)


def test_a_crop_brings_objects_to_the_wanted_diameter(plane, rng):
    areas = []
    for _ in range(40):
        image, outside, labels, scale = random_crop(plane, 192, 44.0, rng)
        assert image.shape == (3, 192, 192)
        assert outside.shape == (192, 192)
        assert labels.shape == (1, 96, 96)
        assert scale == pytest.approx(44 / plane.diameter)
        whole = np.flatnonzero(np.bincount(labels.ravel(), minlength=4)[1:]) + 1
        areas += [(labels == k).sum() for k in whole if not _at_border(labels[0] == k) and k != 2]
    diameter = LOGIT_STRIDE * np.sqrt(np.median(areas) * 4 / np.pi)
    assert diameter == pytest.approx(44, rel=0.1)


def _at_border(mask):
    return mask[[0, -1]].any() or mask[:, [0, -1]].any()


def test_very_large_objects_are_seen_as_small_as_the_model_sees_them(tmp_path, rng):
    """An embryo that fills the camera, and a picture without one: both at the scale of the others."""
    y, x = np.mgrid[:611, :705] - 300
    disc = (np.hypot(y, x) < 250).astype(np.uint8)
    write_folder(tmp_path, disc * 200 + 20, disc, disc * 0)
    embryo, empty = load_folder("x", tmp_path).planes
    assert embryo.diameter == pytest.approx(125, abs=2)
    assert embryo.image.shape[:2] == embryo.labels.shape[1:] == empty.labels.shape[1:] == (152, 176)
    assert empty.diameter == pytest.approx(embryo.diameter, rel=0.02)
    inside = embryo.labels[0] > 0
    assert np.corrcoef(inside.ravel(), embryo.image.ravel())[0, 1] > 0.97
    for plane in (embryo, empty):
        *_, scale = random_crop(plane, 128, 44.0, rng)
        assert scale * plane.diameter == pytest.approx(44)
    np.save(tmp_path / "i.npy", np.stack([disc * 200] * 2))
    np.save(tmp_path / "l.npy", np.stack([disc] * 2))
    assert load_stack("x", tmp_path / "i.npy", tmp_path / "l.npy").planes[1].diameter == embryo.diameter


def test_crops_of_large_planes_with_few_objects_hold_one(rng):
    labels = np.zeros((1, 2048, 2048), np.int32)
    labels[0, 700:712, 1500:1512] = 3
    sparse = LabelledPlane(np.zeros((2048, 2048, 1), np.uint8), labels)
    # Turned and halved, a crop may lose what lay at its very edge.
    assert sum((random_crop(sparse, 64, 12, rng)[2] == 3).any() for _ in range(20)) > 12


def test_crop_and_labels_stay_together(plane, rng):
    """Bright is object wherever the crop lies, however it is turned."""
    for _ in range(20):
        image, outside, labels, _ = random_crop(plane, 128, 44.0, rng)
        seen = image[0, ::2, ::2].numpy()
        bright = seen[labels[0] > 0].mean() if labels.any() else 200
        dark = seen[(labels[0] == 0) & ~outside[::2, ::2].numpy()]
        assert bright > 170
        assert dark.mean() < 60


def test_look_changes_stay_in_range(rng):
    image = torch.rand(3, 64, 64) * 255
    for _ in range(30):
        changed = change_look(image, rng)
        assert changed.shape == image.shape
        assert 0 <= changed.min() <= changed.max() <= 255
        assert torch.isfinite(changed).all()


def test_prompts_lie_on_their_objects(source):
    for step in range(6):
        batch = make_batch(RECIPE, [source], [1.0], seed=0, step=step)
        n = len(batch.truth)
        assert batch.images.shape == (2, 3, 128, 128)
        assert batch.images.dtype == torch.uint8
        assert batch.dense.shape == (2, 5, 32, 32)
        assert n <= RECIPE.prompts
        local = (batch.point - CELL * batch.origin.flip(-1)) / LOGIT_STRIDE
        for k in range(n):
            x, y = (local[k] + 0.25).floor().long().clamp(0, 127)
            near = batch.truth[k, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            assert near.any()
            ys, xs = np.nonzero(batch.truth[k].numpy())
            box = (batch.box[k].numpy() - CELL * batch.origin[k].flip(-1).repeat(2).numpy()) / 2
            truth = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            size = np.tile(truth[2:] - truth[:2], 2)
            # noised by at most a few deviations; objects cut by the window are left out
            if not _at_border(batch.truth[k].numpy()):
                assert (np.abs(box - truth) < 0.6 * size + 2).all()


@pytest.mark.parametrize("exact", [0.0, 1.0])
def test_boxes_are_exact_where_asked(source, exact):
    """A label pixel is two model pixels, so an exact box ends half a pixel before its first centre."""
    recipe = dataclasses.replace(RECIPE, exact=exact)
    batch = make_batch(recipe, [source], [1.0], seed=0, step=0)
    assert len(batch.truth)
    for truth, box, origin in zip(batch.truth.numpy(), batch.box.numpy(), batch.origin.numpy(), strict=True):
        ys, xs = np.nonzero(truth)
        own = 2.0 * np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - 0.5
        found = box - CELL * np.tile(origin[::-1], 2)
        if not _at_border(truth):
            assert np.allclose(found, own) == (exact == 1.0)


def test_dense_truth_peaks_once_per_object(source):
    batch = make_batch(RECIPE, [source], [1.0], seed=1, step=0)
    seed, foreground, boundary, octaves, known = batch.dense.unbind(1)
    assert (seed[foreground == 0] == 0).all()
    assert seed.max() > 0.7
    assert 0 < boundary.sum() < foreground.sum() + 1
    assert (octaves[known > 0].abs() < 3).all()


def test_a_batch_depends_on_seed_and_step_alone(source):
    a, b = (make_batch(RECIPE, [source], [1.0], seed=3, step=7) for _ in range(2))
    for name, value in vars(a).items():
        assert torch.equal(value, getattr(b, name)), name
    c = make_batch(RECIPE, [source], [1.0], seed=3, step=8)
    assert not torch.equal(a.images, c.images)


def test_batches_go_on_where_they_were_left(source):
    def first(start, count, stride=1):
        stream = iter(Batches(RECIPE, [source], [1.0], 0, start, stride))
        return [next(stream).images for _ in range(count)]

    whole, rest = first(0, 4), first(2, 2)
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole[1::2], first(1, 2, 2), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_truth_is_nested(kind, rng):
    objects = 0
    for _ in range(4):
        plane = draw_plane(rng, 160, kind)
        assert plane.image.shape == (160, 160, 1)
        assert plane.labels.shape == (3, 160, 160)
        assert plane.image.std() > 5
        inner, outer = plane.labels[[1, 0]] if kind != "fibres" else plane.labels[[0, 1]]
        assert (outer[inner > 0] == inner[inner > 0]).all()
        group = plane.labels[2]
        for label in np.unique(group[group > 0]):
            assert len(np.unique(outer[group == label])) >= 2
        objects += plane.labels[0].max()
    assert objects >= 8


def test_drawn_objects_can_be_told_from_the_background(rng):
    for _ in range(5):
        plane = draw_plane(rng, 256, "nuclei")
        inside = plane.labels[0] > 0
        assert inside.any()
        assert plane.image[inside].mean() > plane.image[~inside].mean() + 20


def test_folders_and_stacks_are_read(tmp_path, plane):
    import tifffile
    from PIL import Image

    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for k in range(3):
        Image.fromarray(plane.image[..., 0]).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray(plane.labels[0].astype(np.uint16)).save(tmp_path / "labels" / f"{k}.png")
    (tmp_path / "index.csv").write_text("name,kind\n0,a\n1,a\n2,b\n")
    source = load_folder("x", tmp_path, "kind")
    assert len(source.planes) == 3
    assert source.chances[2] == pytest.approx(np.sqrt(2) * source.chances[0])
    stack = np.stack([plane.image[..., 0]] * 5)
    tifffile.imwrite(tmp_path / "i.tif", stack)
    tifffile.imwrite(tmp_path / "l.tif", np.stack([plane.labels[0]] * 5).astype(np.uint16))
    assert len(load_stack("y", tmp_path / "i.tif", tmp_path / "l.tif", every=2).planes) == 3


def test_a_plane_of_many_objects_is_drawn_more_often(tmp_path):
    from PIL import Image

    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for k, objects in enumerate((1, 4)):
        labels = np.zeros((32, 32), np.uint16)
        labels[4:28:6, 4:28] = np.arange(1, 5)[:, None] * (np.arange(1, 5)[:, None] <= objects)
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "images" / f"{k}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{k}.png")
    for crowding, chances in ((0.5, [1 / 3, 2 / 3]), (1.0, [0.2, 0.8]), (0.0, [0.5, 0.5])):
        assert load_folder("x", tmp_path, crowding=crowding).chances == pytest.approx(chances)


def test_missing_labels_are_named(tmp_path):
    with pytest.raises(ValueError, match="two folders, 'images' and 'labels'"):
        load_folder("x", tmp_path)


def write_pair(folder, image, labels, suffix=".tif", **options):
    """Write an image and its labels as a folder to train on."""
    import tifffile

    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    tifffile.imwrite(folder / "images" / "a.tif", image, **options)
    tifffile.imwrite(folder / "labels" / f"a{suffix}", labels)


def test_labels_of_another_size_are_refused(tmp_path, plane):
    labels = plane.labels[0].astype(np.uint16)
    write_pair(tmp_path / "large", np.kron(plane.image[..., 0], np.ones((2, 2), np.uint8)), labels)
    with pytest.raises(ValueError, match=r"same height and width, found .*images.a\.tif and .*labels.a\.tif"):
        load_folder("x", tmp_path / "large")
    write_pair(tmp_path / "colours", plane.image[..., 0], np.stack([labels] * 3, -1))
    with pytest.raises(ValueError, match="has channels or colours: it is an image"):
        load_folder("x", tmp_path / "colours")
    # Two planes that nothing says are channels.
    write_pair(tmp_path / "planes", np.stack([plane.image[..., 0]] * 2), labels)
    with pytest.raises(ValueError, match="same height and width"):
        load_folder("x", tmp_path / "planes")


def test_channels_that_come_first_are_read_as_the_file_says(tmp_path, plane):
    channels = np.stack([plane.image[..., 0], 255 - plane.image[..., 0]]).astype(np.uint16)
    labels = plane.labels[0].astype(np.uint16)
    write_pair(tmp_path / "first", channels, labels, imagej=True, metadata={"axes": "CYX"})
    read = load_folder("x", tmp_path / "first").planes[0]
    assert read.image.shape == (*labels.shape, 3)
    np.testing.assert_array_equal(read.labels[0], labels)
    assert np.corrcoef(read.image[..., 0].ravel(), plane.image[..., 0].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("axes", ["CYX", "ZCYX"])
def test_channels_are_learned_from_as_they_are_segmented(tmp_path, plane, axes):
    """Dim channels of 8 bits are channels where the file says so; planes of a stack share a contrast."""
    from napari_sam.files import open_image
    from napari_sam.folder import Pictures, settle_contrast
    from napari_sam.recipe import Recipe as Segmenting

    grey, labels = plane.image[..., 0], plane.labels[0].astype(np.uint16)
    channels = np.stack([grey // 30, grey, grey[::-1] // 25]).astype(np.uint8)
    if axes[0] == "Z":
        channels = np.stack([channels // k for k in range(1, 6)])
        labels = np.stack([labels] * 5)
    write_pair(tmp_path, channels, labels, imagej=True, metadata={"axes": axes})
    paths = tmp_path / "images" / "a.tif", tmp_path / "labels" / "a.tif"
    with open_image(paths[0]) as image:
        seen = list(Pictures(image, settle_contrast(image, Segmenting())))
    source = load_folder("x", tmp_path) if axes == "CYX" else load_stack("x", *paths)
    np.testing.assert_array_equal([known.image for known in source.planes], seen)
    assert (seen[0].max((0, 1)) > 250).all()
    assert (source.planes[-1].image[..., 1].max() > 250) == (axes == "CYX")


def test_the_ending_of_a_label_file_may_be_in_capitals(tmp_path, plane):
    write_pair(tmp_path, plane.image[..., 0], plane.labels[0].astype(np.uint16), ".TIF")
    assert len(load_folder("x", tmp_path).planes) == 1


def test_data_without_objects_are_refused(tmp_path, plane):
    import tifffile

    image, empty = plane.image[..., 0], np.zeros(plane.labels.shape[1:], np.uint16)
    write_pair(tmp_path, image, empty)
    with pytest.raises(ValueError, match="found no object in"):
        load_folder("x", tmp_path)
    tifffile.imwrite(tmp_path / "i.tif", np.stack([image] * 2))
    tifffile.imwrite(tmp_path / "l.tif", np.stack([empty] * 2))
    with pytest.raises(ValueError, match=r"found no object in .*l\.tif"):
        load_stack("x", tmp_path / "i.tif", tmp_path / "l.tif")
    some = np.stack([empty, plane.labels[0].astype(np.uint16)])
    tifffile.imwrite(tmp_path / "l.tif", some)
    with pytest.raises(ValueError, match=r"no object in the planes 1, 3, 5 ... \(every = 2\) of .*l\.tif"):
        load_stack("x", tmp_path / "i.tif", tmp_path / "l.tif", every=2)
    tifffile.imwrite(tmp_path / "l.tif", np.stack([empty] * 3), photometric="minisblack")
    with pytest.raises(ValueError, match=r"same shape \(planes, height, width\), found .*i\.tif .*l\.tif"):
        load_stack("x", tmp_path / "i.tif", tmp_path / "l.tif")


def write_folder(folder, image, *labels):
    """Write the same image with several labels, as a folder to train on."""
    import tifffile

    for k, known in enumerate(labels):
        for name, pixels in (("images", image), ("labels", known)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / name / f"{k}.tif", pixels)


def test_an_image_without_objects_is_background(tmp_path, plane, rng):
    image, labels = plane.image[..., 0], plane.labels[0].astype(np.uint16)
    write_folder(tmp_path / "few", image, *[labels] * 7, labels * 0)
    chances = load_folder("x", tmp_path / "few").chances
    assert chances[7] == pytest.approx(chances[0] / np.sqrt(3))
    write_folder(tmp_path / "many", image, labels, np.where(labels == 1, labels, 0), *[labels * 0] * 20)
    source = load_folder("x", tmp_path / "many")
    assert source.chances[2:].sum() == pytest.approx(0.15)
    assert source.chances.sum() == pytest.approx(1)
    assert source.chances[0] == pytest.approx(source.chances[1] * np.sqrt(3))
    write_folder(tmp_path, image, labels, labels * 0)
    source = load_folder("x", tmp_path)
    empty = source.planes[1]
    assert (empty.count, empty.diameter) == (0, source.planes[0].diameter)
    batch = make_batch(RECIPE, [source], [1.0], seed=0, step=0)
    assert len(batch.point)
    crop = random_crop(empty, 128, 40, rng)
    assert not crop[2].any()
    assert crop[3] == pytest.approx(40 / empty.diameter)


def test_masks_are_refused(tmp_path, plane):
    import tifffile

    image, mask = plane.image[..., 0], (plane.labels[0] > 0).astype(np.uint8) * 255
    write_folder(tmp_path, image, *[mask] * 3, mask * 0)
    with pytest.raises(ValueError, match=r"in 3 separate places in .*0\.tif.*: this is a mask"):
        load_folder("x", tmp_path)
    tifffile.imwrite(tmp_path / "i.tif", np.stack([image] * 4), photometric="minisblack")
    tifffile.imwrite(tmp_path / "l.tif", np.stack([mask] * 4), photometric="minisblack")
    with pytest.raises(ValueError, match=r"in 3 separate places in .*l\.tif: this is a mask"):
        load_stack("x", tmp_path / "i.tif", tmp_path / "l.tif")


def test_draws_do_not_depend_on_how_frames_are_ordered(tmp_path, plane):
    """Planes lie in the plain order of their names, as ever: the draws of a seed stay what they were."""
    labels = plane.labels[0].astype(np.uint16)
    write_folder(tmp_path, plane.image[..., 0], *[labels] * 10, np.where(labels == 1, labels, 0))
    # 0, 1, 10, 2, ...
    assert [p.count for p in load_folder("x", tmp_path).planes] == [3, 3, 1, *[3] * 8]


def test_a_table_of_groups_is_needed_to_balance_them(tmp_path, plane):
    write_folder(tmp_path, plane.image[..., 0], plane.labels[0].astype(np.uint16))
    with pytest.raises(ValueError, match=r"index.csv, whose column 'kind' groups the images, cannot be read"):
        load_folder("x", tmp_path, "kind")


def test_the_file_of_an_image_of_nothing_is_named(tmp_path, plane):
    write_folder(tmp_path, np.full(plane.labels.shape[1:], np.nan), plane.labels[0].astype(np.uint16))
    with pytest.raises(ValueError, match=r"images.0\.tif: The plane has no finite pixel value"):
        load_folder("x", tmp_path)


def test_objects_that_are_never_seen_end_the_search(plane):
    """They are too small in the crops to be prompted."""
    specks = np.zeros((1, 64, 64), np.int32)
    specks[0, 10, 10] = 1
    source = Source("specks", [LabelledPlane(plane.image[:64, :64], specks)], np.ones(1))
    tiny = dataclasses.replace(RECIPE, sides=(32,), pixels=32**2, diameter=1.0, wide=0.0)
    with pytest.raises(ValueError, match="found none in 100 batches"):
        make_batch(tiny, [source], [1.0], seed=0, step=0)
