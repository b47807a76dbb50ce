"""What holds for the package as a whole: light imports, devices, warming up, workspaces."""

import subprocess
import sys

import numpy as np
import pytest

from minigrad_nn import kernels
from minigrad_nn.kernels import Device, Geometry, Workspace, registry


def test_importing_the_kernels_loads_no_compiler():
    script = (
        "import sys; from minigrad_nn import kernels; "
        "print([m for m in ('numba', 'llvmlite', 'minigrad_nn.kernels.cpu') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_room_of_the_package_is_imported_when_it_is_named():
    script = (
        "import sys, minigrad_nn; assert 'minigrad_nn.kernels' not in sys.modules; "
        "print(minigrad_nn.kernels.conv.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "conv\n", done.stderr


def test_a_name_that_does_not_exist_is_told():
    import minigrad_nn

    with pytest.raises(AttributeError, match="no attribute 'kernel'"):
        _ = minigrad_nn.kernel


class Elsewhere:
    """An array of another device."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr(registry, "_devices", dict(registry._devices))
    kernels.register(Device("elsewhere", Elsewhere, __name__, (np.dtype(np.float32),)))


def conv(x, w, geometry, out, workspace, epilogue):
    """The one kernel of that device."""
    return "elsewhere", x.array.shape


def test_the_device_of_the_arrays_picks_the_package(elsewhere):
    geometry = Geometry.of((4,), 2)
    x, w = Elsewhere(np.ones((1, 1, 4), "f4")), Elsewhere(np.ones((1, 1, 2), "f4"))
    assert kernels.conv(x, w, geometry) == ("elsewhere", (1, 1, 4))
    with pytest.raises(TypeError, match="x is on elsewhere and w on the CPU"):
        kernels.conv(x, w.array, geometry)
    with pytest.raises(NotImplementedError, match="sum_pool is not written for elsewhere"):
        kernels.sum_pool(x, geometry)
    with pytest.raises(TypeError, match="x must be float32, got float64"):
        kernels.conv(Elsewhere(np.ones((1, 1, 4))), w, geometry)
    with pytest.raises(TypeError, match="must be an array of a known device .ndarray, Elsewhere"):
        kernels.conv([1.0], w, geometry)


def test_warmup_tells_what_it_did():
    told = []
    done = kernels.warmup(["sum_pool", "gather"], ("float32", np.float64), told.append)
    assert done == told
    assert [(w.kernel, w.dtype, w.done, w.total) for w in told] == [
        ("sum_pool", "float32", 1, 4),
        ("sum_pool", "float64", 2, 4),
        ("gather", "float32", 3, 4),
        ("gather", "float64", 4, 4),
    ]
    assert all(w.seconds >= 0 for w in told)
    with pytest.raises(ValueError, match="no kernel is called 'convolve'"):
        kernels.warmup(["convolve"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_left_to_compile_after_warmup(dtype):
    from minigrad_nn.kernels.cpu import compile as compiling
    from tests.kernels.everything import every_call, results

    kernels.warmup(dtypes=[dtype])
    before = {kernel: compiled(kernel) for kernel in compiling.known}
    for call in every_call(dtype):
        results(call)
    assert {kernel: compiled(kernel) for kernel in compiling.known} == before
    assert all(count > 0 for count in before.values())


def compiled(kernel):
    return len(kernel.variant(parallel=True).signatures)


def test_warmup_knows_every_kernel():
    from minigrad_nn.kernels.cpu.warm import CALLS

    public = {n for n in kernels.__all__ if n[0].islower()}
    assert set(CALLS) == public - {"register", "output_size", "warmup", "offers", "reuse_memory"}


def test_a_workspace_grows_once_and_aligns():
    taken = []

    def allocate(nbytes):
        taken.append(nbytes)
        return np.empty(nbytes, np.uint8)

    workspace = Workspace(100, allocate)
    for _ in range(4):
        workspace.begin()
        one, two = workspace.take((3, 5), np.float64), workspace.take((50,), np.float32)
        one[...], two[...] = 1, 2
        assert (one == 1).all() and one.ctypes.data % 64 == 0 and two.ctypes.data % 64 == 0
    # The first block, one for each array that did not fit, then one that holds both.
    assert taken == [164, 192, 256 + 64, 384 + 64]
    assert workspace.high_water == 128 + 256 and workspace.nbytes == taken[-1]


def test_a_workspace_keeps_no_more_than_it_should():
    workspace = Workspace(keep=1000)
    workspace.begin()
    workspace.take((10_000,), np.uint8)
    workspace.begin()
    assert workspace.nbytes == 0
