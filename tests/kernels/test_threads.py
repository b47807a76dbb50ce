"""The same bits at any number of threads, in forked children, and from several Python threads."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from minigrad_nn import kernels
from minigrad_nn.kernels import Geometry
from tests.kernels.everything import every_call, results


def random_case(images=20):
    rng = np.random.default_rng(0)
    geometry = Geometry.of((13, 14), 3, 1, 1)
    x = rng.standard_normal((images, 3, 13, 14)).astype(np.float32)
    w = rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    return geometry, x, w, rng.standard_normal((images, 8, 13, 14)).astype(np.float32)


def everything(case):
    geometry, x, w, g = case
    y, mean, inverse_std = kernels.batch_norm(x, None, None)
    return [
        kernels.conv(x, w, geometry),
        kernels.conv_input(g, w, geometry),
        kernels.conv_weight(x, g, geometry),
        *kernels.max_pool(x, geometry),
        kernels.average_pool_input(x, geometry),
        y,
        *kernels.batch_norm_backward(x * x, x, None, mean, inverse_std),
    ]


def same_bits(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("images", [1, 20])
def test_one_thread_and_all_give_the_same_bits(images):
    case = random_case(images)
    many = everything(case)
    numba.set_num_threads(1)
    try:
        one = everything(case)
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert same_bits(one, many) and same_bits(many, everything(case))


def test_every_kernel_repeats_its_bits():
    for call in every_call(np.float32):
        assert same_bits(results(call), results(call)), call.name


THREADS = """
from tests.kernels import test_threads
test_threads.several_threads()
"""

FORK = """
import os
from tests.kernels import test_threads
from minigrad_nn.kernels.cpu import compile
case = test_threads.random_case()
expected = test_threads.pooled(case)
child = os.fork()
if child == 0:
    same = test_threads.same_bits(test_threads.pooled(case), expected)
    os._exit(0 if same and compile.threads() == 1 else 1)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def pooled(case):
    geometry, x, _, _ = case
    y, mean, inverse_std = kernels.batch_norm(x, None, None)
    return [*kernels.max_pool(x, geometry), y, mean, inverse_std]


def several_threads():
    cases = [random_case(images) for images in (1, 7, 20, 3)] * 4
    expected = [everything(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for made, wanted in zip(pool.map(everything, cases), expected, strict=True):
            assert same_bits(made, wanted)


def run(script, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_several_python_threads():
    several_threads()


def test_several_python_threads_on_the_work_queue():
    """That layer aborts the process when two threads enter it."""
    done = run(THREADS, NUMBA_THREADING_LAYER="workqueue")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_the_same_bits():
    done = run(FORK)
    assert done.stdout == "child 0\n", done.stderr
