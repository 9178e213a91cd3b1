"""The built-in encoder for inference: the same network in fewer, larger steps.

Each normalisation is folded into its convolution, and what is added behind it and the rectifier
are computed while the result is still in the cache. On processors with instructions for products
of 8-bit numbers (VNNI, AMX) the steps hand on 8-bit numbers, whose ranges are read off once, from
drawn cells (for the weights in the package they are kept beside them). Elsewhere the arithmetic is
that of the network as it was trained.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.resources import files
from typing import NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .builtin import BuiltIn
from .builtin_encoder import Encoder, Features
from .conv import convolve
from .eight_bit import EightBit, Range, has_eight_bits
from .precision import choose_dtype, keep_heap, one_thread

__all__ = ["QuickEncoder", "Ranges", "exact", "kept_ranges", "optimise_builtin", "ranges_on_drawn_cells"]

TRIAL = 512
"""Side of the smallest picture that tells how many threads are quickest."""
ROUNDS = 3
"""Pictures that are encoded each way before it is settled: the first one lays weights out, and the processor
may be busy with something else for a while."""
CALIBRATION = "calibration.png"
"""Drawn cells of every kind, from which ranges are read; beside the weights."""
RANGES = "ranges.json"
"""The ranges with the weights in the package, written by ``scripts/ranges.py``; beside them."""


class Ranges(NamedTuple):
    """What the numbers of a step span: those given, those added and the result."""

    source: Range
    plus: Range | None
    out: Range


def optimise_builtin(
    model: BuiltIn,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    ranges: Mapping[str, Ranges] | None = None,
) -> BuiltIn:
    """Prepare the built-in model for inference, in place; it can no longer be trained or saved.

    Parameters
    ----------
    model : BuiltIn
    device : torch.device or str
    precision : {"auto", "fp32", "bf16"}
        "auto" encodes with 8-bit numbers where the processor is built for them: on real images the
        masks' mean IoU with those of fp32 is 0.99 or more. Otherwise the answers are those of the model as
        it was trained, up to rounding.
    ranges : mapping, optional
        `ranges_on_drawn_cells` of this model, where they are known.

    Returns
    -------
    BuiltIn
        The same object.
    """
    device = torch.device(device)
    choose_dtype(precision, device)  # refuses other names
    model.eval().requires_grad_(False).to(device)
    if device.type == "cpu":
        keep_heap()
    if isinstance(model.encoder, Encoder):
        model.encoder = quick = QuickEncoder(model.encoder)
        if precision == "auto" and device.type == "cpu" and has_eight_bits():
            quick.to_eight_bits(ranges_on_drawn_cells(model) if ranges is None else ranges)
    return model


@torch.inference_mode()
def ranges_on_drawn_cells(model: BuiltIn) -> dict[str, Ranges]:
    """Ranges of the steps of a model whose encoder is a `QuickEncoder` in single precision."""
    return cast("QuickEncoder", model.encoder).ranges(model.normalise(calibration_pictures()))


def kept_ranges(weights: str) -> dict[str, Ranges] | None:
    """Ranges with the weights in the package, if ``weights`` is the fingerprint of their file.

    To read them anew takes a tenth of a second.
    """
    kept = json.loads((files("napari_sam") / "weights" / RANGES).read_text())
    if kept["weights"] != weights:
        return None
    return {
        name: Ranges(*(None if ends is None else Range(*ends) for ends in parts))  # type: ignore[arg-type]
        for name, parts in kept["ranges"].items()
    }


def exact(model: BuiltIn) -> BuiltIn:
    """Return the model without 8-bit numbers; the two share their weights."""
    memo: dict[int, object] = {id(x): x for x in (*model.parameters(), *model.buffers())}
    memo |= {id(step.eight): None for step in model.modules() if isinstance(step, Step)}
    copied = copy.deepcopy(model, memo)
    if isinstance(copied.encoder, QuickEncoder):
        copied.encoder.alone = False  # as before `to_eight_bits`
    return copied


def calibration_pictures() -> Tensor:
    """Drawn cells of every kind, (B, 3, 128, 128), grey, 0 to 255."""
    with (files("napari_sam") / "weights" / CALIBRATION).open("rb") as file:
        strip = torch.from_numpy(np.array(Image.open(file)))
    side = strip.shape[0]
    grey = strip.unflatten(1, (-1, side)).transpose(0, 1)[:, None]
    return grey.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class Step(nn.Module):
    """A convolution, a sum and a rectifier at once.

    Parameters
    ----------
    conv : Conv2d
    norm : BatchNorm2d, optional
        Folded into the convolution.
    relu : bool
        Whether negative results become zero.
    """

    def __init__(self, conv: nn.Module, norm: nn.Module | None = None, *, relu: bool = False) -> None:
        super().__init__()
        conv = cast("nn.Conv2d", conv)
        self.conv = fuse_conv_bn_eval(conv, cast("nn.BatchNorm2d", norm)) if norm is not None else conv
        self.conv.weight.data = self.conv.weight.contiguous(memory_format=torch.channels_last)
        self.relu = relu
        self.eight: EightBit | None = None

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """Map x (B, C, H, W), add ``plus``, which may be overwritten, and rectify."""
        if self.eight is not None:
            return self.eight(x, plus)
        return convolve(x, self.conv, plus=plus, relu=self.relu)


class QuickEncoder(nn.Module):
    """The built-in encoder for inference.

    Parameters
    ----------
    encoder : Encoder
        In evaluation mode. It shares its weights, where they are not folded.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.alone: bool | None = False
        """Whether one thread does all; None until it is known."""
        self._seconds: tuple[list[float], list[float]] = ([], [])
        """Time for a pixel with several threads, and with one."""
        self.stem = _step(encoder.stem)
        self.stages = nn.ModuleList()
        for stage in encoder.stages:
            first, *residuals = cast("nn.Sequential", stage)
            steps = [_step(first)]
            for block in residuals:
                parts = dict(block.named_children())
                steps += [_step(parts["first"]), Step(parts["second"], parts["norm"], relu=True)]
            self.stages.append(nn.ModuleList(steps))
        self.top, self.lateral16 = Step(encoder.top), Step(encoder.lateral16, relu=True)
        self.embed = Step(*encoder.embed)
        self.down8, self.lateral8 = Step(encoder.down8), Step(encoder.lateral8, relu=True)
        self.mix8 = _step(encoder.mix8)
        self.down4, self.lateral4 = Step(encoder.down4), Step(encoder.lateral4, relu=True)
        self.mix4 = _step(encoder.mix4)
        self.skip8, self.skip4 = Step(encoder.skip8), Step(encoder.skip4)
        hidden, last = encoder.dense
        self.dense = nn.Sequential(_step(hidden), Step(last))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised planes -> `Features`; H and W are multiples of 32."""
        if self.alone is None and min(x.shape[-2:]) >= TRIAL and torch.get_num_threads() > 1:
            return self._on_trial(x)
        # A smaller picture needs one only.
        with nullcontext() if self.alone is False else one_thread():
            return self._maps(x)

    def _on_trial(self, x: Tensor) -> Features:
        """Encode with several threads or with one, in turn, until it is known which is quicker.

        On some processors the 8-bit operators are made for one. The results are the same: they are sums of
        whole numbers.
        """
        several, one = self._seconds
        alone = len(one) < len(several)
        start = time.perf_counter()
        with one_thread() if alone else nullcontext():
            maps = self._maps(x)
        self._seconds[alone].append((time.perf_counter() - start) / x.numel())
        if len(one) == ROUNDS:
            self.alone = min(one) < min(several)
        return maps

    def _maps(self, x: Tensor) -> Features:
        x = self.stem(x)
        seen = []
        for stage in self.stages:
            down, *rest = cast("nn.ModuleList", stage)
            x = down(x)
            for first, second in zip(rest[::2], rest[1::2], strict=True):
                x = second(first(x), plus=x)
            seen.append(x)
        x4, x8, x16, x32 = seen
        embedding = self.embed(self.lateral16(x16, plus=double(self.top(x32))))
        fine8 = self.mix8(self.lateral8(x8, plus=double(self.down8(embedding))))
        fine4 = self.mix4(self.lateral4(x4, plus=double(self.down4(fine8))))
        return Features(embedding, self.skip8(fine8), self.skip4(fine4), self.dense(fine4))

    def _eight_bit_steps(self) -> dict[str, Step]:
        """Steps that may compute with 8-bit numbers, by their names."""
        # The first convolution is small, and rounding the pixels of a dark picture is the largest error.
        steps = {name: step for name, step in self.named_modules() if isinstance(step, Step)}
        return {name: step for name, step in steps.items() if step is not self.stem}

    def ranges(self, pictures: Tensor) -> dict[str, Ranges]:
        """What the numbers of each step span on normalised planes (B, 3, H, W)."""
        found: dict[str, Ranges] = {}

        def noting(name: str) -> Callable[..., None]:
            def note(_: nn.Module, given: tuple[Tensor, ...], more: dict[str, Tensor], out: Tensor) -> None:
                plus = Range.of(more["plus"]) if "plus" in more else None
                found[name] = Ranges(Range.of(given[0]), plus, Range.of(out))

            return note

        steps = self._eight_bit_steps().items()
        hooks = [step.register_forward_hook(noting(name), with_kwargs=True) for name, step in steps]
        self(pictures)
        for hook in hooks:
            hook.remove()
        return found

    def to_eight_bits(self, ranges: Mapping[str, Ranges]) -> None:
        """Compute with 8-bit numbers of these ranges, by the names of the steps, from now on."""
        exact = {self.embed, self.skip8, self.skip4, self.dense[1]}
        for name, step in self._eight_bit_steps().items():
            source, plus, out = ranges[name]
            step.eight = EightBit(step.conv, source, None if step in exact else out, plus, relu=step.relu)
        self.alone = None


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour doubling."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _step(block: nn.Module) -> Step:
    """Return convolution, normalisation and rectifier as one."""
    conv, norm, _ = cast("nn.Sequential", block)
    return Step(conv, norm, relu=True)
