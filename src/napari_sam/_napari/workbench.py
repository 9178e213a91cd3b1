"""What stands between the viewer and the session: image, plane, prompts, previews.

It knows the viewer and the session and no widget; the dock shows what it tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from napari.layers import Image, Labels, Points, Shapes
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam._napari.binding import PromptBinding
from napari_sam._napari.commit import CommitError, check_target
from napari_sam._napari.coordinates import PlaneError, PlaneIndex
from napari_sam._napari.dispatch import Dispatch
from napari_sam._napari.follow import ImageFollower
from napari_sam._napari.hover import Hover
from napari_sam._napari.large import Lookout, is_large, large_planes
from napari_sam._napari.large_labels import usual_folder
from napari_sam._napari.layers import remove_layer
from napari_sam._napari.planes import Channels, ContrastMode, Plane, current_plane, iter_planes
from napari_sam._napari.preview import MaskPreview
from napari_sam._napari.settings import Preferences, on_preferences_changed
from napari_sam._napari.signs import POSITIVE
from napari_sam._napari.snapshot import Snapshot
from napari_sam._napari.target import make_target, write_into
from napari_sam.levels import mask_to_full, to_level
from napari_sam.masks import Mask, Overlap
from napari_sam.session import AnnotationSession, Storage, View
from napari_sam.store import EmbeddingCache, Shelf

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sam.session.work import Load
    from napari_sam.tiling.large_plane import LargePlane

Tool = Literal["point", "box", "polygon", "ellipse", "scribble", "select"]

TOOLS: dict[str, Tool] = {
    "add_rectangle": "box",
    "add_polygon": "polygon",
    "add_polygon_lasso": "polygon",
    "add_ellipse": "ellipse",
    "add_path": "scribble",
    "add_line": "scribble",
    "add_polyline": "scribble",
}
"""Modes of a Shapes layer, and what they draw."""


class Workbench(QObject):
    """One viewer, one session, and who does its work.

    Parameters
    ----------
    viewer : ViewerModel
    load_model : callable, optional
        See `AnnotationSession`.
    cache_bytes : int
        Memory that embeddings may take.
    """

    image_changed = Signal(object)
    plane_changed = Signal()
    channels_changed = Signal()
    """The channels of the image are taken from another axis, or from none."""
    layers_changed = Signal()
    tool_changed = Signal()
    target_made = Signal(object)
    """A Labels layer was added for the objects."""
    told = Signal(str)
    """Something worth knowing, in words."""
    failed = Signal(str)

    def __init__(
        self, viewer: ViewerModel, *, load_model: Load | None = None, cache_bytes: int = 10**9
    ) -> None:
        super().__init__()
        self.viewer = viewer
        shelf = Shelf(EmbeddingCache(cache_bytes))
        self.session = AnnotationSession(shelf, load_model)
        self.storage = Storage(self.session, shelf)
        self.dispatch = Dispatch(self.session, self)
        self.follower = ImageFollower(viewer)
        self.lookout = Lookout(viewer)
        self.preview = MaskPreview(viewer)
        self.binding: PromptBinding | None = None
        self.plane: Plane | None = None
        self.labels_folder = usual_folder()
        self.batch = False
        self.at_hand: Callable[[Plane], Sequence[Mask]] = lambda plane: ()
        """Masks, at full resolution, to show on a plane where nothing is on offer."""
        self.closed = False
        self._drawn_in = False
        self._told: set[str] = set()
        """Surprises that were spoken of; once is enough."""
        self._channels: Channels | None = None
        self._contrast: ContrastMode = "displayed"
        self._level: int | None = None
        self.hover = Hover(self)
        self._connect()
        self._end_preferences = on_preferences_changed(self._on_preferences)

    @property
    def image(self) -> Image | None:
        """The image that is worked on."""
        return self.follower.image

    @property
    def channel_axis(self) -> int | None:
        """The axis of the image that holds channels."""
        return self._channels.axis if self._channels is not None else None

    def start(self) -> None:
        """Turn to the image that is there."""
        self.follower.start()

    def close(self, *, tidy: bool = True) -> None:
        """Let go of the viewer and end the worker; what was drawn and committed stays.

        Parameters
        ----------
        tidy : bool
            Whether previews and empty prompt layers are taken out of the viewer; not if it closes itself.
        """
        if self.closed:
            return
        self.closed = True
        self._end_preferences()
        self.session.close()
        self.dispatch.close()
        self._unbind(tidy=tidy)
        self.follower.close()
        self.lookout.close()
        self.hover.close()
        if tidy:
            self.preview.remove()

    # --- picture -------------------------------------------------------------------------------------

    def set_picture(self, channels: Channels | None, contrast: ContrastMode, level: int | None) -> None:
        """Choose what the model sees of the image; at the level of the view if ``level`` is None."""
        axis_before, tool = self.channel_axis, self.tool
        self._channels, self._contrast, self._level = channels, contrast, level
        if self.image is not None:
            self.follower.watch((self.image, *(channels.layers if channels is not None else ())))
        if self.channel_axis != axis_before:
            self.channels_changed.emit()
            self._bind(self.image)
            if tool is not None:
                self.use(tool)
        self.look(anew=True)

    def look(self, *, anew: bool = False) -> None:
        """Take up the plane on show; ``anew`` although it is the same, since its picture changed."""
        if self.image is None:
            self._see_nothing("")
            return
        if self.image not in self.viewer.layers:
            return  # it is being removed, of which word comes: no ground for other layers
        try:
            plane = current_plane(
                self.viewer, self.image, self._channels, contrast=self._contrast, level=self._level or 0
            )
        except PlaneError as error:
            self._see_nothing(str(error))
            return
        # Only a large plane is seen otherwise if no level is chosen; else it is the finest.
        level = self._level if is_large(self.image, plane) else self._level or 0
        place = (plane.layer_id, plane.index, level)
        if place == self.session.place and not anew:
            return
        moved = place != self.session.place
        self.plane = plane
        picture = self._channels, self._contrast, self._level
        self.session.look_at(place, self.lookout.turn_to(self.image, plane, *picture))
        if moved:
            self.read_prompts()
            self._prepare_preview()
            self.plane_changed.emit()

    def _on_model(self) -> None:
        QTimer.singleShot(0, self._prepare_preview)  # first the window says that the model is there

    def _prepare_preview(self) -> None:
        """Make the preview's layer before it is needed, once the model is there.

        The first of its kind costs napari a third of a second (it imports pandas): beside the first embedding
        nobody waits for it, beside the loading of the model, which needs the interpreter as well, all would.
        """
        ready = not self.closed and self.session.predictor is not None
        if ready and self.image is not None and self.plane is not None:
            self.preview.prepare(self.image, self.plane.index)

    def planes_along(self, axis: int, *, at_level: bool = False) -> Iterator[Plane]:
        """Walk along an axis as the image is seen now; at full resolution, or ``at_level`` of the pyramid."""
        level = (self._level or 0) if at_level else 0
        return iter_planes(
            self.viewer, self.image, axis, self._channels, contrast=self._contrast, level=level
        )

    def large_planes_along(self, axis: int, *, at_level: bool = False) -> list[LargePlane]:
        """Take the planes along an axis as the image is seen now, to be read by boxes; see `planes_along`."""
        level = self._level if at_level else None
        return large_planes(self.viewer, self.image, axis, self._channels, self._contrast, level)

    # --- prompts -------------------------------------------------------------------------------------

    @property
    def tool(self) -> Tool | None:
        """The tool in the hand, by the active layer and its mode."""
        active = self.viewer.layers.selection.active
        if self.binding is None or active is None or active not in self.binding.layers:
            return None
        mode = str(active.mode)
        if isinstance(active, Points):
            return "point" if mode == "add" else "select" if mode == "select" else None
        return TOOLS.get(mode) if isinstance(active, Shapes) else None

    def use(self, tool: Tool) -> None:
        """Take up a tool."""
        if self.binding is None:
            self.failed.emit("There is no image to work on. Open one first.")
            return
        try:
            self.binding.use(tool)
        except PlaneError as error:
            self.failed.emit(str(error))
            return
        self.tool_changed.emit()

    def set_batch(self, batch: bool) -> None:
        """Whether every prompt is an object of its own."""
        self.batch = batch
        self.read_prompts()

    def read_prompts(self, *, replayed: bool = False) -> None:
        """Tell the session what the layers say about the plane.

        Parameters
        ----------
        replayed : bool
            Whether a decision was undone or done again, and this is no new one.
        """
        if self.binding is None or self.plane is None:
            return
        index, factors = self.plane.index, self.plane.factors
        said = self.binding.read_each(index) if self.batch else [self.binding.read(index)]
        self._drawn_in = self._drawn_in or any(p.points or p.box or p.mask for p in said)
        restore = partial(self._restore, self.binding, self.binding.snapshot(), index)
        prompts = [to_level(one, factors) for one in said]
        if replayed:
            self.session.set_prompts(prompts)
        self.session.set_prompts(prompts, restore)

    def clear(self) -> None:
        """Take the prompts of the plane away."""
        if self.binding is not None and self.plane is not None:
            self.binding.clear(self.plane.index)

    # --- labels --------------------------------------------------------------------------------------

    def commit(self, target: Labels | None, overlap: Overlap) -> int:
        """Write the chosen masks; into a new layer if ``target`` is None. Returns how many."""
        if not self.session.offers or self.plane is None or self.binding is None:
            return self.session.commit(lambda _: lambda: None)
        return self.attempt(
            target,
            lambda layer: self.session.commit(
                partial(write_into, self.viewer, layer, self.plane.index, self.plane.factors, overlap),
                partial(self.binding.clear, self.plane.index),
            ),
        )

    def attempt(self, target: Labels | None, act: Callable[[Labels], int]) -> int:
        """Write into a layer, or into a new one; what goes wrong is told in plain words."""
        image = self.image
        if image is None:
            return 0
        made = target is None or target not in self.viewer.layers
        making = self.viewer, image, self.labels_folder, self.channel_axis, self.told.emit
        layer, written = target, 0
        try:
            layer = make_target(*making) if made else target
            check_target(layer, image, channel_axis=self.channel_axis)
            written = act(layer)
        except (CommitError, ValueError) as error:
            self.failed.emit(str(error))
        if made and written:
            self.preview.raise_to_top()
            self.target_made.emit(layer)
        elif made:
            remove_layer(self.viewer, layer)
        return written

    def drop_automatic(self, why: str) -> None:
        """Forget automatic masks that are over, and say so."""
        if self.session.automatic is not None or "everything" in self.session.running:
            self.told.emit(f"The masks of Segment all were dropped: {why}.")
        self.session.drop_automatic()

    def show(self) -> None:
        """Show the chosen masks on the canvas, or what is under the mouse."""
        if self.image is None or self.plane is None:
            self.preview.clear()
            return
        masks = [offer.choice.mask for offer in self.session.offers]
        hovered = self.session.hovered
        opacity = 0.5
        if not masks and hovered is not None:
            masks, opacity = [hovered], 0.25
        full = [mask_to_full(mask, self.plane.factors) for mask in masks]
        if not self.session.offers and (at_hand := self.at_hand(self.plane)):
            full, opacity = [*at_hand, *full], 0.5
        self.preview.show(self.image, self.plane.index, full, opacity)
        for surprise in self.preview.surprises():
            if surprise not in self._told:
                self._told.add(surprise)
                self.told.emit(surprise)

    # --- inside --------------------------------------------------------------------------------------

    def _connect(self) -> None:
        session, follower = self.session, self.follower
        session.failed.connect(self.failed.emit)
        session.model_changed.connect(self._on_model)
        session.offers_changed.connect(self.show)
        session.hover_changed.connect(self.show)
        self.lookout.moved.connect(self._on_view)
        follower.image_changed.connect(self._on_image)
        follower.plane_changed.connect(self.look)
        follower.picture_changed.connect(partial(self.look, anew=True))
        follower.layers_changed.connect(self.layers_changed)
        follower.active_changed.connect(self.tool_changed)

    def _on_image(self, image: Image | None) -> None:
        self._channels, self._level = None, None
        self._bind(image)
        self.preview.remove()
        self.image_changed.emit(image)
        self.look()

    def _bind(self, image: Image | None) -> None:
        """Read prompts in the pixels of another image, or with other channels."""
        sign = self.binding.sign if self.binding is not None else POSITIVE
        self._unbind()
        if image is None:
            return
        self.binding = PromptBinding(self.viewer, image, channel_axis=self.channel_axis)
        self._drawn_in = bool(self.binding.layers)
        self.binding.sign = sign
        self.binding.prompts_changed.connect(self.read_prompts)
        self.binding.sign_changed.connect(self._on_tool)
        self.binding.layers_changed.connect(self._on_prompt_layers)
        self._on_prompt_layers()

    def _unbind(self, *, tidy: bool = True) -> None:
        if self.binding is not None:
            for layer in self.binding.layers:
                if layer not in self.binding.adopted:
                    layer.events.mode.disconnect(self._on_tool)
            # Only layers that never held anything are removed: others are the person's, and napari may crash
            # in its next drawing when a Points or Shapes layer with content is removed (napari#6472).
            self.binding.disconnect(remove_layers=tidy and not self._drawn_in)
            self.binding = None

    def _on_view(self, view: View) -> None:
        """Encode what has come into view of a large plane; prompts and offers stay."""
        self.session.look_at(self.session.place, view)

    def _on_prompt_layers(self) -> None:
        for layer in self.binding.layers if self.binding is not None else ():
            if layer not in self.binding.adopted:
                layer.events.mode.connect(self._on_tool)
        self.layers_changed.emit()

    def _on_preferences(self, chosen: Preferences) -> None:
        self.session.cache.max_bytes = chosen.cache_bytes

    def _on_tool(self, event: Any = None) -> None:
        self.tool_changed.emit()

    def _see_nothing(self, reason: str) -> None:
        if self.plane is not None or self.session.place is not None or reason:
            self.plane = None
            self.lookout.forget()
            self.session.look_away(reason)
            self.plane_changed.emit()

    def _restore(self, binding: PromptBinding, snapshot: Snapshot, plane: PlaneIndex) -> None:
        """Bring the prompts of a plane back to how they were, if the layers still belong to this image."""
        if binding is self.binding:
            binding.restore(snapshot, [plane])
