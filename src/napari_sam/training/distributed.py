"""Several training processes that step together, started by ``torchrun``; one process needs nothing.

Each process takes every n-th batch and the gradients are averaged. On a machine with few cores two
processes of one thread each are quicker than one process of two threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, distributed

__all__ = ["average_gradients", "join_processes", "rank_and_size", "same_everywhere", "wait_for_all"]


def join_processes(device: torch.device) -> None:
    """Join the other processes, if ``torchrun`` has started more than one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def rank_and_size() -> tuple[int, int]:
    """Which process this is, and of how many."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes."""
    _, size = rank_and_size()
    if size == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([g.flatten() for g in gradients])  # one message is quicker than a hundred
    distributed.all_reduce(flat)
    flat /= size
    place = 0
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = flat[place : place + gradient.numel()].view_as(p)
        place += gradient.numel()


def same_everywhere(value: float, device: torch.device) -> float:
    """Value of the first process, so that all take the same decision."""
    _, size = rank_and_size()
    if size == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.broadcast(shared, 0)
    return float(shared)


def wait_for_all() -> None:
    """Return when all processes have come here."""
    if distributed.is_initialized():
        distributed.barrier()
