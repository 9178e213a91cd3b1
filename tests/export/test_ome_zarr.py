"""OME-Zarr read back with zarr and with ome-zarr's reader; its metadata checked by ome-zarr-models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from napari_sam.axes import Axes
from napari_sam.export import ExportError, export
from napari_sam.files import open_image, open_labels


def nodes(path):
    """Pyramids that ome-zarr's reader finds, by the folder's name."""
    found = {}
    for node in Reader(parse_url(str(path)))():
        found[node.zarr.basename()] = ([np.asarray(level) for level in node.data], node.metadata)
    return found


def ome(path):
    return dict(zarr.open_group(path, mode="r").attrs)["ome"]


def test_labels_on_their_own(odd_shapes, tmp_path):
    path = export(odd_shapes, tmp_path / "cells.ome.zarr", spacing=(0.5, 0.25), units="µm")
    ((levels, _),) = nodes(path).values()
    np.testing.assert_array_equal(levels[0], odd_shapes)
    assert levels[0].dtype == np.uint8
    metadata = ome(path)
    assert metadata["version"] == "0.5"
    assert metadata["image-label"] == {"version": "0.5"}
    (multiscale,) = metadata["multiscales"]
    assert multiscale["axes"] == [
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    assert multiscale["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [0.5, 0.25]}]


def test_metadata_follow_the_specification(odd_shapes, tmp_path):
    from ome_zarr_models.v05 import ImageLabel

    path = export(odd_shapes, tmp_path / "cells.zarr", features={"index": [1], "predicted_iou": [0.5]})
    label = ImageLabel.from_zarr(zarr.open_group(path, mode="r"))
    (described,) = label.ome_attributes.image_label.properties
    assert described.label_value == 1


def test_the_pyramid_takes_every_second_pixel_and_keeps_ids(tmp_path, rng):
    labels = rng.integers(0, 9, (2, 3, 700, 900)).astype(np.int32) * 1000
    path = export(labels, tmp_path / "cells.zarr", spacing=(1, 2, 0.5, 0.5), units=("s", "um", "um", "um"))
    ((levels, _),) = nodes(path).values()
    assert [level.shape for level in levels] == [(2, 3, 700, 900), (2, 3, 350, 450), (2, 3, 175, 225)]
    for k, level in enumerate(levels):
        np.testing.assert_array_equal(level, labels[..., :: 2**k, :: 2**k])
    (multiscale,) = ome(path)["multiscales"]
    assert [d["coordinateTransformations"][0]["scale"] for d in multiscale["datasets"]] == [
        [1, 2, 0.5 * 2**k, 0.5 * 2**k] for k in range(3)
    ]
    assert [a["name"] for a in multiscale["axes"]] == ["t", "z", "y", "x"]
    assert multiscale["axes"][0] == {"name": "t", "type": "time", "unit": "second"}
    array = zarr.open_group(path, mode="r")["0"]
    assert array.chunks == (1, 1, 512, 512)
    assert array.metadata.dimension_names == ("t", "z", "y", "x")


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_image_is_written_with_its_labels(channels, odd_shapes, tmp_path, rng):
    image = rng.integers(0, 255, (*odd_shapes.shape, *channels)).astype(np.uint16)
    path = export(odd_shapes, tmp_path / "cells.ome.zarr", image=image, features={"index": [4], "a": [1]})
    found = nodes(path)
    np.testing.assert_array_equal(found["objects"][0][0], odd_shapes)
    expected = np.moveaxis(image, -1, 0) if channels else image
    np.testing.assert_array_equal(found["cells.ome.zarr"][0][0], expected)
    described = ome(path / "labels" / "objects")["image-label"]
    assert described["source"] == {"image": "../../"}
    assert described["properties"] == [{"label-value": 4, "a": 1}]
    assert ome(path / "labels")["labels"] == ["objects"]


@pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler:DeprecationWarning")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_that_is_there_stays_and_gets_the_labels_added(version, odd_shapes, tmp_path, rng):
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image

    image = rng.integers(0, 255, odd_shapes.shape).astype(np.uint8)
    path = tmp_path / "image.zarr"
    form = FormatV04() if version == "0.4" else FormatV05()
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    write_image(image, group, axes="yx", fmt=form, scale_factors=())
    for labels in (odd_shapes, odd_shapes * 2):
        export(labels, path)
        found = nodes(path)
        np.testing.assert_array_equal(found["image.zarr"][0][0], image)
        np.testing.assert_array_equal(found["objects"][0][0], labels)
    assert sorted(p.name for p in (path / "labels").iterdir() if p.is_dir()) == ["objects"]


def test_labels_of_another_shape_are_not_added_to_an_image(odd_shapes, stack, tmp_path):
    path = export(odd_shapes, tmp_path / "image.ome.zarr", image=odd_shapes * 3)
    with pytest.raises(ExportError, match=r"image of the shape .* axes YX, to which .* axes ZYX do not"):
        export(stack, path)
    for other in (odd_shapes[1:], odd_shapes.T, stack):
        with pytest.raises(ExportError, match="do not belong"):
            export(other, path)
    np.testing.assert_array_equal(nodes(path)["objects"][0][0], odd_shapes)
    export(odd_shapes[None] * 2, path)  # one slice more is no other shape
    np.testing.assert_array_equal(zarr.open_array(path / "labels" / "objects" / "0")[0], odd_shapes * 2)


def test_a_folder_that_is_no_ome_zarr_is_left_alone(odd_shapes, tmp_path):
    (tmp_path / "data.zarr").mkdir()
    (tmp_path / "data.zarr" / "precious.json").write_text(json.dumps([1]))
    with pytest.raises(ExportError, match="is no OME-Zarr"):
        export(odd_shapes, tmp_path / "data.zarr")
    assert (tmp_path / "data.zarr" / "precious.json").exists()


def test_ids_of_any_size_are_kept(tmp_path):
    labels = np.zeros((20, 30), np.uint64)
    labels[3:6, 4:9] = 2**33
    path = export(labels, tmp_path / "a.ome.zarr")
    with open_image(path) as image:
        assert image.dtype == np.uint64
        np.testing.assert_array_equal(image.labels()[:], labels)


def write_image(
    path, pixels, version, transforms, of_all_levels=(), units=("second", "micrometer", "micrometer")
):
    """The OME-Zarr of an image with the given transforms; its axes are T, Y and X, or Y and X."""
    axes = [
        {"name": name, "type": "time" if name == "t" else "space", **({"unit": unit} if unit else {})}
        for name, unit in zip("tyx"[-pixels.ndim :], units[-pixels.ndim :], strict=True)
    ]
    multiscale = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}
    if of_all_levels:
        multiscale["coordinateTransformations"] = list(of_all_levels)
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=pixels)
    about = {"multiscales": [{"version": version, **multiscale} if version == "0.4" else multiscale]}
    group.attrs.update(about if version == "0.4" else {"ome": {"version": version, **about}})
    return path


def transforms_of_labels(path):
    """Transforms of each level of the labels in an image, as ome-zarr's reader finds them."""
    return nodes(path)["objects"][1]["coordinateTransformations"]


