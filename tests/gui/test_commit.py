"""Objects in a Labels layer: one undo step, free ids, room for them, neighbours kept, records stored."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr
from napari.components import ViewerModel
from tests.gui.geometries import POSES, show

from napari_sam._napari.commit import (
    CommitError,
    check_target,
    commit_labels,
    commit_mask,
    commit_through,
    take_back,
    write_plane,
)
from napari_sam._napari.coordinates import PlaneIndex, plane_index
from napari_sam._napari.ids import next_label
from napari_sam._napari.layers import add_labels_layer, twin
from napari_sam._napari.target import write_into
from napari_sam.levels import FULL
from napari_sam.masks import Mask
from napari_sam.session import Annotation

FLAT = PlaneIndex((None, None), 0, 1)
RECORD = {"predicted_iou": 0.9, "stability": 0.8, "model": "tiny", "prompt": '{"points":[[1,2,1]]}'}


def block(y0, x0, height, width) -> Mask:
    return Mask(y0, x0, np.ones((height, width), bool))


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def labels(viewer):
    return viewer.add_labels(np.zeros((40, 50), np.uint16))


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("name", POSES)
def test_labels_lie_on_the_pixels_of_the_mask(viewer, name, rng):
    image = show(viewer, POSES[name])
    labels = add_labels_layer(viewer, image)
    plane = plane_index(viewer, image)
    shape = tuple(image.data.shape[a] for a in plane.axes)
    mask = Mask.from_plane(rng.random(shape) > 0.7)
    done = commit_mask(labels, plane, mask, record=RECORD)
    written = labels.data[plane.slices]
    np.testing.assert_array_equal((written.T if plane.flipped else written) == 1, mask.to_plane(shape))
    assert np.count_nonzero(labels.data) == done.area == mask.area


def test_one_undo_step_and_redo(labels):
    commit_mask(labels, FLAT, block(2, 3, 4, 5))
    before = labels.data.copy()
    commit_mask(labels, FLAT, block(20, 3, 4, 5))
    after = labels.data.copy()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    labels.redo()
    np.testing.assert_array_equal(labels.data, after)
    labels.undo()
    labels.undo()
    assert not labels.data.any()


def test_ids_are_free_and_known_from_features_too(labels):
    labels.data[30, 30] = 7
    assert commit_mask(labels, FLAT, block(0, 0, 2, 2)).label == 8
    labels.features = pd.DataFrame({"index": [8, 12], "note": ["mine", "gone"]})
    assert next_label(labels) == 13
    assert commit_mask(labels, FLAT, block(5, 0, 2, 2), record=RECORD).label == 13
    assert labels.features["note"].tolist()[:2] == ["mine", "gone"]


def test_a_given_id_is_used(labels):
    commit_mask(labels, FLAT, block(0, 0, 2, 2), label=5)
    commit_mask(labels, FLAT, block(10, 0, 2, 2), label=5)
    assert np.count_nonzero(labels.data == 5) == 8


@pytest.mark.parametrize(
    ("small", "highest", "large"),
    [(np.uint8, 255, np.uint16), (np.uint16, 65535, np.uint32), (np.int8, 127, np.int16)],
)
@pytest.mark.parametrize("visible", [True, False])
def test_dtype_grows_when_the_id_needs_it(viewer, small, highest, large, visible):
    data = np.zeros((40, 50), small)
    data[39, 49] = highest
    labels = viewer.add_labels(data, visible=visible)
    done = commit_mask(labels, FLAT, block(1, 1, 3, 3))
    assert done.label == highest + 1
    assert labels.data.dtype == large
    assert labels.data[2, 2] == highest + 1
    assert labels.data[39, 49] == highest
    assert labels.visible is visible
    labels.undo()
    assert labels.data[2, 2] == 0


def test_neighbours_are_kept(labels):
    commit_mask(labels, FLAT, block(0, 0, 10, 10))
    done = commit_mask(labels, FLAT, block(5, 5, 10, 10))
    assert np.count_nonzero(labels.data == 1) == 100
    assert np.count_nonzero(labels.data == 2) == done.area == 75


def test_neighbours_are_replaced_on_request(labels):
    commit_mask(labels, FLAT, block(0, 0, 10, 10))
    commit_mask(labels, FLAT, block(5, 5, 10, 10), overlap="replace")
    assert np.count_nonzero(labels.data == 1) == 75
    assert np.count_nonzero(labels.data == 2) == 100
    labels.undo()
    assert np.count_nonzero(labels.data == 1) == 100


def test_nothing_left_to_write_is_said_and_changes_nothing(labels):
    commit_mask(labels, FLAT, block(0, 0, 10, 10))
    before = labels.data.copy()
    with pytest.raises(CommitError, match="taken by other objects"):
        commit_mask(labels, FLAT, block(2, 2, 3, 3), record=RECORD)
    with pytest.raises(CommitError, match="outside the image"):
        commit_mask(labels, FLAT, block(200, 2, 3, 3), overlap="replace")
    np.testing.assert_array_equal(labels.data, before)
    assert len(labels.features) == 0


def test_mask_over_the_border_is_cut(labels):
    done = commit_mask(labels, FLAT, block(-5, 45, 10, 10))
    assert done.area == 25
    assert labels.data[:5, 45:].all()


def test_records_are_stored_by_id(labels):
    commit_mask(labels, FLAT, block(0, 0, 4, 4), record=RECORD)
    commit_mask(labels, FLAT, block(10, 0, 4, 4), record={**RECORD, "predicted_iou": 0.5})
    features = labels.features
    assert features["index"].tolist() == [1, 2]
    assert features["predicted_iou"].tolist() == [0.9, 0.5]
    assert features["prompt"].tolist() == [RECORD["prompt"]] * 2


def test_record_of_a_reused_id_is_replaced(labels):
    commit_mask(labels, FLAT, block(0, 0, 4, 4), label=3, record=RECORD)
    commit_mask(labels, FLAT, block(9, 0, 4, 4), label=3, record={**RECORD, "model": "other"})
    assert labels.features[["index", "model"]].to_numpy().tolist() == [[3, "other"]]


def test_features_without_ids_keep_their_meaning(labels):
    """napari reads the row's number as the id where there is no column of ids."""
    labels.features = pd.DataFrame({"kind": ["background", "round", "long"]})
    commit_mask(labels, FLAT, block(0, 0, 4, 4), record=RECORD)
    features = labels.features.set_index("index")
    assert features.loc[2, "kind"] == "long"
    assert features.loc[3, "model"] == "tiny"


