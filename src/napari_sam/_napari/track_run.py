"""Objects of a movie as a Tracks layer, and tracks to files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_sam._napari.coordinates import finest
from napari_sam._napari.layers import is_filling, twin
from napari_sam.axes import AxesError, movie_axes
from napari_sam.progress import Progress
from napari_sam.spacing import pixel_spacing

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Labels
    from napari.layers import Tracks as TracksLayer

    from napari_sam._napari.workbench import Workbench
    from napari_sam.axes import Axes
    from napari_sam.progress import Steps
    from napari_sam.tracks import Tracks, TrackSettings


class TrackRun(QObject):
    """Links the objects of a Labels layer over time.

    Parameters
    ----------
    bench : Workbench
    """

    made = Signal(object)
    """A Tracks layer was added."""
    said = Signal(str)
    failed = Signal(str)

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self._labels: Labels | None = None
        self._sources: WeakKeyDictionary[TracksLayer, tuple[Tracks, ref[Labels]]] = WeakKeyDictionary()
        bench.session.finished.connect(self._on_finished)
        bench.viewer.layers.events.removed.connect(self._on_removed)

    def run(self, layer: Labels, settings: TrackSettings, *, renumber: bool) -> None:
        """Link the objects of a movie into tracks.

        Parameters
        ----------
        layer : Labels
            Time is the first axis.
        settings : TrackSettings
        renumber : bool
            Whether to add labels with the tracks' numbers too.
        """
        if is_filling(layer):
            self.failed.emit(f"{layer.name!r} is still being filled. Wait until all frames are there.")
            return
        try:
            axes = layer_movie_axes(layer)
        except AxesError as error:
            self.failed.emit(str(error))
            return
        self._labels = layer
        spacing = axes.pixel_size()[0]
        work = partial(find, Frames(finest(layer)), settings, spacing, renumber)
        self._bench.session.request("track", work)

    def save(self, layer: TracksLayer, path: str) -> None:
        """Write a Tracks layer to a file or folder, in the worker."""
        from napari_sam.tracks import TrackError
        from napari_sam.tracks.save import saving_steps

        try:
            found, labels = self._sources.get(layer, (None, lambda: None))
            tracks, source = as_shown(layer, found), labels()
            frames = Frames(finest(source)) if source is not None else None
            axes = layer_movie_axes(layer)
        except (AxesError, TrackError) as error:
            self.failed.emit(str(error))
            return
        self._bench.session.request("track", partial(saving_steps, tracks, path, frames=frames, axes=axes))

    def close(self) -> None:
        """Add nothing more."""
        self._bench.viewer.layers.events.removed.disconnect(self._on_removed)
        self._labels = None

    def _on_finished(self, kind: str, outcome: Tracked | Path | None) -> None:
        if kind != "track" or self._bench.closed:
            return
        labels, self._labels = self._labels, None
        if outcome is None:
            self.said.emit("Stopped: nothing was changed.")
        elif not isinstance(outcome, Tracked):
            self.said.emit(f"Written to {outcome}")
        elif labels is None:
            self.said.emit("Stopped: the labels are gone.")
        elif not len(outcome.tracks.table):
            self.said.emit(f"There is no object in {labels.name!r}.")
        else:
            self._add(labels, outcome)

    def _add(self, labels: Labels, found: Tracked) -> None:
        """Add the layers; the active one stays active."""
        viewer, tracks = self._bench.viewer, found.tracks
        active = viewer.layers.selection.active
        geometry = twin(labels)
        if found.renumbered is not None:
            viewer.add_labels(found.renumbered, name=f"{labels.name}: by track", **geometry)
        data, graph = tracks.napari()
        layer = viewer.add_tracks(
            data,
            graph=graph,
            features=tracks.table[["label", "area"]],
            name=f"{labels.name}: tracks",
            **geometry,
        )
        if active is not None and active in viewer.layers:
            viewer.layers.selection.active = active
        self._sources[layer] = (tracks, ref(labels))
        count, split = tracks.count, tracks.divisions
        self.said.emit(
            f"{count} track{'s' if count != 1 else ''}, {split} division{'s' if split != 1 else ''}, in the "
            f"layer {layer.name!r}."
        )
        self.made.emit(layer)

    def _on_removed(self, event: Any) -> None:
        """Who removes the labels does not want their tracks."""
        if event.value is self._labels:
            self._labels = None
            self._bench.session.cancel("track")


class Frames(Sequence[NDArray[np.integer]]):
    """The frames of labels in memory, or lazy, read one at a time."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self._data.shape[0])

    def __getitem__(self, index: Any) -> Any:
        """Read a frame."""
        return np.asarray(self._data[index])

    def __iter__(self) -> Iterator[NDArray[np.integer]]:
        """Read the frames in their order."""
        return (self[frame] for frame in range(len(self)))


@dataclass(frozen=True, eq=False, slots=True)
class Tracked:
    """Tracks, and labels with their numbers if they were asked for."""

    tracks: Tracks
    renumbered: NDArray[np.integer] | None


def find(frames: Frames, settings: TrackSettings, spacing: Sequence[float], renumber: bool) -> Steps[Tracked]:
    """Link objects, and number the labels by track."""
    from napari_sam.tracks import track_frames

    tracks = yield from track_frames(frames, settings, spacing=spacing)
    if not renumber or not tracks.count:
        return Tracked(tracks, None)
    out = np.zeros((len(frames), *frames[0].shape), np.uint16 if tracks.count < 2**16 else np.uint32)
    for number, labels in enumerate(frames):
        out[number] = tracks.numbered(labels, number)
        yield Progress(number + 1, len(frames), f"frame {number + 1}: numbers")
    return Tracked(tracks, out)


def as_shown(layer: TracksLayer, found: Tracks | None) -> Tracks:
    """Tracks of a layer with all that was corrected in it.

    napari forgets the graph and the features when the data of a layer are changed: the parents of tracks
    that are there still, and labels and areas where an object was found, are those that were found.
    """
    from napari_sam.tracks import Tracks

    tracks = Tracks.of_napari(layer.data, layer.graph, layer.features)
    if found is None or "label" in tracks.table:
        return tracks
    there = set(tracks.table["track"])
    kept = {child: mother for child, mother in found.parents.items() if {child, mother} <= there}
    table = tracks.table
    place = [name for name in table if name != "track"]
    for where in (place, ["track", "frame"]):  # links were corrected, or a position was moved
        known = found.table.drop_duplicates(where).set_index(where)[["label", "area"]]
        more = table[where].join(known, on=where)
        table = table.combine_first(more[["label", "area"]])
    if table["label"].isna().any():
        return Tracks(tracks.table, tracks.parents or kept)
    return Tracks(table[[*tracks.table, "label", "area"]].astype({"label": int}), tracks.parents or kept)


def layer_movie_axes(layer: Labels | TracksLayer) -> Axes:
    """Axes of a layer of a movie, with its scale and units."""
    spacing = pixel_spacing(layer)
    return movie_axes(layer.ndim, spacing, spacing and layer.units)
