"""Dropout: shares, scale, reproducibility and modes."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F


def test_share_and_scale():
    x = mg.ones(20000, requires_grad=True)
    y = F.dropout(x, 0.25, generator=mg.random.Generator(1))
    kept = y.data != 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(y.data[kept], 1 / 0.75, rtol=1e-6)
    assert y.dtype == np.float32
    y.sum().backward()
    # What was dropped passes nothing back, and the rest just what it was scaled by.
    np.testing.assert_array_equal(x.grad.data, y.data)


def test_seeds_replay():
    x = mg.ones(64)
    mg.manual_seed(5)
    first = F.dropout(x).data
    second = F.dropout(x).data
    mg.manual_seed(5)
    assert (F.dropout(x).data == first).all()
    assert (first != second).any()


def test_extremes_and_modes():
    x = mg.ones((2, 3))
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 0.9, training=False) is x
    assert not F.dropout(x, 1.0).data.any()
    layer = nn.Dropout(0.5)
    assert layer.eval()(x) is x
    assert layer.train()(mg.ones(1000)).data.min() == 0
    for call in (lambda: F.dropout(x, 1.5), lambda: nn.Dropout(-0.1)):
        with pytest.raises(ValueError, match="p must be in"):
            call()
    with pytest.raises(TypeError, match="floats"):
        F.dropout(mg.arange(3))


def test_a_generator_of_its_own_leaves_the_default_one_alone():
    before = mg.random.get_state()
    layer = nn.Dropout(0.5, mg.random.Generator(3))
    a, b = layer(mg.ones(50)).data, layer(mg.ones(50)).data
    assert (a != b).any()
    assert mg.random.get_state() == before


def test_the_backward_pass_sees_the_same_mask_under_checkpoint():
    x = mg.ones(50, requires_grad=True)
    y = mg.checkpoint(lambda t: F.dropout(t * 2.0))(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)
