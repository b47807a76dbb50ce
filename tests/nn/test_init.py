"""Initial weights: bounds and spreads by the formulas, reproducibility, what errors say."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad_nn import init

SHAPE = (60, 40, 3, 3)
FAN_IN, FAN_OUT = 360, 540


@pytest.mark.parametrize(
    "draw, bound",
    [
        (lambda t: init.xavier_uniform_(t), math.sqrt(6 / (FAN_IN + FAN_OUT))),
        (lambda t: init.xavier_uniform_(t, 2.0), 2 * math.sqrt(6 / (FAN_IN + FAN_OUT))),
        (lambda t: init.kaiming_uniform_(t), math.sqrt(6 / FAN_IN)),
        (lambda t: init.kaiming_uniform_(t, math.sqrt(5)), 1 / math.sqrt(FAN_IN)),
        (
            lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="tanh"),
            5 / 3 * math.sqrt(3 / FAN_OUT),
        ),
        (lambda t: init.uniform_(t, -0.5, 0.5), 0.5),
    ],
)
def test_uniform_bounds(draw, bound):
    t = mg.zeros(SHAPE, dtype=np.float64)
    assert draw(t) is t
    assert 0.99 * bound < np.abs(t.data).max() <= bound
    assert abs(t.data.mean()) < 0.02 * bound
    assert t.data.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    "draw, std",
    [
        (lambda t: init.xavier_normal_(t), math.sqrt(2 / (FAN_IN + FAN_OUT))),
        (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), math.sqrt(2 / FAN_IN)),
        (lambda t: init.kaiming_normal_(t, 0.5, "fan_out"), math.sqrt(2 / 1.25 / FAN_OUT)),
        (lambda t: init.normal_(t, 0.0, 3.0), 3.0),
    ],
)
def test_normal_spreads(draw, std):
    t = draw(mg.zeros(SHAPE))
    assert t.data.std() == pytest.approx(std, rel=0.02)
    assert t.dtype == np.float32


def test_constants():
    t = mg.zeros((2, 2), requires_grad=True)
    assert init.constant_(t, 3.5).tolist() == [[3.5, 3.5], [3.5, 3.5]]
    assert init.ones_(t).data.min() == 1 and not init.zeros_(t).data.any()
    assert t.requires_grad


def test_seeds_and_generators():
    def draw(generator=None):
        return init.kaiming_uniform_(mg.zeros((4, 4)), generator=generator).tolist()

    mg.manual_seed(1)
    first, second = draw(), draw()
    mg.manual_seed(1)
    assert draw() == first and first != second
    assert draw(mg.random.Generator(9)) == draw(mg.random.Generator(9))


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        init.kaiming_uniform_(mg.zeros(3))
    with pytest.raises(ValueError, match="fan_sum"):
        init.kaiming_normal_(mg.zeros((2, 2)), mode="fan_sum")
    with pytest.raises(ValueError, match="'gelu'"):
        init.calculate_gain("gelu")
    computed = mg.zeros((2, 2), requires_grad=True) * 2
    with pytest.raises(mg.GraphError):
        init.ones_(computed)


def test_gains():
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / (1 + 1e-4)))
    assert init.calculate_gain("conv2d") == init.calculate_gain("sigmoid") == 1.0
