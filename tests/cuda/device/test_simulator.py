"""What was mended in the simulator stays mended."""

import sys
import threading

import numpy as np
import pytest

from minigrad_nn.kernels.cuda.driver import simulated


@pytest.mark.skipif(not simulated(), reason="there is a card")
def test_threads_of_a_block_have_one_shared_array():
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    try:
        for _ in range(200):
            shared, found, start = FakeCUDAShared(0), [], threading.Barrier(4)

            def ask(shared=shared, found=found, start=start):
                start.wait()
                found.append(shared.array(2000, np.float32))

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len({id(array) for array in found}) == 1
    finally:
        sys.setswitchinterval(before)
