"""OME-Zarr folders with consolidated metadata, and with several images."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr

from napari_sam.files import ImageFileError, open_image
from napari_sam.files.zarr_folder import labels_within


def describe(group, version, value=0, **more):
    """Put a plane of one value into a group, as an image."""
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    about = {"multiscales": [{"axes": axes, "datasets": [level]}], **more}
    group.attrs.update(about if version == "0.4" else {"ome": {"version": version, **about}})
    group.create_array("0", data=np.full((4, 5), value, np.uint8))


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_is_there_counts_and_not_consolidated_metadata(version, tmp_path):
    form = 2 if version == "0.4" else 3
    path = tmp_path / "a.zarr"
    describe(zarr.open_group(path, mode="w", zarr_format=form), version)
    zarr.consolidate_metadata(path, zarr_format=form)
    labels = zarr.open_group(path / "labels", mode="w", zarr_format=form)
    describe(labels.create_group("cells"), version, **{"image-label": {}})
    assert labels_within(path) == [path / "labels" / "cells"]
    shutil.rmtree(path / "0")
    zarr.create_array(path / "0", shape=(6, 7), dtype="u1", zarr_format=form)
    with open_image(path) as image:
        assert image.shape == (6, 7)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_of_several_images_in_a_folder_the_first_is_read_and_it_says_so(version, tmp_path):
    path = tmp_path / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    root.create_group("OME")
    describe(root.create_group("0"), version, 5)
    with open_image(path) as image:
        assert image.note == "", "there is no other"
    for n in range(1, 11):
        describe(root.create_group(str(n)), version)
    with open_image(path) as image:
        assert image.plane(0).max() == 5
        assert image.note == (
            "It holds 11 images, of which the first is read: name the folder of another, "
            f"such as {path / '1'}."
        )
    with open_image(path / "1") as image:
        assert image.note == ""


def test_a_folder_that_is_no_zarr_is_refused_in_plain_words(tmp_path):
    (tmp_path / "frames").mkdir()
    with pytest.raises(ImageFileError, match="frames is a folder and no Zarr: expected one image"):
        open_image(tmp_path / "frames")
