"""Ranges of settings: what cannot be is refused where it is written, not where it goes wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

__all__ = ["ANY", "SHARE", "SOME", "check_ranges", "most_at_once"]

SHARE = (0, 1)
ANY, SOME = (0, math.inf), (1, math.inf)
PER_CORE, FEW = 4, 64
"""Threads or processes for each core, and how many are let pass however few cores there are."""


def most_at_once() -> int:
    """How many threads or processes make sense here; with far more the system ends the program."""
    return max(FEW, PER_CORE * (os.cpu_count() or 1))


def check_ranges(settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse numbers that lie outside their range, or are none.

    Parameters
    ----------
    settings : object
        With the numbers as attributes.
    ranges : mapping of str to (lowest, highest)

    Raises
    ------
    ValueError
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high or math.isinf(value):
            words = f"between {low} and {high}" if math.isfinite(high) else f"of {low} or more"
            raise ValueError(f"Expected {name} {words}, found {value}.")
