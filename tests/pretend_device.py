"""A GPU that is not there: tensors that say they lie on it, and are computed on the processor.

What a real one refuses is refused: operations on tensors of two devices, ``numpy()`` without ``cpu()``,
double precision, which Apple's GPUs do not have, and antialiased resizing of whole numbers, which no GPU
has. So the code for GPUs is run where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pretended"
aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default, aten.to.other, aten.to.device}
"""Operations between two devices that a GPU allows."""
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations that take indices from the processor."""


class PretendTensor(torch.Tensor):
    """A tensor on the pretended device; ``inner`` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> PretendTensor:
        """Wrap a tensor of the processor."""
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=device,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self) -> str:
        """Say what it is."""
        return f"PretendTensor({self.inner!r})"

    def numpy(self, *_: Any, **__: Any) -> Any:
        """Refuse, as a GPU's tensor does."""
        raise TypeError(f"can't convert {self.device} tensor to numpy; use Tensor.cpu() first")

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Work only while the device is pretended."""
        raise RuntimeError(f"{func} after the pretended device was taken away")


def inner(value: Any) -> Any:
    """What a tensor of the pretended device is made of; the processor for a device; all else as it is."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.inner if isinstance(value, PretendTensor) else value


class _Pretend(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device(NAME, 0)
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._has_compatible_shallow_copy_type.default:
            return False
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there = [t for t in tensors if isinstance(t, PretendTensor)]
        here = [t for t in tensors if not isinstance(t, PretendTensor) and t.dim()]
        if there and here and func not in MOVES:
            allowed = func in INDEXED and isinstance(args[0], PretendTensor)
            if not allowed:
                raise RuntimeError(f"{func}: found tensors on two devices, {self.device} and cpu")
        resizes = func.overloadpacket is aten._upsample_bilinear2d_aa
        if resizes and there and not there[0].is_floating_point():
            raise NotImplementedError(f"{func} not implemented for {there[0].dtype} on a GPU")
        goals = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.device)]
        stays = goals[0].type == self.device.type if goals else bool(there)
        found = func(*tree_map(inner, args), **tree_map(inner, kwargs))
        if func._schema.is_mutable:
            changed = [t for t in tensors if any(inner(t) is f for f in tree_leaves(found))]
            if changed:
                return tree_map(lambda f: next((t for t in changed if inner(t) is f), f), found)
        if not stays:
            return found
        self.operations += 1
        return tree_map(self._wrap, found)

    def _wrap(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if value.dtype in (torch.float64, torch.complex128):
            raise TypeError("Apple's GPUs do not compute in double precision. Use float32 instead.")
        # A view of an ordinary tensor is an ordinary tensor, also where inference goes on.
        with torch.inference_mode(value.is_inference()):
            return PretendTensor(value, self.device)


class _Undispatched(TorchFunctionMode):
    """A few functions look for a kernel of the device before anything is dispatched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor:
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(kwargs.get("device", "cpu"))
        if func is torch.Tensor.new_tensor:
            return torch.tensor(*args[1:], dtype=args[0].dtype, device="cpu").to(args[0].device)
        if func is torch.Tensor.tolist:
            return inner(args[0]).tolist()
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if func is F.scaled_dot_product_attention and isinstance(given[0], PretendTensor):
            assert all(isinstance(t, PretendTensor) for t in given), "tensors on two devices"
            found = func(*tree_map(inner, args), **tree_map(inner, kwargs))
            return PretendTensor(found, given[0].device)
        return func(*args, **kwargs)


@cache
def register() -> None:
    """Let torch know the device's name, once."""
    module = _DummyBackendModule()
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    _setup_privateuseone_for_python_backend(NAME, module)


@contextmanager
def pretended_gpu() -> Iterator[_Pretend]:
    """Pretend that there is a GPU, of the name `NAME`.

    Yields
    ------
    object
        ``device``; and ``operations``, how many were done on it.
    """
    register()
    # A module that is moved takes new parameters: the old ones would keep what they are made of.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Undispatched(), _Pretend() as mode:
            yield mode
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
