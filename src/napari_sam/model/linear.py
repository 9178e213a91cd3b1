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


class Linear(nn.Linear):
    """A linear layer that can be packed for inference on a processor.

    Its parameters have the names and shapes of ``torch.nn.Linear``.
    """

    packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., inputs) to (..., outputs)."""
        if self.packed is None:
            return F.linear(x, self.weight, self.bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out

    def gelu(self, x: Tensor) -> Tensor:
        """Map x (..., inputs) to GELU of the output."""
        if self.packed is None:
            return F.gelu(F.linear(x, self.weight, self.bias))
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "gelu", [], "none")
        return out

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """Map x (..., inputs) to the output plus ``residual`` (..., outputs)."""
        if self.packed is None:
            return residual + F.linear(x, self.weight, self.bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.packed, self.bias, "add")
        return out

    def pack(self) -> None:
        """Keep the weight in oneDNN's layout only; the layer is for inference from then on."""
        if ONEDNN and self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
            self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)


def multiply(x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """Product of rows: x (M, K) and weight (N, K) give (M, N), plus a matrix of that shape."""
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if not ONEDNN or x.device.type != "cpu" or learns:
        product = F.linear(x, weight)
        return product if plus is None else product + plus
    out: Tensor
    if plus is None:
        out = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    else:
        out = torch.ops.mkldnn._linear_pointwise.binary(x, plus, weight, None, "add")
    return out
