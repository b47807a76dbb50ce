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


def pairs(words):
    """Two bfloat16 to a number of 32 bits, the first in its lower half, as float64."""
    bits = np.asarray(words, np.float32).view(np.uint32)
    halves = np.stack([bits << 16, bits & 0xFFFF0000], -1).astype(np.uint32)
    return halves.view(np.float32).astype(np.float64)


def words(values):
    """The way back, for numbers of few bits: pairs along the first axis become one."""
    bits = values.astype(np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return (bits[::2] >> 16 | bits[1::2]).view(np.float32)


class Warp:
    """32 lanes as threads, and products of fragments as the PTX manual spreads them."""

    def __init__(self):
        self.lane = threading.local()
        self.barrier = threading.Barrier(32)
        self.given = [None] * 32

    @property
    def threadIdx(self):
        return types.SimpleNamespace(x=self.lane.number)

    def exchanged(self, operands):
        """What all lanes gave; after this no lane may give anew before all have taken."""
        self.given[self.lane.number] = operands
        self.barrier.wait()
        given = list(self.given)
        self.barrier.wait()
        return given

    def mine(self, d):
        g, t = divmod(self.lane.number, 4)
        return d[g, 2 * t], d[g, 2 * t + 1], d[g + 8, 2 * t], d[g + 8, 2 * t + 1]

    def tf32(self, *operands):
        a, b, c = np.zeros((16, 8)), np.zeros((8, 8)), np.zeros((16, 8))
        for lane, (a0, a1, a2, a3, b0, b1, c0, c1, c2, c3) in enumerate(self.exchanged(operands)):
            g, t = divmod(lane, 4)
            a[g, t], a[g + 8, t], a[g, t + 4], a[g + 8, t + 4] = a0, a1, a2, a3
            b[t, g], b[t + 4, g] = b0, b1
            c[g, 2 * t : 2 * t + 2], c[g + 8, 2 * t : 2 * t + 2] = (c0, c1), (c2, c3)
        return self.mine(c + a @ b)

    def bfloat16(self, *operands):
        a, b, c = np.zeros((16, 16)), np.zeros((16, 8)), np.zeros((16, 8))
        for lane, (a0, a1, a2, a3, b0, b1, c0, c1, c2, c3) in enumerate(self.exchanged(operands)):
            g, t = divmod(lane, 4)
            low, high = slice(2 * t, 2 * t + 2), slice(2 * t + 8, 2 * t + 10)
            a[g, low], a[g + 8, low], a[g, high], a[g + 8, high] = map(pairs, (a0, a1, a2, a3))
            b[low, g], b[high, g] = pairs(b0), pairs(b1)
            c[g, low], c[g + 8, low] = (c0, c1), (c2, c3)
        return self.mine(c + a @ b)

    def run(self, function):
        def work(number):
            self.lane.number = number
            function(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("to", ["tf32", "bfloat16"])
def test_fragments_are_where_the_manual_has_them(tensor, to, monkeypatch):
    from minigrad_nn.kernels.cuda.tile import Tile, placer

    tile = Tile(32, 32, 32, 4, 8, 1.0, to)
    warp = Warp()
    monkeypatch.setattr(tensor, "cuda", warp)
    monkeypatch.setitem(tensor.MMA, to, getattr(warp, to))
    multiply = tensor.multiplier(tile).py_func
    where = placer(tile).py_func
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (2, 32, 32)).astype(np.float32)  # both by terms first
    stored = words if to == "bfloat16" else np.copy
    room = [np.zeros(tile.slice(32, "float32"), np.float32) for _ in range(2)]
    for memory, operand in zip(room, (a, b), strict=True):
        memory.reshape(-1, tile.pitch(32, "float32"))[:, :32] = stored(operand)
    found = np.full((32, 32), np.nan)

    def lane(number):
        row, column = where(number)
        sums = np.zeros((4, 8), np.float32)
        left, right = np.zeros((2, 8), np.float32)
        multiply(*room, np.uint32(row), np.uint32(column), left, right, sums)
        a_run, a_step, b_run, b_step = tile.runs
        for i in range(4):
            for j in range(8):
                at = row + i // a_run * a_step + i % a_run, column + j // b_run * b_step + j % b_run
                found[at] = sums[i, j]

    warp.run(lane)
    assert np.array_equal(found, a.T @ b)


def test_halves_are_stored_where_pairs_are_read(tensor, monkeypatch):
    from minigrad_nn.kernels.cuda import tile

    one = tile.TENSOR_TILES["bfloat16"][1]
    assert one.packed and not tile.TENSOR_TILES["tf32"][1].packed
    halves = np.zeros(2 * one.slice(one.rows, "float32"), np.float32)
    monkeypatch.setattr(tensor, "store_bfloat16", lambda memory, at, x: memory.__setitem__(at, x))
    tile.putter.cache_clear()
    put = tile.putter(one, "float32", one.rows).py_func
    tile.putter.cache_clear()
    values = np.random.default_rng(0).integers(1, 99, (one.depth, one.rows))

    for k in range(one.depth):
        for i in range(one.rows):
            put(halves, 0, k, i, values[k, i])
    found = halves.reshape(one.depth // 2, one.pitch(one.rows, "float32"), 2)[:, : one.rows]
    assert np.array_equal(found.transpose(0, 2, 1).reshape(values.shape), values)


# The most registers that a thread may take.
REGISTERS = {"product": 128, "convolve": 216, "correlate": 160}


@pytest.mark.full
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("tf32", ("m16n8k8.row.col.f32.tf32.tf32.f32", "cvt.rna.tf32.f32")),
        ("bfloat16", ("m16n8k16.row.col.f32.bf16.bf16.f32", "cvt.rn.bf16.f32")),
    ],
)
def test_kernels_of_tensor_cores_do_not_spill(tensor, to, told, capability):
    from minigrad_nn.kernels.cuda import implicit, product, tile, weights

    if compiling.ptxas() is None:
        pytest.skip("ptxas is not installed")
    for one in tile.TENSOR_TILES[to]:
        for make in (product.multiply_matrices, implicit.convolve, weights.correlate):
            kernel = make(one, "float32")
            text = compiling.compiled(kernel, kernel.signatures[0], capability)
            assert all(word in text for word in told)
            found = compiling.needs(text, kernel, capability)
            name = kernel.name.split(".")[1].split("_")[0]
            assert found.spilled == 0 and found.registers <= REGISTERS[name], kernel.name
            assert found.shared <= 28 * 1024