def test_many_masks_are_one_undo_step_with_the_first_on_top(labels):
    labels.data[0, 0] = 4
    masks = [block(0, 0, 10, 10), block(0, 5, 10, 10), block(2, 2, 3, 3), block(20, 20, 5, 5)]
    done = commit_labels(labels, FLAT, masks, records=[{**RECORD, "level": n} for n in range(4)])
    assert done.labels == (5, 6, 0, 7)
    assert np.count_nonzero(labels.data == 5) == 99
    assert np.count_nonzero(labels.data == 6) == 50
    assert labels.data[0, 0] == 4
    assert labels.features["index"].tolist() == [5, 6, 7]
    assert labels.features["level"].tolist() == [0, 1, 3]
    labels.undo()
    assert np.unique(labels.data).tolist() == [0, 4]


def test_many_masks_over_what_is_there(labels):
    labels.data[:, :] = 1
    with pytest.raises(CommitError, match="Nothing is left to write of 1 masks"):
        commit_labels(labels, FLAT, [block(0, 0, 10, 10)])
    commit_labels(labels, FLAT, [block(0, 0, 10, 10), block(5, 5, 10, 10)], overlap="replace")
    assert np.bincount(labels.data.ravel())[1:].tolist() == [2000 - 175, 100, 75]


def test_masks_of_which_others_have_the_most_are_left_out(labels):
    """The rims that are left around neighbours are no objects; what is written says how large it is."""
    labels.data[2:10, 2:10] = 4
    masks = [block(0, 0, 12, 12), block(20, 20, 5, 5)]
    done = commit_labels(labels, FLAT, masks, records=[{**RECORD, "area": m.area} for m in masks], least=0.5)
    assert done.labels == (5, 6)
    assert labels.features["area"].tolist() == [144 - 64, 25]
    take_back(labels, done)
    labels.data[1:11, 1:11] = 4
    done = commit_labels(labels, FLAT, masks, least=0.5)
    assert done.labels == (0, 5)
    take_back(labels, done)
    labels.data[:11] = 4
    with pytest.raises(CommitError, match="or most of them"):
        commit_labels(labels, FLAT, masks[:1], least=0.5)


