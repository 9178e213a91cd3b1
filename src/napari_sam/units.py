"""Finished pieces of a long computation on disk: planes of a stack, tiles of a plane.

Each piece is one file that is there as a whole or not at all, so that whatever interrupts the computation
costs the pieces that were being made and no other.
"""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pandas import DataFrame

LABELS = "labels"
COLUMN = "column_"
"""What the names of the table's columns begin with in a file."""


@dataclass(frozen=True, eq=False, slots=True)
class Unit:
    """Objects of one plane or tile.

    Parameters
    ----------
    labels : ndarray of int32, shape (H, W)
        Ids from 1; 0 is background.
    table : DataFrame
        One row an object, with its id in ``index``; numbers only.
    """

    labels: NDArray[np.int32]
    table: DataFrame


class UnitFolder:
    """Finished units in a folder, by number.

    Parameters
    ----------
    path : str or Path
        The folder; made when the first unit is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def file(self, number: int) -> Path:
        """Where a unit lies."""
        return self.path / f"{number // 1000:04d}" / f"{number:08d}.npz"

    def __contains__(self, number: int) -> bool:
        """Tell whether a unit is finished."""
        return self.file(number).is_file()

    def missing(self, count: int) -> list[int]:
        """Numbers below ``count`` that are not finished."""
        return [number for number in range(count) if number not in self]

    def write(self, number: int, unit: Unit) -> None:
        """Keep a finished unit.

        Raises
        ------
        OSError
            If the folder cannot be written or the disk is full; nothing is left behind then.
        """
        buffer = io.BytesIO()
        small = unit.labels.max(initial=0) < 2**16
        arrays: dict[str, Any] = {f"{COLUMN}{name}": unit.table[name].to_numpy() for name in unit.table}
        arrays[LABELS] = unit.labels.astype(np.uint16 if small else np.int32)
        np.savez_compressed(buffer, **arrays)
        file = self.file(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{uuid4().hex}")
        try:
            unfinished.write_bytes(buffer.getvalue())
            os.replace(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)

    def read(self, number: int) -> Unit | None:
        """Return a finished unit, or None if it is not there; a damaged one is deleted.

        One that the disk does not give now is kept, and counts as not there.
        """
        import pandas as pd

        file = self.file(number)
        try:
            stored = io.BytesIO(file.read_bytes())
        except OSError:
            return None
        try:
            with np.load(stored, allow_pickle=False) as arrays:
                columns = {n.removeprefix(COLUMN): arrays[n] for n in arrays.files if n != LABELS}
                return Unit(arrays[LABELS].astype(np.int32), pd.DataFrame(columns))
        except MemoryError:
            raise  # which says nothing about the file
        # All of it is decoding: bytes that are not those that were written may fail in any way.
        except Exception:  # noqa: BLE001
            file.unlink(missing_ok=True)
            return None

    def clear(self) -> None:
        """Delete all units, and what was being written when a run was killed."""
        shutil.rmtree(self.path, ignore_errors=True)
