"""Pasted objects: they look like where they come from, and hide little of what was there."""

import dataclasses

import numpy as np
import pytest
import torch

from napari_sam.training.augment import change_look
from napari_sam.training.data import LabelledPlane, Source
from napari_sam.training.examples import Recipe, make_batch
from napari_sam.training.pasting import MOST_HIDDEN, Crop, paste_objects

SIDE = 128
BRIGHT = {1: 120.0, 2: 180.0, 3: 240.0}


def crop_of(*discs):
    """Crop with discs, (y, x, radius, grey value), in pixels of the labels."""
    y, x = np.mgrid[: SIDE // 2, : SIDE // 2]
    labels = np.zeros((1, SIDE // 2, SIDE // 2), np.int32)
    picture = np.full((SIDE // 2, SIDE // 2), 20.0, np.float32)
    for label, (cy, cx, radius, grey) in enumerate(discs, 1):
        inside = np.hypot(y - cy, x - cx) < radius
        labels[0][inside], picture[inside] = label, grey
    image = torch.from_numpy(np.kron(picture, np.ones((2, 2), np.float32))).expand(3, -1, -1)
    return Crop(image, torch.zeros(SIDE, SIDE, dtype=torch.bool), labels, 4 * np.bincount(labels.ravel()))


HOST = crop_of((20, 20, 9, 60.0), (45, 40, 9, 60.0))
DONOR = crop_of((20, 20, 6, 120.0), (20, 45, 7, 180.0), (46, 30, 8, 240.0))


def pasted(rng, host=HOST, donor=DONOR, tries=40):
    """Crops into which something was pasted."""
    crops = [paste_objects(host, donor, rng) for _ in range(tries)]
    return [crop for crop in crops if crop.labels.max() > host.labels.max()]


def test_pasted_objects_bring_their_pixels_and_their_areas(rng):
    crops = pasted(rng)
    assert len(crops) > 10
    for crop in crops:
        assert len(crop.areas) == crop.labels.max() + 1
        fine = crop.labels[0].repeat(2, 0).repeat(2, 1)
        for new in range(3, crop.labels.max() + 1):
            greys = np.unique(crop.image[0].numpy()[fine == new])
            area = crop.areas[new]
            (source,) = (k for k in (1, 2, 3) if DONOR.areas[k] == area)
            # Neighbours that were pasted later fade into its rim.
            assert BRIGHT[source] in greys
            assert np.count_nonzero(fine == new) <= area


def test_little_of_an_object_is_hidden(rng):
    before = np.bincount(HOST.labels.ravel())
    for crop in pasted(rng):
        after = np.bincount(crop.labels.ravel())
        assert after[1] >= (1 - MOST_HIDDEN) ** 3 * before[1]
        assert (crop.labels[0][crop.labels[0] > 2] > 2).all()
    assert HOST.labels.max() == 2
    assert HOST.image.max() == 60


def test_many_are_put_beside_another(rng):
    """A pasted object often touches one that was there."""
    touching = 0
    for crop in pasted(rng, tries=80):
        labels = crop.labels[0]
        pairs = {
            tuple(pair)
            for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
            for pair in np.sort(np.stack([a, b], -1)[(a != b) & (a > 0) & (b > 0)], -1)
        }
        touching += bool(pairs)
    assert touching > 10


def test_nothing_is_pasted_past_the_edge_of_the_plane(rng):
    outside = HOST.outside.clone()
    outside[:, SIDE // 2 :] = True
    host = HOST._replace(outside=outside, labels=HOST.labels * (np.arange(SIDE // 2) < SIDE // 4))
    crops = pasted(rng, host)
    assert crops
    assert not any((crop.labels[0][:, SIDE // 4 :]).any() for crop in crops)


def test_crops_with_parts_and_groups_stay_as_they_are(rng):
    nested = HOST._replace(labels=HOST.labels.repeat(3, 0))
    assert paste_objects(nested, DONOR, rng) is nested


def test_an_empty_plane_has_nothing_to_paste(rng):
    empty = crop_of()
    assert paste_objects(HOST, empty, rng).labels.max() == 2
    assert pasted(rng, empty)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sources_say_how_many_crops_are_pasted_into(share):
    crop = crop_of((20, 20, 9, 200.0), (44, 44, 9, 200.0))
    image = crop.image[0].numpy().astype(np.uint8)[..., None]
    plane = LabelledPlane(image, crop.labels.repeat(2, 1).repeat(2, 2))
    source = Source("discs", [plane], np.ones(1), pasted=share)
    recipe = Recipe(sides=(128,), pixels=16 * 128**2, prompts=6, drawn=0.0, wide=0.0)
    foreground = make_batch(recipe, [source], [1.0], seed=0, step=0).dense[:, 1].mean()
    plain = make_batch(recipe, [dataclasses.replace(source, pasted=0.0)], [1.0], seed=0, step=0)
    assert (foreground > plain.dense[:, 1].mean()) == bool(share)


def test_stains_change_and_grey_pictures_do_not(rng):
    """With everything else alike, the colours of a picture in colour differ, and those of a grey one not."""
    colour = torch.rand(3, 64, 64) * 255
    grey = colour.mean(0, keepdim=True).expand(3, -1, -1)

    def changed(image, stains):
        return change_look(image, np.random.default_rng(4), stains)

    assert not torch.equal(changed(colour, 1.0), changed(colour, 0.0))
    assert torch.equal(changed(grey, 1.0), changed(grey, 0.0))
    assert torch.isfinite(changed(colour, 1.0)).all()
