import numpy as np
import pytest
import zarr
from tests.fakes import DiscPredictor, disc_image
from tests.interrupt import kill_until_done

from napari_sam.axes import Axes
from napari_sam.everything import AutomaticSettings
from napari_sam.image import Contrast
from napari_sam.masks import Box
from napari_sam.progress import finish
from napari_sam.tiling import (
    TiledJob,
    TileDone,
    TileGrid,
    TilingError,
    rgb_reader,
    sampled_contrast,
    sampled_pixels,
    segment_plane,
)

SETTINGS = AutomaticSettings(pred_iou_thresh=0.5, stability_score_thresh=0.5, prompts="seeds")
SIDE, HALO = 64, 16


class Counting:
    """An array that says which boxes were read."""

    def __init__(self, plane):
        self.plane = plane
        self.shape, self.dtype = plane.shape, plane.dtype
        self.largest = 0

    def __getitem__(self, where):
        out = self.plane[where]
        self.largest = max(self.largest, out.size)
        return out


def segment(plane, path, *, predictor=None, settings=SETTINGS, side=SIDE, halo=HALO, **options):
    read = rgb_reader(plane, contrast=Contrast(0, 255))
    steps = segment_plane(
        predictor or DiscPredictor(), read, plane.shape[:2], path, settings, side=side, halo=halo, **options
    )
    return finish(steps)


def labels_of(result):
    return zarr.open_array(result.path / "0", mode="r")[...]


def assert_same_objects(labels, truth):
    """Each object of one is exactly one object of the other."""
    pairs = {(int(a), int(b)) for a, b in zip(labels.ravel(), truth.ravel(), strict=True)}
    assert len(pairs) == len(np.unique(truth)) == len(np.unique(labels))
    assert (labels > 0).sum() == (truth > 0).sum()


def truth_of(plane):
    from scipy import ndimage as ndi

    return ndi.label(plane > 100)[0]


# Cells on the seams between 3 x 4 tiles of 64 pixels: on edges, on corners, off by some pixels each way.
ON_SEAMS = [
    (y, x, r)
    for y, x, r in (
        (30, 64, 9), (32, 125, 10), (28, 193, 9), (64, 30, 9), (64, 64, 11), (67, 96, 8), (62, 128, 11),
        (64, 160, 9), (60, 192, 10), (66, 220, 8), (96, 62, 9), (95, 131, 10), (100, 190, 9),
        (128, 30, 10), (128, 64, 11), (125, 96, 9), (130, 128, 11), (128, 161, 9), (127, 192, 11),
        (152, 66, 8), (152, 126, 8), (152, 192, 8), (20, 20, 7), (105, 25, 6), (152, 160, 6),
    )
]  # fmt: skip
PLANE = disc_image((165, 230), ON_SEAMS)


def test_cells_on_every_seam_come_out_once_and_whole(tmp_path):
    result = segment(PLANE, tmp_path / "labels.ome.zarr")
    assert_same_objects(labels_of(result), truth_of(PLANE))
    assert len(result.table) == len(ON_SEAMS)
    counted = np.bincount(labels_of(result).ravel())[1:]
    assert result.table["area"].tolist() == counted.tolist()
    assert result.table["index"].tolist() == list(range(1, len(ON_SEAMS) + 1))


@pytest.mark.parametrize("shift", [(0, 0), (7, 3), (13, 29), (31, 17), (40, 50)])
def test_a_crowd_of_cells_wherever_the_seams_fall(tmp_path, shift, rng):
    places = [(y + rng.integers(-3, 4), x + rng.integers(-3, 4), rng.integers(4, 9))
              for y in range(12, 300, 24) for x in range(12, 330, 24)]  # fmt: skip
    plane = disc_image((310, 340), places)[shift[0] :, shift[1] :]
    assert_same_objects(labels_of(segment(plane, tmp_path / "labels.ome.zarr")), truth_of(plane))


