"""Undo and redo of decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, eq=False, slots=True)
class Decision:
    """Something that was done and can be taken back.

    Parameters
    ----------
    what : str
        What was done, in a word or two, for the undo button.
    undo, redo : callable
        Take it back; do it again.
    lasting : bool
        Whether it can still be taken back on another plane: a commit can, a click cannot.
    """

    what: str
    undo: Callable[[], None]
    redo: Callable[[], None]
    lasting: bool = False


class NotNowError(Exception):
    """A decision that cannot be taken back, or made again, just now: the same may go well later."""


class History:
    """The decisions made so far, and those that were taken back.

    Parameters
    ----------
    limit : int
        The oldest decisions beyond this number are forgotten.
    """

    def __init__(self, limit: int = 200) -> None:
        self._limit = limit
        self._done: list[Decision] = []
        self._undone: list[Decision] = []

    @property
    def undoable(self) -> str | None:
        """What `undo` would take back; None if nothing."""
        return self._done[-1].what if self._done else None

    @property
    def redoable(self) -> str | None:
        """What `redo` would do again; None if nothing."""
        return self._undone[-1].what if self._undone else None

    def push(self, decision: Decision) -> None:
        """Note a decision that was made."""
        self._done = [*self._done, decision][-self._limit :]
        self._undone.clear()

    def undo(self) -> bool:
        """Take the last decision back; False if there is none."""
        return self._move(self._done, self._undone, lambda d: d.undo())

    def redo(self) -> bool:
        """Make the decision again that was taken back last; False if there is none."""
        return self._move(self._undone, self._done, lambda d: d.redo())

    def clear(self) -> None:
        """Forget all decisions."""
        self._done, self._undone = [], []

    def leave_plane(self) -> None:
        """Forget the decisions that make sense on the plane only."""
        self._done = [d for d in self._done if d.lasting]
        self._undone = [d for d in self._undone if d.lasting]

    @staticmethod
    def _move(source: list[Decision], target: list[Decision], act: Callable[[Decision], None]) -> bool:
        """Carry out the last decision of ``source`` and move it to ``target``."""
        if not source:
            return False
        decision = source.pop()
        # A decision that cannot be carried out any more (its layer is gone) does not come back.
        try:
            act(decision)
        except (OSError, NotNowError):  # a disk that is full or away is a passing reason too
            source.append(decision)
            raise
        target.append(decision)
        return True
