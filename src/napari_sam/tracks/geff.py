"""Tracks as a graph in the Graph Exchange File Format (GEFF), which tracking programs exchange."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_sam.axes import METRES, SECONDS, Axes
from napari_sam.export.atomic import replacing
from napari_sam.tracks.value import AXES, TrackError, Tracks, births


def write_geff(tracks: Tracks, path: str | Path, axes: Axes | None = None) -> None:
    """Write a directed graph: a node an object and frame, an edge from each to what it becomes.

    Parameters
    ----------
    tracks : Tracks
    path : str or Path
        A zarr folder, usually named ``.geff``; an older one is replaced when the new one is complete.
    axes : Axes, optional
        Axes of the movie, time first, for the distance between frames and between pixels. The nodes keep
        frames and pixels; the file says what they are in physical units.

    Raises
    ------
    TrackError
        If the package geff is not installed.
    """
    try:
        from geff import GeffMetadata
        from geff.core_io import write_arrays
    except ImportError as error:
        raise TrackError('GEFF needs the package geff: pip install "napari-sam-cells[tracking]"') from error
    table = tracks.table
    edges = _edges(tracks)
    nodes = np.arange(len(table), dtype=np.uint64)
    columns: dict[str, NDArray[Any]] = {"t": table["frame"].to_numpy(np.int64)}
    columns |= {axis: table[axis].to_numpy(np.float64) for axis in AXES if axis in table}
    for name in table:
        if name not in ("frame", *AXES) and table[name].dtype.kind in "iuf":
            columns[_property(str(name), columns)] = table[name].to_numpy()
    columns["lineage"] = _lineages(len(table), edges)
    metadata = GeffMetadata(
        directed=True,
        axes=[_axis(name, columns[name], axes) for name in ("t", *AXES) if name in columns],
        node_props_metadata={},
        edge_props_metadata={},
        track_node_props=_track_props(tracks),
    )
    with replacing(Path(path), folder=True) as beside:
        write_arrays(
            beside,
            node_ids=nodes,
            node_props={n: {"values": v, "missing": None} for n, v in columns.items()},
            edge_ids=edges,
            edge_props={},
            metadata=metadata,
            zarr_format=2,  # what every reader of the format knows
        )


def _property(name: str, taken: Container[str]) -> str:
    """Name of a column as a property, each of which is a folder of the file."""
    plain = re.sub(r'[\\/:*?"<>|]', "_", name).strip()
    plain = plain if plain.strip(".") else "feature"
    others = (f"{plain}_{number}" for number in count(2))
    return next(known for known in chain([plain], others) if known not in taken)


def _edges(tracks: Tracks) -> NDArray[np.uint64]:
    """Pairs of rows (from, to), shape (N, 2): along each track, then from each mother to her daughters."""
    track, frame = (tracks.table[name].to_numpy(int) for name in ("track", "frame"))
    row = np.arange(len(track))
    along = row[1:][track[1:] == track[:-1]]
    pairs = [np.stack([along - 1, along], axis=1)]
    pairs.append(np.array(births(tracks, track, frame), int).reshape(-1, 2))
    return np.concatenate(pairs).astype(np.uint64)


def _lineages(count: int, edges: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of the family, from 1, that each row belongs to."""
    if not count:
        return np.empty(0, np.int64)
    start, end = edges.T.astype(np.int64)
    graph = coo_array((np.ones(len(edges), bool), (start, end)), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    return part.astype(np.int64) + 1


def _track_props(tracks: Tracks) -> dict[str, str]:
    """Which columns are tracks and families, as the format understands them."""
    track, frame = (tracks.table[name].to_numpy(int) for name in ("track", "frame"))
    ends = {*np.flatnonzero(np.diff(track)).tolist(), len(track) - 1}
    daughters = Counter(row for row, _ in births(tracks, track, frame))
    # A track that merely goes on under another number is no tracklet of the format, nor is one that goes on
    # after others have split off from it.
    whole = all(count > 1 and row in ends for row, count in daughters.items())
    return {"tracklet": "track", "lineage": "lineage"} if whole else {"lineage": "lineage"}


def _axis(name: str, values: NDArray[Any], axes: Axes | None) -> dict[str, Any]:
    """Description of an axis."""
    time = name == "t"
    about: dict[str, Any] = {
        "name": name,
        "type": "time" if time else "space",
        "unit": "frame" if time else "pixel",
    }
    if len(values):
        about |= {"min": float(values.min()), "max": float(values.max())}
    spacing, unit = axes.of(name.upper()) if axes is not None else (1.0, "pixel")
    if unit in (SECONDS if time else METRES):
        about |= {"scale": spacing, "scaled_unit": unit}
    elif spacing != 1:
        about |= {"scale": spacing}
    return about
