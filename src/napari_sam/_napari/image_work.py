"""The section Image and model: its panel, and what the panel asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from napari_sam._napari.choices import channel_options, channels_of, models
from napari_sam._napari.panels.image_panel import ImagePanel, Picked

if TYPE_CHECKING:
    from napari_sam._napari.workbench import Workbench


class ImageWork(QObject):
    """Which image is worked on, what the model sees of it, and which model.

    Parameters
    ----------
    bench : Workbench
    """

    changed = Signal()
    """The model sees something else of the image."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self.panel = ImagePanel()
        self._pictures: dict[Image, Picked] = {}
        self._connect()

    def begin(self, model: str, device: str) -> None:
        """Offer the models, and show which one will be loaded."""
        self.panel.set_models(models())
        self.panel.show_model(model, device)
        self._show_status()

    def turn_to(self, image: Image | None) -> None:
        """Show another image, with the colours that were chosen when it was last worked on."""
        self.panel.image.pick(image)
        self.panel.set_options(channel_options(self._bench.viewer, image))
        if image is not None and image in self._pictures:
            self.panel.pick_channels(*self._pictures[image])

    def offer(self, images: list[Image]) -> None:
        """Offer the images that there are."""
        bench, panel = self._bench, self.panel
        self._pictures = {image: picked for image, picked in self._pictures.items() if image in images}
        panel.image.set_layers(images)
        panel.image.pick(bench.image)
        panel.refresh_options(channel_options(bench.viewer, bench.image))

    def _connect(self) -> None:
        bench, session, panel = self._bench, self._bench.session, self.panel
        panel.image_picked.connect(bench.follower.turn_to)
        panel.follow_toggled.connect(self._on_follow)
        panel.picture_changed.connect(self._on_picture)
        panel.model_requested.connect(session.use_model)
        panel.diameter_changed.connect(session.set_diameter)
        session.status_changed.connect(self._show_status)
        session.model_changed.connect(self._on_model)
        session.finished.connect(self._on_finished)

    def _on_follow(self, follow: bool) -> None:
        self._bench.follower.following = follow
        active = self._bench.viewer.layers.selection.active
        if follow and isinstance(active, Image):
            self._bench.follower.turn_to(active)

    def _on_picture(self) -> None:
        bench, panel = self._bench, self.panel
        if bench.image is not None:
            self._pictures[bench.image] = panel.picked_channels()
        channels = channels_of(panel.picked_channels())
        bench.set_picture(channels, panel.contrast.currentData(), panel.level.currentData())
        self.changed.emit()

    def _show_status(self) -> None:
        self.panel.status.setText(str(self._bench.session.status))

    def _on_model(self) -> None:
        predictor = self._bench.session.predictor
        self.panel.set_uses_diameter(predictor is not None and predictor.uses_diameter)

    def _on_finished(self, kind: str, outcome: Any) -> None:
        """A model that did not come leaves the one that is loaded in its box."""
        session = self._bench.session
        if kind == "load" and session.asked_model is not None and kind not in session.running:
            self.panel.show_model(*session.asked_model)
