from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_sam.export import ExportError, export


def test_every_id_is_a_grey_value(tmp_path):
    labels = np.array([[0, 1, 300], [65535, 7, 0]])
    with Image.open(export(labels, tmp_path / "cells.png")) as picture:
        assert picture.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(picture), labels)


def test_one_plane_of_a_stack_of_one_is_fine(odd_shapes, tmp_path):
    with Image.open(export(odd_shapes[None], tmp_path / "cells.png")) as picture:
        np.testing.assert_array_equal(np.asarray(picture), odd_shapes)


def test_what_a_png_cannot_hold_is_refused(stack, tmp_path):
    with pytest.raises(ExportError, match=r"holds one plane.*TIFF or OME-Zarr"):
        export(stack, tmp_path / "cells.png")
    with pytest.raises(ExportError, match="up to 65,535, found 70,000"):
        export(np.array([[70_000]]), tmp_path / "cells.png")
