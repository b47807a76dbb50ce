"""What was mended in the simulator stays mended."""

import contextlib
import threading

import numpy as np
import pytest

from minigrad_nn.kernels.cuda.driver import simulated


class Meeting(dict):
    """A table at which two threads look at the same time, if anything lets them."""

    def __init__(self):
        super().__init__()
        self.both = threading.Barrier(2)

    def get(self, key, default=None):
        found = super().get(key, default)
        with contextlib.suppress(threading.BrokenBarrierError):
            self.both.wait(timeout=1.0)
        return found


@pytest.mark.skipif(not simulated(), reason="there is a card")
def test_threads_of_a_block_have_one_shared_array():
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    shared, found = FakeCUDAShared(0), []
    shared._allocations = Meeting()

    def ask():
        found.append(shared.array(3, np.float32))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0] is found[1]
