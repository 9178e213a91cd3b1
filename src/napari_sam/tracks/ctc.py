"""Tracks as a folder of the Cell Tracking Challenge."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.export.atomic import remove
from napari_sam.label_ids import numbered_anew
from napari_sam.linking import Labels
from napari_sam.locks import alone_at
from napari_sam.progress import Progress, Steps, finish
from napari_sam.tracks.value import TrackError, Tracks, births

if TYPE_CHECKING:
    from pandas import DataFrame

_MASK = re.compile(r"mask\d{3,}\.tif")
RESULT_FILE = "res_track.txt"


def write_ctc(tracks: Tracks, frames: Iterable[Labels], folder: str | Path) -> None:
    """Write a result folder of the Cell Tracking Challenge: a mask a frame, and ``res_track.txt``.

    A track with a gap becomes two, the second a child of the first, since the format has no gaps; so does one
    that goes on after another has split off from it, since a mother ends there.

    Parameters
    ----------
    tracks : Tracks
    frames : iterable of ndarray of int, shape (H, W) or (Z, H, W)
        The labels that were tracked, in the same order.
    folder : str or Path
        Made if it is missing. A result that is there already is replaced when the new one is complete; other
        files stay. While the files are put in place there is no ``res_track.txt``: it comes last.

    Raises
    ------
    TrackError
        If there are more tracks than the format's 16 bits can number, the labels have changed since they
        were tracked or cannot be read, the folder cannot be written, or another program or run writes there
        at this moment.
    """
    finish(ctc_steps(tracks, frames, folder))


def ctc_steps(tracks: Tracks, frames: Iterable[Labels], folder: str | Path) -> Steps[None]:
    """Write as `write_ctc` does, and tell how far it is; closing the generator leaves nothing behind."""
    import tifffile

    if "label" not in tracks.table:
        raise TrackError("These tracks do not say which labels they are made of. Track the labels again.")
    pieces, lines = _pieces(tracks)
    if len(lines) > np.iinfo(np.uint16).max:
        raise TrackError(f"Expected at most 65535 tracks in the format's 16 bits, found {len(lines)}.")
    total = length_hint(frames)
    digits = max(3, len(str(total - 1)))
    by_frame = {int(str(frame)): rows for frame, rows in pieces.groupby("frame")}
    with _replacing_result(Path(folder)) as beside:
        for frame, labels in enumerate(_read(frames)):
            mask = _numbered(labels, by_frame.pop(frame, None), frame)
            tifffile.imwrite(
                beside / f"mask{frame:0{digits}d}.tif",
                mask,
                compression="zlib",
                photometric="minisblack",  # else three or four planes are taken for colours
                metadata={"axes": "ZYX"[-mask.ndim :]},
            )
            yield Progress(frame + 1, max(total, frame + 1), f"frame {frame + 1}: written")
        if by_frame:
            raise _changed(min(by_frame))
        text = "".join(f"{' '.join(map(str, line))}\n" for line in lines)
        (beside / RESULT_FILE).write_text(text)


def _read(frames: Iterable[Labels]) -> Iterator[Labels]:
    """Read the labels frame by frame; what cannot be read is none of the place that is written to."""
    try:
        for labels in frames:
            yield np.asarray(labels)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrackError(
            f"The labels could not be read ({reason}). Check that the disk they lie on can be reached, and "
            "try again."
        ) from error


@contextmanager
def _replacing_result(place: Path) -> Iterator[Path]:
    """Give a folder to write a result to, and put its files in place only if all went well.

    It lies in the place itself and is emptied file by file, for the place may hold what is not ours. A run
    that was broken off in between leaves it there, which says that masks without tracks are its own.
    """
    beside = place / ".result.partial"
    if _masks_alone(place) and not beside.exists():
        raise TrackError(
            f"{place} holds masks that are no older result: there is no {RESULT_FILE} beside them. "
            "Choose another folder."
        )
    made = not place.exists()
    busy = TrackError(
        f"{place} is being written by another program or run at this moment. Wait until it is done, or "
        "choose another folder."
    )
    try:
        place.mkdir(parents=True, exist_ok=True)
        with alone_at(place / "result", busy):
            try:
                remove(beside)
                beside.mkdir()
                yield beside
                _put_in_place(beside, place)
                made = False
            finally:
                if not _masks_alone(place):
                    remove(beside)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrackError(f"{place} could not be written ({reason}). Choose another folder.") from error
    finally:
        if made:
            with suppress(OSError):
                place.rmdir()


def _put_in_place(new: Path, place: Path) -> None:
    """Move a complete result to its folder, where an older one makes way."""
    # Old tracks beside new masks would look like a result.
    (place / RESULT_FILE).unlink(missing_ok=True)
    for old in _masks(place):
        old.unlink()
    for mask in _masks(new):
        os.replace(mask, place / mask.name)
    os.replace(new / RESULT_FILE, place / RESULT_FILE)


def _masks_alone(place: Path) -> bool:
    """Whether masks lie in a folder without the file that makes them a result."""
    return bool(_masks(place)) and not (place / RESULT_FILE).exists()


def _masks(place: Path) -> list[Path]:
    """Masks in a folder; none if it is not there."""
    return [file for file in (place.iterdir() if place.is_dir() else ()) if _MASK.fullmatch(file.name)]


def _numbered(labels: Labels, pieces: DataFrame | None, frame: int) -> NDArray[np.uint16]:
    """Labels of a frame with the numbers of their pieces of tracks."""
    there = np.unique(labels[labels > 0]).astype(np.int64)
    (numbered,) = numbered_anew([labels])
    out = np.zeros(len(there) + 1, np.uint16)
    if pieces is not None:
        ids = pieces["label"].to_numpy(np.int64)
        if not np.isin(ids, there).all():
            raise _changed(frame)
        out[np.searchsorted(there, ids) + 1] = pieces["piece"].to_numpy(np.uint16)
    return out[numbered]


def _changed(frame: int) -> TrackError:
    return TrackError(
        f"The labels of frame {frame} are not those that were tracked: an object is gone. Track them again."
    )


def _pieces(tracks: Tracks) -> tuple[DataFrame, list[tuple[int, int, int, int]]]:
    """Tracks cut at gaps and births: a piece a row, and (piece, first, last frame, parent piece) of each."""
    table = tracks.table.sort_values(["track", "frame"], ignore_index=True)
    track, frame = table["track"].to_numpy(int), table["frame"].to_numpy(int)
    starts = np.ones(len(table), bool)
    starts[1:] = (np.diff(track) != 0) | (np.diff(frame) != 1)
    for last, _ in births(tracks, track, frame):
        starts[last + 1 : last + 2] = True
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
            earlier = [p for e, p in ends.get(tracks.parents[of_track], ()) if e < begin]
        lines.append((piece_number, begin, end, earlier[-1] if earlier else 0))
    return table, lines
