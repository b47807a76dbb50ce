"""Random numbers drawn on a card are the CPU's, to the bit, and so is the state after them."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad_nn as nn
from minigrad.random import Generator
from minigrad_nn import functional as F

DRAWS = st.lists(
    st.tuples(st.integers(0, 21), st.sampled_from(["f4", "f8"])), min_size=1, max_size=5
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64 - 1), DRAWS)
def test_draws_of_any_length_one_after_the_other(seed, draws):
    like = mg.ones(1).to("cuda")._data
    here, there = Generator(seed), Generator(seed)
    for count, dtype in draws:
        found = there.random((count,), dtype=dtype, like=like)
        wanted = here.random((count,), dtype=dtype)
        assert type(found) is type(like)
        np.testing.assert_array_equal(found.to_numpy(), wanted)
        assert there.get_state() == here.get_state()


def test_dropout_drops_the_same_units():
    x = mg.tensor(np.arange(1.0, 8.0), dtype=mg.float32)
    wanted = F.dropout(x, 0.4, generator=Generator(1))
    found = F.dropout(x.to("cuda"), 0.4, generator=Generator(1))
    assert found.device == "cuda:0"
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())


@pytest.mark.parametrize(
    "name", ["uniform_", "normal_", "xavier_uniform_", "xavier_normal_", "kaiming_normal_"]
)
def test_weights_begin_with_the_same_numbers(name):
    found = []
    for device in "cpu", "cuda":
        generator, weight = Generator(4), mg.zeros((3, 5)).to(device)
        assert getattr(nn.init, name)(weight, generator=generator) is weight
        assert weight.device == mg.backend.get_device(device).name
        found.append((weight.numpy(), generator.get_state()))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_masks_are_drawn_beside_an_array_and_others_are_copied():
    like = mg.ones(1).to("cuda")._data
    here, there = Generator(5), Generator(5)
    mask = there.bernoulli((3, 7), 0.3, like=like)
    np.testing.assert_array_equal(mask.to_numpy(), here.bernoulli((3, 7), 0.3))
    # Drawn after numbers of the card: the state is the same.
    for draw in (
        lambda g: g.normal((2, 3)),
        lambda g: g.uniform((2, 3), -1.0, 2.0),
        lambda g: g.integers(4, 0, 9),
        lambda g: g.permutation(6),
    ):
        wanted, found = draw(here), mg.tensor(draw(there)).to("cuda")
        assert found.device == "cuda:0"
        np.testing.assert_array_equal(found.numpy(), wanted)
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        there.normal((2, 3), out=mg.zeros((2, 3)).to("cuda")._data)
