"""An outline or scribble that is still being drawn: what napari needs before its rows may change."""

from __future__ import annotations

from napari.layers import Shapes


def finish_drawing(layer: Shapes | None) -> None:
    """End what is being drawn, as Escape does; a shape that has hardly begun is given up.

    To be called before shapes are removed or another tool is taken up: napari remembers the unfinished shape
    by its number, and stumbles when that is another one's or none's.
    """
    if layer is not None and layer._is_creating:
        layer._finish_drawing()


def drop_spare_rows(layer: Shapes) -> None:
    """Cut the features of a shape that was given up: napari removes the shape and keeps its row."""
    if len(layer.features) > layer.nshapes:
        following = layer.feature_defaults
        layer.features = layer.features.iloc[: layer.nshapes]
        layer.feature_defaults = following
