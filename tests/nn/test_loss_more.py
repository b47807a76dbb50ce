"""Weighted, ignoring, binary, focal and dice losses: values by hand, and what errors say."""

import math

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F

rng = np.random.default_rng(1)


def test_a_class_that_counts_twice_is_a_sample_given_twice():
    x, target = rng.standard_normal((3, 3)), np.array([0, 2, 2])
    twice = np.concatenate([x, x[:1]]), np.append(target, 0)
    found = F.cross_entropy(mg.tensor(x), target, weight=[2.0, 1.0, 1.0])
    assert found.item() == pytest.approx(F.cross_entropy(mg.tensor(twice[0]), twice[1]).item())


def test_ignored_pixels_give_no_gradient_even_where_logits_are_nan():
    data = rng.standard_normal((1, 3, 2, 2))
    data[0, :, 0, 1] = math.nan
    x = mg.tensor(data, requires_grad=True)
    loss = F.cross_entropy(x, [[[0, 255], [1, 2]]], ignore_index=255)
    loss.backward()
    assert math.isfinite(loss.item())
    kept = data[0].reshape(3, 4)[:, [0, 2, 3]].T
    assert loss.item() == pytest.approx(F.cross_entropy(mg.tensor(kept), [0, 1, 2]).item())


def test_focal_loss_fades_what_is_easy():
    x, target = rng.normal(0, 2, (5, 3)), rng.integers(0, 3, 5)
    plain = F.cross_entropy(mg.tensor(x), target, "none").data
    np.testing.assert_allclose(F.focal_loss(mg.tensor(x), target, 0.0, "none").data, plain)
    focal = nn.FocalLoss(2.0, "none")(mg.tensor(x), target).data
    np.testing.assert_allclose(focal, (1 - np.exp(-plain)) ** 2 * plain)
    two = np.stack([np.zeros(5), x[:, 0]], 1)
    wanted = F.sigmoid_focal_loss(mg.tensor(x[:, 0]), mg.tensor((target > 0) * 1.0), -1.0).data
    np.testing.assert_allclose(
        F.focal_loss(mg.tensor(two), (target > 0) * 1, 2.0, "none").data, wanted
    )


def test_dice_by_hand():
    sure = np.full((1, 2, 1, 4), -50.0)
    for place, chosen in enumerate([0, 0, 1, 1]):
        sure[0, chosen, 0, place] = 50.0
    target = np.array([[[0, 1, 1, 1]]])
    found = F.dice_loss(mg.tensor(sure), target, smooth=0.0, reduction="none").data
    np.testing.assert_allclose(found, [[1 - 2 * 1 / (2 + 1), 1 - 2 * 2 / (2 + 3)]])
    same = np.array([[[0, 0, 1, 1]]])
    assert nn.DiceLoss()(mg.tensor(sure), same).item() == pytest.approx(0.0)
    # A class that is neither there nor predicted costs nothing.
    three = np.concatenate([sure, np.full((1, 1, 1, 4), -80.0)], 1)
    assert F.dice_loss(mg.tensor(three), same).item() == pytest.approx(0.0)


def test_weight_decay_of_the_lecture():
    w = mg.tensor(np.array([1.0, -2.0, 3.0]), requires_grad=True)
    decay, m = 0.3, 10
    penalty = F.l2_penalty([w], decay, m)
    assert penalty.item() == pytest.approx(decay / (2 * m) * 14)
    penalty.backward()
    np.testing.assert_allclose(w.grad.data, decay * w.data / m)
    # An optimiser's weight_decay adds the same gradient.
    a, b = (mg.tensor(w.data, requires_grad=True) for _ in range(2))
    one, two = nn.optim.SGD([a], 0.1), nn.optim.SGD([b], 0.1, weight_decay=decay / m)
    (a.sum() + F.l2_penalty([a], decay, m)).backward()
    b.sum().backward()
    one.step()
    two.step()
    np.testing.assert_allclose(a.data, b.data)


def test_modules_hold_their_settings():
    loss = nn.CrossEntropyLoss([1.0, 2.0])
    assert list(loss.state_dict()) == ["weight"] and list(loss.parameters()) == []
    assert repr(loss) == "CrossEntropyLoss(reduction='mean')"
    assert nn.L1Loss()(mg.ones(3), mg.zeros(3)).item() == 1.0


X = mg.zeros((2, 3))
WRONG = [
    (lambda: F.cross_entropy(X, [0, 1], weight=[1.0]), r"weight must have shape \(3,\)"),
    (lambda: F.cross_entropy(X, [0, 7], ignore_index=6), r"target\[1\] is 7"),
    (lambda: F.cross_entropy(X, [0, -1]), "is -1"),
    (lambda: F.l1_loss(X, mg.zeros(3)), "target has shape"),
    (lambda: F.l1_loss(X, X, "max"), "reduction"),
    (lambda: F.smooth_l1_loss(X, X, beta=-1), "beta"),
    (lambda: F.binary_cross_entropy_with_logits(X, mg.zeros((2, 1))), "target has shape"),
    (lambda: F.sigmoid_focal_loss(X, X, gamma=-1), "gamma"),
    (lambda: F.focal_loss(X, [0, 1], -1), "gamma"),
    (lambda: F.dice_loss(X, [0, 1]), "at least 2 classes"),
    (lambda: F.dice_loss(mg.zeros((1, 2, 2)), [[0, 1]], -1), "smooth"),
    (lambda: F.l2_penalty([], 0.1), "no parameters"),
    (lambda: F.l2_penalty([X], -0.1), "weight_decay"),
    (lambda: nn.MSELoss("max"), "MSELoss: reduction"),
]


@pytest.mark.parametrize("call, message", WRONG)
def test_wrong_use_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
