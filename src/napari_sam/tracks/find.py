"""Link the objects of a movie by place and size.

The linking is laptrack's (sparse assignment, frame to frame, then gaps and divisions), on the centroids in
physical units, so that anisotropic voxels count as what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from operator import length_hint
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam.label_ids import LabelError, numbered_anew, whole
from napari_sam.linking import Labels
from napari_sam.progress import Progress, Steps, finish
from napari_sam.tracks.value import AXES, TrackError, Tracks

if TYPE_CHECKING:
    from pandas import DataFrame


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
        if (self.max_distance is not None and not 0 < self.max_distance < inf) or self.max_gap < 0:
            raise TrackError(
                "Expected a distance above 0 and a gap of zero frames or more, "
                f"found {self.max_distance} and {self.max_gap}."
            )


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
    return finish(track_frames(frames, settings, spacing=spacing))


def track_frames(
    frames: Iterable[Labels], settings: TrackSettings | None = None, *, spacing: Sequence[float] | None = None
) -> Steps[Tracks]:
    """Link the objects of a movie as `find_tracks` does, and tell how far it is.

    Yields
    ------
    Progress
        After each frame. Closing the generator cancels.
    """
    import pandas as pd

    settings = settings or TrackSettings()
    total = length_hint(frames)
    found: list[DataFrame] = []
    flat = True
    for frame, labels in enumerate(frames):
        found.append(_measure(labels, frame))
        flat = flat and (np.ndim(labels) == 2 or len(labels) == 1)
        yield Progress(frame + 1, max(total, frame + 1), f"frame {frame + 1}: where the objects are")
    if not found:
        raise TrackError("There is no frame to track. Choose a movie with at least one frame.")
    table = pd.concat(found, ignore_index=True)
    axes = [a for a in AXES if a in table]
    sizes = np.ones(len(axes)) if spacing is None else np.asarray(spacing, float)
    if sizes.shape != (len(axes),) or not (sizes > 0).all():
        raise TrackError(f"Expected {len(axes)} distances between pixels above 0, found {spacing}.")
    if table.empty:
        return Tracks(table.assign(track=np.empty(0, int)), {})
    # One plane has no thickness, however far it is to the next.
    size = table["area"].to_numpy(float) * sizes[-2 if flat else -3 :].prod()
    radius = np.sqrt(size / np.pi) if flat else np.cbrt(size * 3 / (4 * np.pi))
    reach = settings.max_distance or 2 * float(np.median(radius))
    yield Progress(len(found), len(found), "linking the objects")
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
    order = np.lexsort((frame, of_row))
    tracks, start = np.unique(of_row[order], return_index=True)
    at_first = dict(zip(tracks.tolist(), area[order[start]].tolist(), strict=True))
    at_last = dict(zip(tracks.tolist(), area[order[[*start[1:] - 1, -1]]].tolist(), strict=True))
    goes_on: dict[int, int] = {}
    mothers: dict[int, int] = {}
    for mother, children in sorted(daughters.items()):
        sizes = sorted((at_first[child], child) for child in children)
        largest = sizes[-1][0]
        if len(sizes) > 1 and sizes[0][0] >= ALIKE * largest and largest <= SMALLER * at_last[mother]:
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

    try:
        labels = whole(np.asarray(labels))
    except LabelError as error:
        raise TrackError(f"Frame {frame + 1}: {error}") from error
    if labels.ndim not in (2, 3):
        raise TrackError(
            f"Expected frames of shape (H, W) or (Z, H, W), found {labels.shape}. A movie is a sequence of "
            "frames, or an array of shape (T, H, W) or (T, Z, H, W)."
        )
    ids = np.unique(labels[labels > 0]).astype(np.int64)
    (numbered,) = numbered_anew([labels])
    numbers = np.arange(1, len(ids) + 1)
    middle = np.array(ndi.center_of_mass(labels > 0, numbered, numbers), float).reshape(-1, labels.ndim)
    columns: dict[str, Any] = {"frame": np.full(len(ids), frame), "label": ids}
    columns |= dict(zip(AXES[-labels.ndim :], middle.T, strict=True))
    return pd.DataFrame({**columns, "area": np.bincount(numbered.ravel())[1:]})
