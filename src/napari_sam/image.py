"""Any plane of an image as the 8-bit RGB picture that the encoders expect."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
TINY, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""Between these single precision keeps all its digits."""


class ImageError(ValueError):
    """An image that cannot be used; the message says what was expected and what was found."""


class Contrast(NamedTuple):
    """Contrast window: ``low`` becomes black, ``high`` becomes white."""

    low: float
    high: float


BLACK = Contrast(0.0, 1.0)
"""Of a channel without a finite pixel, whose pixels all become black."""


def percentile_contrast(plane: NDArray[np.generic], low: float = 0.5, high: float = 99.8) -> Contrast:
    """Contrast window between two percentiles of a channel.

    Parameters
    ----------
    plane : ndarray, shape (H, W)
        One channel, any real dtype. Values that are not finite are left out.
    low, high : float
        Percentiles in [0, 100].

    Raises
    ------
    ImageError
        If no pixel is finite.
    """
    values = np.asarray(plane).ravel()
    # A strided sample is enough for percentiles and keeps large planes quick.
    values = values[:: max(1, values.size // 1_000_000)]
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise ImageError("The plane has no finite pixel value. Choose another plane or repair the image.")
    lo, hi = np.percentile(values.astype(np.float64), (low, high))
    return Contrast(float(lo), float(hi if hi > lo else max(values.max(), lo)))


def channel_contrasts(channels: Sequence[NDArray[np.generic]]) -> list[Contrast]:
    """`percentile_contrast` of each channel; one without values is black where another one has some.

    Parameters
    ----------
    channels : sequence of ndarray, any shapes

    Raises
    ------
    ImageError
        If no pixel of any channel is finite.
    """
    taken = [c.dtype.kind != "f" or bool(np.isfinite(c).any()) for c in channels]
    # If none has, the first one says so.
    return [
        percentile_contrast(c) if there or not any(taken) else BLACK
        for c, there in zip(channels, taken, strict=True)
    ]


def range_contrast(plane: NDArray[np.generic]) -> list[Contrast]:
    """Contrast window of each channel from its darkest to its brightest pixel.

    Parameters
    ----------
    plane : ndarray, shape (H, W) or (H, W, C)
        Any real dtype. Values that are not finite are left out.
    """
    channels = plane[..., None] if plane.ndim == 2 else plane
    flat = channels.reshape(-1, channels.shape[-1])
    limits = []
    for c in range(flat.shape[1]):
        finite = flat[:, c] if flat.dtype.kind != "f" else flat[np.isfinite(flat[:, c]), c]
        limits.append(Contrast(float(finite.min()), float(finite.max())) if finite.size else BLACK)
    return limits


def plane_to_rgb(
    plane: NDArray[np.generic],
    *,
    contrast: Contrast | Sequence[Contrast] | None = None,
    gamma: float = 1.0,
    channels: Sequence[int | None] | None = None,
) -> RGB:
    """Bring a plane to 8-bit RGB.

    Parameters
    ----------
    plane : ndarray, shape (H, W) or (H, W, C)
        Any real or boolean dtype. A colour picture (uint8 with three or four channels and no ``contrast``)
        is taken as it is, less its alpha and but for ``gamma``.
    contrast : Contrast or one per channel, optional
        What the person sees as black and white; percentiles of each channel if not given.
    gamma : float
        Exponent applied after the window, as napari displays it.
    channels : sequence of int or None, optional
        Which channel goes to red, green and blue; ``None`` leaves that colour black. By default one channel
        goes to all three, two to red and green, and the first three otherwise.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    ImageError
        If the array is not a plane, is empty, is complex, a channel does not exist, or a contrast window is
        the wrong way round; or, where nothing says which channels are meant, if it has so many that it
        rather is a stack, or has its channels first.
    """
    plane = np.asarray(plane)
    if not 0 < gamma < np.inf:
        raise ImageError(f"Expected a gamma above 0, found {gamma}.")
    if plane.ndim not in (2, 3) or 0 in plane.shape:
        raise ImageError(
            f"Expected one plane of shape (H, W) or (H, W, channels), found an array of shape {plane.shape}."
        )
    if plane.dtype.kind not in "buif":
        raise ImageError(f"Expected real pixel values, found dtype {plane.dtype}.")
    if channels is None and contrast is None:
        _refuse_stack(plane)
    stack = plane[..., None] if plane.ndim == 2 else plane
    picks = _default_channels(stack.shape[-1]) if channels is None else tuple(channels)
    wrong = [c for c in picks if c is not None and not (isinstance(c, Integral) and 0 <= c < stack.shape[-1])]
    if len(picks) != 3 or wrong:
        raise ImageError(
            f"Expected three channel numbers below {stack.shape[-1]} for red, green and blue, each a whole "
            f"number or None, found {picks}."
        )
    if contrast is None and stack.dtype == np.uint8 and stack.shape[-1] in (3, 4):
        windows: dict[int, Contrast] = dict.fromkeys(range(stack.shape[-1]), Contrast(0, 255))
    else:
        windows = _windows(stack, contrast, picks)
    if inverted := [tuple(w) for w in windows.values() if not w.low <= w.high]:
        raise ImageError(
            f"Expected a contrast window (low, high) with the dark end first, found {inverted[0]}. Exchange "
            "its ends, or leave contrast out."
        )
    out = np.zeros((*stack.shape[:2], 3), np.uint8)
    scaled: dict[int, NDArray[np.uint8]] = {}
    for colour, channel in enumerate(picks):
        if channel is None:
            continue
        if channel not in scaled:
            scaled[channel] = _to_uint8(stack[..., channel], windows[channel], gamma)
        out[..., colour] = scaled[channel]
    return out


def _refuse_stack(plane: NDArray[np.generic]) -> None:
    """Refuse an array whose last axis is longer than one of the others: these are hardly channels."""
    if plane.ndim == 3 and plane.shape[2] > max(4, min(plane.shape[:2])):
        raise ImageError(
            f"Expected a plane of shape (H, W) or (H, W, channels), found {plane.shape}. For a stack of "
            "planes use napari_sam.stack.segment_stack; where channels come first, "
            "numpy.moveaxis(plane, 0, -1); or say with channels= which are red, green and blue."
        )


def fingerprint(rgb: RGB) -> str:
    """Digest of a picture's pixels and shape, the same on every machine.

    It is taken after the contrast window, so that it changes with the pixels, the channels and the contrast,
    and with nothing else.
    """
    digest = hashlib.blake2b(repr(rgb.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def _default_channels(count: int) -> tuple[int | None, int | None, int | None]:
    """One channel to all three colours, two to red and green, else the first three."""
    return {1: (0, 0, 0), 2: (0, 1, None)}.get(count, (0, 1, 2))


def _windows(
    stack: NDArray[np.generic], contrast: Contrast | Sequence[Contrast] | None, picks: Sequence[int | None]
) -> dict[int, Contrast]:
    """Contrast window of every channel that is used."""
    used = sorted({c for c in picks if c is not None})
    if contrast is None:
        return dict(zip(used, channel_contrasts([stack[..., c] for c in used]), strict=True))
    if len(contrast) == 2 and np.ndim(contrast[0]) == 0:  # one window for all
        return dict.fromkeys(used, Contrast(*cast("tuple[float, float]", contrast)))
    if len(contrast) != stack.shape[-1]:
        raise ImageError(
            f"Expected one contrast window for each of {stack.shape[-1]} channels, found {len(contrast)}."
        )
    windows = cast("Sequence[tuple[float, float]]", contrast)
    return {c: Contrast(*windows[c]) for c in used}


def _to_uint8(channel: NDArray[np.generic], window: Contrast, gamma: float) -> NDArray[np.uint8]:
    """Apply window and gamma to one channel; values that are not finite become black."""
    if channel.dtype == np.uint8 and window == (0, 255) and gamma == 1.0:
        return channel.astype(np.uint8, copy=False)
    span = window.high - window.low
    unit = span if span > 0 else 1
    # What lies far beyond the window becomes infinite on the way.
    with np.errstate(over="ignore", invalid="ignore"):
        if _is_single_enough(channel.dtype, window):
            values = channel.astype(np.float32) - np.float32(window.low)
            values /= np.float32(unit)
        else:
            values = ((channel.astype(np.float64) - window.low) / unit).astype(np.float32)
    values = np.clip(np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
    if gamma != 1.0:
        values **= np.float32(gamma)
    return np.asarray(values * 255 + 0.5, dtype=np.uint8)


def _is_single_enough(dtype: np.dtype[np.generic], window: Contrast) -> bool:
    """Whether single precision, which is quick, tells the greys of a window apart."""
    span, largest = window.high - window.low, max(abs(window.low), abs(window.high))
    if largest > LARGEST or span > LARGEST or 0 < span < TINY:
        return False
    # Far from zero it cannot where the window is narrow, but the pixels may have no more digits themselves.
    narrow = 0 < span < 1024 * np.spacing(np.float32(largest))
    return dtype.itemsize < 4 or dtype == np.float32 or not narrow
