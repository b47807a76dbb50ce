"""Products and convolutions on a card: every tile and row, cut and whole, in red zones."""

import contextlib
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad_nn import functional as F
from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry, blas
from minigrad_nn.kernels.cuda import library, product, tile
from minigrad_nn.kernels.cuda.arrays import Scratch, numbered
from minigrad_nn.kernels.cuda.convolution import TABLE, choose
from minigrad_nn.kernels.cuda.driver import simulated
from tests.cuda.device.guarded import GuardedWorkspace, Zones
from tests.cuda.device.settings import DTYPES, few
from tests.kernels import reference

# Those of tensor cores too, which round: small whole numbers stay as they are.
TILES = {
    "float32": sum(tile.TENSOR_TILES.values(), tile.tiles("float32")),
    "float64": tile.tiles("float64"),
}


def whole(rng, *shape, dtype=np.float32):
    """Whole numbers: sums of their products are exact, so kernels can be compared for equality."""
    return rng.integers(-4, 5, shape).astype(dtype)


@st.composite
def geometries(draw):
    """A small geometry whose filter fits."""
    axes = draw(st.sampled_from((2, 1, 3)))
    longest = {1: 9, 2: 4, 3: 2}[axes]
    sizes, taps, strides, paddings, dilations = [], [], [], [], []
    for _ in range(axes):
        k, step = draw(st.integers(1, 3 if axes < 3 else 2)), draw(st.integers(1, 2))
        before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        least = max(1, step * (k - 1) + 1 - before - after)
        sizes.append(draw(st.integers(least, max(least, longest))))
        taps.append(k)
        strides.append(draw(st.integers(1, 3)))
        paddings.append((before, after))
        dilations.append(step)
    return Geometry.of(sizes, taps, strides, paddings, dilations, draw(st.integers(1, 2)))


@st.composite
def convolutions(draw, channels=(1, 2, 3)):
    """`(geometry, x, w, g, rng)` of whole numbers."""
    geometry = draw(geometries())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    images, filters = draw(st.sampled_from((2, 1))), draw(st.sampled_from((1, 3, 9)))
    c = draw(st.sampled_from(channels))
    groups = geometry.groups
    x = whole(rng, images, c * groups, *geometry.size, dtype=dtype)
    w = whole(rng, filters * groups, c, *geometry.kernel, dtype=dtype)
    g = whole(rng, images, filters * groups, *geometry.output, dtype=dtype)
    return geometry, x, w, g, rng


def check_all_three(card, compute, case, *choice):
    """The three kernels of a row, with an epilogue, against the definition."""
    geometry, x, w, g, rng = case
    across = (1, -1) + (1,) * geometry.axes
    zones = Zones(card)
    for kernel, a, b, like in (
        ("conv", x, w, g),
        ("conv_input", g, w, x),
        ("conv_weight", x, g, w),
    ):
        residual = whole(rng, *like.shape, dtype=x.dtype)
        wanted = getattr(reference, kernel)(a, b, geometry) + residual
        epilogue = Epilogue(residual=zones.copy(residual))
        if kernel != "conv_weight":
            bias = whole(rng, like.shape[1], dtype=x.dtype)
            wanted = np.maximum(wanted + bias.reshape(across), 0)
            epilogue = Epilogue(
                bias=zones.copy(bias), residual=zones.copy(residual), activation="relu"
            )
        out = zones.empty(like.shape, x.dtype)
        room = GuardedWorkspace(zones)
        operands = zones.copy(a), zones.copy(b)
        found = compute[kernel](*operands, geometry, out, room, epilogue, *choice)
        assert found is out and np.array_equal(out.to_numpy(), wanted), (kernel, geometry)
        zones.check()


def row(name):
    return {k: next(r for r in rows if r.name == name).compute for k, rows in TABLE.items()}


@pytest.mark.parametrize(
    ("number", "pieces"),
    [
        (0, 1),
        (1, 3),
        *(pytest.param(*p, marks=pytest.mark.full) for p in ((0, 3), (1, 1), (2, 1), (2, 2))),
    ],
)
@few
@given(st.data())
def test_implicit(card, number, pieces, data):
    case = data.draw(convolutions())
    choice = TILES[case[1].dtype.name]
    check_all_three(card, row("implicit"), case, choice[number % len(choice)], pieces)


