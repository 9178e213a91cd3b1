"""Segmenting one image of any shape, with a predictor that finds bright discs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes import DiscPredictor, disc_image

from napari_sam.files import open_image
from napari_sam.folder import Pictures, segment_image, settle_contrast
from napari_sam.progress import Progress, finish
from napari_sam.recipe import Recipe

CENTRES = [(12, 14), (30, 40)]


def plane(centres=CENTRES):
    return disc_image((48, 60), [(y, x, 7) for y, x in centres])


def run(array, tmp_path, recipe=None, **options):
    np.save(tmp_path / "image.npy", array)
    steps: list[Progress] = []
    with open_image(tmp_path / "image.npy", **options) as image:
        found = finish(segment_image(DiscPredictor(), image, recipe or Recipe(), tmp_path), steps.append)
    return found, steps


def at(labels, centres=CENTRES):
    return [int(labels[y, x]) for y, x in centres]


def test_a_plane(tmp_path):
    found, _ = run(plane(), tmp_path)
    assert found.labels.shape == (48, 60)
    assert found.axes.names == "YX"
    assert sorted(at(found.labels)) == [1, 2]
    assert found.count == len(found.table) == 2
    assert set(found.table["index"]) == {1, 2}


def test_the_planes_of_a_stack_are_linked(tmp_path):
    volume = np.stack([plane(), plane([(13, 15), (30, 40)]), plane([(14, 16)])])
    found, steps = run(volume, tmp_path)
    assert found.axes.names == "ZYX"
    first, second = at(found.labels[0])
    assert at(found.labels[1]) == [first, second]
    assert at(found.labels[2]) == [first, 0]
    table = found.table.set_index("index")
    assert table.loc[first, "planes"] == 3
    assert table.loc[second, "planes"] == 2
    assert 0 < table.loc[first, "predicted_iou"] <= 1
    assert found.count == 2
    assert (steps[-1].done, steps[-1].total) == (3, 3)
    done = [s.done for s in steps]
    assert done == sorted(done)


def test_without_links_each_plane_counts_from_one(tmp_path):
    volume = np.stack([plane([(30, 40)]), plane(), plane([(12, 14)])])
    found, _ = run(volume, tmp_path, Recipe(link=False))
    assert [int(p.max()) for p in found.labels] == [1, 2, 1]
    assert found.count == 4
    assert not found.linked
    assert found.table[["z", "index"]].to_numpy().tolist() == [[0, 1], [1, 1], [1, 2], [2, 1]]
    assert found.table["predicted_iou"].between(0, 1).all()
    movie, _ = run(np.stack([volume, volume]), tmp_path, Recipe(link=False))
    assert movie.table["t"].tolist() == [0] * 4 + [1] * 4
    empty, _ = run(np.zeros((2, 20, 20), np.uint8), tmp_path, Recipe(link=False))
    assert empty.count == len(empty.table) == 0


def test_each_time_point_of_a_volume_has_ids_of_its_own(tmp_path):
    movie = np.stack([np.stack([plane(), plane()]), np.stack([plane(), plane([(12, 14)])])])
    found, _ = run(movie, tmp_path)
    assert found.axes.names == "TZYX"
    assert found.labels.shape == movie.shape
    assert sorted(at(found.labels[0, 0]) + at(found.labels[1, 0])) == [1, 2, 3, 4]
    assert at(found.labels[0, 0]) == at(found.labels[0, 1])
    assert sorted(found.table["index"]) == [1, 2, 3, 4]


def test_channels_are_part_of_a_plane(tmp_path):
    image = np.stack([np.zeros_like(plane()), plane()])
    found, _ = run(image, tmp_path, Recipe(channels=(1, 1, 1)), axes="CYX")
    assert found.axes.names == "YX"
    assert sorted(at(found.labels)) == [1, 2]


def test_the_contrast_of_the_recipe_counts(tmp_path):
    dim = plane() // 4
    assert run(dim, tmp_path)[0].count == 2  # percentiles brighten it
    assert run(dim, tmp_path, Recipe(contrast=((0.0, 255.0),)))[0].count == 0


def stack_of_brightness(*values):
    return np.stack([np.where(plane() > 100, v, 20) for v in values]).astype(np.uint16)


@pytest.mark.parametrize(
    ("contrast", "counts"),
    [("stack", [2, 2, 0]), ("plane", [2, 2, 2])],
)
def test_the_planes_of_a_stack_share_one_contrast(contrast, counts, tmp_path):
    """What is dim beside the other planes stays dim; stretched by itself every plane is bright."""
    volume = stack_of_brightness(1000, 900, 200)
    found, _ = run(volume, tmp_path, Recipe(link=False, contrast=contrast))
    assert [len(np.unique(p)) - 1 for p in found.labels] == counts


def test_one_contrast_for_each_channel_of_a_stack(tmp_path):
    dim, bright = stack_of_brightness(100, 120), stack_of_brightness(4000, 5000)
    np.save(tmp_path / "image.npy", np.stack([dim, bright], axis=1))
    with open_image(tmp_path / "image.npy", axes="ZCYX") as image:
        settled = settle_contrast(image, Recipe())
        assert [len(settled.contrast), *settled.contrast[0]] == [2, 20, 120]
        assert settled.contrast[1] == (20, 5000)
        assert settle_contrast(image, Recipe(contrast="plane")) == Recipe(contrast="plane")
        picture = Pictures(image, settled)[0]
    assert picture[12, 14].tolist() == [204, 204, 0]


def test_colours_of_eight_bits_and_single_planes_are_left_alone(tmp_path):
    np.save(tmp_path / "colours.npy", np.zeros((3, 8, 8, 3), np.uint8))
    np.save(tmp_path / "plane.npy", plane())
    for name in ("colours", "plane"):
        with open_image(tmp_path / f"{name}.npy") as image:
            assert settle_contrast(image, Recipe()) == Recipe()


def test_the_gamma_of_the_recipe_counts(tmp_path):
    windows = ((0.0, 255.0),)
    dim = np.where(plane() > 100, 70, 0).astype(np.uint8)
    assert run(dim, tmp_path, Recipe(contrast=windows))[0].count == 0
    assert run(dim, tmp_path, Recipe(contrast=windows, gamma=0.5))[0].count == 2


def test_nothing_is_left_beside_the_results(tmp_path):
    run(np.stack([plane(), plane()]), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["image.npy"]


def test_closing_the_steps_cancels(tmp_path):
    np.save(tmp_path / "image.npy", np.stack([plane()] * 5))
    predictor = DiscPredictor()
    with open_image(tmp_path / "image.npy") as image:
        steps = segment_image(predictor, image, Recipe(), tmp_path)
        while next(steps).done < 1:
            pass
        steps.close()
    assert predictor.encoded <= 2


@pytest.mark.parametrize("count", [3])
def test_an_empty_stack_of_objects_is_fine(count, tmp_path):
    found, _ = run(np.zeros((count, 20, 20), np.uint8), tmp_path)
    assert found.count == 0
    assert not np.asarray(found.labels).any()


@pytest.mark.parametrize("axes", ["TYX", "TZYX"])
def test_a_movie_is_linked_through_time_whether_or_not_it_has_a_z_of_one_plane(tmp_path, axes):
    """An object that moves by half of itself is the same one over time, by the settings of movies."""
    frames = np.stack([plane([(12, 14), (30, 40)]), plane([(12, 20), (30, 40)]), plane([(12, 26)])])
    movie = frames if axes == "TYX" else frames[:, None]
    found, steps = run(movie, tmp_path, axes=axes)
    assert (found.axes.names, found.labels.shape) == (axes, movie.shape)
    assert found.count == 2
    labels = found.labels.reshape(frames.shape)
    assert len({int(labels[t, 12, 14 + 6 * t]) for t in range(3)}) == 1
    assert sorted(found.table["planes"]) == [2, 3]
    assert (steps[-1].done, steps[-1].total) == (3, 3)
    alone, _ = run(movie, tmp_path, Recipe(link=False), axes=axes)
    assert alone.table["t"].tolist() == [0, 0, 1, 1, 2]
    assert ("z" in alone.table) == (axes == "TZYX")


def test_a_stack_of_one_time_point_is_linked_as_a_stack(tmp_path):
    volume = np.stack([plane(), plane([(13, 15), (30, 40)])])[None]
    found, _ = run(volume, tmp_path, axes="TZYX")
    assert (found.labels.shape, found.count) == (volume.shape, 2)
