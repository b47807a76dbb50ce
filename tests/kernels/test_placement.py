"""Helping threads keep off their caller's core, and nobody else is moved."""

import os
import threading

import numba
import numpy as np
import pytest

from minigrad_nn import kernels
from minigrad_nn.kernels.cpu import compile, placement

pytestmark = pytest.mark.skipif(
    placement.core is None or len(os.sched_getaffinity(0)) < 2 or numba.get_num_threads() < 2,
    reason="needs Linux and two cores",
)


def a_kernel_runs() -> None:
    assert (kernels.moments(np.ones((4, 4, 5, 5))).mean == 1).all()


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The cores that helpers were told to keep off; the caller seems to be on core 0."""
    found: list[int] = []
    real = placement._move
    monkeypatch.setattr(placement, "core", lambda: 0)
    monkeypatch.setattr(placement, "_move", lambda here: (found.append(here), real(here)))
    return found


def on_a_thread(task) -> None:
    """Each calling thread has helpers of its own, so a new one sees their beginning."""
    errors = []

    def run():
        try:
            task()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@pytest.mark.skipif(numba.config.THREADING_LAYER != "omp", reason="needs OpenMP")
def test_helpers_keep_off_the_core_of_their_caller(moved: list[int], monkeypatch) -> None:
    def task() -> None:
        everywhere = os.sched_getaffinity(0)
        a_kernel_runs()
        helpers = placement._team.helpers
        assert helpers and threading.get_native_id() not in helpers
        assert moved == []
        a_kernel_runs()
        a_kernel_runs()
        assert moved == [0], "told once, as long as the caller stays"
        assert all(os.sched_getaffinity(helper) == everywhere - {0} for helper in helpers)
        monkeypatch.setattr(placement, "core", lambda: 1)
        a_kernel_runs()
        assert moved == [0, 1]
        assert all(os.sched_getaffinity(helper) == everywhere - {1} for helper in helpers)
        assert os.sched_getaffinity(0) == everywhere

    on_a_thread(task)


def test_helpers_that_are_gone_are_forgotten(moved: list[int]) -> None:
    def task() -> None:
        a_kernel_runs()
        placement._team.helpers = (2**22 + 1,)  # more than any thread's number
        a_kernel_runs()
        assert placement._team.helpers == ()
        a_kernel_runs()

    on_a_thread(task)


def test_a_caller_with_one_core_moves_nobody(moved: list[int]) -> None:
    def task() -> None:
        a_kernel_runs()
        helpers = placement._team.helpers
        before = [os.sched_getaffinity(helper) for helper in helpers]
        os.sched_setaffinity(0, {0})
        a_kernel_runs()
        assert moved == [0]
        assert [os.sched_getaffinity(helper) for helper in helpers] == before

    on_a_thread(task)


def test_serial_twins_need_no_helpers(moved: list[int], monkeypatch) -> None:
    monkeypatch.setitem(compile._state, "forked", True)

    def task() -> None:
        a_kernel_runs()
        assert placement._team.helpers is None and moved == []

    on_a_thread(task)
