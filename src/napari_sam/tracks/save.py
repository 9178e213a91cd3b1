"""Tracks to a file or folder, by the ending of its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from napari_sam.axes import Axes
from napari_sam.export.formats import is_file_name
from napari_sam.linking import Labels
from napari_sam.progress import Progress, Steps, finish
from napari_sam.tracks.ctc import ctc_steps
from napari_sam.tracks.geff import write_geff
from napari_sam.tracks.table import write_csv
from napari_sam.tracks.value import TrackError, Tracks


@dataclass(frozen=True, slots=True)
class TrackFormat:
    """One way to write tracks.

    Parameters
    ----------
    name, title : str
        What it is called, and what it is in a few words.
    suffix : str
        Ending of its name; empty for a plain folder.
    """

    name: str
    title: str
    suffix: str


TRACK_FORMATS = (
    TrackFormat("csv", "Table, a row for each object and frame (CSV)", ".csv"),
    TrackFormat("geff", "Graph for other tracking programs (GEFF)", ".geff"),
    TrackFormat("ctc", "Folder of the Cell Tracking Challenge", ""),
)


def format_of_tracks(path: str | Path) -> TrackFormat:
    """Return the format by the ending of a name; a name without one is a folder of the challenge.

    Raises
    ------
    TrackError
        If the name ends as a file of another kind.
    """
    suffix = Path(path).suffix.lower()
    found = next((known for known in TRACK_FORMATS if known.suffix == suffix), None)
    if found is None and is_file_name(path) and not Path(path).is_dir():
        raise TrackError(
            f"Expected a name that ends in .csv or .geff, or that of a folder, found {Path(path).name!r}."
        )
    return TRACK_FORMATS[-1] if found is None else found


def save_tracks(
    tracks: Tracks, path: str | Path, *, frames: Iterable[Labels] | None = None, axes: Axes | None = None
) -> Path:
    """Write tracks as the ending of the name says: ``.csv``, ``.geff``, else a folder of the challenge.

    Parameters
    ----------
    tracks : Tracks
    path : str or Path
    frames : iterable of ndarray of int, optional
        The labels that were tracked, which a folder of the challenge holds.
    axes : Axes, optional
        Axes of the movie, time first; see `write_geff`.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    TrackError
        If the labels are missing or have changed, or a package is not installed.
    """
    return finish(saving_steps(tracks, path, frames=frames, axes=axes))


def saving_steps(
    tracks: Tracks, path: str | Path, *, frames: Iterable[Labels] | None = None, axes: Axes | None = None
) -> Steps[Path]:
    """Write as `save_tracks` does, and tell how far it is.

    Closing the generator cancels, and leaves nothing half written.
    """
    path = Path(path)
    chosen = format_of_tracks(path)
    yield Progress(0, 1, f"writing {path.name}")
    if chosen.name == "csv":
        write_csv(tracks, path)
    elif chosen.name == "geff":
        write_geff(tracks, path, axes)
    elif frames is None:
        raise TrackError(
            "A folder of the Cell Tracking Challenge holds the labels too. Track labels first and save from "
            "there, or choose a name that ends in .csv or .geff."
        )
    else:
        yield from ctc_steps(tracks, frames, path)
    return path