def scale(*sizes):
    return {"type": "scale", "scale": list(sizes)}


def translation(*starts):
    return {"type": "translation", "translation": list(starts)}


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("within", ["", "0"])
def test_labels_are_seen_in_an_image_with_consolidated_metadata(version, within, odd_shapes, tmp_path):
    form = 2 if version == "0.4" else 3
    root = tmp_path / "a.zarr"
    zarr.open_group(root, mode="w", zarr_format=form)
    image = write_image(root / within, odd_shapes * 0 + 7, version, [scale(1, 1)])
    zarr.consolidate_metadata(root, zarr_format=form)
    for labels in (odd_shapes, odd_shapes * 300):
        export(labels, image, format="ome-zarr")
        with open_labels(root) as found:
            np.testing.assert_array_equal(found.label_ids(), labels)
        consolidated = zarr.open_group(root, mode="r", use_consolidated=True)
        array = consolidated[f"{within}/labels/objects/0".strip("/")]
        np.testing.assert_array_equal(array[:], labels)
        np.testing.assert_array_equal(nodes(image)["objects"][0][0], labels)


def test_metadata_that_were_not_consolidated_are_not(odd_shapes, tmp_path):
    path = write_image(tmp_path / "a.zarr", odd_shapes * 0, "0.5", [scale(1, 1)])
    export(odd_shapes, path)
    assert zarr.open_group(path, mode="r").metadata.consolidated_metadata is None


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_lie_where_their_image_lies(version, tmp_path, rng):
    labels = rng.integers(0, 9, (300, 600)).astype(np.int32)
    path = write_image(tmp_path / "a.zarr", labels * 0, version, [scale(0.5, 0.25), translation(100, -7)])
    with open_image(path) as image:
        export(labels, path, axes=image.axes)
    expected = [[scale(0.5 * 2**k, 0.25 * 2**k), translation(100, -7)] for k in range(3)]
    assert transforms_of_labels(path) == expected
    export(labels, path)
    assert transforms_of_labels(path) == expected
    with open_labels(path) as found:
        assert found.axes == Axes("YX", (0.5, 0.25), ("micrometer", "micrometer"))
    export(labels, path, spacing=(500, 1000), units="nm")
    sizes, start = transforms_of_labels(path)[0]
    assert (sizes, start["translation"]) == (scale(500, 1000), pytest.approx([100_000, -7000]))
    export(labels, path, spacing=(2, 1))
    assert transforms_of_labels(path)[0] == [scale(2, 1), translation(100, -7)]
    export(labels, path, spacing=(2, 1), units=("um", "pixel"))
    assert transforms_of_labels(path)[0] == [scale(2, 0.25), translation(100, -7)]


