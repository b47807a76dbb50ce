"""The way back through an epilogue, against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue
from tests.kernels.draws import DTYPES
from tests.kernels.redzone import Zones
from tests.kernels.test_batch_norm import OPEN, SHAPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", OPEN)
@given(shape=SHAPES, seed=st.integers(0, 1000))
def test_against_numpy(dtype, activation, shape, seed):
    rng = np.random.default_rng(seed)
    g = rng.standard_normal(shape).astype(dtype)
    low, high = {None: (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}[activation]
    y = np.clip(rng.standard_normal(shape) * 8, low, high).astype(dtype)
    y.flat[0] = np.nan  # which passes
    passed = np.where(OPEN[activation](y), g, 0).astype(dtype)
    axes = (0, *range(2, len(shape)))
    gbias = passed.sum(axes, dtype=np.float64).astype(dtype)
    found = kernels.epilogue_backward(g, y, activation)
    assert np.array_equal(found.g, passed) and found.gbias.dtype == dtype
    np.testing.assert_allclose(found.gbias, gbias, rtol=1e-6, atol=1e-6)
    in_place = g.copy()
    assert kernels.epilogue_backward(in_place, y, activation, out=in_place).g is in_place
    assert np.array_equal(in_place, passed)
    turned = np.asfortranarray(y)
    assert np.array_equal(kernels.epilogue_backward(g, turned, activation).g, passed)


@pytest.mark.parametrize("dtype", DTYPES)
@given(shape=SHAPES, seed=st.integers(0, 1000))
def test_channel_sum(dtype, shape, seed):
    zones = Zones()
    x = zones.copy(np.random.default_rng(seed).standard_normal(shape).astype(dtype))
    wanted = x.sum((0, *range(2, len(shape))), dtype=np.float64)
    found = kernels.channel_sum(x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert np.array_equal(kernels.channel_sum(np.asfortranarray(x)), found)
    zones.check()


def test_a_closed_gate_lets_no_nan_pass():
    g, y = np.full((1, 1, 3), np.nan), np.array([[[0.0, -0.0, 1.0]]])
    found = kernels.epilogue_backward(g, y, "relu")
    assert np.array_equal(found.g.ravel(), [0, 0, np.nan], equal_nan=True)
    assert np.isnan(found.gbias[0])


def test_no_images_have_no_gradient():
    g = np.ones((0, 3, 2), np.float32)
    found = kernels.epilogue_backward(g, g, "relu")
    assert found.g.shape == g.shape and found.gbias.tolist() == [0, 0, 0]
    assert kernels.channel_sum(g).tolist() == [0, 0, 0]


def test_wrong_arguments_are_told():
    g = np.ones((2, 3, 4))
    with pytest.raises(ValueError, match="y and g must have one shape"):
        kernels.epilogue_backward(g, g[:1], "relu")
    for call in (lambda: kernels.epilogue_backward(g, g, "tanh"), lambda: Epilogue(activation="t")):
        with pytest.raises(ValueError, match="activation must be one of"):
            call()
