"""Only some classes of a dataset, and only a few samples of each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.random import Generator
from minigrad_nn.data import (
    ArrayDataset,
    LabelledTexts,
    Loader,
    Pictures,
    Subset,
    labels_of,
    labels_per_class,
    only_classes,
)

label_lists = st.lists(st.sampled_from([0, 1, 2, 5]), min_size=1, max_size=40)


def dataset(labels):
    return ArrayDataset(np.arange(len(labels)) * 10, np.array(labels))


class Named(ArrayDataset):
    classes = ("ant", "bee", "cat")


def test_labels_are_found():
    pixels = np.zeros((3, 1, 2, 2), np.uint8)
    assert labels_of(Pictures(pixels, np.array([2, 0, 1]))).tolist() == [2, 0, 1]
    assert labels_of(LabelledTexts(["a", "b"], [1, 0])).tolist() == [1, 0]
    whole = dataset([4, 5, 6, 7])
    assert labels_of(Subset(Subset(whole, [3, 1, 0]), [0, 2])).tolist() == [7, 4]
    assert labels_of(only_classes(whole, [7, 5])).tolist() == [1, 0]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (ArrayDataset(np.arange(3)), "of 3 samples should have `labels`.* it has none"),
        (ArrayDataset(np.arange(3), np.zeros(3)), r"float64 of shape \(3,\)"),
        (ArrayDataset(np.arange(3), np.zeros((3, 2), int)), r"int64 of shape \(3, 2\)"),
    ],
)
def test_datasets_without_labels_are_told(wrong, message):
    for ask in (labels_of, lambda d: labels_per_class(d, 1), lambda d: only_classes(d, [0])):
        with pytest.raises(TypeError, match=message):
            ask(wrong)


@given(label_lists, st.integers(0, 2**64 - 1), st.data())
def test_so_many_of_each_class(labels, seed, data):
    counts = np.bincount(labels)
    count = data.draw(st.integers(1, int(counts[counts > 0].min())))
    few = labels_per_class(dataset(labels), count, seed)
    inputs, found = few[:]
    assert np.unique(found, return_counts=True)[1].tolist() == [count] * len(set(labels))
    assert np.all(np.diff(inputs) > 0) and np.array_equal(np.array(labels)[inputs // 10], found)
    smaller = labels_per_class(dataset(labels), max(1, count - 1), Generator(seed))
    assert set(smaller.indices) <= set(few.indices)


def test_other_seeds_choose_others():
    labels = np.arange(100) % 2
    first, again, other = (labels_per_class(dataset(labels), 10, s).indices for s in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize(
    "labels, count, message",
    [([0, 0, 1], 2, "count=2, but class 1 has only 1"), ([0], 0, "at least 1"), ([], 1, "no samp")],
)
def test_impossible_counts_are_told(labels, count, message):
    with pytest.raises(ValueError, match=message):
        labels_per_class(ArrayDataset(np.arange(len(labels)), np.array(labels, int)), count)


@given(label_lists, st.data(), st.booleans())
def test_only_the_classes_that_are_asked_for(labels, data, relabel):
    present = sorted(set(labels))
    chosen = data.draw(st.lists(st.sampled_from(present), min_size=1, unique=True))
    part = only_classes(dataset(labels), chosen, relabel=relabel)
    wanted = [i for i, label in enumerate(labels) if label in chosen]
    inputs, found = part[:]
    assert inputs.tolist() == [10 * i for i in wanted] and len(part) == len(wanted)
    old = [labels[i] for i in wanted]
    assert (
        found.tolist()
        == part.labels.tolist()
        == ([chosen.index(label) for label in old] if relabel else old)
    )
    assert found.dtype == np.int64
    assert int(part[0][1]) == found[0] and np.ndim(part[0][1]) == 0
    assert part[np.array([], int)][1].tolist() == []


def test_names_go_with_their_classes():
    whole = Named(np.arange(6), [0, 1, 2, 0, 1, 2])
    part = only_classes(whole, ["cat", "ant"])
    assert part.classes == ("cat", "ant") and part.labels.tolist() == [1, 0, 1, 0]
    assert only_classes(whole, ["cat"], relabel=False).classes == Named.classes
    assert only_classes(part, ["ant"]).classes == ("ant",)
    assert only_classes(dataset([0, 1]), [1]).classes is None


def test_further_arrays_stay_in_the_batch():
    whole = ArrayDataset(np.arange(4), [0, 1, 1, 0], np.arange(4) * 2.5)
    (batch,) = Loader(only_classes(whole, [1]), 4)
    assert [array.tolist() for array in batch] == [[1, 2], [0, 0], [2.5, 5.0]]


@pytest.mark.parametrize(
    "classes, message",
    [
        ([], "one or more different classes"),
        ([1, 1], "one or more different classes"),
        ([1, 9], r"no sample has class \[9\]; there are \[0, 1, 2\]"),
        (["dog"], r"no class 'dog', only \['ant', 'bee', 'cat'\]"),
        (["cat", 2], "one or more different classes"),
    ],
)
def test_classes_that_are_not_there_are_told(classes, message):
    with pytest.raises(ValueError, match=message):
        only_classes(Named(np.arange(3), [0, 1, 2]), classes)


def test_a_subset_tells_where_samples_come_from():
    texts = LabelledTexts(["a", "b", "c"], [0, 1, 1])
    assert only_classes(texts, [1]).source(1) == "'c'"
    assert Subset(dataset([0, 1, 2]), [2]).source(0) == "sample 2 of the whole dataset"
