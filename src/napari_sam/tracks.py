"""Objects of a movie as tracks with divisions: linked by place and size, saved for other programs.

The linking is laptrack's (sparse assignment, frame to frame, then gaps and divisions), on the centroids in
physical units, so that anisotropic voxels count as what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam.linking import Labels, Lookup

if TYPE_CHECKING:
    from pandas import DataFrame

AXES = ("z", "y", "x")


class TrackError(ValueError):
    """A movie that cannot be tracked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """When objects of two frames are the same one.

    Parameters
    ----------
    max_distance : float, optional
        How far an object may move from a frame to the next, in the units of the spacing; as far as a typical
        object is wide if not given.
    max_gap : int
        Frames in between in which an object may be missing.
    divisions : bool
        Whether an object may become two. Both are then tracks of their own, and children of the first. They
        must be alike in size and smaller than it was; what is much smaller (a bud, a fragment) begins a track
        of its own, and the larger one goes on as what it was.
    size_weight : float
        How much a change of radius counts, compared with moving as far.
    """

    max_distance: float | None = None
    max_gap: int = 1
    divisions: bool = True
    size_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if (self.max_distance is not None and self.max_distance <= 0) or self.max_gap < 0:
            raise TrackError(
                "Expected a distance above 0 and a gap of zero frames or more, "
                f"found {self.max_distance} and {self.max_gap}."
            )


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
        return int(self.table["track"].max()) if len(self.table) else 0

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

    def lookup(self, frame: int) -> Lookup:
        """Track of each label of a frame: ``lookup[labels]`` shows the frame with the tracks' ids."""
        rows = self.table[self.table["frame"] == frame]
        out = np.zeros(int(rows["label"].max()) + 1 if len(rows) else 1, np.int32)
        out[rows["label"].to_numpy(int)] = rows["track"].to_numpy(np.int32)
        return out


def find_tracks(
    frames: Iterable[Labels], settings: TrackSettings | None = None, *, spacing: Sequence[float] | None = None
) -> Tracks:
    """Link the objects of a movie that was segmented frame by frame.

    Parameters
    ----------
    frames : iterable of ndarray of int, shape (H, W) or (Z, H, W)
        Labels of each frame, taken one at a time; ids need not agree between frames.
    settings : TrackSettings, optional
    spacing : sequence of float, optional
        Distance between pixels along (z,) y and x; 1 if not given.

    Returns
    -------
    Tracks

    Raises
    ------
    TrackError
        If there is no frame, the spacing does not fit, or laptrack is not installed.
    """
    import pandas as pd

    settings = settings or TrackSettings()
    found = [_measure(labels, frame) for frame, labels in enumerate(frames)]
    if not found:
        raise TrackError("There is no frame to track. Choose a movie with at least one frame.")
    table = pd.concat(found, ignore_index=True)
    axes = [a for a in AXES if a in table]
    sizes = np.ones(len(axes)) if spacing is None else np.asarray(spacing, float)
    if sizes.shape != (len(axes),) or not (sizes > 0).all():
        raise TrackError(f"Expected {len(axes)} distances between pixels above 0, found {spacing}.")
    if table.empty:
        return Tracks(table.assign(track=np.empty(0, int)), {})
    volume = table["area"].to_numpy(float) * sizes.prod()
    radius = np.sqrt(volume / np.pi) if len(axes) == 2 else np.cbrt(volume * 3 / (4 * np.pi))
    reach = settings.max_distance or 2 * float(np.median(radius))
    points = table[axes].to_numpy(float) * sizes
    places = pd.DataFrame(
        np.column_stack([table["frame"], points, settings.size_weight * radius]),
        columns=["frame", *axes, "radius"],
    )
    places["frame"] = places["frame"].astype(int)
    return _link(table, places, ["radius", *axes], reach, settings)


def _link(
    table: DataFrame, places: DataFrame, columns: list[str], reach: float, settings: TrackSettings
) -> Tracks:
    """Run laptrack, and number the tracks from 1 in the order in which they begin."""
    try:
        import laptrack
    except ImportError as error:
        raise TrackError('Tracks need laptrack: pip install "napari-sam-cells[tracking]"') from error
    near, apart = reach**2, (1.5 * reach) ** 2  # a daughter lies beside where her mother was
    tracker_of: Any = laptrack.LapTrack
    tracker = tracker_of(
        cutoff=near,
        gap_closing_cutoff=near if settings.max_gap else False,
        gap_closing_max_frame_count=settings.max_gap + 1,  # counted from one sight to the next
        splitting_cutoff=apart if settings.divisions else False,
        # Given, not taken from the costs that occur: what is near enough is linked, in short movies too.
        track_start_cost=1.05 * near,
        track_end_cost=1.05 * near,
        segment_start_cost=1.05 * apart,
        segment_end_cost=1.05 * apart,
        no_splitting_cost=1.05 * apart,
    )
    places["row"] = np.arange(len(places))
    linked, splits, _ = tracker.predict_dataframe(places, columns, "frame", only_coordinate_cols=False)
    of_row = np.empty(len(table), int)
    of_row[linked["row"].to_numpy(int)] = linked["track_id"].to_numpy(int)
    pairs = splits[["parent_track_id", "child_track_id"]].to_numpy(int) if len(splits) else ()
    of_row, mothers = _keep_divisions(of_row, table, [(int(m), int(c)) for m, c in pairs])
    begins = table.groupby(of_row)["frame"].min().sort_index()
    number = {int(old): new for new, old in enumerate(begins.sort_values(kind="stable").index, start=1)}
    table = table.assign(track=[number[int(i)] for i in of_row])
    table = table.sort_values(["track", "frame"], ignore_index=True)
    parents = {number[child]: number[mother] for child, mother in mothers.items()}
    return Tracks(table[["track", *(c for c in table if c != "track")]], dict(sorted(parents.items())))