@pytest.mark.parametrize("rest", [HALO, 13, 9])
def test_cells_of_last_tiles_that_are_narrower_than_the_halo_are_kept(tmp_path, rest):
    """Their neighbours see these cells with more room around them, and draw them."""
    shape = (SIDE + rest, 2 * SIDE + rest)
    right = [(y, shape[1] - 5, 3) for y in range(6, shape[0], 12)]
    below = [(shape[0] - 5, x, 3) for x in range(6, shape[1] - 12, 12)]
    plane = disc_image(shape, [*right, *below, (30, 30, 9), (30, 64, 9), (60, 100, 8)])
    result = segment(plane, tmp_path / "labels.ome.zarr")
    assert_same_objects(labels_of(result), truth_of(plane))
    assert result.table["area"].min() > 0


@pytest.mark.parametrize(
    "large",
    [
        (slice(20, 40), slice(5, 225)),  # a bar through all columns
        (slice(10, 150), slice(20, 200)),  # larger than a tile both ways
    ],
)
def test_an_object_larger_than_a_tile_is_one(tmp_path, large):
    plane = np.full((165, 230), 20, np.uint8)
    plane[large] = 200
    plane[155:162, 215:226] = 200
    assert_same_objects(labels_of(segment(plane, tmp_path / "labels.ome.zarr")), truth_of(plane))


def test_arms_of_one_object_that_enter_a_tile_apart_are_joined(tmp_path):
    plane = np.full((130, 130), 20, np.uint8)
    plane[20:110, 20:32] = plane[20:110, 90:102] = plane[98:110, 20:102] = 200
    assert_same_objects(labels_of(segment(plane, tmp_path / "labels.ome.zarr")), truth_of(plane))


class Disagreeing(DiscPredictor):
    """Sees cells joined at their thinnest in some tiles: in every second picture the bridge is bright."""

    def _encode(self, image, diameter):
        if self.encoded % 2:
            image = np.where(image > 60, 200, image).astype(np.uint8)
        return super()._encode(image, diameter)


def test_where_tiles_disagree_no_object_is_drawn_over_another(tmp_path):
    plane = disc_image((70, 140), [(32, 52, 9), (32, 76, 9)])
    plane[29:36, 58:70] = np.maximum(plane[29:36, 58:70], 80)
    result = segment(plane, tmp_path / "labels.ome.zarr", predictor=Disagreeing())
    labels = labels_of(result)
    assert labels[32, 52] > 0
    assert labels[32, 76] > 0
    # Either both cells or the joined one, and nothing in shreds.
    counts = np.bincount(labels.ravel())[1:]
    assert len(counts) in (1, 2)
    assert counts.min() > 150


def test_nothing_is_read_whole_and_pictures_have_one_contrast(tmp_path):
    plane = Counting(disc_image((600, 500), [(300, 250, 20)]))
    result = finish(
        segment_plane(
            DiscPredictor(), rgb_reader(plane), plane.shape, tmp_path / "l.zarr", SETTINGS, side=64, halo=16
        )
    )
    assert plane.largest <= max(96 * 96, 256 * 256)
    assert len(result.table) == 1


def test_empty_tiles_are_not_encoded(tmp_path):
    predictor = DiscPredictor()
    plane = disc_image((256, 256), [(20, 20, 6)])
    plane[plane < 100] = 0
    segment(plane, tmp_path / "l.zarr", predictor=predictor)
    assert predictor.encoded == 1


def test_tiles_come_out_from_the_middle_of_the_view_and_can_be_seen(tmp_path):
    steps = segment_plane(
        DiscPredictor(), rgb_reader(PLANE, contrast=Contrast(0, 255)), PLANE.shape, tmp_path / "l.zarr",
        SETTINGS, side=SIDE, halo=HALO, first=(150, 220),
    )  # fmt: skip
    for step in steps:
        if isinstance(step, TileDone):
            break
    steps.close()
    seen = zarr.open_array(tmp_path / "l.zarr" / "0", mode="r")[...]
    assert step.tile == 11
    assert seen[128:, 192:].any()
    assert not seen[:64].any()


