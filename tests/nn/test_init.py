"""Initial weights: bounds and spreads by the formulas, reproducibility, what errors say."""

import math

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
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


def test_drawing_is_left_out_where_that_is_asked_for():
    mg.manual_seed(1)
    before = mg.random.get_state()
    with init.without_drawing():
        with init.without_drawing():
            layer = nn.Conv2d(2, 3, 3)
        other = init.kaiming_normal_(mg.ones((2, 2)))
        assert init.constant_(mg.zeros(2), 5.0).tolist() == [5.0, 5.0]
    assert not layer.weight.data.any() and not layer.bias.data.any()
    assert other.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert mg.random.get_state() == before
    with pytest.raises(RuntimeError), init.without_drawing():
        raise RuntimeError("inside")
    assert nn.Conv2d(2, 3, 3).weight.data.all()


def test_numbers_are_those_of_the_generator():
    wanted = mg.random.Generator(4).normal((30, 4), 1.0, 2.0)
    found = init.normal_(mg.zeros((30, 4)), 1.0, 2.0, mg.random.Generator(4))
    assert (found.data == wanted).all()
    wanted = mg.random.Generator(4).uniform((3, 4), -1.0, 2.0, dtype=np.float64)
    found = init.uniform_(mg.zeros((3, 4), dtype=np.float64), -1.0, 2.0, mg.random.Generator(4))
    assert (found.data == wanted).all()


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
    with pytest.raises(mg.GraphError):
        init.normal_(computed)
    whole = mg.zeros((2, 2))
    with pytest.raises(ValueError, match="shares its memory"):
        init.uniform_(whole.detach())
    assert not whole.data.any()


def test_gains():
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / (1 + 1e-4)))
    assert init.calculate_gain("conv2d") == init.calculate_gain("sigmoid") == 1.0
