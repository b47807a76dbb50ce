"""Non-linearities: numbers of the lectures, and what wrong use is told."""

import math

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F


def test_swish_and_its_derivative():
    x = mg.tensor(np.array([-1.2784645, 0.0, 2.0]), requires_grad=True)
    y = F.silu(x)
    np.testing.assert_allclose(y.data, x.data / (1 + np.exp(-x.data)), rtol=1e-12)
    y.sum().backward()
    s = 1 / (1 + np.exp(-x.data))
    np.testing.assert_allclose(x.grad.data, y.data + s * (1 - y.data), atol=1e-12)
    assert x.grad.data[1] == 0.5 and abs(x.grad.data[0]) < 1e-7  # the minimum
    assert nn.Swish is nn.SiLU


def test_relu6_bounds_the_error_of_8_bits():
    x = np.linspace(-10, 100, 1001)
    y = F.relu6(x)
    assert y.min() == 0 and y.max() == 6
    assert np.abs(np.round(y * 255 / 6) * 6 / 255 - y).max() <= 3 / 255 + 1e-12


def test_error_function_is_that_of_the_standard_library():
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(F.erf(x), [math.erf(v) for v in x], rtol=0, atol=2e-13)
    assert F.erf(0.5) == math.erf(0.5)


def test_a_slope_a_channel():
    layer = nn.PReLU(2, init=0.5)
    x = mg.tensor(-np.ones((1, 2, 3), np.float32))
    layer(x).sum().backward()
    assert layer.weight.grad.tolist() == [-3, -3]
    assert list(layer.state_dict()) == ["weight"]


@pytest.mark.parametrize("layer", [nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.SiLU(), nn.GELU()])
def test_settings_are_shown(layer):
    assert repr(layer).startswith(f"{type(layer).__name__}(")
    assert layer(mg.zeros((2, 3))).tolist() == [[0] * 3] * 2


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match=r"prelu: weight must have shape \(1,\) or \(3,\)"):
        F.prelu(mg.zeros((2, 3)), mg.zeros(2))
    with pytest.raises(ValueError, match="beta must be above 0"):
        F.softplus(mg.zeros(2), 0.0)
    with pytest.raises(ValueError, match="approximate"):
        F.gelu(mg.zeros(2), "erf")
