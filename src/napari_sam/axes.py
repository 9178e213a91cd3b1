"""What the axes of an array are: their letters, the distance between pixels, and its unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

SPACE = "ZYX"
ORDER = "TZCYX"
"""Letters that an axis may have, in the order in which ImageJ keeps a hyperstack."""

_DEFAULT_NAMES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX"}

METRES = {
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
    "inch": 0.0254,
}
"""Units of length and how many metres each is."""

SECONDS = {"microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}
"""Units of time and how many seconds each is."""

_SYMBOLS = {
    "angstrom": "Å",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "inch": "in",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "pixel": "px",
}
_ALIASES = {
    "": "pixel",
    "pixels": "pixel",
    "voxel": "pixel",
    "voxels": "pixel",
    "dimensionless": "pixel",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "a": "angstrom",
    '"': "inch",
    "sec": "second",
    "hr": "hour",
    **{symbol.lower(): name for name, symbol in _SYMBOLS.items()},
}


class AxesError(ValueError):
    """Axes, pixel sizes or units that do not fit; the message says what was expected and found."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Axes of an array.

    Parameters
    ----------
    names : str
        One letter an axis out of T, Z, C, Y, X, in the array's order; the last two are Y and X.
    spacing : tuple of float
        Distance between neighbouring pixels along each axis, in ``units``.
    units : tuple of str
        Full names such as ``"micrometer"`` or ``"second"``; ``"pixel"`` where there is no calibration.
    """

    names: str
    spacing: tuple[float, ...]
    units: tuple[str, ...]

    @property
    def space(self) -> str:
        """Letters of the axes of space: ``"YX"`` or ``"ZYX"``."""
        return "".join(n for n in self.names if n in SPACE)

    def of(self, letter: str) -> tuple[float, str]:
        """Spacing and unit of one axis; ``(1.0, "pixel")`` where it does not exist."""
        if letter not in self.names:
            return 1.0, "pixel"
        i = self.names.index(letter)
        return self.spacing[i], self.units[i]

    def pick(self, letters: str) -> Axes:
        """Return the axes named by ``letters``, in that order."""
        at = [self.names.index(n) for n in letters]
        return Axes(letters, tuple(self.spacing[i] for i in at), tuple(self.units[i] for i in at))

    def resized(self, spacing: float | Sequence[float] | None = None, units: Any = None) -> Axes:
        """Return the axes with another spacing or other units; one alone is that of the axes of space.

        Raises
        ------
        AxesError
            If the numbers do not fit the axes.

        Examples
        --------
        >>> Axes("TYX", (5, 1, 1), ("second", "pixel", "pixel")).resized(0.5, "um")
        Axes(names='TYX', spacing=(5, 0.5, 0.5), units=('second', 'micrometer', 'micrometer'))
        """
        given = make_axes(len(self.names), self.names, spacing, units)

        def chosen(new: tuple[Any, ...], old: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
            each = isinstance(value, Sequence) and not isinstance(value, str)
            changed = "" if value is None else self.names if each else self.space
            return tuple(
                n if letter in changed else o for letter, n, o in zip(self.names, new, old, strict=True)
            )

        return Axes(
            self.names,
            chosen(given.spacing, self.spacing, spacing),
            chosen(given.units, self.units, units),
        )

    def pixel_size(self) -> tuple[tuple[float, ...], str]:
        """Return the spacing of the axes of space in one common unit, that of X.

        Where only some axes have a unit, all sizes stay as they are.

        Raises
        ------
        AxesError
            If the units cannot be brought to one.
        """
        space = self.pick(self.space)
        unit = space.units[-1]
        if len(set(space.units)) == 1 or "pixel" in space.units:
            return space.spacing, unit
        if any(u not in METRES for u in space.units):
            raise AxesError(
                f"Expected pixel sizes in units of length, found {', '.join(space.units)} for "
                f"{', '.join(space.names)}. Give all axes the same unit."
            )
        sizes = zip(space.spacing, space.units, strict=True)
        return tuple(s * (METRES[u] / METRES[unit]) for s, u in sizes), unit

    def in_one_unit(self) -> Axes | None:
        """Return the axes of space with sizes that can be compared: all of them, else Y and X.

        A stack of which only the pixel size within the plane is known is common: its Z says nothing then.

        Returns
        -------
        Axes, optional
            All in the unit of X; None where nothing is known of Y and X, or they cannot be compared.
        """
        for letters in dict.fromkeys((self.space, "YX")):
            picked = self.pick(letters)
            units = set(picked.units)
            if picked.calibrated and (len(units) == 1 or units <= METRES.keys()):
                sizes, unit = picked.pixel_size()
                return Axes(letters, sizes, (unit,) * len(letters))
        return None

    @property
    def calibrated(self) -> bool:
        """Whether anything is known of the pixel size."""
        space = self.pick(self.space)
        return any(s != 1 for s in space.spacing) or any(u != "pixel" for u in space.units)


def unit_name(unit: Any) -> str:
    """Full name of a unit given as a name, a symbol or a pint unit; unknown names stay as they are.

    Examples
    --------
    >>> unit_name("µm"), unit_name("microns"), unit_name("s"), unit_name("furlong")
    ('micrometer', 'micrometer', 'second', 'furlong')
    """
    text = "" if unit is None else str(unit).strip().replace("\u03bc", "µ").replace("\\u00B5", "µ")
    key = re.sub(r"metre(s?)$", r"meter\1", text.lower())
    key = _ALIASES.get(key, key)
    known = METRES.keys() | SECONDS.keys() | {"pixel"}
    if key in known:
        return key
    return key[:-1] if key.endswith("s") and key[:-1] in known else text


def unit_symbol(unit: str) -> str:
    """Symbol of a unit: ``"µm"`` for ``"micrometer"``."""
    return _SYMBOLS.get(unit, unit)


def make_axes(
    ndim: int,
    names: str | None = None,
    spacing: float | Sequence[float] | None = None,
    units: Any = None,
) -> Axes:
    """Complete what is known of an array's axes.

    Parameters
    ----------
    ndim : int
        Number of axes.
    names : str, optional
        A letter an axis; by default YX, ZYX, TZYX or TZCYX.
    spacing : float or sequence of float, optional
        One number for all axes of space, or one for each axis. 1 by default.
    units : str or sequence of str, optional
        One unit for all axes of space, or one for each axis. Pixels by default.

    Raises
    ------
    AxesError
        If the numbers do not fit together.

    Examples
    --------
    >>> make_axes(3, "TYX", 0.5, "µm")
    Axes(names='TYX', spacing=(1.0, 0.5, 0.5), units=('pixel', 'micrometer', 'micrometer'))
    """
    if names is None:
        if ndim not in _DEFAULT_NAMES:
            raise AxesError(f"Expected an array with 2 to 5 axes, found {ndim}.")
        names = _DEFAULT_NAMES[ndim]
    names = names.upper()
    if len(names) != ndim or len(set(names)) != ndim or set(names) - set(ORDER) or names[-2:] != "YX":
        raise AxesError(
            f"Expected {ndim} different axes out of T, Z, C, Y, X with Y and X last, found {names!r}."
        )
    return Axes(names, _numbers(names, spacing), _unit_names(names, units))


def _numbers(names: str, spacing: float | Sequence[float] | None) -> tuple[float, ...]:
    """Spacing of every axis."""
    # A number of NumPy is one, too.
    if spacing is None or isinstance(spacing, (int, float, Real)):
        one = 1.0 if spacing is None else float(spacing)
        found = tuple(one if n in SPACE else 1.0 for n in names)
    else:
        found = tuple(float(s) for s in spacing)
    if len(found) != len(names) or not all(isfinite(s) and s > 0 for s in found):
        raise AxesError(
            f"Expected one pixel size above 0 for each of the axes {', '.join(names)}, found {spacing}."
        )
    return found


def _unit_names(names: str, units: Any) -> tuple[str, ...]:
    """Unit of every axis."""
    if isinstance(units, Sequence) and not isinstance(units, str):
        if len(units) != len(names):
            raise AxesError(f"Expected one unit for each of the axes {', '.join(names)}, found {units}.")
        return tuple(unit_name(u) for u in units)
    one = unit_name(units)
    return tuple(one if n in SPACE else "pixel" for n in names)


def voxel_volume(spacing: Sequence[float], units: Sequence[Any]) -> tuple[float, str] | None:
    """Volume of a voxel in the cube of the last axis' unit, and that unit; None if an axis is no length.

    Examples
    --------
    >>> volume, unit = voxel_volume((2, 500, 0.5), ("µm", "nm", "µm"))
    >>> round(volume, 6), unit
    (0.5, 'micrometer')
    """
    names = [unit_name(unit) for unit in units]
    if not names or any(name not in METRES for name in names):
        return None
    volume = 1.0
    for step, name in zip(spacing, names, strict=True):
        volume *= abs(step) * METRES[name] / METRES[names[-1]]
    return volume, names[-1]


def movie_axes(ndim: int, scale: Sequence[float] | None = None, units: Any = None) -> Axes:
    """Axes of labels or tracks of a movie: time first, whatever the axes were called, then (Z,) Y and X.

    Raises
    ------
    AxesError
        If there are other than three or four axes.
    """
    if ndim not in (3, 4):
        raise AxesError(
            f"Expected a movie with the axes time, (Z,) Y and X, found {ndim} axes. "
            "Choose labels of one channel with time as their first axis."
        )
    sizes = None if scale is None else [abs(float(step)) for step in scale]
    return make_axes(ndim, "TYX" if ndim == 3 else "TZYX", sizes, units)
