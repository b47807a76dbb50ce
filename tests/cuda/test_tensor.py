"""Tensor cores without a card: where lanes put fragments, and what the kernels take of a card."""

import threading
import types

import numpy as np
import pytest

from tests.cuda import compiling


@pytest.fixture
def tensor():
    """The module; its kernels need numba-cuda to be compiled, and no simulator."""
    reason = compiling.why_not()
    if reason:
        pytest.skip(reason)
    from minigrad_nn.kernels.cuda import tensor

    return tensor


class Warp:
    """32 lanes as threads, and `mma.m16n8k8` as the PTX manual spreads its fragments."""

    def __init__(self):
        self.lane = threading.local()
        self.barrier = threading.Barrier(32)
        self.given = [None] * 32

    @property
    def threadIdx(self):
        return types.SimpleNamespace(x=self.lane.number)

    def mma(self, *operands):
        number = self.lane.number
        self.given[number] = operands
        self.barrier.wait()
        a, b, c = np.zeros((16, 8)), np.zeros((8, 8)), np.zeros((16, 8))
        for lane, (a0, a1, a2, a3, b0, b1, c0, c1, c2, c3) in enumerate(self.given):
            g, t = divmod(lane, 4)
            a[g, t], a[g + 8, t], a[g, t + 4], a[g + 8, t + 4] = a0, a1, a2, a3
            b[t, g], b[t + 4, g] = b0, b1
            c[g, 2 * t : 2 * t + 2], c[g + 8, 2 * t : 2 * t + 2] = (c0, c1), (c2, c3)
        d = c + a @ b
        self.barrier.wait()
        g, t = divmod(number, 4)
        return d[g, 2 * t], d[g, 2 * t + 1], d[g + 8, 2 * t], d[g + 8, 2 * t + 1]

    def run(self, function):
        def work(number):
            self.lane.number = number
            function(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_fragments_are_where_the_manual_has_them(tensor, monkeypatch):
    from minigrad_nn.kernels.cuda.tile import Tile, placer

    tile = Tile(32, 32, 16, 4, 8, 1.0, True)
    warp = Warp()
    multiply = tensor.multiplier(tile).py_func
    where = placer(tile).py_func
    monkeypatch.setattr(tensor, "cuda", warp)
    monkeypatch.setattr(tensor, "mma", warp.mma)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (2, 16, 32)).astype(np.float32)  # both by terms first
    room = [np.zeros((16, tile.pitch(32, "float32")), np.float32) for _ in range(2)]
    room[0][:, :32], room[1][:, :32] = a, b
    found = np.full((32, 32), np.nan)

    def lane(number):
        row, column = where(number)
        sums = np.zeros((4, 8), np.float32)
        flat = [r.ravel() for r in room]
        multiply(*flat, np.uint32(row), np.uint32(column), np.zeros(4), np.zeros(8), sums)
        a_run, a_step, b_run, b_step = tile.runs
        for i in range(4):
            for j in range(8):
                at = row + i // a_run * a_step + i % a_run, column + j // b_run * b_step + j % b_run
                found[at] = sums[i, j]

    warp.run(lane)
    assert np.array_equal(found, a.T @ b)


@pytest.mark.full
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_kernels_of_tensor_cores_do_not_spill(tensor, capability):
    from minigrad_nn.kernels.cuda import implicit, product, tile, weights

    if compiling.ptxas() is None:
        pytest.skip("ptxas is not installed")
    for one in tile.TENSOR_TILES:
        for make in (product.multiply_matrices, implicit.convolve, weights.correlate):
            kernel = make(one, "float32")
            text = compiling.compiled(kernel, kernel.signatures[0], capability)
            assert "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32" in text
            assert "cvt.rna.tf32.f32" in text
            found = compiling.needs(text, kernel, capability)
            assert found.spilled == 0 and found.registers <= 255
