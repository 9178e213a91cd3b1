"""Prompts as they stood at a moment, and objects as they were written: what undo goes back to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from napari_sam.prompts import Prompts
from napari_sam.session.offers import Annotation, Offer, same_prompts

Write = Callable[[Sequence[Annotation]], Callable[[], None]]
"""Writes objects into labels and returns what takes them out again."""


@dataclass(eq=False)
class Moment:
    """Prompts as they stood.

    Parameters
    ----------
    place : hashable
        The plane that they stand on.
    prompts : tuple of Prompts
        One for each object.
    offers : tuple of Offer, optional
        What the prompts led to; None while it is being computed.
    restore : callable, optional
        Brings the prompts back into the layers.
    """

    place: Hashable = None
    prompts: tuple[Prompts, ...] = ()
    offers: tuple[Offer, ...] | None = ()
    restore: Callable[[], None] | None = None

    def says(self, prompts: Sequence[Prompts]) -> bool:
        """Whether these are the same prompts."""
        return len(prompts) == len(self.prompts) and all(map(same_prompts, prompts, self.prompts))


@dataclass(eq=False)
class Deed:
    """Objects written into labels, which can be taken out and written again."""

    write: Write
    objects: Sequence[Annotation]
    _revert: Callable[[], None] | None = field(default=None, init=False)

    def do(self) -> None:
        """Write the objects."""
        self._revert = self.write(self.objects)

    def undo(self) -> None:
        """Take the objects out again."""
        if self._revert is not None:
            self._revert()
            self._revert = None
