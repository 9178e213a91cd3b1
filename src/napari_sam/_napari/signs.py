"""The sign of a prompt: "+" belongs to the object, "-" does not. A feature of the layer, and a colour."""

from __future__ import annotations

import numpy as np
from napari.layers import Points, Shapes
from numpy.typing import NDArray

POSITIVE, NEGATIVE = "+", "-"
CLICK_COLOURS = {POSITIVE: "#2ecc40", NEGATIVE: "#ff4136"}
LINE_COLOURS = {POSITIVE: "#ffdc00", NEGATIVE: "#ff4136"}

_LINES = ("path", "line")


def negative_rows(layer: Points | Shapes) -> NDArray[np.bool_]:
    """Tell which rows of a layer say "this is background"; none in a layer without signs."""
    sign = layer.features.get("sign")
    if sign is None or len(sign) != len(layer.data):
        return np.zeros(len(layer.data), bool)
    return np.array([str(value) == NEGATIVE for value in sign], bool)


def set_signs(layer: Points | Shapes, negative: NDArray[np.bool_]) -> None:
    """Set the sign of every row; the sign of the next one stays."""
    following = layer.feature_defaults
    signs = np.where(negative, NEGATIVE, POSITIVE).astype(object)
    layer.features = layer.features.assign(sign=signs)
    layer.feature_defaults = following
    if isinstance(layer, Points):
        layer.refresh_colors(update_color_mapping=False)
    elif len(signs):
        layer.edge_color = [LINE_COLOURS[sign] for sign in signs]


def set_next_sign(layer: Points | Shapes, sign: str) -> None:
    """Set the sign and colour of what is drawn next."""
    # What is selected keeps its sign.
    with layer.block_update_properties():
        layer.feature_defaults = {"sign": sign}
        if isinstance(layer, Shapes):
            layer.current_edge_color = LINE_COLOURS[sign]


def next_sign(layer: Points | Shapes) -> str:
    """Sign that the next click or shape gets."""
    return str(layer.feature_defaults["sign"].iloc[0])


def keep_boxes_positive(layer: Shapes) -> None:
    """Give a box or outline that was drawn while the sign is "-" its "+": only scribbles have a sign."""
    lines = np.array([kind in _LINES for kind in layer.shape_type], bool)
    negative = negative_rows(layer)
    if (negative & ~lines).any():
        set_signs(layer, negative & lines)