def test_a_single_mask_is_no_exception(viewer, labels):
    labels.data[:9] = 4
    one = [Annotation(block(0, 0, 10, 10), dict(RECORD))]
    with pytest.raises(CommitError, match="or most of them"):
        write_into(viewer, labels, FLAT, FULL, "keep", one, least=0.5)
    write_into(viewer, labels, FLAT, FULL, "keep", one)
    assert np.count_nonzero(labels.data == 5) == 10


def test_the_area_is_what_was_written(labels):
    labels.data[:5] = 4
    commit_mask(labels, FLAT, block(0, 0, 10, 10), record={**RECORD, "area": 100})
    assert labels.features["area"].tolist() == [50]


def test_ids_beside_words_are_counted(labels):
    labels.features = pd.DataFrame({"index": ["3", "nucleus", None], "kind": ["a", "b", "c"]})
    assert commit_mask(labels, FLAT, block(0, 0, 4, 4), record=RECORD).label == 4


def test_take_back_leaves_what_was_painted_since(labels):
    done = commit_mask(labels, FLAT, block(0, 0, 10, 10), record=RECORD)
    labels.data_setitem((np.array([0]), np.array([0])), 9)
    take_back(labels, done)
    assert np.unique(labels.data).tolist() == [0, 9]
    assert len(labels.features) == 0


def test_take_back_gives_replaced_pixels_back(labels):
    commit_mask(labels, FLAT, block(0, 0, 10, 10))
    before = labels.data.copy()
    done = commit_mask(labels, FLAT, block(5, 5, 10, 10), overlap="replace")
    take_back(labels, done)
    np.testing.assert_array_equal(labels.data, before)


@pytest.mark.parametrize("channel_axis", [0, 1])
def test_an_object_is_the_same_in_all_channels(viewer, channel_axis):
    shape = [4, 20, 30]
    shape.insert(channel_axis, 3)
    image = viewer.add_image(np.zeros(shape))
    labels = add_labels_layer(viewer, image, channel_axis=channel_axis)
    index = [2, None, None]
    index.insert(channel_axis, None)
    plane = PlaneIndex(tuple(index), 2, 3)
    commit_mask(labels, plane, block(3, 4, 5, 6))
    assert np.count_nonzero(labels.data) == 30 * (1 if channel_axis == 0 else 3)
    labels.undo()
    assert not labels.data.any()


def test_zarr_labels(viewer):
    store = zarr.zeros((5, 40, 50), chunks=(1, 20, 25), dtype="u2")
    labels = viewer.add_labels(store)
    viewer.dims.set_current_step(0, 3)
    plane = PlaneIndex((3, None, None), 1, 2)
    commit_mask(labels, plane, block(15, 20, 10, 10), record=RECORD)
    assert store[3, 15:25, 20:30].all()
    assert np.count_nonzero(store[:]) == 100
    assert commit_mask(labels, plane.moved(0, 1), block(0, 0, 3, 3)).label == 2
    labels.undo()
    labels.undo()
    assert not store[:].any()


def test_zarr_labels_that_cannot_hold_the_id(viewer):
    store = zarr.zeros((40, 50), chunks=(20, 25), dtype="u1")
    store[0, 0] = 255
    labels = viewer.add_labels(store)
    with pytest.raises(CommitError, match="stores uint8 and cannot hold the id 256"):
        commit_mask(labels, FLAT, block(15, 20, 10, 10))


def test_dask_labels(viewer):
    labels = viewer.add_labels(da.zeros((5, 40, 50), chunks=(1, 20, 25), dtype=np.uint8))
    plane = PlaneIndex((3, None, None), 1, 2)
    done = commit_mask(labels, plane, block(15, 20, 10, 10), record=RECORD)
    assert np.count_nonzero(np.asarray(labels.data)) == 100
    take_back(labels, done)
    assert not np.asarray(labels.data).any()


def test_labels_that_cannot_be_written_are_refused_before_anything_changes(viewer):
    image = viewer.add_image(np.zeros((40, 50)), scale=(2, 2))
    data = np.zeros((40, 50), np.uint8)
    data.flags.writeable = False
    frozen = viewer.add_labels(data, **twin(image))
    with pytest.raises(CommitError, match="read-only"):
        commit_mask(frozen, FLAT, block(0, 0, 3, 3))
    with pytest.raises(CommitError, match="read-only"):
        check_target(frozen, image)


