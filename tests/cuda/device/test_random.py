"""Random numbers drawn on a card are the CPU's, to the bit, and so is the state after them."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
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
