"""Label images as the calibrated TIFF stacks that ImageJ and Fiji open by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam.axes import METRES, SECONDS, Axes, unit_symbol
from napari_sam.export.atomic import replacing
from napari_sam.export.labelled import Labelled
from napari_sam.export.ome_tiff import write as write_ome

# TIFF counts bytes in 32 bits; the rest is room for what stands around the pixels.
CLASSIC_BYTES = 2**32 - 2**25
EXACT_IN_FLOAT32 = 2**24
WIDEST = 4e9
"""So large and, inverted, so small a size may be: TIFF has fractions of whole numbers of 32 bits."""


def write(labelled: Labelled, path: Path) -> None:
    """Write an ImageJ hyperstack; what ImageJ cannot hold becomes an OME-TIFF, which Fiji opens too.

    ImageJ knows unsigned pixels of 8 and 16 bits and floats of 32 bits, nothing else. Ids up to 255 are
    written in 8 bits, up to 65,535 in 16 bits and above as float32, in which whole numbers are exact up to
    2 ** 24. More ids than that, more than 4 GB, or pixels of a size for which there is no unit, are beyond
    ImageJ's TIFF.
    """
    dtype = imagej_dtype(labelled.top)
    pixels = int(np.prod(labelled.shape))
    known = labelled.axes.in_one_unit()
    sized = None if known is None else next(filter(_fits, _in_units(known)), None)
    if dtype is None or pixels * dtype.itemsize > CLASSIC_BYTES or (sized is None and known is not None):
        write_ome(labelled, path)
        return
    y, x = (1.0, 1.0) if sized is None else sized.spacing[-2:]
    with replacing(path) as beside:
        tifffile.imwrite(
            beside,
            (plane.labels.astype(dtype) for plane in labelled.planes()),
            shape=labelled.shape,
            dtype=dtype,
            imagej=True,
            resolution=(1 / x, 1 / y),
            resolutionunit="NONE",
            metadata=_metadata(labelled, sized),
        )


def imagej_dtype(top: int) -> np.dtype[Any] | None:
    """Pixel type in which ImageJ holds ids up to ``top``, or None if there is none."""
    if top <= 255:
        return np.dtype(np.uint8)
    if top <= 65535:
        return np.dtype(np.uint16)
    return np.dtype(np.float32) if top <= EXACT_IN_FLOAT32 else None


def _fits(sized: Axes) -> bool:
    """Whether the sizes of Y and X can be written as the resolution of a TIFF."""
    return all(1 / WIDEST <= size <= WIDEST for size in sized.spacing[-2:])


def _in_units(sized: Axes) -> Iterator[Axes]:
    """Give sizes in the unit that they have, then in the others, first that in which X is nearest to 1."""
    yield sized
    own = METRES.get(sized.units[-1])
    if own is None:
        return
    nearest = sorted(METRES, key=lambda unit: abs(log(sized.spacing[-1]) + log(own / METRES[unit])))
    for unit in nearest:
        sizes = tuple(size * (own / METRES[unit]) for size in sized.spacing)
        yield Axes(sized.names, sizes, (unit,) * len(sizes))


def _metadata(labelled: Labelled, sized: Axes | None) -> dict[str, Any]:
    """Fields of ImageJ's description, for sizes of space in one unit."""
    axes = labelled.axes
    fields: dict[str, Any] = {
        "axes": axes.names,
        "min": 0.0,
        "max": float(max(labelled.top, 1)),
        "LUTs": [label_colours()],
    }
    if sized is not None:
        unit = sized.units[-1]
        # ImageJ writes a µ as its own name of the unit.
        fields["unit"] = "micron" if unit == "micrometer" else _ascii(unit_symbol(unit))
        if "Z" in sized.names:
            fields["spacing"] = sized.of("Z")[0]
        elif "Z" in axes.names:
            # Without a word of it, the step would be one of the unit of Y and X.
            fields["zunit"] = "pixel"
    interval, time_unit = axes.of("T")
    if time_unit in SECONDS:
        fields["finterval"] = interval * SECONDS[time_unit]
    return fields


def _ascii(text: str) -> str:
    """Write what is no ASCII as ImageJ does, which reads it back: a description holds nothing else."""
    return "".join(c if " " <= c <= "~" and c != "\\" else f"\\u{min(ord(c), 0xFFFD):04X}" for c in text)


def label_colours() -> NDArray[np.uint8]:
    """Colours by which neighbouring ids are told apart, shape (3, 256); 0 is black."""
    import colorsys

    # Steps of the golden ratio around the colour wheel never come close to each other soon.
    hues = (np.arange(256) * 0.61803398875) % 1
    values = 0.65 + 0.35 * ((np.arange(256) * 0.381966) % 1)
    colours = [colorsys.hsv_to_rgb(h, 0.75, v) for h, v in zip(hues, values, strict=True)]
    table = np.array(colours).T * 255
    table[:, 0] = 0
    return np.ascontiguousarray(table.round().astype(np.uint8))
