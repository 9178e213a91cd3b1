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
