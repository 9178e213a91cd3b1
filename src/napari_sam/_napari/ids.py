"""The next free id of a Labels layer, without reading a whole stack for every object."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_sam._napari.large_labels import highest_stored, store_highest

if TYPE_CHECKING:
    from napari.layers import Labels

SMALL = 2**24
"""Number of pixels in memory that are read each time: some milliseconds."""

_highest: WeakKeyDictionary[Labels, int] = WeakKeyDictionary()
"""Highest id seen in large layers; gone with the layer, or when its data are replaced."""


def next_label(layer: Labels) -> int:
    """Return the lowest id above all that a layer has in its pixels or features.

    Parameters
    ----------
    layer : Labels
        In memory, or lazy: then it is read block by block the first time, and its edits are followed after
        that. Changes that napari is not told of are seen only in layers of up to `SMALL` pixels in memory.
    """
    data = layer.data
    if isinstance(data, np.ndarray) and data.size <= SMALL:
        highest = int(data.max(initial=0))
    else:
        if layer not in _highest:
            known = highest_stored(layer)
            _highest[layer] = _read_highest(data) if known is None else known
            layer.events.paint.connect(_on_paint)
            layer.events.data.connect(_on_data)
        # Another window, or another program, may write into the same store.
        highest = max(_highest[layer], highest_stored(layer) or 0)
    import pandas as pd

    features = layer.features
    if "index" in features:
        # The column may be somebody else's, with words in it.
        ids = [int(i) for i in pd.to_numeric(features["index"], errors="coerce").dropna()]
        return max(highest, *ids, 0) + 1
    # Without a column of ids napari takes the row's number as the id.
    return max(highest, len(features) - 1) + 1


def note_label(layer: Labels, label: int) -> None:
    """Take note of an id that was written into a layer without napari's being told."""
    if layer in _highest:
        _highest[layer] = max(_highest[layer], label)
    store_highest(layer, label)


def _read_highest(data: Any) -> int:
    """Highest id of an array, read plane by plane."""
    planes = product(*(range(n) for n in data.shape[:-2]))
    return max((int(np.asarray(data[plane]).max(initial=0)) for plane in planes), default=0)


def _on_paint(event: Any) -> None:
    """Take note of the ids that somebody painted."""
    for *_, values in event.value:  # where, what was there, what is there now
        note_label(event.source, int(np.max(values, initial=0)))


def _on_data(event: Any) -> None:
    """The array was replaced."""
    _forget(event.source)


def _forget(layer: Labels) -> None:
    """Read the layer anew the next time."""
    if _highest.pop(layer, None) is not None:
        layer.events.paint.disconnect(_on_paint)
        layer.events.data.disconnect(_on_data)
