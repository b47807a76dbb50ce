"""The number of threads: kernels, BLAS and other Python threads take it, and bits stay the same."""

import os
import subprocess
import sys

import pytest

import minigrad as mg

SCRIPT = """
import threading
import numpy as np
import minigrad as mg
from threadpoolctl import threadpool_info
from minigrad_nn import kernels
from minigrad_nn.kernels import Geometry
from minigrad_nn.kernels.cpu import compile

rng = np.random.default_rng(0)
x, w = rng.standard_normal((9, 20, 17, 19), "f4"), rng.standard_normal((30, 20, 3, 3), "f4")
geometry = Geometry.of((17, 19), 3, 1, 1)
made = []
for number in (1, 2, 4, 3):
    mg.set_num_threads(number)
    assert mg.get_num_threads() == number
    assert compile.threads() == number
    seen = []
    def work():
        made.append(kernels.conv(x, w, geometry))
        made.append(kernels.moments(x).variance)
        import numba
        seen.append(numba.get_num_threads())
    thread = threading.Thread(target=work)
    thread.start(); thread.join(); work()
    assert seen == [number, number]
    blas = [i["num_threads"] for i in threadpool_info() if "numpy" in i["filepath"]]
    assert set(blas) <= {number}, blas
assert all((a == b).all() for a, b in zip(made[2:], made))
print("same")
"""


def test_kernels_and_blas_take_the_number_and_give_the_same_bits():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "4"},
    )
    assert done.stdout == "same\n", done.stderr


def test_it_can_be_set_before_any_kernel_is_loaded():
    script = (
        "import sys, minigrad as mg; mg.set_num_threads(1); assert 'numba' not in sys.modules;"
        "from minigrad_nn.kernels.cpu import compile; print(compile.threads())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_wrong_numbers_are_told():
    before = mg.get_num_threads()
    for number in (0, -1, 10**6):
        with pytest.raises(ValueError, match=rf"must be in 1 to \d+ here, got {number}"):
            mg.set_num_threads(number)
    for number in (1.0, "2", True, None):
        with pytest.raises(TypeError, match="must be an integer"):
            mg.set_num_threads(number)
    assert mg.get_num_threads() == before
