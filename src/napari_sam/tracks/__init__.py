"""Objects of a movie as tracks with divisions: found by place and size, saved for other programs."""

from napari_sam.tracks.ctc import write_ctc
from napari_sam.tracks.find import TrackSettings, find_tracks, track_frames
from napari_sam.tracks.geff import write_geff
from napari_sam.tracks.save import TRACK_FORMATS, TrackFormat, format_of_tracks, save_tracks
from napari_sam.tracks.table import write_csv
from napari_sam.tracks.value import TrackError, Tracks

__all__ = [
    "TRACK_FORMATS",
    "TrackError",
    "TrackFormat",
    "TrackSettings",
    "Tracks",
    "find_tracks",
    "format_of_tracks",
    "save_tracks",
    "track_frames",
    "write_csv",
    "write_ctc",
    "write_geff",
]
