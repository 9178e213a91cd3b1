"""Muon: momentum whose matrices are made orthogonal, so that all directions of a layer learn alike.

After K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with the step
length of J. Liu et al. 2025, "Muon is scalable for LLM training" (arXiv:2502.16982), which gives
updates the size of AdamW's. ``torch.optim.Muon`` takes matrices only; here a convolution is the matrix
of its outputs by everything else, and the iteration is done on the smaller Gram matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonal"]

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Jordan's quintic: takes singular values to about one in few rounds."""
_ROUNDS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly orthogonal matrix with the singular vectors of another.

    Parameters
    ----------
    matrix : Tensor
        Shape (m, n), float32.

    Returns
    -------
    Tensor
        Shape (m, n): singular values between about 0.7 and 1.2.
    """
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp_min(1e-7)
    gram = wide @ wide.T
    # Every round multiplies by a polynomial of the Gram matrix, from the left: the rounds are done
    # among the small square matrices, and the product is applied once.
    product = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(_ROUNDS):
        factor = torch.addmm(gram, gram, gram, beta=_B, alpha=_C)
        factor.diagonal().add_(_A)
        product = factor @ product
        gram = factor @ gram @ factor
    wide = product @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    Parameters
    ----------
    parameters : iterable of Parameter
        Matrices, and convolutions of shape (outputs, inputs, height, width).
    lr : float
        Root mean square of an update is 0.2 times this, about as for AdamW.
    weight_decay : float
    momentum : float
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters against their gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                mean = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(mean, group["momentum"])
                flat = orthogonal(update.reshape(len(update), -1).float())
                size = group["lr"] * 0.2 * math.sqrt(max(flat.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(flat.view(parameter.shape), alpha=-size)
