"""Launches as Numba prepares them for a card, which needs none."""

import warnings

import pytest

from tests.cuda import compiling


def test_a_small_launch_is_no_matter_for_a_warning():
    """Numba warns at each new size: among tests, where warnings are errors, that is a failure."""
    reason = compiling.why_not()
    if reason:
        pytest.skip(reason)
    from minigrad_nn.kernels.cuda.product import add_parts

    kernel = add_parts("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Warning, match="under-utilization"):
            kernel.dispatcher[3, 32, 0, 0]
        launch = kernel.configured(2, 32, 0, 0)
        assert launch.griddim == (2, 1, 1) and launch.blockdim == (32, 1, 1)
        with pytest.raises(Warning, match="under-utilization"):  # what others launch is theirs
            kernel.dispatcher[4, 32, 0, 0]
