"""The command ``napari-sam track``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import AxesOption

if TYPE_CHECKING:
    import numpy as np

    from napari_sam.files import ImageFile


def track_command(
    labels: Annotated[Path, typer.Argument(help="Labels of a movie, frame by frame; ids need not agree.")],
    out: Annotated[
        list[Path],
        typer.Option(
            "--out",
            "-o",
            help="A .csv file, a .geff graph, or a folder in the Cell Tracking Challenge's format.",
        ),
    ],
    axes: AxesOption = None,
    max_distance: Annotated[
        float | None, typer.Option(help="How far an object moves at most, in the unit of X's pixel size.")
    ] = None,
    max_gap: Annotated[
        int, typer.Option(min=0, help="Frames in which an object may be missing in between.")
    ] = 1,
    divisions: Annotated[
        bool, typer.Option("--divisions/--no-divisions", help="Whether an object may become two.")
    ] = True,
) -> None:
    """Link the objects of a movie into tracks, with divisions."""
    from napari_sam.axes import AxesError
    from napari_sam.export import ExportError
    from napari_sam.files import ImageFileError, open_labels
    from napari_sam.tracks import TrackError, TrackSettings, find_tracks, format_of_tracks, save_tracks

    try:
        for path in out:
            format_of_tracks(path)  # refuses a name before all the work
        with open_labels(labels, axes=axes) as movie:
            if movie.note:
                typer.echo(f"{labels}: {movie.note}", err=True)
            frames = _Frames(movie)
            settings = TrackSettings(max_distance, max_gap, divisions)
            # Z may be in another unit than Y and X. A frame of one plane has none.
            letters = movie.axes.names[1:] if frames.depth > 1 else "YX"
            spacing, _ = movie.axes.pick(letters).pixel_size()
            tracks = find_tracks(frames, settings, spacing=spacing)
            for path in out:
                save_tracks(tracks, path, frames=frames, axes=movie.axes)
                typer.echo(str(path))
    except (AxesError, ImageFileError, TrackError, ExportError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{tracks.count} tracks, {tracks.divisions} divisions")


class _Frames:
    """The frames of a movie, read one at a time, as often as they are asked for."""

    def __init__(self, movie: ImageFile) -> None:
        from napari_sam.tracks import TrackError

        # Three plain axes of a movie may be taken for a stack: what is not Y or X is then time.
        if len(movie.shape) < 3 or ("T" not in movie.axes.names and len(movie.shape) > 3):
            raise TrackError(
                f"Expected a movie, whose first axis is time, found the axes {movie.axes.names} in "
                f"{movie.path.name}. Say what the axes are with --axes, for example TYX."
            )
        self._movie = movie

    @property
    def depth(self) -> int:
        """Planes of a frame."""
        return math.prod(self._movie.shape[1:-2])

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self._movie.shape[0])

    def __iter__(self) -> Iterator[np.ndarray[Any, Any]]:
        """Read the frames in their order."""
        import numpy as np

        for frame in range(len(self)):
            planes = [self._movie.label_plane(frame * self.depth + z) for z in range(self.depth)]
            yield planes[0] if self.depth == 1 else np.stack(planes)
