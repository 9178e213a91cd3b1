"""The session: everything that the dock knows and decides, without a window."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.masks import Mask
from napari_sam.prompts import Prompts
from napari_sam.session import work
from napari_sam.session.history import Decision, History, NotNowError
from napari_sam.session.jobs import Job
from napari_sam.session.moments import Deed, Moment, Write
from napari_sam.session.offers import Annotation, LevelMemory, Offer, Request, plan
from napari_sam.session.view import ViewSession

if TYPE_CHECKING:
    from napari_sam.everything import AutomaticResult, AutomaticSettings


class AnnotationSession(ViewSession):
    """One person's work on one image: plane, embedding, prompts, candidates, choices, commits.

    Nothing heavy runs in it: it asks for work as `JobDesk` says, and takes what comes back.

    Parameters
    ----------
    cache, load_model
        See `ViewSession`.

    Notes
    -----
    All coordinates are image pixels (y, x) of the current plane.
    """

    offers_changed = Signal()
    waiting_changed = Signal()
    """Prompts were given, and what they offer is not there yet."""
    hover_changed = Signal()
    automatic_changed = Signal()
    sifted_changed = Signal()
    history_changed = Signal()

    def __init__(self, cache: work.Kept, load_model: work.Load | None = None) -> None:
        super().__init__(cache, load_model)
        self.levels = LevelMemory()
        self.history = History()
        self.automatic: AutomaticResult | None = None
        self._automatic_by = ""
        self.sifted: work.Sifted | None = None
        self._sift: Callable[[], work.Sifted] | None = None
        self.hovered: Mask | None = None
        self._moment = Moment()
        self._hover_next: tuple[float, float] | None = None
        self._replaying = False

    # --- what is known -------------------------------------------------------------------------------

    @property
    def prompts(self) -> tuple[Prompts, ...]:
        """The current prompts, one for each object."""
        return self._moment.prompts

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What is offered for the current prompts, one for each object."""
        return self._moment.offers or ()

    @property
    def waiting(self) -> bool:
        """Whether prompts wait for what they offer."""
        return bool(self._moment.prompts) and self._moment.offers is None

    # --- prompts and choice --------------------------------------------------------------------------

    def set_prompts(self, prompts: Sequence[Prompts], restore: Callable[[], None] | None = None) -> None:
        """Take the prompts as they now stand in the layers.

        Parameters
        ----------
        prompts : sequence of Prompts
            One for each object; those that ask for nothing are left out.
        restore : callable, optional
            Brings the layers back to this state, for undo.
        """
        if self._replaying:
            return
        wanted = tuple(p for p in prompts if p)
        before = self._moment
        if before.says(wanted):
            before.restore = restore or before.restore
            return
        after = Moment(before.place, wanted, None if wanted else (), restore)
        if restore is not None and before.restore is not None:
            self.note(Decision("prompt", partial(self._replay, before), partial(self._replay, after)))
        self._show(after, self._plan(wanted, before.offers or ()))

    def choose(self, index: int) -> None:
        """Choose a candidate of every object on offer: 0, 1 or 2."""
        if any(0 <= index < len(o.candidates) for o in self.offers):
            self._moment.offers = tuple(
                o.choose(index) if 0 <= index < len(o.candidates) else o for o in self.offers
            )
            self.offers_changed.emit()

    def choose_next(self) -> None:
        """Choose the next candidate, the first after the last."""
        if self.offers:
            last = self.offers[-1]
            self.choose((last.chosen + 1) % len(last.candidates))

    def hover(self, y: float, x: float) -> None:
        """Ask for the mask that a click here would give; only where no prompt is set."""
        if self._moment.prompts or self.predictor is None or self._ready is None:
            self.end_hover()
        elif "hover" in self.running:
            # One at a time: a mouse that keeps moving would overtake every answer.
            self._hover_next = y, x
        else:
            args = (self.predictor, self._ready, y, x, self.levels.preselect, self.cache, self.diameter)
            self.request("hover", partial(work.hover, *args), self._take_hover)

    def end_hover(self) -> None:
        """Forget the mask under the mouse."""
        self._hover_next = None
        self.cancel("hover")
        self._take_hover(None)

    # --- decisions -----------------------------------------------------------------------------------

    def commit(self, write: Write, clear: Callable[[], None] | None = None) -> int:
        """Write the chosen masks into labels and start the next object.

        Parameters
        ----------
        write : callable
            Writes a sequence of `Annotation` and returns a callable that takes them out again.
        clear : callable, optional
            Removes the prompts from the layers.

        Returns
        -------
        int
            How many objects were written. 0, and `failed` is emitted, if there was nothing to write.
        """
        objects = [Annotation.of(o) for o in self.offers if o.choice.area]
        if not objects:
            self.failed.emit(
                "The mask is still being computed. Wait until it is there, then commit."
                if self.waiting
                else "There is no mask to commit yet. Click inside an object or draw a box around it."
            )
            return 0
        before, after = self._moment, Moment(self.place, restore=clear)
        what = "commit" if len(objects) == 1 else f"commit of {len(objects)} objects"
        self._do(Deed(write, objects), what, before, after)
        for offer in before.offers or ():
            self.levels.remember(offer)
        return len(objects)

    def accept_automatic(self, write: Write) -> int:
        """Write the automatic masks that pass the filters as one decision; returns how many."""
        self._catch_up()
        if not self.sifted:
            self.failed.emit("There is no mask to accept. Run Segment all, or lower the filters.")
            return 0
        objects = self.sifted.objects
        self._do(Deed(write, objects), f"{len(objects)} automatic objects", None, None)
        self.drop_automatic()
        return len(objects)

    def undo(self) -> None:
        """Take the last click or commit back."""
        self._decide(self.history.undo)

    def redo(self) -> None:
        """Make the click or commit again that was taken back."""
        self._decide(self.history.redo)

    # --- long work -----------------------------------------------------------------------------------

    def segment_everything(
        self, settings: AutomaticSettings | None = None, region: Callable[[], Any] | None = None
    ) -> None:
        """Ask for the masks of every object of the plane.

        Parameters
        ----------
        settings : AutomaticSettings, optional
            The model's own if not given.
        region : callable, optional
            Gives the box or mask to stay in; called in the worker.
        """
        settings = settings or self.automatic_settings
        if self.predictor is None or self._read is None or settings is None:
            why = self.status.message if self._read is None else ""
            self.failed.emit(why or "Nothing to segment yet: wait for the model to load and choose an image.")
            return
        self.drop_automatic()
        args = (self.predictor, self._read, self.cache, self.diameter, settings, region)
        take = partial(self._take_automatic, made_by=self.predictor.name)
        self.request("everything", partial(work.everything, *args), take)

    def filter_automatic(self, filters: work.Filters) -> None:
        """Keep those automatic masks that pass; nothing is computed anew."""
        if self.automatic is not None:
            self._sift = partial(work.sift, self.automatic, filters, self._automatic_by)
            self.request("filter", self._sift, self._take_sifted)

    def drop_automatic(self) -> None:
        """Forget the automatic masks, finished or not."""
        self.cancel("everything")
        self._take_automatic(None)

    # --- inside --------------------------------------------------------------------------------------

    def receive_failure(self, job: Job, message: str) -> None:
        """Take the reason, in plain words, why a job failed."""
        if job.kind == "hover":
            # A mouse that passes over the rim of the image is no reason for a message.
            self.receive(job, None)
            return
        super().receive_failure(job, message)

    def _take_embedding(self, ready: work.Embedded) -> None:
        super()._take_embedding(ready)
        # Who moves on over a large plane has not said anything new about the object that is on offer.
        if self._moment.offers is None or not self._holds(self._moment):
            self._predict(self._plan(self.prompts, self.offers))

    def _take_offers(self, offers: tuple[Offer, ...]) -> None:
        self._moment.offers = offers
        self.offers_changed.emit()

    def _take_hover(self, mask: Mask | None) -> None:
        if self.hovered is not mask:
            self.hovered = mask
            self.hover_changed.emit()
        if self._hover_next is not None:
            place, self._hover_next = self._hover_next, None
            self.hover(*place)

    def _take_automatic(self, result: AutomaticResult | None, made_by: str = "") -> None:
        if self.automatic is not result:
            self.automatic, self._automatic_by = result, made_by
            self.cancel("filter")
            self._take_sifted(None)
            self.automatic_changed.emit()

    def _take_sifted(self, sifted: work.Sifted | None) -> None:
        self._sift = None
        if self.sifted is not sifted:
            self.sifted = sifted
            self.sifted_changed.emit()

    def _catch_up(self) -> None:
        """Filter as was asked for last, if that is not done: the worker may be at something that takes long.

        Filtering takes milliseconds, and what is accepted must be what the filters say.
        """
        if self._sift is not None:
            sifted = self._sift()
            self.cancel("filter")
            self._take_sifted(sifted)

    def _leave(self, place: Hashable) -> None:
        """Leave the current plane, and what was said on it, for another."""
        self.end_hover()
        super()._leave(place)
        self.history.leave_plane()
        self.history_changed.emit()
        self._show(Moment(place), ())

    def _show(self, moment: Moment, requests: Sequence[Request]) -> None:
        """Make a moment the present one; ``requests`` are made if its offers are not there."""
        self._moment = moment
        self.cancel("predict")
        if moment.prompts:
            self.end_hover()
        if moment.offers is None:
            self._predict(requests)
            self.waiting_changed.emit()
        else:
            self.offers_changed.emit()

    def _predict(self, requests: Sequence[Request]) -> None:
        """Ask for the offers of the present prompts, where there are any and the plane is ready."""
        if requests and self.predictor is not None and self._ready is not None:
            args = (self.predictor, self._ready, requests, self.levels.preselect, self.cache, self.diameter)
            self.request("predict", partial(work.predict, *args), self._take_offers)

    def _replay(self, moment: Moment) -> None:
        """Bring a moment back, in the layers too; not if it belongs to another plane."""
        if moment.place != self.place:
            return
        with self._replayed():
            if moment.restore is not None:
                moment.restore()
        requests = self._plan(moment.prompts, moment.offers or ())
        if not self._holds(moment):  # what was offered then was seen with another model or contrast
            moment.offers = None
        self._show(moment, requests)

    def _plan(self, wanted: Sequence[Prompts], offers: Sequence[Offer]) -> tuple[Request, ...]:
        """What there is to predict; see `plan`."""
        return plan(wanted, offers, self.source)

    def _holds(self, moment: Moment) -> bool:
        """Whether what was offered at a moment was seen in what is looked at now."""
        return all(offer.source == self.source for offer in moment.offers or ())

    @contextmanager
    def _replayed(self) -> Iterator[None]:
        """While the layers are brought back, what they say is not news."""
        before, self._replaying = self._replaying, True
        try:
            yield
        finally:
            self._replaying = before

    def _do(self, deed: Deed, what: str, before: Moment | None, after: Moment | None) -> None:
        """Write objects, and go from one moment to another with them."""

        def go(act: Callable[[], None], moment: Moment | None) -> None:
            act()
            if moment is not None:
                self._replay(moment)

        undo, redo = partial(go, deed.undo, before), partial(go, deed.do, after)
        redo()
        self.note(Decision(what, undo, redo, lasting=True))

    def note(self, decision: Decision) -> None:
        """Take note of a decision that was carried out, for undo."""
        self.history.push(decision)
        self.history_changed.emit()

    def _decide(self, move: Callable[[], bool]) -> None:
        try:
            move()
        except (OSError, NotNowError) as error:
            self.failed.emit(f"This step could not be carried out: {error}")
        except (RuntimeError, ValueError, LookupError) as error:
            self.failed.emit(f"This step cannot be taken back any more: {error}")
        self.history_changed.emit()
