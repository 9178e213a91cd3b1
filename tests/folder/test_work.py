import numpy as np
import pytest
import tifffile
import zarr
from tests.fakes import DiscPredictor, disc_image
from tests.interrupt import kill_until_done

from napari_sam.files import open_image
from napari_sam.folder import plan, segment_files
from napari_sam.folder.ahead import embed_image
from napari_sam.folder.cluster import pieces_of
from napari_sam.folder.pictures import PlaneView, plane_reader
from napari_sam.folder.work import forget_others, work_folder
from napari_sam.masks import Box
from napari_sam.progress import finish
from napari_sam.recipe import Recipe
from napari_sam.store import EmbeddingStore

RECIPE = Recipe(contrast=((0.0, 255.0),))


def write_stack(path, planes=6, axes="ZYX"):
    stack = np.stack([disc_image((48, 64), [(20, 20 + z, 8), (30, 50, 7)]) for z in range(planes)])
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": axes})
    return path


def stop_after(steps, message):
    """Run until a step's message holds some words, then cancel."""
    for step in steps:
        if message in step.message:
            steps.close()
            return
    raise AssertionError(f"no step said {message!r}")


def test_a_stack_that_was_interrupted_goes_on_with_the_next_plane(tmp_path):
    jobs = plan([write_stack(tmp_path / "stack.tif")], tmp_path / "out")
    predictor = DiscPredictor()
    stop_after(segment_files(predictor, jobs, RECIPE), "plane 4 of 6")
    assert len(list((tmp_path / "out").glob(".*.work/*/*/*.npz"))) == 3
    (report,) = finish(segment_files(predictor, jobs, RECIPE))
    assert report.status == "done"
    assert predictor.encoded == 6
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["stack_labels.tif"]
    whole = plan([tmp_path / "stack.tif"], tmp_path / "whole")
    finish(segment_files(DiscPredictor(), whole, RECIPE))
    a, b = (tifffile.imread(tmp_path / folder / "stack_labels.tif") for folder in ("out", "whole"))
    assert np.array_equal(a, b)
    assert a.max() == 2


def test_every_volume_of_a_series_goes_on_by_itself(tmp_path):
    path = tmp_path / "series.tif"
    planes = [disc_image((48, 64), [(20, 20 + i, 8)]) for i in range(6)]
    tifffile.imwrite(path, np.stack(planes).reshape(3, 2, 48, 64), imagej=True, metadata={"axes": "TZYX"})
    jobs = plan([path], tmp_path / "out")
    predictor = DiscPredictor()
    steps = segment_files(predictor, jobs, RECIPE)
    while predictor.encoded < 5:
        next(steps)
    steps.close()
    finish(segment_files(predictor, jobs, RECIPE))
    assert predictor.encoded <= 7
    assert len(np.unique(tifffile.imread(jobs[0].outputs[0]))) == 4


def test_other_settings_do_not_take_what_is_not_theirs(tmp_path):
    source = write_stack(tmp_path / "stack.tif")
    jobs = plan([source], tmp_path / "out")
    stop_after(segment_files(DiscPredictor(), jobs, RECIPE), "plane 4 of 6")
    predictor = DiscPredictor()
    finish(segment_files(predictor, jobs, Recipe(contrast=((0.0, 250.0),))))
    assert predictor.encoded == 6
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["stack_labels.tif"]
    places = {
        work_folder(source, jobs[0].outputs[0], RECIPE, "a"),
        work_folder(source, jobs[0].outputs[0], RECIPE, "b"),
        work_folder(source, jobs[0].outputs[0], Recipe(), "a"),
    }
    assert len(places) == 3


def test_other_axes_do_not_take_what_is_not_theirs(tmp_path):
    planes = [disc_image((48, 64), [(20, 12 + 5 * i, 8)]) for i in range(6)]
    source = tmp_path / "stack.tif"
    tifffile.imwrite(source, np.stack(planes).reshape(2, 3, 48, 64), photometric="minisblack")
    jobs = plan([source], tmp_path / "out")
    stop_after(segment_files(DiscPredictor(), jobs, RECIPE, axes="ZTYX"), "plane 1 of 2")
    predictor = DiscPredictor()
    finish(segment_files(predictor, jobs, RECIPE, axes="TZYX"))
    assert predictor.encoded == 6
    assert np.array_equal(tifffile.imread(jobs[0].outputs[0]) > 0, tifffile.imread(source) > 100)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["stack_labels.tif"]


