import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from napari_sam.model.precision import one_thread


def in_a_new_thread():
    """Number of threads that a thread which begins now computes in."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_one_thread_inside_and_as_before_outside(two_threads):
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), in_a_new_thread()) == (2, 2)


@pytest.mark.parametrize("known", [False, True], ids=["a thread that began meanwhile", "an older thread"])
@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_uses_that_overlap_leave_all_threads_as_they_were(two_threads, known, first_leaves_first):
    def stay(entered, leave):
        with one_thread():
            entered.set()
            assert leave.wait(10)
            assert torch.get_num_threads() == 1
        return torch.get_num_threads()

    entered, leave = ([threading.Event(), threading.Event()] for _ in range(2))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        if known:
            assert other.submit(torch.get_num_threads).result() == 2
        stays = []
        for pool, inside, go in zip((one, other), entered, leave, strict=True):
            stays.append(pool.submit(stay, inside, go))
            assert inside.wait(10)
        for number in (0, 1) if first_leaves_first else (1, 0):
            leave[number].set()
            assert stays[number].result(10) == 2
    assert (torch.get_num_threads(), in_a_new_thread()) == (2, 2)


def test_a_thread_that_has_one_already_leaves_the_others_alone(two_threads):
    """It may have begun while another computed in one, which is no setting for the process."""

    def compute_in_one():
        with one_thread():
            assert torch.get_num_threads() == 1

    with ThreadPoolExecutor(1) as pool:
        with one_thread():
            assert pool.submit(torch.get_num_threads).result() == 1
        pool.submit(compute_in_one).result()
    assert (torch.get_num_threads(), in_a_new_thread()) == (2, 2)
