"""The sections Stack and Tracks: their panels, and what the panels ask for."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from napari.layers import Labels, Tracks
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from napari_sam._napari.choices import stack_axes, why_no_axes
from napari_sam._napari.panels.stack_panel import StackPanel
from napari_sam._napari.panels.tracks_panel import TracksPanel
from napari_sam._napari.stack_run import StackRun
from napari_sam._napari.track_run import TrackRun
from napari_sam._napari.trail_run import TrailRun
from napari_sam.axes import METRES, unit_name, unit_symbol
from napari_sam.spacing import pixel_spacing

if TYPE_CHECKING:
    from napari_sam._napari.panels.commit_panel import CommitPanel
    from napari_sam._napari.panels.image_panel import ImagePanel
    from napari_sam._napari.workbench import Workbench


class StackWork(QObject):
    """What the dock does with stacks and movies.

    Parameters
    ----------
    bench : Workbench
    image : ImagePanel
        Where the typical diameter of the objects is set.
    commit : CommitPanel
        Where it is chosen what objects are written into.
    """

    failed = Signal(str)
    changed = Signal()
    """Another object is followed, or none."""

    def __init__(self, bench: Workbench, image: ImagePanel, commit: CommitPanel) -> None:
        super().__init__()
        self._bench, self._image, self._commit = bench, image, commit
        self.panel, self.tracks_panel = StackPanel(), TracksPanel()
        self.stack, self.trail, self.tracks = StackRun(bench), TrailRun(bench), TrackRun(bench)
        for run, panel in (
            (self.stack, self.panel),
            (self.trail, self.panel.follow),
            (self.tracks, self.tracks_panel),
        ):
            run.failed.connect(self.failed)
            run.said.connect(panel.say)
        self._connect()

    @property
    def panels(self) -> dict[str, QWidget]:
        """The panel of each kind of long work."""
        return {"stack": self.panel, "follow": self.panel.follow, "track": self.tracks_panel}

    @property
    def following(self) -> bool:
        """Whether there is an object that was followed and not committed yet."""
        return self.trail.trail is not None

    @property
    def on_the_way(self) -> bool:
        """Whether the plane on show is one of those that the object is followed through."""
        return self.trail.here is not None

    def segment(self) -> None:
        """Segment every plane as the panel is set."""
        axis = self.panel.axis.currentData()
        if axis is None:
            self.failed.emit(self.panel.why)
        else:
            link, diameter = self.panel.link_settings(), self._image.typical_diameter
            self.stack.run(axis, link=link, diameter=diameter, into=self._commit.target.layer)

    def follow(self) -> None:
        """Follow the object of the prompts as the panel is set."""
        from napari_sam.propagation import PropagationSettings

        axis = self.panel.axis.currentData()
        if axis is None:
            self.failed.emit(self.panel.why)
        else:
            settings = PropagationSettings(**self.panel.follow.settings())
            self.trail.run(axis, settings, self._image.typical_diameter)

    def commit(self) -> int:
        """Write the object that was followed; returns on how many planes it is."""
        return self.trail.commit(*self._commit.where)

    def track(self) -> None:
        """Link the objects of a movie as the panel is set."""
        from napari_sam.tracks import TrackSettings

        panel = self.tracks_panel
        if panel.labels.layer is None:
            self.failed.emit("There are no labels of a movie to track. Segment every plane first.")
            return
        settings = TrackSettings(
            panel.distance.value() or None, panel.gap.value(), panel.divisions.isChecked()
        )
        self.tracks.run(panel.labels.layer, settings, renumber=panel.renumber.isChecked())

    def offer_axes(self) -> None:
        """Offer the axes that can be walked along now."""
        bench = self._bench
        shown = bench.viewer, bench.image, bench.channel_axis
        self.panel.set_axes(stack_axes(*shown), why_no_axes(*shown))
        self._show_step()
        self._show_here()

    def offer_layers(self, labels: list[Labels]) -> None:
        """Offer the Labels layers that there are, and the tracks."""
        movies = [layer for layer in labels if layer.ndim > 2]
        self.tracks_panel.set_layers(
            movies, [layer for layer in self._bench.viewer.layers if isinstance(layer, Tracks)]
        )

    def close(self) -> None:
        """Do nothing more."""
        for run in (self.stack, self.trail, self.tracks):
            with suppress(RuntimeError):
                run.close()

    def _connect(self) -> None:
        self.panel.run_requested.connect(self.segment)
        self.panel.axis.currentIndexChanged.connect(lambda _: self._show_step())
        follow, trail = self.panel.follow, self.trail
        follow.run_requested.connect(self.follow)
        follow.plane_picked.connect(trail.turn_to)
        follow.weakest_requested.connect(trail.turn_to_weakest)
        follow.end_requested.connect(trail.end_here)
        follow.commit_requested.connect(self.commit)
        follow.discard_requested.connect(trail.discard)
        trail.changed.connect(self._show_trail)
        self._bench.plane_changed.connect(self._show_here)
        self.tracks_panel.run_requested.connect(self.track)
        self.tracks_panel.save_requested.connect(self.tracks.save)
        self.stack.filled.connect(self.tracks_panel.labels.pick)
        self.tracks.made.connect(self.tracks_panel.tracks.pick)

    def _show_step(self) -> None:
        """Show how far apart the planes are, where the image says it."""
        image, axis = self._bench.image, self.panel.axis.currentData()
        if image is None or axis is None:
            return
        unit = unit_name(image.units[axis])
        spacing = pixel_spacing(image) if unit in METRES else None
        self.panel.set_step(spacing[axis] if spacing else 1.0, unit_symbol(unit) if spacing else "")

    def _show_trail(self) -> None:
        self.panel.follow.show_trail(self.trail.trail)
        self._show_here()
        self.changed.emit()

    def _show_here(self) -> None:
        trail, here = self.trail.trail, self.trail.here
        self.panel.follow.show_here(here, trail is not None and here in trail.ends)
