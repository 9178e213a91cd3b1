"""Follow one object through the planes of an image, look where it is uncertain, write it as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, Signal

from napari_sam._napari.coordinates import PlaneError, turn_to_plane
from napari_sam._napari.course import Course, ground_of
from napari_sam._napari.followed import FollowedVolume
from napari_sam._napari.large import is_large
from napari_sam._napari.planes import Pictures, Plane
from napari_sam._napari.target import write_through
from napari_sam.levels import mask_to_full
from napari_sam.masks import Mask, Overlap
from napari_sam.session import Decision
from napari_sam.session.trail import ChoiceMemory, settled
from napari_sam.session.work import memory_of, tiles_of
from napari_sam.spacing import pixel_spacing

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam._napari.binding import PromptBinding
    from napari_sam._napari.coordinates import PlaneIndex
    from napari_sam._napari.snapshot import Snapshot
    from napari_sam._napari.workbench import Workbench
    from napari_sam.progress import Progress
    from napari_sam.propagation import PropagationSettings
    from napari_sam.session.trail import Trail


class TrailRun(QObject):
    """One object through the planes along an axis of the image.

    Parameters
    ----------
    bench : Workbench
    """

    changed = Signal()
    """The object was found on another plane, or is another one, or none."""
    said = Signal(str)
    failed = Signal(str)

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self._course = Course()
        self._memory = ChoiceMemory()
        self._image: Image | None = None
        self._pixels: Any = None
        """The image's data: on others, what was chosen and followed is over."""
        self._aside: WeakKeyDictionary[Image, tuple[Any, Course, ChoiceMemory]] = WeakKeyDictionary()
        self._looked_at: int | None = None
        self._volume = FollowedVolume(bench.viewer)
        bench.at_hand = self._masks_on
        bench.plane_changed.connect(self._show_volume)
        self.changed.connect(self._show_volume)
        bench.image_changed.connect(self._on_image)
        bench.follower.picture_changed.connect(self._on_picture)
        session = bench.session
        session.offers_changed.connect(self._on_offers)
        session.progressed.connect(self._on_progress)
        session.finished.connect(self._on_finished)

    # --- what is known ---------------------------------------------------------------------------------

    @property
    def trail(self) -> Trail | None:
        """The object that is followed."""
        return self._course.trail

    @property
    def here(self) -> int | None:
        """Number of the plane on show among those that were walked along."""
        plane = self._bench.plane
        return self._course.numbers.get(plane.index) if plane is not None else None

    @property
    def masks(self) -> dict[int, Mask]:
        """What a commit would write, by plane: what is chosen now, else what was followed."""
        if self.trail is None:
            return {}
        planes = self._course.planes
        said = self._course.said(self._bench.binding)
        chosen = {n: mask for n, one in said.items() if (mask := self._memory.mask(planes[n].index, one))}
        return self.trail.masks(chosen)

    # --- what the person asks for ----------------------------------------------------------------------

    def run(self, axis: int, settings: PropagationSettings, diameter: float | None) -> None:
        """Follow the object of the prompts on all planes along an axis, in both directions.

        Parameters
        ----------
        axis : int
            Axis of the image.
        settings : PropagationSettings
        diameter : float, optional
            Typical object diameter in pixels.
        """
        from napari_sam.propagate import propagate_object

        bench, session = self._bench, self._bench.session
        self._on_picture()  # the image may just have become another one
        if bench.image is None or bench.binding is None or session.predictor is None:
            self.failed.emit("Nothing to follow yet: wait for the model to load and choose an image.")
            return
        try:
            planes = tuple(bench.planes_along(axis))
        except PlaneError as error:
            self.failed.emit(str(error))
            return
        course = Course(
            planes,
            axis,
            ground_of(session.predictor.model_id, planes[0], axis, settings, diameter),
            bench.image.data,
            session.predictor.name,
        )
        before, self._looked_at = self._course, None
        if before.trail is not None and course.numbers.keys() != before.numbers.keys():
            self.failed.emit(
                "An object that was followed elsewhere in this image is not committed yet. Turn to it and "
                "commit it, or discard it."
            )
            return
        said = course.said(bench.binding)
        if bench.batch and any(len(bench.binding.read_each(planes[n].index)) > 1 for n in said):
            self.failed.emit(
                "One object is followed at a time. Switch off 'Every prompt is its own object', or leave one."
            )
            return
        if not said:
            self.failed.emit("Nothing says which object is meant. Click it or draw a box on one plane.")
            return
        anchors = {n: self._memory.mask(planes[n].index, one) or one for n, one in said.items()}
        previous = None
        if before.trail is not None:
            same_object = bool(before.trail.anchors & anchors.keys())
            ends = before.trail.ends - anchors.keys() if same_object else frozenset()
            course = replace(course, trail=replace(before.trail, ends=ends))
            if before.trail.ground == course.ground:
                previous = before.trail.propagation
                anchors = settled(anchors, previous.anchors)
        self._course = course
        large = is_large(bench.image, planes[0])
        work = partial(
            propagate_object,
            session.predictor,
            bench.large_planes_along(axis) if large else Pictures(planes),
            anchors,
            settings,
            previous=previous,
            diameter=diameter,
            # Parts of large planes are hardly ever looked at again, to the pixel: not for the folder.
            kept=(memory_of(session.cache) if large else session.cache,),
            spacing=_pixel_size(bench.image, planes[0].index),
            tiles=tiles_of(planes[0].shape, session.cache, diameter) if large else None,
        )
        session.request("follow", work)

    def turn_to(self, number: int) -> None:
        """Show a plane of the stack."""
        image = self._bench.image
        if image is not None and 0 <= number < len(self._course.planes):
            try:
                turn_to_plane(self._bench.viewer, image, self._course.planes[number].index)
            except PlaneError as error:
                self.failed.emit(str(error))

    def turn_to_weakest(self) -> None:
        """Show the plane of least confidence; the next one in that order if it was just shown."""
        if self.trail is None:
            return
        after = self._looked_at if self._looked_at == self.here else None
        self._looked_at = self.trail.weak(after)
        if self._looked_at is not None:
            self.turn_to(self._looked_at)

    def end_here(self) -> None:
        """Take the object away from the plane on show and beyond; or give it back."""
        here = self.here
        if self.trail is None or here is None:
            return
        if here in self._course.said(self._bench.binding):
            self.failed.emit(
                "Something is said about the object on this plane. Clear the prompts here first."
            )
            return
        trail = self.trail.end_at(here)
        if not trail.planes:
            self.failed.emit("Nothing would be left of the object. Discard it instead.")
            return
        self._show(replace(self._course, trail=trail))

    def commit(self, target: Labels | None, overlap: Overlap) -> int:
        """Write the object into all its planes with one id, as one decision.

        Parameters
        ----------
        target : Labels, optional
            A new layer if not given.
        overlap : {"keep", "replace"}

        Returns
        -------
        int
            On how many planes it is; 0 if nothing was written, which `failed` says.
        """
        self._on_picture()  # the image may just have become another one
        trail, masks = self.trail, self.masks
        if trail is None or not masks:
            self.failed.emit("There is no object to commit yet. Follow one first.")
            return 0
        record = trail.record(masks, self._course.said(self._bench.binding))
        places = self._course.by_plane(masks)
        viewer = self._bench.viewer

        def act(layer: Labels) -> int:
            counts: list[int] = []
            write = partial(write_through, viewer, layer, places, overlap, record, count=counts.append)
            self._decide("object in its planes", write)
            words = f"Written into {_planes(counts[0])} of {layer.name!r}."
            if counts[0] < len(masks):
                words += f" On {_planes(len(masks) - counts[0])} other objects take all of it."
            self.said.emit(words)
            return counts[0]

        return self._bench.attempt(target, act)

    def discard(self) -> None:
        """Forget the object and what was said about it, as one decision."""
        if self.trail is not None:
            self._decide("object that was followed", lambda: _nothing)
            self.said.emit("")

    def close(self) -> None:
        """Follow nothing more."""
        self._course = Course()
        self._bench.at_hand = lambda plane: ()
        self._volume.clear()

    # --- inside ----------------------------------------------------------------------------------------

    def _masks_on(self, plane: Plane) -> Sequence[Mask]:
        """What was followed to a plane, for the preview."""
        mask = self._course.places.get(plane.index)
        return () if mask is None else (mask,)

    def _show_volume(self) -> None:
        """Show the object through all planes where none of them is on show: in 3D, and from the side."""
        image, trail, plane = self._bench.image, self.trail, self._bench.plane
        if plane is not None and image is not None and plane.layer_id != image.unique_id:
            return  # just before the plane of another image is taken up
        if trail is None or image is None or self.here is not None or self._bench.closed:
            self._volume.clear()
        else:
            self._volume.show(image, self._course.axis, self._course.places)

    def _decide(self, what: str, write: Callable[[], Callable[[], None]]) -> None:
        """Write, and begin anew; undo takes both back."""
        binding, planes = self._bench.binding, self._course.planes
        said = [planes[number].index for number in self._course.said(binding)]
        before, revert = self._state(), write()
        self._bench.session.cancel("follow")  # not before: what could not be written may be followed on
        self._bring_back(binding, lambda: [binding.clear(plane) for plane in said])
        self._show(replace(self._course, trail=None))
        after = self._state()

        def undo() -> None:
            nonlocal after
            after = self._state_after(after)
            revert()
            self._return_to(before)

        def redo() -> None:
            nonlocal before, revert
            before, revert = self._state_after(before), write()
            self._return_to(after)

        self._bench.session.note(Decision(what, undo, redo, lasting=True))

    def _state(self) -> _State:
        """Everything that undo has to bring back."""
        binding = self._bench.binding
        return _State(binding, binding.snapshot(), self._course)

    def _state_after(self, state: _State) -> _State:
        """What became of a state by now; of one on an image that is not worked on now, nothing."""
        return self._state() if state.binding is self._bench.binding else state

    def _return_to(self, state: _State) -> None:
        """Bring a state back, if its image is still the one that is worked on."""
        if state.binding is self._bench.binding:
            course, said_on = state.course, state.course.numbers
            self._stop()  # what is being followed belongs to the state that is left
            self._bring_back(state.binding, partial(state.binding.restore, state.prompts, said_on))
            # On other pixels what was said counts still, what was followed does not.
            self._show(course if course.pixels is self._bench.image.data else Course())

    def _bring_back(self, binding: PromptBinding, act: Callable[[], Any]) -> None:
        """Change the prompts without that being a decision."""
        with binding.prompts_changed.blocked():
            act()
        self._bench.read_prompts(replayed=True)

    def _show(self, course: Course) -> None:
        """Go on with what was followed so far."""
        self._course = course
        self._bench.show()
        self.changed.emit()

    def _on_progress(self, kind: str, progress: Progress) -> None:
        so_far = getattr(progress, "so_far", None)
        if kind == "follow" and so_far is not None:
            self._show(self._course.take(so_far))

    def _on_finished(self, kind: str, outcome: Any) -> None:
        if kind != "follow" or self._bench.closed or not self._course.planes:
            return
        if outcome is not None:
            self._show(self._course.take(outcome))
        if self.trail is not None:
            count = len(self.trail.planes)
            self.said.emit("" if outcome is not None else f"Stopped: {count} planes are kept.")
        self.changed.emit()

    def _on_offers(self) -> None:
        """Note what is chosen on the plane on show, and choose it again when one comes back."""
        bench, plane, offers = self._bench, self._bench.plane, self._bench.session.offers
        if plane is None or bench.binding is None or len(offers) != 1:
            return
        # Remembered with what the layers say, whichever level of a pyramid the model looks at.
        said = replace(offers[0], prompts=bench.binding.read(plane.index))
        index = self._memory.take(plane.index, said, partial(mask_to_full, factors=plane.factors))
        if index is not None:
            self._bench.session.choose(index)

    def _on_image(self, image: Image | None) -> None:
        """Another image: what was followed on the one before waits until it is back."""
        left, self._image = self._image, image
        if left is not None and left in self._bench.viewer.layers:
            self._aside[left] = self._pixels, self._course, self._memory
        course, memory = Course(), ChoiceMemory()
        if image is not None and image in self._aside:
            pixels, kept, chosen = self._aside.pop(image)
            if pixels is image.data:
                course, memory = kept, chosen
        self._take_up(course, memory)

    def _on_picture(self) -> None:
        """Contrast or pixels changed: what was followed on other pixels is over."""
        image = self._bench.image
        if image is not None and self._pixels is not image.data:
            self._take_up(Course(), ChoiceMemory())

    def _take_up(self, course: Course, memory: ChoiceMemory) -> None:
        """Go on with what was followed on an image, or with nothing."""
        had, image = self.trail is not None, self._bench.image
        self._stop()
        self._course, self._memory = course, memory
        self._pixels = None if image is None else image.data
        if had:
            self.said.emit("")
        self.changed.emit()

    def _stop(self) -> None:
        """Follow no further, and forget what was followed."""
        # First, so that what comes of the cancelling finds nothing to tell.
        self._course = Course()
        self._bench.session.cancel("follow")


class _State(NamedTuple):
    """The prompts and the object that is followed, as they stood."""

    binding: PromptBinding
    prompts: Snapshot
    course: Course


def _planes(count: int) -> str:
    return f"{count} plane{'s' if count != 1 else ''}"


def _nothing() -> None:
    """Take back what wrote nothing."""


def _pixel_size(image: Image, plane: PlaneIndex) -> tuple[float, float]:
    """Distance between pixels down and to the right; its sign does not matter, nor does its unit."""
    spacing = pixel_spacing(image) or abs(image.scale)
    return float(spacing[plane.rows]), float(spacing[plane.columns])
