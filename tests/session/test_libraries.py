"""How torch is brought in while a window is open."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from napari_sam.session.libraries import SELDOM, collecting_seldom


def test_garbage_is_collected_as_before_afterwards():
    before = gc.get_threshold()
    seen = []

    @collecting_seldom()
    def fail():
        seen.append(gc.get_threshold())
        raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert seen == [(SELDOM, *before[1:])]
    assert gc.get_threshold() == before
    assert gc.isenabled()


def test_several_at_once_leave_it_as_it_was():
    """The dock and the worker overlap: the one that ends last sets it back."""
    before = gc.get_threshold()
    inside, one_over = Barrier(2), Barrier(2)

    @collecting_seldom()
    def first():
        inside.wait(10)

    @collecting_seldom()
    def last():
        inside.wait(10)
        one_over.wait(10)
        return gc.get_threshold()

    with ThreadPoolExecutor(2) as pool:
        held, over = pool.submit(last), pool.submit(first)
        over.result(10)
        one_over.wait(10)
        assert held.result(10)[0] == SELDOM
    assert gc.get_threshold() == before