def test_only_labels_that_lie_on_the_image_are_targets(viewer):
    image = viewer.add_image(np.zeros((40, 50)), scale=(2, 2))
    check_target(add_labels_layer(viewer, image), image)
    check_target(viewer.add_labels(np.zeros((40, 50), int), scale=(2, 2)), image)
    with pytest.raises(CommitError, match=r"shape \(40, 51\).*make a new layer"):
        check_target(viewer.add_labels(np.zeros((40, 51), int), scale=(2, 2)), image)
    with pytest.raises(CommitError, match="another scale, position or unit"):
        check_target(viewer.add_labels(np.zeros((40, 50), int)), image)
    levels = [np.zeros((40, 50), int), np.zeros((20, 25), int)]
    pyramid = viewer.add_labels(levels, multiscale=True, scale=(2, 2))
    with pytest.raises(CommitError, match="pyramid"):
        check_target(pyramid, image)


def test_a_stack_that_fills_plane_by_plane(viewer):
    image = viewer.add_image(np.zeros((4, 20, 30)))
    labels = add_labels_layer(viewer, image, dtype=np.uint8)
    here = plane_index(viewer, image)
    for z in range(4):
        plane = np.zeros((20, 30), np.int32)
        plane[z, :] = 1
        plane[10:, z] = 100 * z + 2
        rows = pd.DataFrame({"index": [1, 100 * z + 2], "planes": z + 1})
        write_plane(labels, here.moved(0, z), plane, rows)
    assert labels.data.dtype == np.uint16
    assert np.unique(labels.data).tolist() == [0, 1, 2, 102, 202, 302]
    assert labels.data[2, 10, 2] == 202
    assert labels.features.set_index("index").loc[1, "planes"] == 4
    assert len(labels.features) == 5


@pytest.mark.parametrize("store", ["numpy", "zarr", "dask"])
def test_an_object_goes_into_all_its_planes_at_once(viewer, store, tmp_path):
    image = viewer.add_image(np.zeros((5, 20, 30)))
    data = np.zeros((5, 20, 30), np.uint8)
    data[1, 4:6, 4:6] = 255
    if store == "zarr":
        data = zarr.create_array(tmp_path / "labels.zarr", data=data.astype(np.uint16))
    elif store == "dask":
        data = da.from_array(data.astype(np.uint16))
    labels = viewer.add_labels(data, **twin(image))
    here = plane_index(viewer, image)
    masks = {here.moved(0, z): block(4, 4, 2 + z, 2) for z in range(4)}
    done = commit_through(labels, masks, record={"model": "tiny"})
    after = np.asarray(labels.data)
    assert labels.data.dtype == np.uint16  # the id was 256
    # All of plane 1 but what is another object's, and one id.
    assert [np.count_nonzero(plane == 256) for plane in after] == [4, 2, 8, 10, 0]
    assert np.count_nonzero(after == 255) == 4
    assert labels.features["index"].tolist() == [256]
    if store != "dask":
        labels.undo()
        assert not (np.asarray(labels.data) == 256).any()
        labels.redo()
    after = np.array(labels.data)
    after[2, 4, 4] = 9
    labels.data[2, 4, 4] = 9  # painted since
    take_back(labels, *done)
    now = np.asarray(labels.data)
    assert not (now == 256).any()
    assert now[2, 4, 4] == 9
    assert len(labels.features) == 0


def test_an_object_with_no_room_on_any_plane(viewer):
    image = viewer.add_image(np.zeros((3, 20, 30)))
    labels = viewer.add_labels(np.ones((3, 20, 30), np.uint8), **twin(image))
    here = plane_index(viewer, image)
    masks = {here.moved(0, z): block(4, 4, 2, 2) for z in range(3)}
    with pytest.raises(CommitError, match="on 3 planes: all of it is taken"):
        commit_through(labels, masks)
    assert (labels.data == 1).all()
    commit_through(labels, masks, overlap="replace")
    assert np.count_nonzero(labels.data == 2) == 12


def test_hidden_and_sliced_away_layers_can_be_written(viewer):
    viewer.add_image(np.zeros((30, 40, 50)))
    labels = viewer.add_labels(np.zeros((5, 40, 50), np.uint8), visible=False)
    viewer.dims.set_current_step(0, 20)
    commit_mask(labels, PlaneIndex((2, None, None), 1, 2), block(0, 0, 3, 3))
    labels.visible = True
    commit_mask(labels, PlaneIndex((3, None, None), 1, 2), block(0, 0, 3, 3))
    assert np.count_nonzero(labels.data) == 18
