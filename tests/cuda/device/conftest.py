"""Tests that need a card: Numba's simulator is one, where NUMBA_ENABLE_CUDASIM=1 is set."""

import ctypes.util

import pytest

import minigrad as mg
from minigrad_nn.kernels.cuda.driver import simulated

# Elsewhere there is nothing to run them on, and `tests/cuda/test_device.py` brings the simulator.
if not simulated() and ctypes.util.find_library("cuda") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def card():
    """Skip where no card can be used; gives the first one."""
    from minigrad_nn.kernels.cuda.card import card, why_unavailable

    reason = why_unavailable()
    if reason:
        pytest.skip(reason)
    mg.backend.get_device("cuda")
    return card(0)
