"""Tests that need a card: Numba's simulator is one, where NUMBA_ENABLE_CUDASIM=1 is set."""

import pytest

import minigrad as mg


@pytest.fixture(autouse=True)
def card():
    """Skip where no card can be used; gives the first one."""
    from minigrad_nn.kernels.cuda.card import card, why_unavailable

    reason = why_unavailable()
    if reason:
        pytest.skip(reason)
    mg.backend.get_device("cuda")
    return card(0)
