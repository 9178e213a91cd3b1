"""Convolutions of 8-bit numbers, for processors with instructions for them.

A number stands for ``(whole - zero) * scale``; every result has a fixed range, and what lies
outside is clipped. Weights have one scale for each output channel.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .precision import capabilities

LEVELS = 255
SIZES = 4
"""Sizes of planes for which a convolution's packed weights are kept."""


class Range(NamedTuple):
    """Least and greatest number that eight bits have to tell."""

    low: float
    high: float

    @classmethod
    def of(cls, x: Tensor) -> Range:
        """Range of a tensor."""
        low, high = x.aminmax()
        return cls(min(float(low), 0.0), float(high))

    @property
    def scale(self) -> float:
        """Difference between neighbouring numbers."""
        reach = self.high if self.low >= 0 else 2 * max(-self.low, self.high)
        return max(reach, 1e-12) / LEVELS

    @property
    def zero(self) -> int:
        """The whole number that stands for 0."""
        return 0 if self.low >= 0 else 128


def quantise(x: Tensor, range_: Range) -> Tensor:
    """Express x, of any shape, in eight bits (uint8)."""
    half = x.new_tensor(range_.zero + 0.5)  # the conversion cuts off: with a half added it rounds
    return torch.add(half, x, alpha=1 / range_.scale).clamp_(0, LEVELS + 0.5).to(torch.uint8)


class EightBit:
    """A convolution of 8-bit numbers with what follows it.

    Parameters
    ----------
    conv : Conv2d
        In float32.
    source : Range
        Of the input.
    out : Range or None
        Of the result; it stays float32 if not given.
    plus : Range, optional
        Of what is added.
    relu : bool
        Whether negative results become zero.
    """

    def __init__(
        self, conv: nn.Conv2d, source: Range, out: Range | None, plus: Range | None = None, *, relu: bool
    ) -> None:
        weight = conv.weight.detach()
        self.source, self.out, self.plus = source, out, plus
        self.bias, self.relu = conv.bias, relu
        self.scales = (weight.abs().amax((1, 2, 3)) / 127).clamp(min=1e-12)
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.whole = (weight / self.scales[:, None, None, None]).round().to(torch.int8).contiguous()
        self.geometry = [list(conv.stride), [int(p) for p in conv.padding], list(conv.dilation), conv.groups]
        self.packed = lru_cache(SIZES)(self._pack)

    def _pack(self, shape: tuple[int, ...], threads: int) -> Tensor:
        """Return the weights in the layout that inputs of a shape want in so many threads.

        The library would bring weights in another layout to this one at every call, which takes several
        times as long as the convolution itself; packing them takes a fraction of it.
        """
        packed: Tensor = torch.ops.onednn.qconv_prepack(
            self.whole, self.scales, self.source.scale, self.source.zero, *self.geometry, list(shape)
        )
        return packed

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """Map x (B, C, H, W), uint8 or float32; ``plus``, uint8, is overwritten by the result."""
        if x.dtype == torch.float32:
            x = quantise(x, self.source)
        scale, zero, dtype = (1.0, 0, torch.float32) if self.out is None else (*self.steps, torch.uint8)
        weight = self.packed(tuple(x.shape), torch.get_num_threads())
        start = (x, self.source.scale, self.source.zero, weight, self.scales, self.zeros)
        end = (self.bias, *self.geometry, scale, zero, dtype)
        if plus is None:
            return torch.ops.onednn.qconv2d_pointwise(*start, *end, "relu" if self.relu else "none", [], "")
        assert self.plus is not None
        return torch.ops.onednn.qconv2d_pointwise.binary(
            *start, plus, *end, self.plus.scale, self.plus.zero, "sum", 1.0,
            "relu" if self.relu else "none", [], "",
        )  # fmt: skip

    @property
    def steps(self) -> tuple[float, int]:
        """Scale and zero of the result."""
        assert self.out is not None
        return self.out.scale, self.out.zero


@cache
def has_eight_bits() -> bool:
    """Whether this processor multiplies 8-bit numbers in hardware, and torch lets it.

    The operators are no documented part of torch, so they are tried once.
    """
    known = capabilities()
    if not (known.get("avx512_vnni") or known.get("avx_vnni") or known.get("amx_int8")):
        return False
    conv = nn.Conv2d(16, 16, 3, padding=1)
    x = torch.rand(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            expected = F.relu(conv(x) + x)
            unit = Range(0.0, 1.0)
            step = EightBit(conv, unit, Range.of(expected), unit, relu=True)
            found = step(x, quantise(x, unit)).float() * step.steps[0]
            plain = EightBit(conv, unit, None, relu=False)(x)
            return torch.allclose(found, expected, atol=0.05) and torch.allclose(plain, conv(x), atol=0.05)
    except (AttributeError, RuntimeError):
        return False
