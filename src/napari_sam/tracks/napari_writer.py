"""What napari calls when a Tracks layer is saved, whoever made it."""

from __future__ import annotations

from typing import Any

from napari_sam.axes import movie_axes
from napari_sam.export.napari_writer import told_by_napari
from napari_sam.spacing import pixel_spacing
from napari_sam.tracks.save import save_tracks
from napari_sam.tracks.value import Tracks


def write_tracks_csv(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Tracks layer as a table; see `write_tracks`."""
    return write_tracks(path, data, attributes)


def write_tracks_geff(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Tracks layer as a graph (GEFF); see `write_tracks`."""
    return write_tracks(path, data, attributes)


def write_tracks(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Tracks layer with its graph, features, scale and units.

    Parameters
    ----------
    path : str
        Its ending says the format.
    data : ndarray, shape (N, 4) or (N, 5)
        Track, frame, (z,) y, x.
    attributes : dict
        The layer's attributes as napari gives them: ``graph``, ``features``, ``scale``, ``units``.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    OSError
        If the tracks cannot be written.
    """
    with told_by_napari():
        tracks = Tracks.of_napari(data, attributes.get("graph"), attributes.get("features"))
        spacing = pixel_spacing(attributes)
        axes = movie_axes(data.shape[1] - 1, spacing, spacing and attributes.get("units"))
        return [str(save_tracks(tracks, path, axes=axes))]