def test_transforms_of_all_levels_come_after_those_of_each(odd_shapes, tmp_path):
    path = write_image(
        tmp_path / "a.zarr",
        odd_shapes * 0,
        "0.4",
        [scale(0.5, 0.25), translation(10, 20)],
        of_all_levels=[scale(2, 4), translation(1, 3)],
    )
    export(odd_shapes, path)
    assert transforms_of_labels(path) == [[scale(1, 1), translation(21, 83)]]


def test_each_axis_of_labels_takes_what_it_lacks_from_the_image(stack, tmp_path):
    path = write_image(tmp_path / "a.zarr", stack * 0, "0.5", [scale(5, 0.5, 0.5), translation(60, 0, 0)])
    export(stack, path, axes="TYX", spacing=(1, 0.4, 0.4), units=("pixel", "um", "um"))
    assert transforms_of_labels(path) == [[scale(5, 0.4, 0.4), translation(60, 0, 0)]]
    export(stack, path, axes="TYX", spacing=(2, 1, 1), units=("min", "pixel", "pixel"))
    assert transforms_of_labels(path) == [[scale(2, 0.5, 0.5), translation(1, 0, 0)]]


def test_labels_keep_an_axis_that_the_image_lacks(odd_shapes, tmp_path):
    path = write_image(tmp_path / "a.zarr", odd_shapes * 0, "0.5", [scale(0.5, 0.5), translation(3, 4)])
    export(odd_shapes[None], path)
    assert transforms_of_labels(path) == [[scale(1, 0.5, 0.5), translation(0, 3, 4)]]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata_of_labels_with_an_origin_follow_the_specification(version, odd_shapes, tmp_path):
    from ome_zarr_models import v04, v05

    path = write_image(tmp_path / "a.zarr", odd_shapes * 0, version, [scale(0.5, 0.5), translation(3, 4)])
    export(odd_shapes, path)
    kind = v04.ImageLabel if version == "0.4" else v05.ImageLabel
    kind.from_zarr(zarr.open_group(path / "labels" / "objects", mode="r"))


def test_without_an_origin_none_is_made_up(odd_shapes, tmp_path):
    path = write_image(tmp_path / "a.zarr", odd_shapes * 0, "0.5", [scale(0.5, 0.5)], units=("", "", ""))
    export(odd_shapes, path)
    assert transforms_of_labels(path) == [[scale(0.5, 0.5)]]
