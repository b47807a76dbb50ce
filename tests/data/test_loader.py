"""The loader: every sample once an epoch, the same order for a seed, and bit-exact resumption."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import random
from minigrad.random import Generator
from minigrad_nn.data import ArrayDataset, Loader, Subset


def dataset(size):
    return ArrayDataset(np.arange(size), np.arange(size) * 0.5)


def epoch(loader):
    return [x.tolist() for x, _ in loader]


def jitter(batch, generator):
    """A transform that draws: resumption must give it the same numbers."""
    return batch[0] + generator.random(len(batch[0])), *batch[1:]


settings = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 2**64 - 1),
        "transform": st.sampled_from([None, jitter]),
    }
)


@given(st.integers(0, 30), settings)
def test_an_epoch_holds_every_sample_once(size, options):
    loader = Loader(dataset(size), **options | {"transform": None})
    for _ in range(2):
        batches = epoch(loader)
        assert len(batches) == len(loader) == -(-size // loader.batch_size)
        assert all(len(b) == loader.batch_size for b in batches[:-1])
        assert sorted(sample for batch in batches for sample in batch) == list(range(size))


@given(st.integers(1, 30), st.integers(1, 9))
def test_drop_last_leaves_full_batches(size, batch_size):
    if size < batch_size:
        with pytest.raises(ValueError, match="drop_last leaves no batch"):
            Loader(dataset(size), batch_size, drop_last=True)
        return
    loader = Loader(dataset(size), batch_size, drop_last=True)
    assert [len(b) for b in epoch(loader)] == [batch_size] * (size // batch_size)
    assert len(loader) == size // batch_size


def test_without_shuffle_the_order_is_the_datasets():
    loader = Loader(Subset(dataset(6), [5, 3, 1]), 2)
    assert epoch(loader) == epoch(loader) == [[5, 3], [1]]


def test_arrays_stay_together_and_are_copies():
    source = dataset(8)
    for x, y in Loader(source, 3, shuffle=True, seed=1):
        assert (y == x * 0.5).all()
        x += 100
    for x, _ in Loader(source, 8):
        assert x.tolist() == list(range(8))
        x += 100
    assert source.arrays[0].tolist() == list(range(8))


def test_the_seed_gives_the_order_and_each_epoch_has_its_own():
    first, again, other = (Loader(dataset(50), 50, shuffle=True, seed=s) for s in (1, 1, 2))
    orders = [epoch(first), epoch(first)]
    assert orders == [epoch(again), epoch(again)]
    assert orders[0] != orders[1]
    assert epoch(other) not in orders


def test_a_generator_is_forked_and_not_drawn_from():
    generator = Generator(4)
    state = generator.get_state()
    loader = Loader(dataset(20), 20, shuffle=True, seed=generator)
    order = epoch(loader)
    assert generator.get_state() == state
    generator.random(10)
    assert epoch(Loader(dataset(20), 20, shuffle=True, seed=generator)) == order
    assert order == epoch(Loader(dataset(20), 20, shuffle=True, seed=4))


def test_without_a_seed_manual_seed_decides():
    with random.preserved():
        orders = []
        for seed in (1, 1, 2):
            random.manual_seed(seed)
            orders.append(epoch(Loader(dataset(50), 50, shuffle=True)))
    assert orders[0] == orders[1] != orders[2]


@given(st.integers(0, 20), settings, st.integers(0, 40), st.booleans())
def test_resume_is_bit_exact_at_every_batch(size, options, steps, other_seed):
    """What an uninterrupted run of some epochs sees, a run that is cut anywhere sees too."""

    def run(loader, epochs):
        for number in range(loader.epoch, epochs):
            for x, _ in loader:
                yield number, x.tolist(), json.dumps(loader.state_dict())

    wanted = list(run(Loader(dataset(size), **options), 3))
    cut = min(steps, len(wanted))
    first = Loader(dataset(size), **options)
    seen = run(first, 3)
    head = [next(seen) for _ in range(cut)]
    state = head[-1][2] if head else json.dumps(first.state_dict())
    second = Loader(dataset(size), **options | {"seed": 3 if other_seed else options["seed"]})
    second.load_state_dict(json.loads(state))
    assert json.dumps(second.state_dict()) == state
    assert head + list(run(second, 3)) == wanted


def test_state_after_a_whole_epoch_begins_the_next():
    loader = Loader(dataset(5), 2, shuffle=True, seed=0)
    epoch(loader)
    assert (loader.epoch, loader.batch) == (1, 0)
    fresh = Loader(dataset(5), 2, shuffle=True, seed=0)
    fresh.load_state_dict(loader.state_dict())
    assert epoch(fresh) == epoch(loader)


def test_state_taken_at_the_last_batch_leaves_nothing_of_the_epoch():
    loader = Loader(dataset(4), 2)
    for _ in loader:
        state = loader.state_dict()
    fresh = Loader(dataset(4), 2)
    fresh.load_state_dict(state)
    assert epoch(fresh) == []
    assert fresh.epoch == 1
    assert epoch(fresh) == [[0, 1], [2, 3]]


def test_break_ends_the_epoch():
    loader = Loader(dataset(6), 2, shuffle=True, seed=0)
    for _ in loader:
        break
    assert (loader.epoch, loader.batch) == (0, 1)
    rest = epoch(loader)
    assert len(rest) == 3 and loader.epoch == 2
    assert rest[0] == loader.order(1)[:2].tolist()


def test_two_loops_at_once_are_told():
    loader = Loader(dataset(6), 2)
    outer = iter(loader)
    next(outer)
    epoch(loader)
    with pytest.raises(RuntimeError, match="another loop"):
        next(outer)
    running = iter(loader)
    next(running)
    loader.load_state_dict(loader.state_dict())
    with pytest.raises(RuntimeError, match="another loop"):
        next(running)


@pytest.mark.parametrize("batch_size, error", [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_wrong_batch_size_is_told(batch_size, error):
    with pytest.raises(error, match="batch_size must be"):
        Loader(dataset(3), batch_size)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"samples": 9}, "samples=9"),
        ({"batch_size": 3}, "batch_size=3"),
        ({"shuffle": False}, "shuffle=False"),
        ({"drop_last": True}, "drop_last=True"),
        ({"epoch": -1}, "epoch must be"),
        ({"batch": 6}, "batch must be an integer from 0 to 5"),
        ({"batch": 1.0}, "batch must be"),
        ({"epoch": True}, "epoch must be"),
        ({"generator": {}}, "missing fields"),
        ({"surplus": 0}, "must come from"),
    ],
)
def test_a_state_that_does_not_fit_is_told_and_changes_nothing(change, message):
    loader = Loader(dataset(10), 2, shuffle=True, seed=0)
    before = loader.state_dict()
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict(before | change)
    assert loader.state_dict() == before


def test_a_transform_draws_anew_for_each_batch_of_each_epoch():
    drawn = []

    def note(batch, generator):
        drawn.append(generator.random().item())
        return batch

    loader = Loader(dataset(6), 2, seed=0, transform=note)
    epoch(loader)
    epoch(loader)
    assert len(set(drawn)) == len(drawn) == 6
