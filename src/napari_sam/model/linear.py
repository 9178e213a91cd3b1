"""Matrix products at the speed of the machine.

On processors, torch sends float32 products to a library that is slow on some of them, and packs
the weights anew at every call. oneDNN, which torch carries as well, is fast on all, can keep a
packed weight, and can apply GELU or add a residual while the result is still in the cache.
Wherever gradients or another device are wanted, the ordinary operators are used.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused operators are there and right, for numbers of this type.

    They are no documented part of torch, so they are tried once before they are relied upon.
    """
    with torch.inference_mode():
        x, weight, plus = (torch.eye(4, dtype=dtype) + i for i in range(3))
        try:
            operator = torch.ops.mkldnn._linear_pointwise
            packed = torch.ops.mkldnn._reorder_linear_weight(weight)
            found = operator.binary(x, plus, packed, plus[0], "add")
            activated = operator(x, weight, None, "gelu", [], "none")
            convolved = torch.ops.mkldnn._convolution_pointwise(
                x[:, :, None, None], weight[:, :, None, None], None, [0, 0], [1, 1], [1, 1], 1,
                "gelu", [], "none",
            )  # fmt: skip
        except (AttributeError, RuntimeError):
            return False
        expected = F.gelu(x @ weight.T)
        return (
            torch.allclose(found, x @ weight.T + plus[0] + plus, rtol=0.02)
            and torch.allclose(activated, expected, rtol=0.02)
            and torch.allclose(convolved[:, :, 0, 0], expected, rtol=0.02)
        )


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    plus: Tensor | None = None,
    gelu: bool = False,
) -> Tensor:
    """Product of rows: x (..., M, K) and weight (N, K) give (..., M, N).

    Parameters
    ----------
    x, weight : Tensor
        The weight may be packed (see ``Linear.pack``).
    bias : Tensor, (N,), optional
    plus : Tensor, (..., M, N), optional
        Added to the result.
    gelu : bool
        Whether to apply GELU to the result, before ``plus``.
    """
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if not has_onednn(x.dtype) or x.device.type != "cpu" or learns:
        out = F.linear(x, weight, bias)
        out = F.gelu(out) if gelu else out
        return out if plus is None else out + plus
    call = torch.ops.mkldnn._linear_pointwise
    if gelu or plus is None:
        out = call(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")
        return out if plus is None else out + plus
    out = call.binary(x, plus, weight, bias, "add")
    return out


def packed(weight: Tensor) -> Tensor:
    """Weight (N, K) of several products of ``linear``, on a processor, in oneDNN's layout if it has one."""
    if not has_onednn(weight.dtype):
        return weight
    out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return out


def linear_each(x: Tensor, weight: Tensor) -> Tensor:
    """Products of rows for each of a batch: x (B, M, K) and weight (B, N, K) give (B, M, N)."""
    if len(x) == 1:
        return linear(x[0], weight[0])[None]
    return torch.bmm(x, weight.transpose(1, 2))


class Linear(nn.Linear):
    """A linear layer that can be packed for inference on a processor.

    Its parameters have the names and shapes of ``torch.nn.Linear``.
    """

    packed: Tensor | None = None

    def forward(self, x: Tensor, plus: Tensor | None = None, gelu: bool = False) -> Tensor:
        """Map x (..., inputs) to (..., outputs), apply GELU, add ``plus``, where asked."""
        weight = self.weight if self.packed is None else self.packed
        return linear(x, weight, self.bias, plus, gelu)

    def pack(self) -> None:
        """Keep the weight in oneDNN's layout only; the layer is for inference from then on."""
        if has_onednn(self.weight.dtype) and self.packed is None:
            self.packed = packed(self.weight.detach())
            self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)
