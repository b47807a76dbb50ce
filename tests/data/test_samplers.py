"""Samplers: which samples come and how often, the same order for a seed, and exact resumption."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.random import Generator
from minigrad_nn.data import (
    ArrayDataset,
    BalancedSampler,
    BucketSampler,
    Loader,
    RandomSampler,
    StratifiedSampler,
    SubsetSampler,
    WeightedSampler,
)

seeds = st.integers(0, 2**64 - 1)
label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=40)


def order(sampler, seed=0):
    found = sampler.order(Generator(seed))
    assert found.dtype == np.int64 and found.shape == (len(sampler),)
    return found


@given(st.integers(1, 30), st.data(), seeds)
def test_random_sampler(size, data, seed):
    assert sorted(order(RandomSampler(size), seed)) == list(range(size))
    count = data.draw(st.integers(0, size))
    some = order(RandomSampler(size, count), seed)
    assert len(set(some)) == count and set(some) <= set(range(size))
    many = order(RandomSampler(size, 3 * size, replacement=True), seed)
    assert len(many) == 3 * size and set(many) <= set(range(size))


def test_random_sampler_with_replacement_draws_each_alike():
    counts = np.bincount(order(RandomSampler(5, 10_000, replacement=True)))
    assert (np.abs(counts - 2000) < 200).all()


@given(st.lists(st.integers(0, 9), max_size=20), seeds)
def test_subset_sampler(indices, seed):
    assert order(SubsetSampler(indices, shuffle=False), seed).tolist() == indices
    assert sorted(order(SubsetSampler(indices), seed)) == sorted(indices)


weight_lists = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-300, 1e300)), min_size=1, max_size=12
).filter(any)


@given(weight_lists, seeds)
def test_weighted_sampler_never_takes_weight_0(weights, seed):
    able = {i for i, weight in enumerate(weights) if weight / max(weights) > 0}
    assert set(order(WeightedSampler(weights, 50), seed)) <= able
    once = order(WeightedSampler(weights, len(able), replacement=False), seed)
    assert sorted(once) == sorted(able)


def test_weighted_sampler_takes_by_weight():
    weights = np.array([1.0, 0.0, 2.0, 5.0])
    counts = np.bincount(order(WeightedSampler(weights, 16_000)), minlength=4)
    assert (np.abs(counts - weights * 2000) < 300).all()
    sampler = WeightedSampler(weights, 2, replacement=False)
    pairs = np.array([sampler.order(Generator(0).fork(n)) for n in range(4000)])
    first = np.bincount(pairs[:, 0], minlength=4) / 4000
    assert np.abs(first - weights / 8).max() < 0.03
    # After the first, the rest by their weights: 5/8 * 2/3 + 2/8 * 5/6 + 1/8 * 2/7 ...
    after = np.bincount(pairs[:, 1], minlength=4) / 4000
    wanted = 5 / 8 * np.array([1, 0, 2, 0]) / 3 + 2 / 8 * np.array([1, 0, 0, 5]) / 6
    assert np.abs(after - wanted - 1 / 8 * np.array([0, 0, 2, 5]) / 7).max() < 0.03


@given(label_lists, seeds, st.data())
def test_stratified_sampler_has_every_class_in_every_stretch(labels, seed, data):
    labels = np.array(labels)
    found = order(StratifiedSampler(labels), seed)
    assert sorted(found) == list(range(len(labels)))
    start = data.draw(st.integers(0, len(labels) - 1))
    stop = data.draw(st.integers(start + 1, len(labels)))
    stretch = labels[found[start:stop]]
    kinds, counts = np.unique(labels, return_counts=True)
    for label, count in zip(kinds, counts, strict=True):
        wanted = len(stretch) * count / len(labels)
        slack = 1 + len(kinds) * count / len(labels)
        assert abs((stretch == label).sum() - wanted) < slack + 1e-9


def test_stratified_batches_hold_all_classes_alike():
    labels = np.repeat([0, 1, 2], [400, 150, 50])
    found = labels[order(StratifiedSampler(labels), seed=3)].reshape(20, 30)
    counts = np.array([np.bincount(batch, minlength=3) for batch in found])
    assert (np.abs(counts - [20, 7.5, 2.5]) <= [2, 1.5, 1.5]).all()
    assert len(set(map(tuple, found.tolist()))) > 1


@given(label_lists, st.integers(0, 60), seeds)
def test_balanced_sampler_takes_classes_equally(labels, count, seed):
    labels = np.array(labels)
    found = order(BalancedSampler(labels, count), seed)
    kinds = np.unique(labels)
    for stop in range(len(kinds), count + 1, len(kinds)):  # each round has each class once
        assert sorted(labels[found[stop - len(kinds) : stop]]) == kinds.tolist()
    for label in kinds:
        times = np.bincount(found, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 7), st.integers(1, 5), seeds)
def test_bucket_sampler_takes_all_once(lengths, batch_size, pool, seed):
    found = order(BucketSampler(lengths, batch_size, pool), seed)
    assert sorted(found) == list(range(len(lengths)))


@given(st.integers(1, 6), st.integers(1, 6), seeds)
def test_bucket_sampler_puts_the_like_together(batch_size, batches, seed):
    """With one pool, the batches are the sorted lengths cut into pieces, in random order."""
    lengths = Generator(seed).integers(batch_size * batches, 0, 30)
    found = order(BucketSampler(lengths, batch_size, pool=batches), seed)
    got = sorted(tuple(sorted(row)) for row in lengths[found].reshape(batches, batch_size))
    assert got == sorted(map(tuple, np.sort(lengths).reshape(batches, batch_size).tolist()))


SAMPLERS = {
    "random": RandomSampler(20),
    "replaced": RandomSampler(20, 15, replacement=True),
    "subset": SubsetSampler([3, 1, 19, 3, 7]),
    "weighted": WeightedSampler(np.arange(20)),
    "weighted once": WeightedSampler(np.arange(20), 9, replacement=False),
    "stratified": StratifiedSampler(np.arange(20) % 3),
    "balanced": BalancedSampler(np.arange(20) % 3, 25),
    "bucket": BucketSampler(np.arange(20) % 4, 3, 2),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_order_belongs_to_the_seed_and_the_epoch(name):
    def orders(seed):
        loader = Loader(ArrayDataset(np.arange(20)), 3, sampler=SAMPLERS[name], seed=seed)
        assert len(loader) == -(-len(SAMPLERS[name]) // 3)
        return [[x.tolist() for (x,) in loader] for _ in range(3)]

    first = orders(4)
    assert first == orders(4) and first != orders(5)
    assert first[0] != first[1] != first[2]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_loader_with_a_sampler_resumes_exactly(name):
    def loader(seed):
        return Loader(ArrayDataset(np.arange(20)), 3, sampler=SAMPLERS[name], seed=seed)

    def run(loader):
        while loader.epoch < 2:
            for (x,) in loader:
                yield x.tolist(), json.dumps(loader.state_dict())

    wanted = list(run(loader(1)))
    for cut in (0, len(wanted) // 2, len(wanted) - 1):
        other = loader(2)
        other.load_state_dict(json.loads(wanted[cut][1]))
        assert list(run(other)) == wanted[cut + 1 :]


def test_a_state_of_another_sampler_is_told():
    dataset = ArrayDataset(np.arange(20))
    state = Loader(dataset, 3, sampler=RandomSampler(20)).state_dict()
    with pytest.raises(ValueError, match="sampler='RandomSampler', this one has sampler='Weight"):
        Loader(dataset, 3, sampler=WeightedSampler(np.ones(20))).load_state_dict(state)
    with pytest.raises(ValueError, match="must come from"):
        Loader(dataset, 3).load_state_dict(state)


class Wrong:
    def __init__(self, order):
        self.given = np.array(order)

    def __len__(self):
        return 3

    def order(self, generator):
        return self.given


@pytest.mark.parametrize(
    "given, message",
    [
        ([0, 1], r"len\(sampler\) = 3 whole numbers, got int64 of shape \(2,\)"),
        ([0.0, 1.0, 2.0], "got float64"),
        ([0, 1, 5], "from 0 to 4, got 0 to 5"),
        ([0, -1, 1], "from 0 to 4, got -1 to 1"),
    ],
)
def test_a_sampler_that_gives_something_else_is_told(given, message):
    with pytest.raises(ValueError, match=rf"Wrong\.order must give .*{message}"):
        list(Loader(ArrayDataset(np.arange(5)), 2, sampler=Wrong(given)))


def test_a_sampler_and_shuffle_are_told():
    with pytest.raises(ValueError, match="give one of them"):
        Loader(ArrayDataset(np.arange(5)), 2, sampler=RandomSampler(5), shuffle=True)
    with pytest.raises(ValueError, match="an epoch has 2 samples, a batch 3"):
        Loader(ArrayDataset(np.arange(5)), 3, sampler=RandomSampler(5, 2), drop_last=True)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RandomSampler(3, 4), "cannot take 4 of 3 samples; replacement=True"),
        (lambda: RandomSampler(0, 1, replacement=True), "cannot take 1 of 0 samples"),
        (lambda: RandomSampler(-1), "size must be at least 0"),
        (lambda: SubsetSampler([-1]), "must not be negative, got -1"),
        (lambda: WeightedSampler([1, -1]), "finite numbers >= 0"),
        (lambda: WeightedSampler([1, np.inf]), "finite numbers >= 0"),
        (lambda: WeightedSampler([[1]]), "finite numbers >= 0"),
        (lambda: WeightedSampler([0, 0]), "at least one weight"),
        (lambda: WeightedSampler([1, 0], 2, replacement=False), "1 have a weight above 0"),
        (lambda: StratifiedSampler([[0]]), r"shape \(N,\)"),
        (lambda: BalancedSampler([], 1), "cannot take 1 of 0"),
        (lambda: BucketSampler([1], 0), "batch_size must be at least 1"),
        (lambda: BucketSampler([1], 1, 0), "pool must be at least 1"),
        (lambda: BucketSampler([1.5], 1), "whole numbers"),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_kinds_are_told():
    for make in (
        lambda: RandomSampler(1.5),
        lambda: SubsetSampler([0.5]),
        lambda: SubsetSampler([[1]]),
    ):
        with pytest.raises(TypeError):
            make()


def test_no_samples_at_all():
    for sampler in (
        RandomSampler(0),
        SubsetSampler([]),
        StratifiedSampler([]),
        BalancedSampler([]),
        BucketSampler([], 3),
    ):
        assert order(sampler).tolist() == []
