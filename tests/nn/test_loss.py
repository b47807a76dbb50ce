"""Losses and softmax: values by hand, extreme logits, and what errors say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad_nn import functional as F


def test_softmax_of_the_lecture():
    scores = mg.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=np.float64)
    exponentials = np.round(np.exp(scores.data), 2)
    assert exponentials.tolist() == [0.14, 0.37, 1.0, 2.72, 7.39]
    np.testing.assert_allclose(
        F.softmax(scores).data, np.exp(scores.data) / np.exp(scores.data).sum()
    )


def test_cross_entropy_of_the_lecture():
    p = mg.tensor([[0.97, 0.02, 0.01]], dtype=np.float64)
    assert F.cross_entropy(p.log(), [0]).item() == pytest.approx(0.030459, abs=1e-6)
    assert F.nll_loss(p.log(), [0]).item() == pytest.approx(-math.log(0.97))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_at_logits_of_1e4(dtype, smoothing):
    x = mg.tensor(np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype), requires_grad=True)
    loss = F.cross_entropy(x, [1, 2], "none", smoothing)
    rest = np.array([0.0 + 2e4 + 1e4, 2e4 + math.log(2) * 3]) * smoothing / 3
    wanted = (1 - smoothing) * np.array([2e4, math.log(2)]) + rest
    np.testing.assert_allclose(loss.data, wanted, rtol=1e-6)
    assert loss.dtype == dtype
    loss.sum().backward()
    share = smoothing / 3
    wanted = [
        [1 - share, -(1 - smoothing) - share, -share],
        [-share, 0.5 - share, -0.5 + 2 * share],
    ]
    np.testing.assert_allclose(x.grad.data, wanted, atol=1e-6)


def test_a_masked_class_has_probability_0_and_gradient_0():
    x = mg.tensor([[0.0, -math.inf, 0.0]], requires_grad=True)
    loss = F.cross_entropy(x, [0])
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert x.grad.tolist() == [[-0.5, 0.0, 0.5]]


def test_what_is_not_finite_comes_out_as_in_ieee_arithmetic():
    assert F.cross_entropy(mg.tensor([[0.0, -math.inf]]), [1]).item() == math.inf
    for row in ([math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]):
        assert math.isnan(F.cross_entropy(mg.tensor([row]), [0]).item())
        assert np.isnan(F.softmax(mg.tensor(row)).data).all()


@given(st.integers(0, 3), st.integers(1, 4), st.floats(0, 1), st.booleans())
def test_reductions_agree_with_each_other(n, classes, smoothing, planes):
    rng = np.random.default_rng(n)
    extra = (2,) if planes else ()
    x = mg.tensor(rng.standard_normal((n, classes, *extra)))
    target = rng.integers(0, classes, (n, *extra))
    each = F.cross_entropy(x, target, "none", smoothing)
    assert each.shape == (n, *extra)
    total = F.cross_entropy(x, target, "sum", smoothing).item()
    assert total == pytest.approx(each.data.sum())
    mean = F.cross_entropy(x, target, "mean", smoothing).item()
    assert math.isnan(mean) if n == 0 else mean == pytest.approx(each.data.mean())
    if smoothing == 0.0:
        wanted = F.nll_loss(F.log_softmax(x, 1), target, "none")
        np.testing.assert_allclose(each.data, wanted.data, rtol=1e-12)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize(
    "x, target, error, message",
    [
        (mg.zeros((2, 3)), [0, 3], ValueError, r"target\[1\] is 3.*classes 0 to 2"),
        (mg.zeros((2, 3)), [-1, 0], ValueError, r"target\[0\] is -1"),
        (mg.zeros((1, 3, 2)), [[0, 7]], ValueError, r"target\[0, 1\] is 7"),
        (mg.zeros((2, 3)), [[0], [1]], ValueError, r"shape \(2,\).*got shape \(2, 1\)"),
        (mg.zeros((2, 3)), [0, 1, 2], ValueError, r"got shape \(3,\)"),
        (mg.zeros((2, 3)), mg.zeros(2), TypeError, "float32.*astype"),
        (mg.zeros((2, 3)), mg.zeros((2, 4)), TypeError, "argmax"),
        (mg.zeros(3), [0], ValueError, r"got shape \(3,\)"),
        (mg.zeros((2, 3)).astype(int), [0, 1], TypeError, "floats"),
    ],
)
def test_wrong_targets_are_told(loss, x, target, error, message):
    with pytest.raises(error, match=message):
        loss(x, target)


def test_wrong_settings_are_told():
    x = mg.zeros((2, 3))
    with pytest.raises(ValueError, match="reduction.*'avg'"):
        F.cross_entropy(x, [0, 1], "avg")
    with pytest.raises(ValueError, match="label_smoothing.*1.5"):
        F.cross_entropy(x, [0, 1], label_smoothing=1.5)
    with pytest.raises(ValueError, match="reduction"):
        F.mse_loss(x, x, "avg")
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
        F.mse_loss(x, mg.zeros(3))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_targets_of_any_integer_type(kind):
    x = mg.tensor(np.random.default_rng(0).standard_normal((3, 4)), requires_grad=True)
    target = np.array([3, 0, 2], kind)
    loss = F.cross_entropy(x, mg.tensor(target, dtype=kind), label_smoothing=0.1)
    loss.backward()
    wanted = F.softmax(x.data)
    wanted[[0, 1, 2], [3, 0, 2]] -= 0.9
    np.testing.assert_allclose(x.grad.data, (wanted - 0.1 / 4) / 3, rtol=1e-12)


def test_probabilities_of_one_class_are_that_class():
    x = np.random.default_rng(3).standard_normal((5, 4, 2))
    target = np.random.default_rng(4).integers(0, 4, (5, 2))
    rows = np.moveaxis(np.eye(4)[target], -1, 1)
    for settings in ({}, {"reduction": "none"}, {"reduction": "sum", "label_smoothing": 0.2}):
        found, wanted = (F.cross_entropy(mg.tensor(x), t, **settings) for t in (rows, target))
        np.testing.assert_allclose(found.data, wanted.data, rtol=1e-12)


def test_probabilities_keep_the_dtype_and_may_have_a_gradient():
    x = mg.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    target = mg.tensor([[0.2, 0.3, 0.5]], requires_grad=True)
    loss = F.cross_entropy(x, target)
    loss.backward()
    assert loss.dtype == x.grad.dtype == np.float32
    np.testing.assert_allclose(x.grad.data, F.softmax(x.data) - target.data, rtol=1e-5)
    np.testing.assert_allclose(target.grad.data, -F.log_softmax(x.data), rtol=1e-5)
    assert F.cross_entropy(x, [[0.2, 0.3, 0.5]]).dtype == np.float32
    assert F.cross_entropy(x, np.array([[0.2, 0.3, 0.5]])).dtype == np.float32


def test_wrong_settings_for_probabilities_are_told():
    x, target = mg.zeros((2, 3)), np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match="ignore_index=1 names a class number"):
        F.cross_entropy(x, target, ignore_index=1)
    with pytest.raises(ValueError, match="reduction.*'avg'"):
        F.cross_entropy(x, target, "avg")
    with pytest.raises(ValueError, match=r"weight must have shape \(3,\)"):
        F.cross_entropy(x, target, weight=[1.0])
    with pytest.raises(TypeError, match="floats"):
        F.cross_entropy(x.astype(int), target)
    with pytest.raises(ValueError, match="label_smoothing"):
        F.cross_entropy(x, target, label_smoothing=-1)
    with pytest.raises(TypeError, match=r"or probabilities of shape \(2, 3\)"):
        F.cross_entropy(x, target[:1])


def test_mse():
    x, target = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([0.0, 4.0])
    assert F.mse_loss(x, target, "none").tolist() == [1.0, 4.0]
    assert F.mse_loss(x, target, "sum").item() == 5.0
    F.mse_loss(x, target).backward()
    assert x.grad.tolist() == [1.0, -2.0]
