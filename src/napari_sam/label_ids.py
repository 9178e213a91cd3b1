"""Ids of label images: whole numbers, 0 is background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class LabelError(ValueError):
    """An array that is no label image; the message says what was expected and what was found."""


def whole(plane: NDArray[Any]) -> NDArray[np.integer]:
    """Return labels as integers of 0 and above.

    Parameters
    ----------
    plane : ndarray of bool, int or float, any shape
        ImageJ keeps more than 65,535 ids as float32.

    Raises
    ------
    LabelError
        If an id is negative or no whole number.
    """
    if plane.dtype.kind == "b":
        return plane.astype(np.uint8)
    if plane.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            as_integers = plane.astype(np.int64)
        if not np.array_equal(as_integers, plane):
            raise LabelError("Expected whole numbers as labels, found fractions: is this an image?")
        plane = as_integers
    if plane.dtype.kind not in "iu":
        raise LabelError(f"Expected whole numbers as labels, found dtype {plane.dtype}.")
    if plane.dtype.kind == "i" and plane.size and plane.min() < 0:
        raise LabelError(f"Expected labels of 0 and above, found {plane.min()}.")
    return plane


def numbered_anew(planes: Sequence[NDArray[np.integer]]) -> list[NDArray[np.int32]]:
    """Give the objects of label images ids from 1 on, in the order of those they have.

    Whatever counts by id needs memory for the highest one, which may be anything in a file.

    Parameters
    ----------
    planes : sequence of ndarray of int, any shapes
        An id is the same object in all of them.

    Returns
    -------
    list of ndarray of int32
    """
    ids = [np.unique(plane) for plane in planes]
    known = np.union1d(np.zeros(1, np.uint64), np.concatenate(ids).astype(np.uint64)) if ids else ids
    return [np.searchsorted(known, plane.astype(np.uint64)).astype(np.int32) for plane in planes]