@few
@given(convolutions(channels=(1,)))
def test_depthwise(card, case):
    check_all_three(card, row("depthwise"), case)


def test_the_table_chooses(card):
    assert choose("conv", 1, 1).name == choose("conv_weight", 1, 2).name == "depthwise"
    assert choose("conv", 2, 1).name == choose("conv_input", 1, 64).name == "implicit"


def test_public_kernels_take_any_strides_and_out(card):
    rng = np.random.default_rng(0)
    geometry = Geometry.of((4, 3), (3, 2), (1, 2), (1, 0))
    x, w = whole(rng, 2, 2, 4, 3), whole(rng, 3, 2, 3, 2)
    g = whole(rng, 2, 3, *geometry.output)
    there = [card.from_numpy(np.ascontiguousarray(a.T)).T for a in (x, w, g)]
    assert not any(a.flags.c_contiguous for a in there)
    out = card.empty(g.shape[::-1], g.dtype).T
    assert kernels.conv(there[0], there[1], geometry, out=out) is out
    assert np.array_equal(out.to_numpy(), reference.conv(x, w, geometry))
    found = kernels.conv_input(there[2], there[1], geometry)
    assert np.array_equal(found.to_numpy(), reference.conv_input(g, w, geometry))
    # A result may lie where an argument does.
    w = there[1].copy()
    found = kernels.conv_weight(there[0], there[2], geometry, epilogue=Epilogue(residual=w), out=w)
    assert found is w
    wanted = reference.conv_weight(x, g, geometry) + there[1].to_numpy()
    assert np.array_equal(w.to_numpy(), wanted)


def test_more_places_than_a_kernel_numbers_are_refused():
    with pytest.raises(ValueError, match=r"conv: 2147483648 places of all images .* smaller batch"):
        numbered("conv", places_of_all_images=2**31)
    numbered("conv", weights=2**31 - 1)


def test_no_images(card):
    geometry = Geometry.of((4, 4), 3)
    x, w = card.empty((0, 2, 4, 4)), card.from_numpy(np.ones((3, 2, 3, 3), np.float32))
    y = kernels.conv(x, w, geometry)
    assert y.shape == (0, 3, 2, 2)
    assert not kernels.conv_weight(x, y, geometry).to_numpy().any()
    assert kernels.conv_input(y, w, geometry).shape == x.shape


def test_a_nan_stays_where_it_belongs(card):
    geometry = Geometry.of((1, 9), (1, 3), padding=(0, 1))
    x = np.ones((1, 1, 1, 9), np.float32)
    x[..., 4] = np.nan
    w = np.ones((2, 1, 1, 3), np.float32)
    for name in ("implicit", "depthwise"):
        y = row(name)["conv"](card.from_numpy(x), card.from_numpy(w), geometry, None, None, None)
        assert np.array_equal(np.isnan(y.to_numpy()[0, 0, 0]), np.abs(np.arange(9) - 4) < 2)


@pytest.mark.parametrize("number", range(len(TILES["float32"])))
@few
@given(st.data())
def test_products(card, number, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dtype = data.draw(st.sampled_from(DTYPES))
    batch, m, n, k = (data.draw(st.integers(1, most)) for most in (2, 19, 19, 13))
    a, b = whole(rng, batch, m, k, dtype=dtype), whole(rng, batch, k, n, dtype=dtype)
    bias, residual = whole(rng, n, dtype=dtype), whole(rng, batch, m, n, dtype=dtype)
    zones = Zones(card)

    def lying(x):
        """The same numbers, of which the rows or the columns lie next to each other."""
        if data.draw(st.booleans()):
            return zones.copy(x)
        return zones.copy(np.ascontiguousarray(x.swapaxes(1, 2))).swapaxes(1, 2)

    c = zones.empty((batch, m, n), dtype)
    tiles = TILES[np.dtype(dtype).name]
    room = Scratch(GuardedWorkspace(zones), c)
    product.multiply_into(
        c,
        lying(a),
        lying(b),
        room,
        zones.copy(bias),
        zones.copy(residual),
        data.draw(st.booleans()) or True,
        tiles[number % len(tiles)],
        data.draw(st.sampled_from((1, 2))),
    )
    assert np.array_equal(c.to_numpy(), np.maximum(a @ b + bias + residual, 0))
    zones.check()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (3, 4, 2)),
        ((3, 0), (0, 2)),
        ((0, 3), (3, 2)),
    ],
)
def test_matmul_is_numpys(card, left, right):
    rng = np.random.default_rng(0)
    a, b = whole(rng, *left), whole(rng, *right)
    found = product.matmul(card.from_numpy(a), card.from_numpy(b))
    assert found.shape == (a @ b).shape and np.array_equal(found.to_numpy(), a @ b)
    if a.ndim == b.ndim == 2:
        back = card.from_numpy(b[::-1].copy())[::-1]
        assert np.array_equal(product.matmul(card.from_numpy(a), back).to_numpy(), a @ b)


