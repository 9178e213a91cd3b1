"""Fixtures of the networks' tests."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def two_threads():
    """Let torch compute in two threads, whatever it was told."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
