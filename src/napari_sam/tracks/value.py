"""Tracks as a value: a row an object and frame, and who split off from whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.linking import Labels

if TYPE_CHECKING:
    from pandas import DataFrame

AXES = ("z", "y", "x")


class TrackError(ValueError):
    """A movie that cannot be tracked; the message says why and what to do."""


def births(tracks: Tracks, track: NDArray[np.int_], frame: NDArray[np.int_]) -> list[tuple[int, int]]:
    """Where tracks split off from others.

    Parameters
    ----------
    tracks : Tracks
    track, frame : ndarray of int, shape (N,)
        Of its rows, by track and frame.

    Returns
    -------
    list of (int, int)
        For each daughter the last row of its mother before it begins, and its first row. Mothers that are
        not there, or not yet, are left out.
    """
    numbers, first, counts = np.unique(track, return_index=True, return_counts=True)
    rows = {int(n): slice(int(a), int(a + k)) for n, a, k in zip(numbers, first, counts, strict=True)}
    found = []
    for child, mother in tracks.parents.items():
        if child in rows and mother in rows:
            birth = rows[child].start
            before = int(np.searchsorted(frame[rows[mother]], frame[birth]))
            if before:
                found.append((rows[mother].start + before - 1, birth))
    return found


@dataclass(frozen=True, eq=False, slots=True)
class Tracks:
    """Tracks of a movie.

    Parameters
    ----------
    table : DataFrame
        One row an object and frame, by track and frame: ``track`` (from 1), ``frame``, ``label`` (the id in
        that frame's labels), ``z`` (of volumes), ``y``, ``x`` (centroid in pixels), ``area`` (pixels).
    parents : mapping of int to int
        Track from which a track split off.
    """

    table: DataFrame
    parents: Mapping[int, int]

    @property
    def count(self) -> int:
        """Number of tracks."""
        return int(self.table["track"].nunique())

    @property
    def divisions(self) -> int:
        """Number of tracks that others split off from."""
        return len(set(self.parents.values()))

    def napari(self) -> tuple[NDArray[np.float64], dict[int, list[int]]]:
        """Data and graph of a napari Tracks layer.

        Returns
        -------
        data : ndarray, shape (N, 4) or (N, 5)
            Track, frame, (z,) y, x.
        graph : dict
            Parents by track.
        """
        columns = ["track", "frame", *(a for a in AXES if a in self.table)]
        graph = {child: [parent] for child, parent in self.parents.items()}
        return self.table[columns].to_numpy(np.float64), graph

    def numbered(self, labels: Labels, frame: int) -> NDArray[np.int64]:
        """Give the objects of a frame the numbers of their tracks.

        Parameters
        ----------
        labels : ndarray of int, shape (H, W) or (Z, H, W)
            The labels that were tracked. Any ids of 0 and above, however great.
        frame : int

        Raises
        ------
        TrackError
            If the objects are not those that were tracked.
        """
        there, where, areas = np.unique(labels, return_inverse=True, return_counts=True)
        found = self.table[self.table["frame"] == frame].sort_values("label")
        objects = there != 0
        same = np.array_equal(there[objects], found["label"]) and np.array_equal(
            areas[objects], found["area"]
        )
        if not same:
            raise TrackError(
                f"The labels of frame {frame} were changed while they were tracked. Track them again, and "
                "paint when that is done."
            )
        numbers = np.zeros(len(there), np.int64)
        numbers[objects] = found["track"]
        return numbers[where].reshape(labels.shape)

    @staticmethod
    def of_napari(
        data: ArrayLike,
        graph: Mapping[int, Sequence[int] | int] | None = None,
        features: Mapping[str, Any] | DataFrame | None = None,
    ) -> Tracks:
        """Tracks of a napari Tracks layer, whoever made it.

        Parameters
        ----------
        data : array-like, shape (N, 4) or (N, 5)
            Track, frame, (z,) y, x.
        graph : mapping, optional
            Parents by track.
        features : DataFrame or mapping of str to sequence, optional
            More columns, a value for each row of ``data``; ``label`` and ``area`` where they are known.

        Raises
        ------
        TrackError
            If the data have other columns, or a track has several parents.
        """
        import pandas as pd

        rows = np.asarray(data, float)
        if rows.ndim != 2 or rows.shape[1] not in (4, 5):
            raise TrackError(
                "Expected tracks with the columns track, frame, (z,) y and x, found the shape "
                f"{rows.shape}. Tracks of other axes cannot be saved."
            )
        columns: dict[str, Any] = {
            "track": np.round(rows[:, 0]).astype(int),
            "frame": np.round(rows[:, 1]).astype(int),
            **dict(zip(AXES[-(rows.shape[1] - 2) :], rows[:, 2:].T, strict=True)),
        }
        known = {"track_id", "t", "index", *columns}
        more_columns = [] if features is None else list(features.items())
        columns |= {str(n): np.asarray(v) for n, v in more_columns if str(n) not in known}
        parents: dict[int, int] = {}
        for child, mothers in dict(graph or {}).items():
            first, *more = [mothers] if isinstance(mothers, int | np.integer) else list(mothers)
            if more:
                raise TrackError(
                    f"Track {child} has {len(more) + 1} parents. Tracks that merge cannot be saved: take the "
                    "merges out of the layer's graph."
                )
            parents[int(child)] = int(first)
        table = pd.DataFrame(columns).sort_values(["track", "frame"], ignore_index=True)
        return Tracks(table, parents)
