"""Muon: what a step does to a matrix and to a convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_sam.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (12, 90), (90, 12), (1, 7)])
def test_all_directions_become_about_equally_long(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(shape, generator=generator)
    found = orthogonal(matrix)
    lengths = torch.linalg.svdvals(found)
    assert lengths.min() > 0.6
    assert lengths.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    # the directions stay: in the basis of the matrix's own the result is diagonal
    inside = left.T @ found @ right.T
    torch.testing.assert_close(inside, torch.diag(inside.diagonal()), atol=1e-3, rtol=0)


def test_no_gradient_moves_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(4, 6)), torch.zeros(4, 6))


def test_step_is_the_orthogonal_gradient_at_the_length_of_adams() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, 3, bias=False)
    before = layer.weight.detach().clone()
    optimizer = Muon([layer.weight], lr=0.1, weight_decay=0.0)
    layer.weight.grad = torch.randn_like(layer.weight)
    optimizer.step()
    moved = before - layer.weight.detach()
    expected = orthogonal(layer.weight.grad.flatten(1)) * 0.1 * 0.2 * 54**0.5
    torch.testing.assert_close(moved.flatten(1), expected, rtol=1e-3, atol=1e-5)
    assert moved.square().mean().sqrt() == pytest.approx(0.1 * 0.2, rel=0.3)


def test_decay_shrinks_towards_zero() -> None:
    weight = nn.Parameter(torch.full((3, 3), 2.0))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.zeros(3, 3)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3, 3), 2.0 * 0.95))


def test_state_is_kept_in_a_checkpoint() -> None:
    def run(optimizer: Muon, weight: nn.Parameter, steps: range) -> None:
        for step in steps:
            weight.grad = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
            optimizer.step()

    whole = nn.Parameter(torch.zeros(4, 5))
    run(Muon([whole], lr=0.1, weight_decay=0.1), whole, range(6))
    first = nn.Parameter(torch.zeros(4, 5))
    stopped = Muon([first], lr=0.1, weight_decay=0.1)
    run(stopped, first, range(3))
    second = nn.Parameter(first.detach().clone())
    resumed = Muon([second], lr=0.5, weight_decay=0.0)
    resumed.load_state_dict(stopped.state_dict())
    run(resumed, second, range(3, 6))
    assert torch.equal(whole, second)
