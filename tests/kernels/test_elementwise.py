"""Activations by kernels: the numbers of the engine's own operations, and when they are taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backend
from minigrad_nn import functional as F
from minigrad_nn import kernels
from minigrad_nn.functional import large
from minigrad_nn.kernels.cpu import elementwise
from tests.kernels.redzone import Zones

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-40]
BACKWARD = {
    "relu": (kernels.relu_backward, lambda g, y: np.where(~(y <= 0), g, 0)),
    "tanh": (kernels.tanh_backward, lambda g, y: g * (1 - y * y)),
    "sigmoid": (kernels.sigmoid_backward, lambda g, y: g * (y * (1 - y))),
}


def numbers(size, dtype, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(size).astype(dtype)
    x[rng.random(size) < 0.1] = rng.choice(SPECIAL)
    return x


@given(
    size=st.one_of(st.integers(0, 80), st.integers(-2, 2).map(lambda i: elementwise.CHUNK + i)),
    dtype=st.sampled_from(["f4", "f8"]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("name", BACKWARD)
def test_gradients_are_those_of_the_formula(name, size, dtype, seed):
    kernel, formula = BACKWARD[name]
    zones = Zones()
    g, y = (zones.copy(numbers(size, dtype, seed + i)) for i in (0, 1))
    with np.errstate(all="ignore"):
        wanted = formula(g, y).astype(dtype)
    made = kernel(g, y, out=zones.empty(size, dtype))
    np.testing.assert_array_equal(made, wanted)
    np.testing.assert_array_equal(kernel(g, y), wanted)
    np.testing.assert_array_equal(kernel(g, y, out=g), wanted)  # in place
    zones.check()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_relu(dtype):
    x = np.array([SPECIAL, SPECIAL], dtype)[:, ::2]
    y = kernels.relu(x)
    np.testing.assert_array_equal(y, np.where(np.isnan(x), x, np.maximum(x, 0)))
    assert not np.signbit(y[~np.isnan(y)]).any()


def _exact(name, x):
    """The curve of float64 numbers in the precision of its own that the machine has."""
    x = x.astype(np.longdouble)
    return np.tanh(x) if name == "tanh" else 1 / (1 + np.exp(-x))


@given(
    size=st.one_of(st.integers(0, 80), st.integers(-2, 2).map(lambda i: elementwise.CHUNK + i)),
    dtype=st.sampled_from(["f4", "f8"]),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 20.0, 1e4]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_curves_are_exact_to_a_few_units_in_the_last_place(name, size, dtype, scale, seed):
    kernel = getattr(kernels, name)
    zones = Zones()
    x = zones.copy((numbers(size, dtype, seed) * scale).astype(dtype))
    with np.errstate(all="ignore"):
        wanted = _exact(name, x)
    made = kernel(x, out=zones.empty(size, dtype))
    limits = np.finfo(dtype)
    unit = np.maximum(np.spacing(np.abs(wanted).astype(dtype)), limits.tiny)  # as far as normal
    nan = np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(made), nan)
    assert (np.abs(made - wanted)[~nan] <= 4 * unit[~nan]).all()
    np.testing.assert_array_equal(kernel(x), made)
    np.testing.assert_array_equal(kernel(x, out=x), made)  # in place
    zones.check()


@pytest.mark.parametrize("name", BACKWARD)
def test_large_arrays_take_the_kernel_and_give_the_same_numbers(name, monkeypatch):
    op = {"relu": F.relu, "tanh": F.tanh, "sigmoid": F.sigmoid}[name]
    calls = []
    offers = kernels.offers
    monkeypatch.setattr(kernels, "offers", lambda *a: calls.append(a[0]) or offers(*a))
    found = []
    for many in (large.MANY, 10**12):
        monkeypatch.setattr(large, "MANY", many)
        x = mg.tensor(numbers(40_000, "f4", 3), requires_grad=True)
        y = op(x)
        y.backward(numbers(40_000, "f4", 4))
        found.append((y.numpy(), x.grad.numpy()))
        assert bool(calls) == (many < 10**12)
        calls.clear()
    for a, b in zip(*found, strict=True):
        if name == "relu":
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=4e-6, atol=4e-6)


def test_rules_are_used_where_they_are_recorded_or_watched(monkeypatch):
    used = []
    monkeypatch.setitem(backend._pulls, ("tanh", np.ndarray), lambda g, y: used.append(1))
    x = mg.tensor(np.linspace(-1, 1, 40_000), requires_grad=True)
    F.tanh(x).sum().backward(create_graph=True)
    assert not used
    seen = []

    def watch(proceed, op, args, params):
        seen.append(op.name)
        return proceed(op, args, params)

    with backend.interpose(watch):
        F.tanh(x).sum().backward()
    assert "tanh" in seen and not used
    F.tanh(x).sum().backward()  # the kernel declines here, and the rule steps in
    assert used
    np.testing.assert_allclose(x.grad.numpy(), 3 * (1 - np.tanh(x.numpy()) ** 2), rtol=1e-12)


def test_wrong_shapes_are_told():
    with pytest.raises(ValueError, match="y"):
        kernels.tanh_backward(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="out"):
        kernels.relu(np.ones(3), out=np.ones(4))