def test_a_linear_layer_keeps_its_scratch_memory_on_the_card(card, monkeypatch):
    """Large products bring a workspace of the host, whose arrays no kernel may be given."""
    monkeypatch.setattr(blas, "SMALL", 0)
    rng = np.random.default_rng(0)
    x, w, g = whole(rng, 2, 160), whole(rng, 3, 160), whole(rng, 2, 3)
    assert tile.pick("float32", card.driver.limits, 2, 3, 1, 160)[1] > 1 or not simulated()
    leaves = [mg.tensor(a).to("cuda").requires_grad_() for a in (x, w)]
    y = F.linear(*leaves)
    y.backward(mg.tensor(g).to("cuda"))
    assert np.array_equal(y.numpy(), x @ w.T)
    assert np.array_equal(leaves[0].grad.numpy(), g @ w)
    assert np.array_equal(leaves[1].grad.numpy(), g.T @ x)


def test_no_kernel_takes_memory_of_the_host(card):
    x = card.from_numpy(np.ones(4, np.float32))
    with pytest.raises(TypeError, match=r"add_parts_float32: a NumPy array of shape \(4,\)"):
        product.add_parts("float32")(1, 1, np.ones(4, np.float32), x, x, x, 1, 1, 1, 0)


def test_matmul_of_wrong_shapes(card):
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 3\)"):
        product.matmul(card.empty((2, 3)), card.empty((2, 3)))


def test_long_sums_of_few_results_are_cut(card):
    limits = card.driver.limits._replace(processors=100)
    best, pieces, length = tile.pick("float32", limits, 64, 64, 1, 1 << 20)
    assert pieces > 1 and pieces * length >= 1 << 20 and length % best.depth == 0
    assert tile.pick("float32", card.driver.limits, 4096, 4096, 1, 64)[1] == 1


class LikeCupy:
    """As much of CuPy as products need, over the simulator's memory, which is the host's."""

    def __init__(self):
        self.calls = 0
        self.cuda = self

    def Device(self, index):
        assert index == 0
        return contextlib.nullcontext()

    def ExternalStream(self, handle):
        assert isinstance(handle, int)
        return contextlib.nullcontext()

    def asarray(self, memory):
        found = memory.__cuda_array_interface__
        host = types.SimpleNamespace(__array_interface__={**found, "version": 3})
        return np.asarray(host)

    def matmul(self, a, b, out):
        self.calls += 1
        return np.matmul(a, b, out=out)


def test_cublas_multiplies_where_it_is_asked_for(card, monkeypatch):
    if not simulated():
        pytest.importorskip("cupy")
    library._cupy.cache_clear()
    fake = LikeCupy()
    if simulated():
        monkeypatch.setitem(sys.modules, "cupy", fake)
    rng = np.random.default_rng(0)
    a, b = whole(rng, 2, 3, 5), whole(rng, 4, 5)
    library.use_cublas(True)
    try:
        found = product.matmul(card.from_numpy(a), card.from_numpy(b).T)
    finally:
        library.use_cublas(False)
        library._cupy.cache_clear()
    assert np.array_equal(found.to_numpy(), a @ b.T)
    assert fake.calls == simulated()
    product.matmul(card.from_numpy(a), card.from_numpy(b).T)
    assert fake.calls == simulated()


def test_cublas_without_cupy_says_what_to_install(monkeypatch):
    library._cupy.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"minigrad\[cublas\]"):
        library.use_cublas(True)
    assert not library.wanted()
