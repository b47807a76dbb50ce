"""Accuracy, top-k and the confusion matrix."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad_nn.metrics import accuracy, confusion_matrix, topk_accuracy

SCORES = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]]


def test_accuracy():
    assert accuracy(mg.tensor(SCORES), mg.tensor([1, 0, 2, 0]).astype(int)) == 1.0
    assert accuracy(SCORES, [1, 1, 1, 1]) == 0.25
    assert math.isnan(accuracy(np.zeros((0, 3)), np.zeros(0, int)))


def test_top_k():
    assert topk_accuracy(SCORES, [2, 1, 1, 1], 2) == 1.0
    assert topk_accuracy(SCORES, [0, 2, 0, 2], 2) == 0.0
    assert topk_accuracy(SCORES, [0, 2, 0, 2], 3) == 1.0
    # Constant scores are no knowledge: exactly the first k classes count.
    assert topk_accuracy(np.zeros((3, 3)), [0, 1, 2], 2) == pytest.approx(2 / 3)
    assert topk_accuracy([[math.nan, math.nan]], [0], 2) == 0.0


def test_confusion():
    found = confusion_matrix(SCORES, [1, 1, 2, 2])
    assert found.tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 1]]


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match=r"shapes \(4, 3\) and \(3,\)"):
        accuracy(SCORES, [1, 1, 1])
    with pytest.raises(TypeError, match="integers"):
        accuracy(SCORES, [0.0, 1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="k must be"):
        topk_accuracy(SCORES, [1, 1, 1, 1], 0)