def test_levels_agree_and_other_readers_understand_them(tmp_path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    plane = disc_image((1500, 2100), [(510, 300, 40), (1000, 1030, 50), (1400, 2000, 30)])
    plane[plane < 100] = 0
    axes = Axes("YX", (0.5, 0.25), ("micrometer", "micrometer"))
    result = segment(plane, tmp_path / "labels.ome.zarr", side=512, halo=96, axes=axes)
    root = zarr.open_group(result.path, mode="r")
    ome = root.attrs["ome"]
    assert [a["unit"] for a in ome["multiscales"][0]["axes"]] == ["micrometer", "micrometer"]
    scales = [d["coordinateTransformations"][0]["scale"] for d in ome["multiscales"][0]["datasets"]]
    assert scales == [[0.5, 0.25], [1.0, 0.5], [2.0, 1.0]]
    full = root["0"][...]
    for k in (1, 2):
        assert np.array_equal(root[str(k)][...], full[:: 2**k, :: 2**k])
    nodes = list(Reader(parse_url(result.path))())
    assert [level.shape for level in nodes[0].data] == [(1500, 2100), (750, 1050), (375, 525)]


def test_coarse_levels_that_no_tile_fills_are_filled(tmp_path):
    plane = disc_image((120, 2600), [(60, x, 18) for x in range(100, 2600, 450)])
    plane[plane < 100] = 0
    result = segment(plane, tmp_path / "l.zarr", side=100, halo=40)
    root = zarr.open_group(result.path, mode="r")
    full = root["0"][...]
    assert full.max() == 6
    for k in (1, 2):
        assert np.array_equal(root[str(k)][...], full[:: 2**k, :: 2**k])


def test_an_interrupted_run_goes_on_and_a_finished_one_is_left_alone(tmp_path):
    path, predictor = tmp_path / "l.zarr", DiscPredictor()
    read = rgb_reader(PLANE, contrast=Contrast(0, 255))
    steps = segment_plane(predictor, read, PLANE.shape, path, SETTINGS, side=SIDE, halo=HALO)
    for count, _ in enumerate(s for s in steps if isinstance(s, TileDone)):
        if count == 4:
            break
    steps.close()
    before = predictor.encoded
    result = segment(PLANE, path, predictor=predictor)
    assert predictor.encoded - before == 12 - 5
    assert not list(tmp_path.glob(".*"))
    again = segment(PLANE, path, predictor=predictor)
    assert predictor.encoded - before == 12 - 5
    assert again.table.equals(result.table)
    assert_same_objects(labels_of(again), truth_of(PLANE))


def test_what_a_run_left_that_was_killed_at_its_very_end_is_cleared(tmp_path):
    path = tmp_path / "l.zarr"
    segment(PLANE, path)
    (tmp_path / ".l.zarr.tiles").mkdir()
    segment(PLANE, path)
    assert [p.name for p in tmp_path.iterdir()] == ["l.zarr"]


def test_a_damaged_tile_is_computed_again(tmp_path):
    path = tmp_path / "l.zarr"
    read = rgb_reader(PLANE, contrast=Contrast(0, 255))
    steps = segment_plane(DiscPredictor(), read, PLANE.shape, path, SETTINGS, side=SIDE, halo=HALO)
    for step in steps:
        if isinstance(step, TileDone) and step.tile == 3:
            break
    steps.close()
    tile = next((tmp_path / ".l.zarr.tiles").rglob("00000001.npz"))
    tile.write_bytes(tile.read_bytes()[:-20])
    with pytest.raises(TilingError, match="Start the run again"):
        segment(PLANE, path)
    assert_same_objects(labels_of(segment(PLANE, path)), truth_of(PLANE))


def test_numbers_of_numpy_make_the_same_run(tmp_path):
    grid, path = TileGrid(PLANE.shape, SIDE, HALO), tmp_path / "l.zarr"
    plain = TiledJob(grid, AutomaticSettings(min_area=5), path, 30.0)
    numpy = TiledJob(grid, AutomaticSettings(min_area=np.int64(5)), path, np.float32(30))
    assert numpy.identity("model", "") == plain.identity("model", "")


def test_boxes_of_colour_pictures_have_one_contrast():
    colours = np.zeros((64, 128, 3), np.uint8)
    colours[::2, :64], colours[1::2, :64], colours[:, 64:] = 10, 20, 200
    read = rgb_reader(colours, gamma=0.9)
    assert (read(Box(0, 0, 64, 64)) == read(Box(0, 0, 64, 128))[:, :64]).all()


def test_another_run_in_the_same_place_is_refused(tmp_path):
    path = tmp_path / "l.zarr"
    segment(PLANE, path)
    for changed in (
        {"settings": AutomaticSettings(prompts="seeds")},
        {"predictor": DiscPredictor(threshold=90)},
        {"halo": 20},
        {"source": "another.tif"},
    ):
        with pytest.raises(TilingError, match="made with other settings, another model"):
            segment(PLANE, path, **changed)
    other = PLANE.copy()
    other[140:160, 10:30] = 200
    with pytest.raises(TilingError, match="or from another image"):
        segment(other, path)
    assert len(segment(PLANE, path).table) == len(ON_SEAMS)
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(TilingError, match="no label image"):
        segment(PLANE, tmp_path / "photo.png")


def test_two_runs_at_a_time_in_the_same_place_are_refused(tmp_path):
    """The first to end would take the finished tiles away from the other."""
    path = tmp_path / "l.zarr"
    read = rgb_reader(PLANE, contrast=Contrast(0, 255))
    first = segment_plane(DiscPredictor(), read, PLANE.shape, path, SETTINGS, side=SIDE, halo=HALO)
    next(step for step in first if isinstance(step, TileDone))
    with pytest.raises(TilingError, match=r"Another run is writing .*l\.zarr at this moment"):
        segment(PLANE, path)
    assert len(finish(first).table) == len(ON_SEAMS)
    assert len(segment(PLANE, path).table) == len(ON_SEAMS)
    assert not list(tmp_path.glob(".*"))


def test_a_scale_that_was_corrected_is_taken_over(tmp_path):
    path, predictor = tmp_path / "l.zarr", DiscPredictor()
    for spacing in (1.0, 0.5):
        axes = Axes("YX", (spacing, spacing), ("micrometer", "micrometer"))
        segment(PLANE, path, axes=axes, predictor=predictor)
        image = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]
        assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [spacing, spacing]
        assert image["name"] == "l"
    assert predictor.encoded == 12


