"""Word of every change of what prompt layers say: each edit is told once, whatever napari makes of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.layers import Labels, Shapes

from napari_sam._napari.drawing import drop_spare_rows
from napari_sam._napari.signs import keep_boxes_positive, negative_rows

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_sam._napari.prompt_layers import PromptLayer

GEOMETRY = ("scale", "translate", "rotate", "shear", "affine", "units")
"""Events of a layer that lies elsewhere now."""
_AFTER = {"added", "changed", "removed"}


class PromptWatch:
    """Listens to layers, and to whatever else it is asked to.

    Parameters
    ----------
    tell : callable
        Called after something that is a prompt was added, moved, deleted or changed its sign.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._on_change = tell
        self._signs: dict[Hashable, bytes] = {}
        self._hushed = 0
        self._missed = False
        self._connections: list[tuple[Any, Callable[..., None]]] = []

    def connect(self, emitter: Any, callback: Callable[..., None]) -> None:
        """Call back at an event, until `unfollow` or `close`."""
        emitter.connect(callback)
        self._connections.append((emitter, callback))

    def follow(self, layer: PromptLayer, *, own: bool) -> None:
        """Listen to a layer's edits, and to a layer's being moved if it is the person's."""
        if isinstance(layer, Labels):
            for name in ("paint", "data", "selected_label"):
                self.connect(getattr(layer.events, name), self._on_edit)
        else:
            self.connect(layer.events.data, self._on_own_data if own else self._on_data)
            self.connect(layer.events.features, self._on_features)
            self._signs[layer.unique_id] = negative_rows(layer).tobytes()
        if not own:
            for name in GEOMETRY:
                self.connect(getattr(layer.events, name), self._on_edit)

    def unfollow(self, layer: Layer) -> None:
        """Stop listening to a layer."""
        gone = [(e, c) for e, c in self._connections if getattr(e, "source", None) is layer]
        for emitter, callback in gone:
            emitter.disconnect(callback)
        self._connections = [pair for pair in self._connections if pair not in gone]

    def close(self) -> None:
        """Stop listening to everything."""
        for emitter, callback in self._connections:
            emitter.disconnect(callback)
        self._connections.clear()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Tell of several changes once, at the end."""
        self._hushed += 1
        try:
            yield
        finally:
            self._hushed -= 1
        if not self._hushed and self._missed:
            self._missed = False
            self._on_change()

    def tell(self) -> None:
        """Say that the prompts changed, now or at the end of `at_once`."""
        if self._hushed:
            self._missed = True
        else:
            self._on_change()

    # --- inside --------------------------------------------------------------------------------------

    def _on_own_data(self, event: Any) -> None:
        """A layer that is drawn in with the tools here: what drawing leaves behind is tidied first."""
        with self.at_once():
            if _is_after(event) and isinstance(event.source, Shapes):
                drop_spare_rows(event.source)
                keep_boxes_positive(event.source)
            self._on_data(event)

    def _on_data(self, event: Any) -> None:
        """A Points or Shapes layer says that its data change (before) or changed (after)."""
        if _is_after(event):
            # Every edit is followed by word of the features: it is told once.
            self._signs[event.source.unique_id] = negative_rows(event.source).tobytes()
            self.tell()

    def _on_features(self, event: Any) -> None:
        """Features of a layer changed; of these only the signs are prompts."""
        signs = negative_rows(event.source).tobytes()
        if self._signs.get(event.source.unique_id) != signs:
            self._signs[event.source.unique_id] = signs
            self.tell()

    def _on_edit(self, event: Any) -> None:
        self.tell()


def _is_after(event: Any) -> bool:
    """Whether an event of a layer's data tells of a change that was made."""
    return str(getattr(event.action, "value", event.action)) in _AFTER
