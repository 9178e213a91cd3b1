"""Prompts that live in layers: what a person draws, as prompts, whatever happens to the layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from napari.layers import Labels, Points, Shapes
from psygnal import Signal

from napari_sam._napari.coordinates import PlaneIndex, layer_shape
from napari_sam._napari.drawing import finish_drawing
from napari_sam._napari.layers import (
    add_points_layer,
    add_shapes_layer,
    is_own,
    own_layers,
    realign,
    remove_layer,
    role_of,
)
from napari_sam._napari.prompt_layers import Ground, PromptLayer, Said, lie_on, read_layer
from napari_sam._napari.prompt_watch import GEOMETRY, PromptWatch
from napari_sam._napari.signs import (
    NEGATIVE,
    POSITIVE,
    negative_rows,
    next_sign,
    set_next_sign,
    set_signs,
)
from napari_sam._napari.snapshot import Snapshot, Spent
from napari_sam.prompts import Prompts

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

Tool = Literal["point", "box", "polygon", "ellipse", "scribble", "select"]

_SHAPE_MODE = {
    "box": "add_rectangle",
    "polygon": "add_polygon",
    "ellipse": "add_ellipse",
    "scribble": "add_path",
    "select": "select",
}


class PromptBinding:
    """Reads prompts from layers and tells when they change.

    It has a Points and a Shapes layer of its own, made on the image when they are first needed and again
    when they were removed, and reads any layer of the person's that is adopted.

    Parameters
    ----------
    viewer : ViewerModel
    image_layer : Image
        The image that is segmented; prompts are read in its pixels.
    channel_axis : int, optional
        Axis of the image that holds channels: prompts count on all of it.
    """

    prompts_changed = Signal()
    """After something was added, moved, deleted or changed its sign."""
    sign_changed = Signal(str)
    """The sign of the next click: "+" or "-"."""
    layers_changed = Signal()
    """A layer came or went that is read here."""

    def __init__(self, viewer: ViewerModel, image_layer: Image, *, channel_axis: int | None = None) -> None:
        self.viewer = viewer
        self.image_layer = image_layer
        self._channel_axis = channel_axis
        self._sign = POSITIVE
        self._adopted: list[PromptLayer] = []
        self._spent: set[Spent] = set()
        self._watch = PromptWatch(self.prompts_changed.emit)
        self._points: Points | None = None
        self._shapes: Shapes | None = None
        for name in GEOMETRY:
            self._watch.connect(getattr(image_layer.events, name), self._on_geometry)
        for name in ("units", "order", "ndisplay"):
            self._watch.connect(getattr(viewer.dims.events, name), self._on_geometry)
        self._watch.connect(viewer.layers.events.removed, self._on_removed)
        self._watch.connect(viewer.layers.events.removed, self._on_geometry)
        for layer in own_layers(viewer, image_layer):
            if isinstance(layer, Points) and self._points is None:
                self._points = layer
                self._follow_own(layer)
            elif isinstance(layer, Shapes) and self._shapes is None:
                self._shapes = layer
                self._follow_own(layer)
        # The image may have moved while nobody looked.
        self._on_geometry(None)

    # ---- layers -------------------------------------------------------------------------------------

    @property
    def points(self) -> Points:
        """The own layer of clicks, made if it is not there."""
        if self._points is None:
            self._points = add_points_layer(self.viewer, self.image_layer, channel_axis=self._channel_axis)
            self._begin(self._points)
        return self._points

    @property
    def shapes(self) -> Shapes:
        """The own layer of boxes, outlines and scribbles, made if it is not there."""
        if self._shapes is None:
            self._shapes = add_shapes_layer(self.viewer, self.image_layer, channel_axis=self._channel_axis)
            self._begin(self._shapes)
        return self._shapes

    @property
    def layers(self) -> tuple[PromptLayer, ...]:
        """All layers that are read: the own ones that exist, then the adopted ones."""
        own = (layer for layer in (self._points, self._shapes) if layer is not None)
        return (*own, *self._adopted)

    @property
    def adopted(self) -> tuple[PromptLayer, ...]:
        """The person's own layers that are read as prompts."""
        return tuple(self._adopted)

    @property
    def adoptable(self) -> list[Layer]:
        """Layers that may be adopted: the person's own, and copies that were made of the layers here."""
        others = [x for x in self.viewer.layers if x not in (self._points, self._shapes)]
        copies = [x for x in others if isinstance(x, Points | Shapes) and is_own(x, self.image_layer)]
        theirs = [x for x in others if isinstance(x, Points | Shapes | Labels) and role_of(x) is None]
        return [layer for layer in others if layer in theirs or layer in copies]

    def use(self, tool: Tool) -> None:
        """Take up a tool: make the layer it needs the active one, in the right mode."""
        layer: Points | Shapes
        finish_drawing(self._shapes)
        if tool == "point":
            layer, mode = self.points, "add"
        elif tool == "select" and isinstance(self.viewer.layers.selection.active, Points):
            layer, mode = self.points, "select"
        else:
            layer, mode = self.shapes, _SHAPE_MODE[tool]
        self.viewer.layers.selection.active = layer
        layer.mode = mode

    def adopt(self, layer: Layer) -> None:
        """Read a layer of the person's as prompts too. The layer itself is never changed.

        Raises
        ------
        TypeError
            If it is no Points, Shapes or Labels layer.
        """
        if not isinstance(layer, Points | Shapes | Labels):
            raise TypeError(
                f"Expected a Points, Shapes or Labels layer for prompts, found {layer.name!r} "
                f"({type(layer).__name__}). Choose another layer."
            )
        if layer in self.layers:
            return
        self._adopted.append(layer)
        self._watch.follow(layer, own=False)
        self._tell_layers()

    def release(self, layer: Layer) -> None:
        """Read an adopted layer no more."""
        if layer in self._adopted:
            self._adopted.remove(layer)
            self._watch.unfollow(layer)
            self._tell_layers()

    def disconnect(self, *, remove_layers: bool = False) -> None:
        """Let go of all layers; nothing is told any more.

        Parameters
        ----------
        remove_layers : bool
            Whether to remove the own layers as well.
        """
        own = (self._points, self._shapes)
        self._watch.close()
        self._points = self._shapes = None
        self._adopted.clear()
        if remove_layers:
            for layer in own:
                remove_layer(self.viewer, layer)

    # ---- signs --------------------------------------------------------------------------------------

    @property
    def sign(self) -> str:
        """Sign of the next click or scribble: "+" for the object, "-" for what is not."""
        return self._sign

    @sign.setter
    def sign(self, sign: str) -> None:
        if sign not in (POSITIVE, NEGATIVE):
            raise ValueError(f"A sign is {POSITIVE!r} or {NEGATIVE!r}, found {sign!r}.")
        changed, self._sign = sign != self._sign, sign
        for layer in (self._points, self._shapes):
            if layer is not None:
                set_next_sign(layer, sign)
        if changed:
            self.sign_changed.emit(sign)

    def toggle_sign(self) -> None:
        """Flip the sign of the selected clicks if some are selected in select mode, else of the next."""
        layer = self._points
        if layer is not None and layer.mode == "select" and layer.selected_data:
            self.flip(layer.selected_data)
        else:
            self.sign = NEGATIVE if self._sign == POSITIVE else POSITIVE

    def flip(self, rows: Iterable[int]) -> None:
        """Flip the sign of clicks in the own layer."""
        negative = negative_rows(self.points)
        rows = list(rows)
        negative[rows] = ~negative[rows]
        set_signs(self.points, negative)

    # ---- reading ------------------------------------------------------------------------------------

    def read(self, plane: PlaneIndex) -> Prompts:
        """Read everything on a plane as prompts of one object.

        Of an adopted Labels layer the selected label counts.
        """
        parts = [said.prompts for said in self._own_said(plane)]
        for layer in self._adopted:
            for said in self._unspent(layer, plane):
                if not isinstance(layer, Labels) or said.row == layer.selected_label:
                    parts.append(said.prompts)
        return Prompts.merge(parts)

    def read_each(self, plane: PlaneIndex) -> list[Prompts]:
        """Read a plane as many objects at once.

        Each positive point, box, outline, positive scribble and label is an object of its own; negative
        points and scribbles go to all.
        """
        said = [s.prompts for s in self._own_said(plane)]
        for layer in self._adopted:
            said += [s.prompts for s in self._unspent(layer, plane)]
        background = tuple(p for prompts in said if not prompts for p in prompts.points)
        return [replace(p, points=(*p.points, *background)) for p in said if p]

    def clear(self, plane: PlaneIndex) -> None:
        """Take the prompts of a plane away.

        They are deleted from the own layers. What an adopted layer says there counts as used up until it is
        edited; the layer is left as it is.
        """
        with self._watch.at_once():
            finish_drawing(self._shapes)
            for layer in (self._points, self._shapes):
                if layer is not None:
                    rows = [said.row for said in read_layer(layer, self._ground(plane))]
                    if rows:
                        layer.remove(rows)
            used = {
                (layer.unique_id, plane, said.key)
                for layer in self._adopted
                for said in self._unspent(layer, plane)
            }
            if used:
                self._spent |= used
                self._watch.tell()

    def snapshot(self) -> Snapshot:
        """Note what the own layers hold, and what of the adopted ones is used up."""
        return Snapshot.of(self._points, self._shapes, frozenset(self._spent))

    def restore(self, snapshot: Snapshot, planes: Collection[PlaneIndex]) -> None:
        """Bring a noted state of some planes back: how an edit of the prompts is undone.

        What was said on other planes stays: it may be newer.
        """
        with self._watch.at_once():
            finish_drawing(self._shapes)
            grounds = [self._ground(plane) for plane in planes]
            clicks, shapes = (partial(lie_on, grounds, layer) for layer in (self._points, self._shapes))
            snapshot = snapshot.within(clicks, shapes, planes, self.snapshot())
            if self._points is not None or len(snapshot.clicks):
                snapshot.put_clicks(self.points)
            if self._shapes is not None or snapshot.shapes:
                snapshot.put_shapes(self.shapes)
            if self._spent != snapshot.spent:
                self._spent = set(snapshot.spent)
                self._watch.tell()

    def _ground(self, plane: PlaneIndex) -> Ground:
        """The plane with its size."""
        shape = layer_shape(self.image_layer)
        return Ground(self.viewer, self.image_layer, plane, (shape[plane.rows], shape[plane.columns]))

    def _own_said(self, plane: PlaneIndex) -> list[Said]:
        """What the own layers say."""
        own = [layer for layer in (self._points, self._shapes) if layer is not None]
        return [said for layer in own for said in read_layer(layer, self._ground(plane))]

    def _unspent(self, layer: PromptLayer, plane: PlaneIndex) -> Iterator[Said]:
        """What an adopted layer says and has not been used up."""
        said = read_layer(layer, self._ground(plane))
        return (s for s in said if (layer.unique_id, plane, s.key) not in self._spent)

    # ---- events -------------------------------------------------------------------------------------

    def _tell_layers(self) -> None:
        self.layers_changed.emit()
        self._watch.tell()

    def _begin(self, layer: Points | Shapes) -> None:
        """Take a new own layer into use."""
        set_next_sign(layer, self._sign)
        self._follow_own(layer)
        self.layers_changed.emit()

    def _follow_own(self, layer: Points | Shapes) -> None:
        self._watch.follow(layer, own=True)
        self._watch.connect(layer.events.feature_defaults, self._on_defaults)

    def _on_defaults(self, event: Any) -> None:
        """Selecting a click makes its features those of the next one: the sign stays the person's choice."""
        if next_sign(event.source) != self._sign:
            set_next_sign(event.source, self._sign)

    def _on_geometry(self, event: Any) -> None:
        """The image moved, or the viewer shows other units or axes: the twins go along."""
        if self.image_layer in self.viewer.layers and self.viewer.dims.ndisplay == 2:
            realign(self.viewer, self.image_layer)

    def _on_removed(self, event: Any) -> None:
        """A layer is gone; if it was read here, so are its prompts."""
        layer = event.value
        if layer in self.layers:
            self._watch.unfollow(layer)
            self._adopted = [a for a in self._adopted if a is not layer]
            self._points = None if layer is self._points else self._points
            self._shapes = None if layer is self._shapes else self._shapes
            self._tell_layers()
