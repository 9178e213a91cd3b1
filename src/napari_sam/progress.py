"""Long work as a generator of progress, with one way to run it to its end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long computation is.

    Parameters
    ----------
    done, total : int
        Finished and expected steps.
    message : str
        What is being done, in a few words.
    """

    done: int
    total: int
    message: str = ""


SILENT = Progress(0, 0)
"""A step of which there is nothing to show."""


@dataclass(frozen=True, slots=True)
class Notice(Progress):
    """A step whose message a person is to be told also where no progress is shown."""


Steps = Generator[Progress, None, Result]
"""A long computation: yields `Progress`, returns its result. Closing it cancels the work."""


def finish(steps: Steps[Result], report: Callable[[Progress], None] | None = None) -> Result:
    """Run a long computation to its end.

    Parameters
    ----------
    steps : generator
        Yields `Progress` and returns the result.
    report : callable, optional
        Called with every `Progress`.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if report is not None:
            report(step)


def time_left(elapsed: float, done: int, remaining: int) -> str:
    """Say how long the rest will take at the pace so far, or nothing as long as there is no pace.

    Parameters
    ----------
    elapsed : float
        Seconds that the finished steps took.
    done, remaining : int
        Finished steps, and those to come.

    Examples
    --------
    >>> time_left(30, 10, 50)
    ', 2 min 30 s left'
    """
    if not done or not remaining:
        return ""
    minutes, seconds = divmod(round(elapsed / done * remaining), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f", {hours} h {minutes} min left"
    return f", {minutes} min {seconds} s left" if minutes else f", {seconds} s left"
