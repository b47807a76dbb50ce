"""MNIST and the embedded digits, the ways to hold and cut a dataset, and stratified splits."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.random import Generator
from minigrad_nn.data import (
    MNIST,
    ArrayDataset,
    Digits,
    Normalize,
    Pictures,
    Subset,
    stratified_folds,
)
from minigrad_nn.data.mnist import FILES

SPLIT_START = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 5, 9, 0, 7, 8, 2, 1, 3, 6, 4]
SPLIT_SUM = 440922


@pytest.mark.mnist
@pytest.mark.parametrize("split, size", [("train", 60_000), ("test", 10_000)])
def test_mnist(mnist_folder, split, size):
    dataset = MNIST(split)
    assert len(dataset) == size and dataset.pixels.shape == (size, 1, 28, 28)
    pictures, labels = dataset[np.array([0, 1])]
    assert pictures.shape == (2, 1, 28, 28) and pictures.dtype == np.float32
    assert labels.tolist() == {"train": [5, 0], "test": [7, 2]}[split]
    assert pictures.min() == 0 and pictures.max() == 1
    assert set(dataset.labels.tolist()) == set(range(10))
    if split == "train":
        scaled = dataset.pixels / 255
        assert (round(scaled.mean(), 4), round(scaled.std(), 4)) == (MNIST.mean, MNIST.std)


def test_mnist_table_lists_each_file_once():
    files = [file for pair in FILES.values() for file in pair]
    for part in (
        [file.name for file in files],
        [file.sha256 for file in files],
        [file.archive_sha256 for file in files],
    ):
        assert len(set(part)) == 4
    assert all(len(f.sha256) == len(f.archive_sha256) == 64 for f in files)


def test_wrong_split_is_told():
    for dataset in (MNIST, Digits):
        with pytest.raises(ValueError, match="split must be one of train, test"):
            dataset("validation")


class TestDigits:
    @pytest.fixture(autouse=True)
    def need_sklearn(self):
        pytest.importorskip("sklearn")

    def test_is_scikit_learns_and_scaled_to_one(self):
        from sklearn.datasets import load_digits

        source = load_digits()
        pictures, labels = Digits("all")[:]
        assert pictures.shape == (1797, 1, 8, 8) and pictures.dtype == np.float32
        assert np.array_equal(pictures[:, 0] * 16, source.images)
        assert np.array_equal(labels, source.target) and labels.dtype == np.int64

    def test_splits_are_stratified_and_parts_of_the_whole(self):
        train, test, whole = Digits("train"), Digits(split="test"), Digits("all")
        assert (len(train), len(test)) == (1433, 364)
        parts = [picture.tobytes() for d in (train, test) for picture in d.pixels]
        assert sorted(parts) == sorted(picture.tobytes() for picture in whole.pixels)
        share = np.bincount(test.labels) / np.bincount(whole.labels)
        assert (np.abs(share - 0.2) < 0.005).all()

    def test_the_split_never_changes(self):
        assert Digits("test").labels[:20].tolist() == SPLIT_START
        assert int(Digits("test").pixels.astype(np.int64).cumsum().sum() % 1_000_003) == SPLIT_SUM

    def test_stated_mean_and_deviation(self):
        pictures, _ = Digits("train")[:]
        assert round(float(pictures.mean(dtype=np.float64)), 4) == Digits.mean
        assert round(float(pictures.std(dtype=np.float64)), 4) == Digits.std
        normal = Digits.normalize().pictures(pictures)
        assert abs(normal.mean()) < 1e-3 and abs(normal.std() - 1) < 1e-3


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"minigrad\[data\]"):
        Digits()


labels_and_k = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.just(k),
        st.lists(st.integers(k, 12), min_size=1, max_size=4).flatmap(
            lambda counts: st.permutations(
                [label for label, count in enumerate(counts) for _ in range(count)]
            )
        ),
    )
)


@given(labels_and_k, st.integers(0, 2**64 - 1))
def test_folds_partition_and_stratify(drawn, seed):
    k, labels = drawn
    labels = np.array(labels)
    folds = stratified_folds(labels, k, seed)
    assert len(folds) == k
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(len(labels)))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(len(labels)))
    sizes = [len(test) for _, test in folds]
    assert max(sizes) - min(sizes) <= 1
    for label in np.unique(labels):
        counts = [int((labels[test] == label).sum()) for _, test in folds]
        assert max(counts) - min(counts) <= 1


def test_folds_replay_by_seed_and_shuffle():
    labels = np.arange(60) % 3
    first, again, other = (stratified_folds(labels, 5, seed) for seed in (1, Generator(1), 2))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))
    assert any(not np.array_equal(t, np.arange(t[0], 60, 5)) for _, t in first)


@pytest.mark.parametrize(
    "labels, k, message",
    [([0, 0, 1], 2, "smallest class, 1"), ([0, 0], 1, "from 2"), ([], 2, "N > 0"), ([[0]], 2, "N")],
)
def test_impossible_folds_are_told(labels, k, message):
    with pytest.raises(ValueError, match=message):
        stratified_folds(np.array(labels), k)


def test_array_dataset_takes_arrays_together():
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    dataset = ArrayDataset(x, y)
    assert len(dataset) == 4
    for index in (2, slice(1, 3), np.array([3, 0, 3])):
        assert all(np.array_equal(a, b[index]) for a, b in zip(dataset[index], (x, y), strict=True))


@pytest.mark.parametrize("arrays", [(), (1.0,), ([1, 2], [1])])
def test_arrays_of_different_lengths_are_told(arrays):
    with pytest.raises(ValueError, match="same length"):
        ArrayDataset(*arrays)


def test_pictures_of_another_kind_are_told():
    pixels, labels = np.zeros((2, 1, 3, 3), np.uint8), np.zeros(2, np.int64)
    Pictures(pixels, labels)
    with pytest.raises(TypeError, match="uint8"):
        Pictures(pixels.astype(np.float32), labels)
    with pytest.raises(TypeError, match="integers"):
        Pictures(pixels, labels.astype(np.float32))
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        Pictures(pixels[:, 0], labels)
    with pytest.raises(ValueError, match="labels"):
        Pictures(pixels, labels[:1])


def test_subset_is_the_chosen_samples_in_that_order():
    dataset = ArrayDataset(np.arange(10) * 10)
    subset = Subset(dataset, [7, 1, -1, 7])
    assert len(subset) == 4
    assert subset[:][0].tolist() == [70, 10, 90, 70]
    assert Subset(subset, np.array([2, 0]))[np.array([1, 0])][0].tolist() == [70, 90]
    assert len(Subset(dataset, [])) == 0 and Subset(dataset, [])[:][0].tolist() == []


@pytest.mark.parametrize(
    "indices, error",
    [
        ([10], IndexError),
        ([-11], IndexError),
        ([0.5], TypeError),
        ([[1]], TypeError),
        ([True], TypeError),
    ],
)
def test_wrong_subset_is_told(indices, error):
    with pytest.raises(error, match="indices must be"):
        Subset(ArrayDataset(np.arange(10)), indices)


def test_normalize_each_channel_and_back():
    x = Generator(0).random((5, 3, 4, 4)) * np.float32([1, 2, 3]).reshape(3, 1, 1)
    mean, std = x.mean(axis=(0, 2, 3)), x.std(axis=(0, 2, 3))
    normalize = Normalize(mean, std)
    batch = normalize((x, np.arange(5)), Generator(0))
    assert np.allclose(batch[0].mean(axis=(0, 2, 3)), 0, atol=1e-6)
    assert np.allclose(batch[0].std(axis=(0, 2, 3)), 1, atol=1e-5)
    assert batch[0].dtype == np.float32 and batch[1].tolist() == list(range(5))
    assert np.allclose(normalize.undo(batch[0]), x, atol=1e-6)


def test_wrong_normalize_is_told():
    for mean, std in ((0.0, 0.0), ([0, 0], [1]), (0.0, -1.0), ([[0.0]], [[1.0]])):
        with pytest.raises(ValueError, match="std > 0"):
            Normalize(mean, std)
    with pytest.raises(ValueError, match="2 channels got an array of shape"):
        Normalize([0, 0], [1, 1]).pictures(np.zeros((4, 3, 2, 2), np.float32))
