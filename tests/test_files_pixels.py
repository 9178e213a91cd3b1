"""Images of very many pixels, and of none."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import tifffile
from PIL import Image

from napari_sam.files import ImageFileError, open_image


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_a_large_picture_is_no_attack(ending, tmp_path, rng, monkeypatch):
    pixels = rng.integers(0, 255, (20, 30)).astype(np.uint8)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(pixels).save(path)
    stored = np.asarray(Image.open(path))
    for limit in (400, 100):  # beyond which Pillow warns, and refuses
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
        with open_image(path) as image:
            np.testing.assert_array_equal(image.plane(0), stored)
        assert limit == PIL.Image.MAX_IMAGE_PIXELS, "it is that of other parts of the process, too"


def test_a_picture_of_another_kind_than_its_ending_is_read(tmp_path):
    Image.fromarray(np.full((5, 6), 7, np.uint8)).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with open_image(tmp_path / "a.png") as image:
        assert image.shape == (5, 6)


@pytest.mark.parametrize(
    ("shape", "without"), [((0, 20, 30), "planes"), ((3, 0, 30), "pixels"), ((20, 0), "pixels")]
)
def test_an_image_without_pixels_is_refused_when_it_is_opened(shape, without, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint16))
    with pytest.raises(ImageFileError, match=rf"a.npy has the shape \({shape[0]}, .* found no {without}"):
        open_image(tmp_path / "a.npy")


def test_a_stack_of_one_plane_is_no_stack_without_planes(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 4, 5), np.uint16))
    assert len(open_image(tmp_path / "a.npy")) == 1
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((1, 1), np.uint16))
    with open_image(tmp_path / "a.tif") as image:
        assert image.shape == (1, 1)
