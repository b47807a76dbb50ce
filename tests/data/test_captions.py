"""Captions of scenes: made, read back, held against the scene, and as tokens."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn.data import captions

NAMES = "zero one two three four five six seven eight nine".split()


@st.composite
def scenes(draw):
    """Classes, boxes with centres that all differ, and colours or None."""
    n = draw(st.integers(1, 4))
    corner = st.tuples(st.integers(0, 40), st.integers(0, 40))
    corners = draw(st.lists(corner, min_size=n, max_size=n, unique=True))
    side = draw(st.integers(1, 20))
    boxes = [(x, y, x + side, y + 2 * side) for x, y in corners]
    classes = draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    colours = draw(st.none() | st.lists(st.integers(0, 5), min_size=n, max_size=n))
    return classes, boxes, colours


@given(scenes())
def test_a_caption_is_true_and_read_back(scene):
    classes, boxes, colours = scene
    words = captions.describe(classes, boxes, colours)
    things, told = captions.parse(words)
    assert sorted(number for number, _ in things) == sorted(classes)
    assert len(told) == len(things) - 1
    assert captions.holds(words, classes, boxes, colours)
    # Whatever the way it was told in: from the picture's own numbers, without `relation`.
    centre = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes]
    order = sorted(range(len(boxes)), key=lambda i: (sum(centre[i]), centre[i][0]))
    for k, (i, j) in enumerate(itertools.pairwise(order)):
        across, down = centre[j][0] - centre[i][0], centre[j][1] - centre[i][1]
        assert told[k] == ("left of" if abs(across) >= abs(down) else "above")
        assert (across if told[k] == "left of" else down) > 0
    assert [number for number, _ in things] == [classes[i] for i in order]
    if colours is not None:
        assert [colour for _, colour in things] == [colours[i] for i in order]


@given(scenes())
def test_tokens_are_decoded(scene):
    words = captions.describe(*scene)
    length = captions.longest(len(scene[0]), scene[2] is not None)
    tokens = captions.encode(words, length)
    assert captions.decode(tokens) == words
    assert tokens[0] == captions.START and captions.END in tokens
    assert tokens.shape == (length,)


def test_the_longest_caption_fits_exactly():
    words = "a red one left of an eight left of a pink two".split()
    assert captions.holds(words, [1, 8, 2], [[0, 0, 2, 2], [9, 0, 11, 2], [20, 0, 22, 2]])
    # Three things of three words, two relations of two, start and end; one has no colour here.
    assert captions.longest(3, True) == len(words) + 1 + 2
    with pytest.raises(ValueError, match="do not fit"):
        captions.encode(words, len(words) + 1)


def test_what_is_not_true_does_not_hold():
    classes, boxes, colours = [3, 8], [[0, 0, 10, 10], [30, 4, 40, 14]], [0, 1]

    def holds(text):
        return captions.holds(text.split(), classes, boxes, colours)

    assert holds("a three left of an eight")
    assert holds("a red three left of a green eight")
    assert not holds("a green three left of a green eight")
    assert not holds("an eight left of a three")
    assert not holds("a three above an eight")
    assert not holds("a three")
    assert not holds("a three left of an eight left of an eight")
    assert not holds("a three left of a nine")
    assert not holds("three left eight")
    # Another order than ours may be as true.
    corner = [[0, 20, 10, 30], [8, 0, 18, 10], [40, 0, 50, 10]]
    assert captions.holds("a two above a one".split(), [1, 2], corner[:2])
    assert captions.holds("a two left of a four".split(), [2, 4], corner[1:])
    # Two of a kind: one of the two ways to see them is enough.
    assert captions.holds("a five above a five left of a six".split(), [5, 5, 6],
                          [[8, 20, 18, 30], [0, 0, 10, 10], [40, 18, 50, 28]])  # fmt: skip


def test_relations_are_counted_one_by_one():
    wanted = ["a one left of a two above a three", "a red two left of a two", "a six"]
    found = ["a one left of a two left of a three", "a two left of a two", "a six"]
    wanted, found = ([text.split() for text in texts] for texts in (wanted, found))
    assert captions.relation_accuracy(wanted, wanted) == {"left of": 1.0, "above": 1.0}
    assert captions.relation_accuracy(found, wanted) == {"left of": 0.5, "above": 0.0}
    # What is no sentence tells nothing, and what is told twice counts once.
    found = ["a one left".split(), "a red two left of a two left of a red two".split(), []]
    assert captions.relation_accuracy(found, wanted) == {"left of": 0.5, "above": 0.0}
    assert np.isnan(captions.relation_accuracy([["a"]], [["a", "two"]])["above"])
    with pytest.raises(ValueError, match="word 0"):
        captions.relation_accuracy([["a", "two"]], [[]])
    with pytest.raises(ValueError, match="got 1 and 0"):
        captions.relation_accuracy([], [["a", "two"]])


def test_what_is_no_sentence_is_told():
    for text, message in [
        ("", "word 0 must be 'a' or 'an', got the end"),
        ("a", "word 1 must be a colour or a number, got the end"),
        ("a red left", "word 2 must be a number, got 'left'"),
        ("an three", "'an' does not stand before 'three'"),
        ("a eight", "'a' does not stand before 'eight'"),
        ("a one left a two", "word 3 must be 'of', got 'a'"),
        ("a one a two", "word 2 must be 'left', 'above' or the end, got 'a'"),
        ("a one above", "word 3 must be 'a' or 'an', got the end"),
    ]:
        with pytest.raises(ValueError, match=message):
            captions.parse(text.split())


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="n > 0"):
        captions.describe([], np.zeros((0, 4)))
    with pytest.raises(ValueError, match=r"got \(2,\) and \(1, 4\)"):
        captions.describe([1, 2], [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="the same centre"):
        captions.describe([1, 0], [[2, 2, 4, 4], [0, 0, 6, 6]])
    with pytest.raises(ValueError, match="'ten'"):
        captions.encode(["a", "ten"], 9)