def test_a_huge_plane_is_segmented_in_tiles_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam.folder.work.HUGE", 100 * 100)
    plane = disc_image((900, 1000), [(768, 768, 30), (300, 760, 20), (100, 100, 15)])
    tifffile.imwrite(tmp_path / "huge.tif", plane)
    jobs = plan([tmp_path / "huge.tif"], tmp_path / "out")
    predictor = DiscPredictor()
    stop_after(segment_files(predictor, jobs, RECIPE), "tile 3 of 4")
    (report,) = finish(segment_files(predictor, jobs, RECIPE))
    assert (report.status, report.objects) == ("done", 3)
    assert predictor.encoded == 5  # the tile that was in the making, and no finished one, is made again
    labels = tifffile.imread(jobs[0].outputs[0])
    assert np.array_equal(labels > 0, plane > 100)
    assert labels[740, 768] == labels[796, 768] == labels[768, 740]


def test_planes_of_huge_stacks_are_never_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam.folder.work.HUGE", 900 * 900)
    discs = [(768, 768, 30), (300, 760, 20), (100, 100, 15)]
    stack = np.stack([disc_image((1600, 1000), [(y, x + z, r) for y, x, r in discs]) for z in range(3)])
    pixels = np.stack([stack, stack])  # two time points
    group = zarr.create_group(tmp_path / "huge.zarr")
    group.create_array("0", data=pixels, chunks=(*[1] * (pixels.ndim - 2), 256, 256))
    names = [{"name": n.lower(), "type": {"T": "time"}.get(n, "space")} for n in "TZYX"]
    scale = [{"type": "scale", "scale": [1.0] * pixels.ndim}]
    scales = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": names, "datasets": scales}]}
    jobs = plan([tmp_path / "huge.zarr"], tmp_path / "out")
    largest = []
    read = zarr.Array.__getitem__

    def noted(array, where):
        found = read(array, where)
        if array.dtype == np.uint8 and array.ndim == pixels.ndim:
            largest.append(np.asarray(found).size)
        return found

    monkeypatch.setattr(zarr.Array, "__getitem__", noted)
    recipe = Recipe()
    stop_after(segment_files(DiscPredictor(), jobs, recipe), "plane 2 of 3 (tile 3 of 6")
    predictor = DiscPredictor()
    (report,) = finish(segment_files(predictor, jobs, recipe))
    assert (report.status, report.objects) == ("done", 6)
    assert predictor.encoded <= 6 * len(pixels.reshape(-1, 1600, 1000)) - 8
    assert max(largest) <= 1024 * 1024
    labels = tifffile.imread(jobs[0].outputs[0])
    assert np.array_equal(labels > 0, pixels > 100)
    volumes = labels.reshape(-1, 3, 1600, 1000)
    for y, x, _ in discs:
        assert all(len(np.unique(v[[0, 1, 2], y, [x, x + 1, x + 2]])) == 1 for v in volumes)
    assert len(np.unique(volumes[:, 0, 100, 100])) == len(volumes)


def test_a_vanished_input_is_an_error_that_keeps_what_is_finished(tmp_path):
    source = write_stack(tmp_path / "stack.tif")
    jobs = plan([source], tmp_path / "out")
    stop_after(segment_files(DiscPredictor(), jobs, RECIPE), "plane 4 of 6")
    moved = source.rename(tmp_path / "elsewhere.tif")
    (report,) = finish(segment_files(DiscPredictor(), jobs, RECIPE))
    assert report.status == "failed"
    assert report.error
    moved.rename(source)
    predictor = DiscPredictor()
    finish(segment_files(predictor, jobs, RECIPE))
    assert predictor.encoded == 3


def segment_killed(source: str, out: str) -> None:
    from pathlib import Path

    jobs = plan([Path(source)], Path(out))
    finish(segment_files(DiscPredictor(encode_seconds=0.05), jobs, RECIPE))


def test_killed_at_any_moment_the_file_is_the_same(tmp_path):
    source = write_stack(tmp_path / "stack.tif", planes=10)
    args = str(source), str(tmp_path / "killed")
    assert kill_until_done(segment_killed, args, kills=10, longest=0.6) >= 3
    segment_killed(str(source), str(tmp_path / "whole"))
    names = [sorted(p.name for p in (tmp_path / f).iterdir()) for f in ("killed", "whole")]
    assert names[0] == names[1] == ["stack_labels.tif"]
    a, b = ((tmp_path / f / "stack_labels.tif").read_bytes() for f in ("killed", "whole"))
    assert a == b


@pytest.mark.parametrize("axes", ["YX", "CYX", "YXS"])
def test_a_box_of_a_plane_is_read_as_the_plane_is(tmp_path, axes, rng):
    shape = {"YX": (30, 40), "CYX": (2, 30, 40), "YXS": (30, 40, 3)}[axes]
    pixels = rng.integers(0, 200, shape).astype(np.uint8 if "S" in axes else np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata={"axes": axes}, ome=axes == "CYX",
                     photometric="rgb" if "S" in axes else "minisblack")  # fmt: skip
    with open_image(tmp_path / "a.tif", axes=axes) as image:
        whole = image.plane(0)
        view = PlaneView(image)
        assert view.shape == whole.shape
        assert np.array_equal(view[5:20, 10:30], whole[5:20, 10:30])
        read = plane_reader(
            image, Recipe(contrast=((0, 200),) * view.shape[2] if len(view.shape) > 2 else ((0, 200),))
        )
        assert read(Box(0, 0, 10, 12)).shape == (10, 12, 3)


