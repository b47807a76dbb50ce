"""Non-linearities against PyTorch: values and slopes, at corners, far out, and beside a NaN."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F
from tests.peers.test_nn_functional import compare

SAME = [
    ("relu6", {}),
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("elu", {}),
    ("elu", {"alpha": 0.5}),
    ("silu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("hardswish", {}),
    ("softplus", {}),
    ("softplus", {"beta": 2.0, "threshold": 3.0}),
]
CORNERS = [-3.0, 0.0, 3.0, 6.0]


@pytest.mark.parametrize("name, settings", SAME)
def test_values_and_derivatives(name, settings):
    x = np.random.default_rng(0).normal(0, 4, (4, 3, 2))
    ours, theirs = getattr(F, name), getattr(TF, name)
    compare(lambda a: ours(a, **settings), lambda a: theirs(a, **settings), [x], rtol=1e-9)


@pytest.mark.parametrize("name, settings", SAME)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_corners_and_what_lies_far_out(name, settings, dtype):
    values = np.array([*CORNERS, 30.0, -30.0, 150.0, -150.0, math.nan], dtype)
    x, t = mg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, ty = getattr(F, name)(x, **settings), getattr(TF, name)(t, **settings)
    tolerance = 1e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(y.data, ty.detach().numpy(), rtol=tolerance, atol=tolerance)
    assert y.dtype == dtype
    y.sum().backward()
    ty.sum().backward()
    found, wanted = x.grad.data[:-1], t.grad.numpy()[:-1]  # but at the NaN
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-7), (np.float64, 2e-13)])
def test_error_function(dtype, tolerance):
    x = np.concatenate([np.linspace(-8, 8, 4001), np.logspace(-30, 0, 200)]).astype(dtype)
    wanted = torch.erf(torch.tensor(x, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(F.erf(x), wanted, rtol=10 * tolerance, atol=0)
    np.testing.assert_allclose(F.erf(x), wanted, atol=tolerance, rtol=tolerance)
    extremes = np.array([math.inf, -math.inf, math.nan], dtype)
    np.testing.assert_array_equal(F.erf(extremes), [1, -1, math.nan])


@pytest.mark.parametrize("slopes", [1, 3])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 2)])
def test_prelu(slopes, shape):
    rng = np.random.default_rng(1)
    compare(F.prelu, TF.prelu, [rng.standard_normal(shape), rng.standard_normal(slopes)])


@pytest.mark.parametrize(
    "name, settings",
    [
        ("ReLU6", {}),
        ("LeakyReLU", {"negative_slope": 0.2}),
        ("PReLU", {"num_parameters": 3, "init": 0.1}),
        ("ELU", {"alpha": 2.0}),
        ("SiLU", {}),
        ("GELU", {"approximate": "tanh"}),
        ("Hardswish", {}),
        ("Softplus", {"beta": 3.0}),
    ],
)
def test_layers(name, settings):
    x = np.random.default_rng(2).normal(0, 3, (2, 3, 4)).astype("f")
    ours, theirs = getattr(nn, name)(**settings), getattr(torch.nn, name)(**settings)
    wanted = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(mg.tensor(x)).data, wanted, rtol=1e-5, atol=1e-6)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]


def test_log_softmax_layer():
    x = np.random.default_rng(3).standard_normal((2, 3, 4)).astype("f")
    wanted = torch.nn.LogSoftmax(dim=1)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(nn.LogSoftmax()(mg.tensor(x)).data, wanted, rtol=1e-5)
