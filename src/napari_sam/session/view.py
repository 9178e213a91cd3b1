"""What is looked at: the model, the plane, and its embedding."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.session import work
from napari_sam.session.jobs import Job, JobDesk
from napari_sam.session.status import Status

if TYPE_CHECKING:
    from napari_sam.embedding import Embedding
    from napari_sam.everything import AutomaticSettings
    from napari_sam.image import RGB
    from napari_sam.predictor import Predictor


class ViewSession(JobDesk):
    """Keeps the embedding that belongs to the model, the plane and its contrast.

    Parameters
    ----------
    cache : EmbeddingCache or Shelf
        Embeddings of the planes seen so far.
    load_model : callable, optional
        Called with a name and ``device=``; `napari_sam.load_model` if not given.
    """

    status_changed = Signal()
    model_changed = Signal()

    def __init__(self, cache: work.Kept, load_model: work.Load | None = None) -> None:
        super().__init__()
        self.cache = cache
        self.status = Status()
        self.predictor: Predictor | None = None
        self.asked_model: tuple[str, str] | None = None
        """Name and device, as they were asked for, of the model that is loaded."""
        self.automatic_settings: AutomaticSettings | None = None
        """The model's own."""
        self.diameter: float | None = None
        self.place: Hashable = None
        """Identity of the current plane."""
        self._load_model = load_model
        self._read: work.Read | None = None
        self._ready: work.Embedded | None = None
        self.finished.connect(self._on_finished)

    @property
    def embedding(self) -> Embedding | None:
        """Embedding of the current plane; None until it is there."""
        return self._ready.embedding if self._ready else None

    @property
    def rgb(self) -> RGB | None:
        """Picture of the current plane as the model sees it, uint8, shape (H, W, 3)."""
        return self._ready.rgb if self._ready else None

    @property
    def source(self) -> Hashable:
        """What masks are seen in now; see `napari_sam.session.offers.Offer.source`."""
        return self._ready.source if self._ready else None

    def use_model(self, name: str, device: str = "auto") -> None:
        """Load a model by name or file; the current plane is embedded with it as soon as it is there."""
        self._set_status(phase="loading", message="")
        take = partial(self._take_model, asked=(name, device))
        self.request("load", partial(work.load, self._load_model, name, device), take)

    def look_at(self, place: Hashable, read: work.Read) -> None:
        """Turn to a plane, or to the same plane with another contrast.

        Parameters
        ----------
        place : hashable
            Which plane of which image this is. The prompts are dropped when it changes.
        read : callable
            Gives the picture; called in the worker. A `View` of a plane that is too large to be read whole:
            prompts and masks are in its full-resolution pixels, wherever on the plane they lie.
        """
        if place != self.place:
            self._leave(place)
        self._read = read
        self._embed()

    def look_away(self, reason: str = "") -> None:
        """There is no plane to look at; ``reason`` says why, if it is not for want of an image."""
        self._leave(None)
        self._read = None
        self.cancel("embed")
        if self.status.phase != "loading":
            self._set_status(phase="failed" if reason else "no image", message=reason)

    def set_diameter(self, diameter: float | None) -> None:
        """Typical object diameter in image pixels, for models that scale by it; None means estimated."""
        if diameter == self.diameter:
            return
        self.diameter = diameter
        if self.predictor is not None and self.predictor.uses_diameter:
            self._embed()

    def receive_failure(self, job: Job, message: str) -> None:
        """Take the reason, in plain words, why a job failed; the status line says so too."""
        if job.kind in ("load", "embed") and self._is_awaited(job):
            self._set_status(phase="failed", message=message)
        super().receive_failure(job, message)

    def _set_status(self, **changes: Any) -> None:
        self.status = replace(self.status, **changes)
        self.status_changed.emit()

    def _on_finished(self, kind: str, outcome: Any) -> None:
        """Work is over; where a model was given up, the status goes back to what is there."""
        if kind == "load" and self.status.phase == "loading":
            if self.predictor is None:
                self._set_status(phase="failed", message="no model was loaded: choose one")
            elif "embed" in self.running:
                self._set_status(phase="embedding")
            else:
                self._set_status(phase="ready" if self._ready else "no image")

    def _take_model(self, loaded: work.Loaded, asked: tuple[str, str]) -> None:
        self.asked_model = asked
        self.predictor, self.automatic_settings = loaded.predictor, loaded.settings
        self._ready = None
        self._set_status(model=loaded.predictor.name, device=str(loaded.predictor.device), phase="no image")
        self.model_changed.emit()
        self._embed()

    def _embed(self) -> None:
        """Ask for the embedding of the current plane; the present one serves until then."""
        if self.predictor is None or self._read is None:
            return
        self._set_status(phase="embedding", message="")
        args = (self.predictor, self._read, self.cache, self.diameter)
        self.request("embed", partial(work.embed, *args), self._take_embedding)

    def _take_embedding(self, ready: work.Embedded) -> None:
        self._ready = ready
        self._set_status(phase="ready", **ready.told)

    def _leave(self, place: Hashable) -> None:
        """Leave the current plane for another."""
        self.place = place
        self._ready = None
