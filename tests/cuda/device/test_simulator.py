"""What was mended in the simulator stays mended."""

import threading
import time

import numpy as np
import pytest

from minigrad_nn.kernels.cuda.driver import simulated


class Slow(dict):
    """A table in which looking takes so long that every thread looks before the first has put."""

    def get(self, key, default=None):
        found = super().get(key, default)
        time.sleep(0.01)
        return found


@pytest.mark.skipif(not simulated(), reason="there is a card")
def test_threads_of_a_block_have_one_shared_array():
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    shared, found = FakeCUDAShared(0), []
    shared._allocations = Slow()

    def ask():
        found.append(shared.array(3, np.float32))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(array) for array in found}) == 1
