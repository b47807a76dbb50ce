"""Kernels against PyTorch's functions, over drawn geometries, in both element types."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels import Geometry
from minigrad_nn.kernels.cpu.convolution import TABLE
from tests.kernels.draws import DTYPES, geometries

torch = pytest.importorskip("torch")
F = torch.nn.functional

# Rows that are able to compute every geometry; tests/kernels compares the others, where they are.
ROWS = sorted({row.name for row in TABLE["conv"] if row.able(Geometry.of((9, 8), 3, 4, 1, 2))})
CLOSE = {np.float32: dict(rtol=1e-4, atol=1e-4), np.float64: dict(rtol=1e-10, atol=1e-10)}
seeds = st.integers(0, 2**32 - 1)


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def tensor(array, requires_grad=True):
    return torch.tensor(array, requires_grad=requires_grad)


def torch_conv(x, w, geometry):
    """PyTorch's convolution; it knows symmetric padding only, so the zeros are put there first."""
    pairs = [n for pair in reversed(geometry.padding) for n in pair]
    function = (F.conv1d, F.conv2d, F.conv3d)[geometry.axes - 1]
    return function(
        F.pad(x, pairs), w, None, geometry.stride, 0, geometry.dilation, geometry.groups
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
@given(geometry=geometries(groups=3), seed=seeds)
def test_convolution_and_its_gradients(name, dtype, geometry, seed):
    rng = np.random.default_rng(seed)
    channels, filters = (int(n) * geometry.groups for n in rng.integers(1, 8, 2))
    x = normal(rng, (2, channels, *geometry.size), dtype)
    w = normal(rng, (filters, channels // geometry.groups, *geometry.kernel), dtype)
    tx, tw = tensor(x), tensor(w)
    expected = torch_conv(tx, tw, geometry)
    g = normal(rng, expected.shape, dtype)
    gradients = torch.autograd.grad(expected, (tx, tw), tensor(g))
    for kernel, a, b, wanted in (
        ("conv", x, w, expected),
        ("conv_input", g, w, gradients[0]),
        ("conv_weight", x, g, gradients[1]),
    ):
        row = next(row for row in TABLE[kernel] if row.name == name)
        made = row.compute(a, b, geometry, None, None, None)
        np.testing.assert_allclose(made, wanted.detach(), **CLOSE[dtype], err_msg=kernel)


@pytest.mark.parametrize("dtype", DTYPES)
@given(geometry=geometries(groups=3), seed=seeds)
def test_second_derivatives_of_convolution(dtype, geometry, seed):
    """The rules of the two adjoints: each one's derivatives are the other two kernels."""
    rng = np.random.default_rng(seed)
    channels, filters = (int(n) * geometry.groups for n in rng.integers(1, 4, 2))
    x = normal(rng, (2, channels, *geometry.size), dtype)
    w = normal(rng, (filters, channels // geometry.groups, *geometry.kernel), dtype)
    tx, tw = tensor(x), tensor(w)
    y = torch_conv(tx, tw, geometry)
    g, h, k = (normal(rng, s, dtype) for s in (y.shape, x.shape, w.shape))
    tg = tensor(g)
    gx, gw = torch.autograd.grad(y, (tx, tw), tg, create_graph=True)
    by_input = torch.autograd.grad(gx, (tg, tw), tensor(h), retain_graph=True)
    by_weight = torch.autograd.grad(gw, (tx, tg), tensor(k))
    for made, wanted in (
        (kernels.conv(h, w, geometry), by_input[0]),
        (kernels.conv_weight(h, g, geometry), by_input[1]),
        (kernels.conv_input(g, k, geometry), by_weight[0]),
        (kernels.conv(x, k, geometry), by_weight[1]),
    ):
        np.testing.assert_allclose(made, wanted.detach(), **CLOSE[dtype])


def symmetric(geometry: Geometry, dilated: bool = True) -> Geometry:
    """With padding that PyTorch's pools accept: the same on both sides, half a filter at most."""
    kernel = geometry.kernel
    padding = [min(pair[0], k // 2) for pair, k in zip(geometry.padding, kernel, strict=True)]
    dilation = geometry.dilation if dilated else (1,) * geometry.axes
    size = [
        max(n, d * (k - 1) + 1 - 2 * p, 1)
        for n, d, k, p in zip(geometry.size, dilation, kernel, padding, strict=True)
    ]
    return Geometry.of(size, kernel, geometry.stride, padding, dilation, ceil=geometry.ceil)


def one_side(geometry: Geometry) -> tuple[int, ...]:
    return tuple(before for before, _ in geometry.padding)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@given(drawn=geometries(ceil=True), seed=seeds)
def test_max_pool_and_its_gradient(dtype, special, drawn, seed):
    geometry = symmetric(drawn)
    assume(geometry.uncovered is None)
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (2, 3, *geometry.size)).astype(dtype)
    if special:
        x[rng.random(x.shape) < 0.2] = np.nan
        x[rng.random(x.shape) < 0.3] = -np.inf
    tx = tensor(x)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[geometry.axes - 1]
    expected, places = function(
        tx,
        geometry.kernel,
        geometry.stride,
        one_side(geometry),
        geometry.dilation,
        geometry.ceil,
        True,
    )
    values, indices = kernels.max_pool(x, geometry)
    np.testing.assert_array_equal(values, expected.detach())
    np.testing.assert_array_equal(indices, places)
    g = rng.integers(-4, 5, values.shape).astype(dtype)
    (gradient,) = torch.autograd.grad(expected, tx, tensor(g))
    np.testing.assert_array_equal(kernels.scatter(g, indices, geometry.size), gradient)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@given(drawn=geometries(ceil=True), seed=seeds)
def test_average_pool_and_its_gradient(dtype, include, drawn, seed):
    geometry = symmetric(drawn, dilated=False)
    # PyTorch's avg_pool3d wants the filter to fit without the padding.
    assume(geometry.axes < 3 or all(np.greater_equal(geometry.size, geometry.kernel)))
    rng = np.random.default_rng(seed)
    x = normal(rng, (2, 3, *geometry.size), dtype)
    tx = tensor(x)
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[geometry.axes - 1]
    expected = function(
        tx, geometry.kernel, geometry.stride, one_side(geometry), geometry.ceil, include
    )
    made = kernels.average_pool(x, geometry, count_include_pad=include)
    np.testing.assert_allclose(made, expected.detach(), **CLOSE[dtype])
    g = normal(rng, made.shape, dtype)
    (gradient,) = torch.autograd.grad(expected, tx, tensor(g))
    made = kernels.average_pool_input(g, geometry, count_include_pad=include)
    np.testing.assert_allclose(made, gradient, **CLOSE[dtype])


SHAPES = [(5, 3), (4, 3, 7), (2, 3, 5, 40), (2, 3, 4, 3, 5)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fixed", [False, True])
def test_batch_norm_and_its_gradients(shape, dtype, fixed):
    rng = np.random.default_rng(0)
    x = normal(rng, shape, dtype) * 3 + 1
    gamma, beta, running_mean = (normal(rng, 3, dtype) for _ in range(3))
    running_variance = np.exp(normal(rng, 3, dtype))
    tx, tgamma, tbeta = tensor(x), tensor(gamma), tensor(beta)
    running = tensor(running_mean, False), tensor(running_variance, False)
    expected = F.batch_norm(tx, *running, tgamma, tbeta, not fixed, 0.1, 1e-3)
    if fixed:
        mean, inverse_std = running_mean, 1 / np.sqrt(running_variance + dtype(1e-3))
        y = kernels.batch_norm_given(x, gamma, beta, mean, inverse_std)
    else:
        y, mean, inverse_std = kernels.batch_norm(x, gamma, beta, eps=1e-3)
        # What PyTorch did to its running statistics can be told from ours.
        count = x.size // 3
        variance = (1 / inverse_std**2 - dtype(1e-3)) * count / (count - 1)
        np.testing.assert_allclose(0.9 * running_mean + 0.1 * mean, running[0], rtol=1e-5)
        np.testing.assert_allclose(0.9 * running_variance + 0.1 * variance, running[1], rtol=1e-5)
    np.testing.assert_allclose(y, expected.detach(), **CLOSE[dtype])
    g = normal(rng, shape, dtype)
    wanted = torch.autograd.grad(expected, (tx, tgamma, tbeta), tensor(g))
    made = kernels.batch_norm_backward(g, x, gamma, mean, inverse_std, given=fixed)
    for one, other in zip(made, wanted, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_travel_as_there(dtype):
    rng = np.random.default_rng(0)
    geometry = Geometry.of((6, 20), 3, 1, 1)
    x, w = normal(rng, (2, 2, 6, 20), dtype), normal(rng, (4, 2, 3, 3), dtype)
    x[0, 0, 2, 19], x[1, 1, 0, 0], x[1, 0, 5, 3] = np.nan, np.inf, -np.inf
    tx, tw = tensor(x), tensor(w)
    expected = torch_conv(tx, tw, geometry)
    made = kernels.conv(x, w, geometry)
    finite = np.isfinite(made)
    assert not finite.all() and finite.any()
    wanted = expected.detach().numpy()
    np.testing.assert_allclose(made, wanted, **CLOSE[dtype])