def embed(path, store):
    with open_image(path) as image:
        return finish(embed_image(DiscPredictor(), image, RECIPE, EmbeddingStore(store)))


def test_what_was_embedded_ahead_of_time_is_not_encoded_again(tmp_path):
    path = write_stack(tmp_path / "stack.tif")
    embed(path, tmp_path / "store")
    predictor = DiscPredictor()
    jobs = plan([path], tmp_path / "out")
    (report,) = finish(segment_files(predictor, jobs, RECIPE, store=tmp_path / "store"))
    assert (report.status, report.objects, predictor.encoded) == ("done", 2, 0)
    other = DiscPredictor()
    finish(segment_files(other, plan([path], tmp_path / "other"), RECIPE))
    assert other.encoded == 6
    a, b = (tifffile.imread(tmp_path / folder / "stack_labels.tif") for folder in ("out", "other"))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("depth", [1, 2])
def test_tiles_that_were_embedded_ahead_of_time_are_not_encoded_again(tmp_path, monkeypatch, depth):
    monkeypatch.setattr("napari_sam.folder.work.HUGE", 100 * 100)
    planes = [disc_image((900, 1000), [(768, 768 + z, 30), (300, 760, 20)]) for z in range(depth)]
    path = tmp_path / "huge.tif"
    tifffile.imwrite(path, np.stack(planes), imagej=True, metadata={"axes": "ZYX"})
    embed(path, tmp_path / "store")
    predictor = DiscPredictor()
    jobs = plan([path], tmp_path / "out")
    (report,) = finish(segment_files(predictor, jobs, RECIPE, store=tmp_path / "store"))
    assert (report.status, report.objects, predictor.encoded) == ("done", 2, 0)


def test_a_store_that_is_not_there_is_said_before_anything_is_done(tmp_path):
    path = write_stack(tmp_path / "stack.tif")
    with pytest.raises(OSError, match="store"):
        finish(segment_files(DiscPredictor(), plan([path], tmp_path / "out"), RECIPE, store=tmp_path / "no"))
    assert not (tmp_path / "out").exists()


def test_only_the_work_on_the_same_output_is_forgotten(tmp_path):
    """An image's name is no pattern: `cell[1]` is another image than `cell1`."""
    names = ["cell[1]_labels.tif.aaa", "cell[1]_labels.tif.bbb", "cell1_labels.tif.ccc"]
    works = [tmp_path / f".{name}.work" for name in names]
    for work in works:
        work.mkdir()
    forget_others(works[0])
    assert sorted(tmp_path.iterdir()) == sorted([works[0], works[2]])


def write_movie(path):
    """A movie with a Z of one plane, as it often has one; what it shows gets larger."""
    frames = [disc_image((48, 64), [(24, 30, 6 + 2 * t)]) for t in range(4)]
    np.save(path, np.stack(frames)[:, None])
    return path


class Scaling(DiscPredictor):
    """Scales a picture by the diameter of what it shows."""

    uses_diameter = True

    def estimate_diameter(self, image):
        return 2 * float(np.sqrt((image[..., 0] > 100).sum() / np.pi))


def test_workers_keep_the_frames_of_a_movie_where_they_are_looked_for(tmp_path):
    source = write_movie(tmp_path / "movie.npy")
    jobs = plan([source], tmp_path / "out")
    predictor = DiscPredictor()
    work = work_folder(source, jobs[0].outputs[0], RECIPE, predictor.model_id)
    with open_image(source) as image:
        pieces = pieces_of(predictor, image, None, RECIPE, work)
    for piece in pieces:
        piece.run(DiscPredictor())
    assert len(pieces) == 4
    (report,) = finish(segment_files(predictor, jobs, RECIPE))
    assert (report.status, report.objects, predictor.encoded) == ("done", 1, 0)


def test_frames_that_were_embedded_at_the_diameter_of_their_movie_are_not_encoded_again(tmp_path):
    source = write_movie(tmp_path / "movie.npy")
    with open_image(source) as image:
        finish(embed_image(Scaling(), image, RECIPE, EmbeddingStore(tmp_path / "store")))
    predictor = Scaling()
    jobs = plan([source], tmp_path / "out")
    (report,) = finish(segment_files(predictor, jobs, RECIPE, store=tmp_path / "store"))
    assert (report.status, report.objects, predictor.encoded) == ("done", 1, 0)