ALIKE = 0.5
"""Least area of the smaller daughter over the larger one's."""
SMALLER = 0.9
"""Largest area of the larger daughter over the mother's."""


def _keep_divisions(
    of_row: NDArray[np.int_], table: DataFrame, pairs: list[tuple[int, int]]
) -> tuple[NDArray[np.int_], dict[int, int]]:
    """Take back what is no division; returns the track of each row, and the mother of each daughter."""
    area, frame = table["area"].to_numpy(float), table["frame"].to_numpy(int)
    daughters: dict[int, list[int]] = {}
    for mother, child in pairs:
        daughters.setdefault(mother, []).append(child)
    goes_on: dict[int, int] = {}
    mothers: dict[int, int] = {}

    def size(track: int, last: bool) -> float:
        rows = np.flatnonzero(of_row == track)
        return float(area[rows[np.argmax(frame[rows]) if last else np.argmin(frame[rows])]])

    for mother, children in sorted(daughters.items()):
        sizes = sorted((size(child, last=False), child) for child in children)
        largest = sizes[-1][0]
        if len(sizes) > 1 and sizes[0][0] >= ALIKE * largest and largest <= SMALLER * size(mother, last=True):
            mothers |= dict.fromkeys(children, mother)
        else:
            goes_on[sizes[-1][1]] = mother

    def first(track: int) -> int:
        while track in goes_on:
            track = goes_on[track]
        return track

    return np.array([first(int(t)) for t in of_row]), {c: first(m) for c, m in mothers.items()}


def _measure(labels: Labels, frame: int) -> DataFrame:
    """Centroid and area of every object of a frame."""
    import pandas as pd

    counts = np.bincount(labels.ravel())
    ids = np.flatnonzero(counts)
    ids = ids[ids > 0]
    middle = np.array(ndi.center_of_mass(labels > 0, labels, ids), float).reshape(-1, labels.ndim)
    columns: dict[str, Any] = {"frame": np.full(len(ids), frame), "label": ids}
    columns |= dict(zip(AXES[-labels.ndim :], middle.T, strict=True))
    return pd.DataFrame({**columns, "area": counts[ids]})


def write_csv(tracks: Tracks, path: str | Path) -> None:
    """Write the tracks as a table, with the parent of each track (0 where it has none)."""
    parents = tracks.table["track"].map(dict(tracks.parents)).fillna(0).astype(int)
    tracks.table.assign(parent=parents).to_csv(path, index=False)


def write_ctc(tracks: Tracks, frames: Iterable[Labels], folder: str | Path) -> None:
    """Write a result folder of the Cell Tracking Challenge: a mask a frame, and ``res_track.txt``.

    A track with a gap becomes two, the second a child of the first, since the format has no gaps.

    Parameters
    ----------
    tracks : Tracks
    frames : iterable of ndarray of int
        The labels that were tracked, in the same order.
    folder : str or Path
        Made if it is missing; files of the same names are replaced.

    Raises
    ------
    TrackError
        If there are more tracks than the format's 16 bits can number.
    """
    import tifffile

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    pieces, lines = _pieces(tracks)
    if len(lines) > np.iinfo(np.uint16).max:
        raise TrackError(f"Expected at most 65535 tracks in the format's 16 bits, found {len(lines)}.")
    number = pieces.set_index(["frame", "label"])["piece"]
    for frame, labels in enumerate(frames):
        out = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
        if frame in number.index.get_level_values(0):
            mine = number.loc[frame]
            out[mine.index.to_numpy(int)] = mine.to_numpy(np.uint16)
        tifffile.imwrite(place / f"mask{frame:03d}.tif", out[labels], compression="zlib")
    (place / "res_track.txt").write_text("".join(f"{' '.join(map(str, line))}\n" for line in lines))


def _pieces(tracks: Tracks) -> tuple[DataFrame, list[tuple[int, int, int, int]]]:
    """Tracks cut at their gaps: a piece a row, and (piece, first, last frame, parent piece) of each."""
    table = tracks.table.sort_values(["track", "frame"], ignore_index=True)
    track, frame = table["track"].to_numpy(int), table["frame"].to_numpy(int)
    starts = np.ones(len(table), bool)
    starts[1:] = (np.diff(track) != 0) | (np.diff(frame) != 1)
    piece = np.cumsum(starts)
    table = table.assign(piece=piece)
    spans = table.groupby("piece").agg(track=("track", "first"), begin=("frame", "min"), end=("frame", "max"))
    rows = [tuple(map(int, row)) for row in spans.reset_index().to_numpy()]
    ends: dict[int, list[tuple[int, int]]] = {}
    for piece_number, of_track, _, end in rows:
        ends.setdefault(of_track, []).append((end, piece_number))
    lines: list[tuple[int, int, int, int]] = []
    for piece_number, of_track, begin, end in rows:
        earlier = [p for e, p in ends[of_track] if e < begin]
        if not earlier and of_track in tracks.parents:
            earlier = [p for e, p in ends[tracks.parents[of_track]] if e < begin]
        lines.append((piece_number, begin, end, earlier[-1] if earlier else 0))
    return table, lines
