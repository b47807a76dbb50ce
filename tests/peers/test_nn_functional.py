"""Functions of networks against PyTorch: drawn geometries, gradients, and second derivatives."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as TF
from hypothesis import assume, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad_nn import functional as F
from minigrad_nn.kernels import Geometry


def compare(ours, theirs, inputs, order=2, rtol=1e-10):
    """Value, gradients, and the gradients of a random combination of these."""
    rng = np.random.default_rng(0)
    xs = [mg.tensor(a, requires_grad=True) for a in inputs]
    ts = [torch.tensor(a, requires_grad=True) for a in inputs]
    y, ty = ours(*xs), theirs(*ts)
    close(y.data, ty.detach().numpy(), rtol, "value")
    weights = np.asarray(rng.standard_normal(y.shape))
    first = mg.gradients((y * y * weights).sum(), xs, create_graph=order > 1)
    tfirst = torch.autograd.grad(
        (ty * ty * torch.tensor(weights)).sum(), ts, create_graph=order > 1
    )
    for i, (a, b) in enumerate(zip(first, tfirst, strict=True)):
        close(a.data, b.detach().numpy(), rtol, f"gradient by input {i}")
    if order < 2:
        return
    directions = [rng.standard_normal(a.shape) for a in inputs]
    along = sum((g * d).sum() for g, d in zip(first, directions, strict=True))
    talong = sum((g * torch.tensor(d)).sum() for g, d in zip(tfirst, directions, strict=True))
    second = mg.gradients(along, xs)
    tsecond = torch.autograd.grad(talong, ts)
    for i, (a, b) in enumerate(zip(second, tsecond, strict=True)):
        close(a.data, b.numpy(), rtol, f"second derivative by input {i}")


def close(found, wanted, rtol, what):
    assert found.shape == wanted.shape, what
    scale = np.abs(wanted).max(initial=0.0)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * (1 + scale), err_msg=what)


@st.composite
def geometries(draw, pool=False, dilate=True):
    """Sizes for which both libraries have a result."""
    axes = draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes))
    dilated = st.integers(1, 2) if dilate else st.just(1)
    dilation = draw(st.lists(dilated, min_size=axes, max_size=axes))
    stride = draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes))
    padding = [draw(st.integers(0, k // 2 if pool else 2)) for k in kernel]
    size = [
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * (not pool) * p), d * (k - 1) + 5))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    if pool:  # a window of nothing but padding is an error of ours, and minus infinity of theirs
        for ceil in (False, True):
            found = Geometry.of(size, kernel, stride, padding, dilation, ceil=ceil)
            assume(found.uncovered is None)
    return axes, size, kernel, stride, padding, dilation


@given(geometries(), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.booleans())
def test_convolution(geometry, groups, channels, filters, biased):
    axes, size, kernel, stride, padding, dilation = geometry
    rng = np.random.default_rng(sum(size))
    inputs = [
        rng.standard_normal((2, groups * channels, *size)),
        rng.standard_normal((groups * filters, channels, *kernel)),
    ]
    if biased:
        inputs.append(rng.standard_normal(groups * filters))
    ours, theirs = getattr(F, f"conv{axes}d"), getattr(TF, f"conv{axes}d")
    settings = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    compare(lambda *a: ours(*a, **settings), lambda *a: theirs(*a, **settings), inputs)


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@given(st.integers(1, 5), st.integers(1, 3), st.integers(3, 8))
def test_same_padding(kernel, dilation, size):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, 2, size)), rng.standard_normal((3, 2, kernel))]
    settings = dict(padding="same", dilation=dilation)
    compare(
        lambda *a: F.conv1d(*a, **settings), lambda *a: TF.conv1d(*a, **settings), inputs, order=1
    )


@given(geometries(pool=True), st.booleans())
def test_max_pooling(geometry, ceil):
    axes, size, kernel, stride, padding, dilation = geometry
    # Whole numbers: many ties, which both give to the first.
    x = np.random.default_rng(sum(size)).integers(-3, 4, (2, 2, *size)).astype(np.float64)
    ours, theirs = getattr(F, f"max_pool{axes}d"), getattr(TF, f"max_pool{axes}d")
    settings = (kernel, stride, padding, dilation, ceil)
    compare(lambda a: ours(a, *settings), lambda a: theirs(a, *settings), [x])
    _, indices = ours(mg.tensor(x), *settings, return_indices=True)
    _, tindices = theirs(torch.tensor(x), *settings, return_indices=True)
    np.testing.assert_array_equal(indices.data, tindices.numpy())


@given(geometries(pool=True, dilate=False), st.booleans(), st.booleans())
def test_average_pooling(geometry, ceil, count):
    axes, size, kernel, stride, padding, _ = geometry
    x = np.random.default_rng(sum(size)).standard_normal((2, 2, *size))
    ours, theirs = getattr(F, f"avg_pool{axes}d"), getattr(TF, f"avg_pool{axes}d")
    settings = (kernel, stride, padding, ceil, count)
    compare(lambda a: ours(a, *settings), lambda a: theirs(a, *settings), [x])


@given(geometries(pool=True, dilate=False))
def test_sum_pooling(geometry):
    axes, size, kernel, stride, padding, _ = geometry
    x = np.random.default_rng(sum(size)).standard_normal((2, 2, *size))
    ours, theirs = getattr(F, f"sum_pool{axes}d"), getattr(TF, f"avg_pool{axes}d")
    compare(
        lambda a: ours(a, kernel, stride, padding),
        lambda a: theirs(a, kernel, stride, padding) * math.prod(kernel),
        [x],
    )


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (2, 3, 3, 2), (2, 3, 2, 1, 2)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape, training, affine):
    rng = np.random.default_rng(1)
    statistics = [rng.standard_normal(3), rng.uniform(0.5, 2.0, 3)]
    ours = [mg.tensor(a) for a in statistics]
    theirs = [torch.tensor(a) for a in statistics]
    inputs = [rng.normal(2.0, 3.0, shape)]
    inputs += [rng.standard_normal(3), rng.standard_normal(3)] if affine else []

    def run(module, running, x, weight=None, bias=None):
        return module.batch_norm(x, *running, weight, bias, training, 0.3, 1e-3)

    compare(lambda *a: run(F, ours, *a), lambda *a: run(TF, theirs, *a), inputs, rtol=1e-9)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.data, b.numpy(), rtol=1e-10)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("extra", [(), (2,), (2, 3)])
def test_cross_entropy(smoothing, reduction, extra):
    rng = np.random.default_rng(2)
    x, target = rng.normal(0, 5, (4, 5, *extra)), rng.integers(0, 5, (4, *extra))
    compare(
        lambda a: F.cross_entropy(a, target, reduction, smoothing),
        lambda a: TF.cross_entropy(
            a, torch.tensor(target), reduction=reduction, label_smoothing=smoothing
        ),
        [x],
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_other_losses(reduction):
    rng = np.random.default_rng(3)
    x, target = rng.standard_normal((4, 5)), rng.integers(0, 5, 4)
    compare(
        lambda a: F.nll_loss(F.log_softmax(a, 1), target, reduction),
        lambda a: TF.nll_loss(TF.log_softmax(a, 1), torch.tensor(target), reduction=reduction),
        [x],
    )
    compare(
        lambda a, b: F.mse_loss(a, b, reduction),
        lambda a, b: TF.mse_loss(a, b, reduction=reduction),
        [x, rng.standard_normal((4, 5))],
    )


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "softmax", "log_softmax"])
def test_activations(name):
    x = np.random.default_rng(4).normal(0, 3, (3, 4, 2))
    axis = {"axis": 1} if "softmax" in name else {}
    dim = {"dim": 1} if "softmax" in name else {}
    ours, theirs = getattr(F, name), getattr(torch, name)
    compare(lambda a: ours(a, **axis), lambda a: theirs(a, **dim), [x])


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (0, 4)])
def test_linear(shape):
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal(s) for s in (shape, (2, 4), (2,))]
    compare(F.linear, TF.linear, inputs)
    compare(F.linear, TF.linear, inputs[:2])


ROWS = [
    [math.nan, 0.0, 1.0],
    [math.inf, 0.0, 1.0],
    [-math.inf, 0.0, 1.0],
    [-math.inf] * 3,
    [math.inf, math.inf, 0.0],
    [1e4, -1e4, 0.0],
]


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_comes_out_as_in_pytorch(row, dtype):
    x = np.array([row], dtype)
    t = torch.tensor(x)
    for ours, theirs in (
        (F.relu, torch.relu),
        (F.softmax, lambda a: torch.softmax(a, -1)),
        (F.log_softmax, lambda a: torch.log_softmax(a, -1)),
        (lambda a: F.cross_entropy(a, [1]), lambda a: TF.cross_entropy(a, torch.tensor([1]))),
        (
            lambda a: F.cross_entropy(a, [1], label_smoothing=0.2),
            lambda a: TF.cross_entropy(a, torch.tensor([1]), label_smoothing=0.2),
        ),
        (lambda a: F.max_pool1d(a[None], 2, 1), lambda a: TF.max_pool1d(a[None], 2, 1)),
        (lambda a: F.avg_pool1d(a[None], 2, 1), lambda a: TF.avg_pool1d(a[None], 2, 1)),
    ):
        found, wanted = ours(mg.tensor(x)).data, theirs(t).numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_gradients_of_what_is_not_finite_are_those_of_pytorch():
    for row in ([-math.inf, 0.0, 1.0], [math.nan, 0.0, 1.0], [1e4, -1e4, 0.0]):
        x, t = mg.tensor([row], requires_grad=True), torch.tensor([row], requires_grad=True)
        F.cross_entropy(x, [1]).backward()
        TF.cross_entropy(t, torch.tensor([1])).backward()
        np.testing.assert_allclose(x.grad.data, t.grad.numpy(), rtol=1e-5)
        x.zero_grad()
        t.grad = None
        F.max_pool1d(x[None], 2, 1).sum().backward()
        TF.max_pool1d(t[None], 2, 1).sum().backward()
        np.testing.assert_allclose(x.grad.data, t.grad.numpy())
