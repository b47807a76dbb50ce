"""Normalisation of samples, channel dropout, embedding, resizing and modules by name."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F

rng = np.random.default_rng(0)


def test_layer_group_and_instance_norm_are_one_family():
    x = rng.standard_normal((3, 4, 2, 5))
    np.testing.assert_allclose(
        F.group_norm(x, 1), F.layer_norm(x.reshape(3, 40), 40).reshape(x.shape), rtol=1e-9
    )
    np.testing.assert_allclose(F.group_norm(x, 4), F.instance_norm(x), rtol=1e-9)
    y = F.group_norm(x, 2).reshape(3, 2, -1)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-4)


def test_local_response_norm_in_the_words_of_alexnet():
    # b_i = a_i / (k + alpha * sum of a_j² over 5 channels)^beta, with their constants.
    x = 30 * rng.standard_normal((1, 7, 1, 1))
    wanted = np.empty(7)
    for i in range(7):
        near = x[0, max(0, i - 2) : i + 3, 0, 0]
        wanted[i] = x[0, i, 0, 0] / (2.0 + 1e-4 * (near**2).sum()) ** 0.75
    found = F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
    np.testing.assert_allclose(found[0, :, 0, 0], wanted, rtol=1e-12)


def test_contrast_normalisation_forgets_light_and_contrast():
    x = rng.standard_normal((1, 1, 16, 16))
    layer = nn.ContrastNorm2d(5)
    y = layer(mg.tensor(x)).data
    np.testing.assert_allclose(layer(mg.tensor(x + 100.0)).data, y, atol=1e-9)
    np.testing.assert_allclose(layer(mg.tensor(x * 50.0)).data, y, atol=1e-6)
    np.testing.assert_allclose(nn.SubtractiveNorm2d(5)(mg.ones((2, 3, 6, 6))).data, 0, atol=1e-6)
    # By hand, at the centre of a 3x3 picture seen by one 3x3 window of equal weights.
    small = np.arange(9.0).reshape(1, 1, 3, 3)
    window = np.ones((3, 3))
    centred = F.subtractive_norm(small, window)
    assert centred[0, 0, 1, 1] == pytest.approx(0.0) and centred[0, 0, 0, 0] == pytest.approx(-2.0)
    squares = [
        (centred[0, 0, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2] ** 2).mean()
        for i in range(3)
        for j in range(3)
    ]
    deviation = np.sqrt(squares).reshape(3, 3)
    wanted = centred[0, 0] / np.maximum(deviation, deviation.mean())
    np.testing.assert_allclose(F.divisive_norm(centred, window)[0, 0], wanted, rtol=1e-6)
    assert np.isfinite(layer(mg.zeros((1, 1, 6, 6))).data).all()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_channel_dropout(axes):
    x = mg.tensor(np.ones((40, 50, *(2, 3, 2)[:axes]), np.float32), requires_grad=True)
    layer = getattr(nn, f"Dropout{axes}d")(0.25, mg.random.Generator(1))
    y = layer(x)
    planes = y.data.reshape(2000, -1)
    assert (planes == planes[:, :1]).all()
    assert sorted(np.unique(planes).tolist()) == pytest.approx([0, 4 / 3])
    assert abs((planes[:, 0] == 0).mean() - 0.25) < 0.04
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)
    layer.eval()
    assert layer(x) is x
    assert getattr(F, f"dropout{axes}d")(x, 1.0).data.max() == 0


def test_embedding_is_a_one_hot_product():
    table = mg.tensor(rng.standard_normal((6, 3)), requires_grad=True)
    numbers = rng.integers(0, 6, (4, 5))
    found = F.embedding(numbers, table)
    hot = np.eye(6)[numbers]
    np.testing.assert_allclose(found.data, hot @ table.data)
    g = rng.standard_normal(found.shape)
    (gradient,) = mg.gradients((found * g).sum(), [table])
    np.testing.assert_allclose(gradient.data, np.tensordot(hot, g, ((0, 1), (0, 1))))
    assert F.embedding(np.zeros((0, 2), int), table).shape == (0, 2, 3)
    layer = nn.Embedding(6, 3, padding_idx=1)
    layer(numbers).sum().backward()
    assert (layer.weight.grad.data[1] == 0).all() and (layer.weight.grad.data[2] != 0).all()


def test_resizing():
    x = mg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert F.interpolate(x, scale_factor=2).tolist() == [
        [[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]
    ]
    ramp = mg.tensor(np.arange(4.0)[None, None])
    wide = F.interpolate(ramp, 7, mode="linear", align_corners=True)
    np.testing.assert_allclose(wide.data[0, 0], np.arange(7) / 2)
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2, mode='nearest')"


def test_module_dict():
    parts = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3), "act": nn.ReLU()})
    assert list(parts.state_dict()) == ["conv.weight", "conv.bias"]
    parts.update([("head", nn.Linear(2, 2))])
    assert list(parts) == list(parts.keys()) == ["conv", "act", "head"] and len(parts) == 3
    assert [type(m).__name__ for m in parts.values()] == ["Conv2d", "ReLU", "Linear"]
    parts["act"] = nn.Tanh()
    del parts["head"]
    assert "head" not in parts and [n for n, _ in parts.items()] == ["conv", "act"]
    assert isinstance(parts["act"], nn.Tanh)
    with pytest.raises(KeyError, match="it has conv, act"):
        parts["none"]
    with pytest.raises(TypeError, match="must be a Module"):
        parts["x"] = 3
    for name in ("a.b", "", "training", "parameters"):
        with pytest.raises(ValueError, match="name"):
            parts[name] = nn.ReLU()


X = mg.zeros((2, 4, 3, 3))
WRONG = [
    (lambda: F.layer_norm(X, 4), "last axes"),
    (lambda: F.layer_norm(X, 3, mg.zeros(4)), r"weight must have shape \(3,\)"),
    (lambda: F.group_norm(X, 3), "do not split into 3"),
    (lambda: F.group_norm(X, 2, None, mg.zeros(2)), "bias must have shape"),
    (lambda: F.group_norm(mg.zeros(3), 1), r"\(N, C\)"),
    (lambda: F.instance_norm(mg.zeros((2, 3))), "spatial"),
    (lambda: F.instance_norm(mg.zeros((2, 3, 1))), "more than one value"),
    (lambda: F.instance_norm(X, use_input_stats=False), "needs running_mean"),
    (lambda: F.local_response_norm(X, 0), "size must be"),
    (lambda: F.subtractive_norm(X, np.zeros((3, 3))), "sum above 0"),
    (lambda: F.divisive_norm(mg.zeros((1, 3)), np.ones((3, 3))), r"\(N, C, H, W\)"),
    (lambda: nn.GroupNorm(3, 4), "does not split"),
    (lambda: nn.InstanceNorm2d(3)(X), "3 channels"),
    (lambda: nn.ContrastNorm2d(0), "kernel_size"),
    (lambda: F.dropout2d(mg.zeros((2, 3))), "dropout2d: x must be"),
    (lambda: F.dropout2d(X, 1.5), "p must be"),
    (lambda: nn.Dropout2d(-1), "Dropout2d: p must be"),
    (lambda: F.embedding([3], mg.zeros((3, 2))), "x holds 3"),
    (lambda: F.embedding([-1], mg.zeros((3, 2))), "x holds -1"),
    (lambda: F.embedding([0], mg.zeros(3)), "rows, width"),
    (lambda: F.embedding([0], mg.zeros((3, 2)), 3), "padding_idx 3"),
    (lambda: nn.Embedding(3, 2, 5), "padding_idx 5"),
    (lambda: F.interpolate(X), "either size or scale_factor"),
    (lambda: F.interpolate(X, (2, 2, 2)), "2 numbers"),
    (lambda: F.interpolate(X, 2, mode="linear"), "mode must be one of"),
    (lambda: F.interpolate(X, scale_factor=0.1), "cannot resize"),
    (lambda: F.interpolate(X, scale_factor=-1), "above 0"),
    (lambda: F.interpolate(X, 2, align_corners=True), "no meaning"),
    (lambda: F.interpolate(mg.zeros((2, 2)), 2), "spatial axes"),
]


@pytest.mark.parametrize("call, message", WRONG)
def test_wrong_use_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_embedding_wants_integers():
    with pytest.raises(TypeError, match="integers"):
        F.embedding([0.5], mg.zeros((3, 2)))
