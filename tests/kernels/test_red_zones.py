"""No kernel touches memory that is not its own, and the red zones would find one that did."""

import subprocess
import sys

import numba
import numpy as np
import pytest
from numba import njit, prange

from minigrad_nn import kernels
from tests.kernels.everything import every_call, results
from tests.kernels.redzone import GuardedWorkspace, Zones


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kernel_stays_inside(dtype):
    for call in every_call(dtype):
        zones = Zones()
        arrays = [zones.copy(array) for array in call.arrays]
        outs = [zones.empty(shape, kind) for shape, kind in call.outs]
        made = list(call.run(arrays, outs, GuardedWorkspace(zones)))
        zones.check()
        for guarded, original in zip(arrays, call.arrays, strict=True):
            assert np.array_equal(guarded, original), f"{call.name} wrote to an argument"
        for one, other in zip(made, results(call), strict=True):
            assert np.array_equal(one, other), f"{call.name} read what is not its own"


def test_every_public_kernel_is_among_the_calls():
    named = {call.name.split("-")[0] for call in every_call(np.float32)}
    others = {"register", "output_size", "warmup", "offers", "reuse_memory"}
    public = {name for name in kernels.__all__ if name[0].islower()} - others
    # What has no out: batch_norm runs the moments, and test_update has zones for the updates.
    assert public - named == {"channel_sum", "moments", "sgd_update", "adam_update"}


def _copy_one_too_many(x, y, reads, writes):
    for worker in prange(2):
        for i in range(worker * len(x) // 2, (worker + 1) * len(x) // 2 + writes * worker):
            y[i] = x[min(i + reads, len(x) + reads - 1)]


@pytest.mark.parametrize(("reads", "writes"), [(0, 0), (1, 0), (0, 1)])
def test_red_zones_find_a_kernel_that_is_off_by_one(reads, writes, monkeypatch):
    # Bounds checks, where they are switched on, would stop the write without a word.
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", None)
    copy = njit(parallel=True)(_copy_one_too_many)
    zones = Zones()
    x, y = zones.copy(np.arange(40.0)), zones.empty((40,), np.float64)
    copy(x, y, reads, writes)
    if writes:
        with pytest.raises(AssertionError, match="written after the array"):
            zones.check()
    else:
        zones.check()
        assert np.isnan(y).any() == bool(reads)


BOUNDS = """
import numpy as np
import pytest
from minigrad_nn.kernels.cpu import compile
compile._state["forked"] = True  # serial twins, which raise where parallel kernels do not
from tests.kernels.everything import every_call, results

@compile.kernel
def beyond(x):
    return x[len(x)]

with pytest.raises(IndexError):
    beyond(np.ones(3))
for dtype in (np.float32, np.float64):
    for call in every_call(dtype):
        results(call)
print("inside")
"""


@pytest.mark.full
def test_serial_twins_under_boundscheck(tmp_path):
    import os

    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    run = subprocess.run(
        [sys.executable, "-c", BOUNDS], env=environment, capture_output=True, text=True
    )
    assert run.stdout == "inside\n", run.stderr
