"""Matrix products at the speed of the machine.

On processors, torch sends float32 products to a library that is slow on some of them, and packs
the weights anew at every call. oneDNN, which torch carries as well, is fast on all, can keep a
packed weight, and can apply GELU or add a residual while the result is still in the cache.
Wherever gradients or another device are wanted, the ordinary operators are used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
"""Whether this build of torch has oneDNN's fused linear operator."""


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
    if not ONEDNN or x.device.type != "cpu" or learns:
        out = F.linear(x, weight, bias)
        out = F.gelu(out) if gelu else out
        return out if plus is None else out + plus
    call = torch.ops.mkldnn._linear_pointwise
    if gelu or plus is None:
        out = call(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")
        return out if plus is None else out + plus
    out = call.binary(x, plus, weight, bias, "add")
    return out


def linear_each(x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """Products of rows for each of a batch: x (B, M, K) and weight (B, N, K) give (B, M, N)."""
    if len(x) == 1:
        return linear(x[0], weight[0], plus=None if plus is None else plus[0])[None]
    if plus is None:
        return torch.bmm(x, weight.transpose(1, 2))
    return torch.baddbmm(plus, x, weight.transpose(1, 2))


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
        if ONEDNN and self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
            self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)