def run_killed(path: str) -> None:
    segment(PLANE, path, predictor=DiscPredictor(encode_seconds=0.03))


def test_killed_at_any_moment_the_labels_are_the_same(tmp_path):
    assert kill_until_done(run_killed, (str(tmp_path / "killed.zarr"),), kills=12, longest=0.5) >= 3
    whole = segment(PLANE, tmp_path / "whole.zarr")
    for file in sorted(p for p in whole.path.rglob("*") if p.is_file() and p.name != "zarr.json"):
        other = tmp_path / "killed.zarr" / file.relative_to(whole.path)
        assert file.read_bytes() == other.read_bytes(), file


def test_what_is_no_height_and_width_is_refused(tmp_path):
    for shape in ((165, 230, 3), (165,)):
        steps = segment_plane(DiscPredictor(), rgb_reader(PLANE), shape, tmp_path / "l.zarr", SETTINGS)
        with pytest.raises(ValueError, match="Expected the height and width of a plane, found the shape"):
            finish(steps)


def test_boxes_of_the_grid():
    grid = TileGrid((100, 150), side=64, halo=16)
    assert (grid.counts, len(grid)) == ((2, 3), 6)
    covered = np.zeros((100, 150), int)
    for number in range(6):
        covered[grid.inner(number).slices] += 1
    assert (covered == 1).all()
    assert grid.outer(4) == Box(48, 48, 100, 144)
    assert grid.neighbours(4) == [0, 1, 2, 3, 5]
    assert list(grid.pairs()) == [
        (0, 1), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (4, 5),
    ]  # fmt: skip
    assert grid.margin(0, Box(0, 0, 60, 70)) == 10
    assert grid.outwards((90, 140))[0] == 5
    with pytest.raises(ValueError, match="halo from 1 pixel"):
        TileGrid((100, 100), side=64, halo=65)
    with pytest.raises(ValueError, match="at least one pixel"):
        TileGrid((0, 100))


def test_contrast_is_sampled_in_blocks():
    plane = Counting(np.tile(np.linspace(0, 1000, 2000).astype(np.uint16), (1500, 1)))
    assert sampled_pixels(plane, blocks=16, side=100).shape == (16 * 100 * 100, 1)
    assert plane.largest == 100 * 100
    (window,) = sampled_contrast(plane)
    assert plane.largest == 256 * 256
    assert window.low == pytest.approx(0, abs=30)
    assert window.high == pytest.approx(1000, abs=30)
    colours = np.stack([plane.plane, plane.plane // 10], -1)
    assert [round(c.high, -1) for c in sampled_contrast(colours)] == [1000, 100]
