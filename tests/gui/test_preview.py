"""Masks on the canvas before they are committed: what is shown, and with how much work."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_sam._napari.coordinates import plane_index
from napari_sam._napari.preview import MaskPreview
from napari_sam.masks import Mask


@pytest.fixture
def viewer():
    return ViewerModel()


def test_napari_cuts_the_layer_once_for_every_mask_that_is_shown(viewer, monkeypatch):
    """A mask follows the mouse: what napari does for it is done often."""
    image = viewer.add_image(np.zeros((20, 30)))
    preview, plane = MaskPreview(viewer), plane_index(viewer, image)
    preview.prepare(image, plane)
    refreshed, refresh = [], Labels.refresh
    monkeypatch.setattr(
        Labels, "refresh", lambda self, *args, **kw: refreshed.append(self) or refresh(self, *args, **kw)
    )
    for number in (1, 2, 3):
        mask = Mask(number, number, np.ones((4, 5), bool))
        preview.show(image, plane, [mask], opacity=0.25)
        assert refreshed == [preview.layer] * number
        assert preview.layer.visible
        assert preview.layer.opacity == 0.25
        assert (preview.layer.data == mask.to_plane((20, 30))).all()
