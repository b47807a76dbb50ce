"""Layers: shapes, parameter counts of the lectures, settings, modes, initial weights."""

import itertools
import math

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F


def count(module):
    return sum(p.size for p in module.parameters())


def test_parameter_counts_of_the_lectures():
    assert count(nn.Conv2d(3, 2, 3, stride=2, padding=1)) == 56
    assert count(nn.Conv2d(3, 6, 5, bias=False)) == 450
    # 7 inputs, 3 hidden: everything connected, and one filter of 3 shared at stride 2.
    assert count(nn.Linear(7, 3, bias=False)) == 21
    shared = nn.Conv1d(1, 1, 3, stride=2, bias=False)
    assert count(shared) == 3 and shared(mg.zeros((1, 1, 7))).shape == (1, 1, 3)
    sizes = [25, 16, 16, 9, 9]
    dense = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)]
    assert sum(count(layer) for layer in dense) == 881
    keras = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(1728, 10))
    assert [count(part) for part in keras] == [30, 84, 0, 17290] and count(keras) == 17404
    x = mg.zeros((1, 1, 28, 28))
    shapes = []
    for part in keras:
        x = part(x)
        shapes.append(x.shape[1:])
    assert shapes == [(3, 26, 26), (3, 24, 24), (1728,), (10,)]


@pytest.mark.parametrize(
    "layer, shape, wanted",
    [
        (nn.Conv1d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2), (3, 2, 9), (3, 4, 4)),
        (nn.Conv2d(3, 6, (5, 3), padding="same"), (2, 3, 8, 7), (2, 6, 8, 7)),
        (nn.Conv3d(1, 2, 2, bias=False), (1, 1, 3, 4, 5), (1, 2, 2, 3, 4)),
        (nn.MaxPool1d(2), (1, 2, 5), (1, 2, 2)),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (1, 2, 6, 6), (1, 2, 4, 4)),
        (nn.MaxPool3d(2, dilation=2, stride=1), (1, 2, 4, 4, 4), (1, 2, 2, 2, 2)),
        (nn.AvgPool1d(2, 1), (1, 2, 5), (1, 2, 4)),
        (nn.AvgPool2d((2, 1)), (1, 2, 4, 4), (1, 2, 2, 4)),
        (nn.AvgPool3d(2), (1, 2, 4, 4, 4), (1, 2, 2, 2, 2)),
        (nn.SumPool1d(5), (1, 2, 5), (1, 2, 1)),
        (nn.SumPool2d(2, padding=1), (1, 2, 4, 4), (1, 2, 3, 3)),
        (nn.SumPool3d(2), (1, 2, 4, 4, 4), (1, 2, 2, 2, 2)),
        (nn.BatchNorm1d(3), (2, 3), (2, 3)),
        (nn.BatchNorm1d(3), (2, 3, 4), (2, 3, 4)),
        (nn.BatchNorm2d(3), (2, 3, 4, 4), (2, 3, 4, 4)),
        (nn.BatchNorm3d(3, affine=False), (2, 3, 1, 4, 4), (2, 3, 1, 4, 4)),
        (nn.Linear(4, 2, bias=False), (3, 5, 4), (3, 5, 2)),
        (nn.Flatten(), (2, 3, 4, 5), (2, 60)),
        (nn.Flatten(0, 1), (2, 3, 4), (6, 4)),
        (nn.Flatten(), (0, 3, 4), (0, 12)),
        (nn.ReLU(), (2, 3), (2, 3)),
        (nn.Tanh(), (2, 3), (2, 3)),
        (nn.Sigmoid(), (2, 3), (2, 3)),
        (nn.Softmax(), (2, 3), (2, 3)),
        (nn.Identity(), (2, 3), (2, 3)),
        (nn.Dropout(0.3), (2, 3), (2, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_shapes_and_gradients(layer, shape, wanted):
    x = mg.tensor(np.random.default_rng(0).standard_normal(shape).astype("f"), requires_grad=True)
    y = layer(x)
    assert y.shape == wanted and y.dtype == np.float32
    y.sum().backward()
    assert x.grad.shape == shape
    assert all(p.grad.shape == p.shape for p in layer.parameters())
    assert repr(layer).startswith(type(layer).__name__ + "(")


def test_activation_layers_compute_what_their_names_say():
    x = mg.tensor([[-1.0, 0.0, 2.0]])
    assert nn.ReLU()(x).tolist() == [[0, 0, 2]]
    np.testing.assert_allclose(nn.Tanh()(x).data, np.tanh(x.data), rtol=1e-6)
    np.testing.assert_allclose(nn.Sigmoid()(x).data, 1 / (1 + np.exp(-x.data)), rtol=1e-6)
    assert nn.Softmax()(x).data.sum() == pytest.approx(1)
    assert nn.Identity()(x) is x


def test_wrong_settings_are_told():
    with pytest.raises(ValueError, match="divisible by groups 2"):
        nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match="kernel_size must have 2 numbers"):
        nn.Conv2d(3, 4, (3, 3, 3))
    with pytest.raises(ValueError, match="BatchNorm2d: x must have 4 axes with 3 channels"):
        nn.BatchNorm2d(3)(mg.zeros((2, 3)))
    with pytest.raises(ValueError, match="2 axes or 3 axes with 3 channels"):
        nn.BatchNorm1d(3)(mg.zeros((2, 4)))
    with pytest.raises(ValueError, match="more than one value"):
        nn.BatchNorm1d(3)(mg.zeros((1, 3)))
    with pytest.raises(ValueError, match="as many inputs"):
        nn.Linear(3, 2)(mg.zeros((2, 4)))
    with pytest.raises(ValueError, match="behind end_dim"):
        nn.Flatten(2, 1)(mg.zeros((2, 3, 4)))


def test_default_weights_are_uniform_within_the_fan():
    mg.manual_seed(3)
    layer = nn.Conv2d(16, 64, 5)
    bound = 1 / math.sqrt(16 * 25)
    for values in (layer.weight.data, layer.bias.data):
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.9 * bound
    assert abs(layer.weight.data.std() - bound / math.sqrt(3)) < 0.02 * bound
    again = (mg.manual_seed(3), nn.Conv2d(16, 64, 5))[1]
    assert (again.weight.data == layer.weight.data).all()
    assert (nn.Conv2d(16, 64, 5).weight.data != layer.weight.data).any()
    assert nn.Linear(4, 2, dtype=np.float64).weight.dtype == np.float64


# --- batch norm ----------------------------------------------------------------------------------


def test_batch_norm_normalises_tracks_and_then_uses_what_it_tracked():
    rng = np.random.default_rng(0)
    layer = nn.BatchNorm2d(2)
    x = mg.tensor(rng.normal(3.0, 2.0, (8, 2, 5, 5)).astype("f"))
    y = layer(x).data
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 2, 3)), 1, atol=1e-4)
    assert layer.num_batches_tracked.item() == 1
    mean, var = x.data.mean((0, 2, 3)), x.data.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.data, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.data, 0.9 + 0.1 * var, rtol=1e-5)
    layer.eval()
    z = layer(x).data
    shape = (1, 2, 1, 1)
    wanted = (x.data - layer.running_mean.data.reshape(shape)) / np.sqrt(
        layer.running_var.data.reshape(shape) + 1e-5
    )
    np.testing.assert_allclose(z, wanted, rtol=1e-4, atol=1e-5)
    assert layer.num_batches_tracked.item() == 1
    layer.reset_parameters()
    assert layer.running_var.tolist() == [1, 1] and layer.num_batches_tracked.item() == 0


def test_batch_norm_without_momentum_averages_all_batches():
    layer = nn.BatchNorm1d(1, momentum=None)
    for value in (1.0, 2.0, 6.0):
        layer(mg.tensor([[value - 1], [value + 1]]))
    assert layer.running_mean.item() == pytest.approx(3.0)


def test_batch_norm_without_tracking_always_uses_the_batch():
    layer = nn.BatchNorm1d(2, track_running_stats=False).eval()
    assert layer.running_mean is None and list(layer.state_dict()) == ["weight", "bias"]
    y = layer(mg.tensor([[0.0, 1.0], [4.0, 2.0]]))
    np.testing.assert_allclose(y.data, [[-1, -1], [1, 1]], atol=1e-4)


def test_a_graph_of_use_survives_later_training():
    layer = nn.BatchNorm1d(2).eval()
    x = mg.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    y = (layer(x) ** 2).sum()
    layer.train()(x)
    y.backward()
    np.testing.assert_allclose(x.grad.data, 2 * x.data, rtol=1e-4)


def test_batch_norm_needs_statistics():
    with pytest.raises(ValueError, match="needs running_mean"):
        F.batch_norm(mg.zeros((2, 3)))
    with pytest.raises(ValueError, match="running_mean must have shape"):
        F.batch_norm(mg.zeros((2, 3)), mg.zeros(2), mg.zeros(2))
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        F.batch_norm(mg.zeros(3), training=True)


def test_a_constant_channel_gives_the_shift_and_running_variance_shrinks():
    layer = nn.BatchNorm1d(1)
    x = mg.tensor([[5.0], [5.0], [5.0]], requires_grad=True)
    y = layer(x)
    assert y.tolist() == [[0], [0], [0]]
    assert layer.running_var.item() == pytest.approx(0.9)
    y.sum().backward()
    assert np.abs(x.grad.data).max() < 1e-3


def test_checkpoint_updates_running_statistics_once() -> None:
    plain, twice = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    x = np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
    a, b = (mg.tensor(x, requires_grad=True) for _ in range(2))
    (plain(a) ** 2).sum().backward()
    (mg.checkpoint(twice)(b) ** 2).sum().backward()
    for name, array in plain.state_dict().items():
        np.testing.assert_array_equal(array, twice.state_dict()[name], err_msg=name)
    assert a.grad is not None and b.grad is not None
    np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())


def test_linear_wants_a_batch():
    with pytest.raises(ValueError, match=r"x of shape \(3,\).*add the batch axis with x\[None\]"):
        nn.Linear(3, 4)(mg.ones(3))


@pytest.mark.parametrize("dims", [(5,), (1, 4), (-3,)])
def test_flatten_of_an_axis_that_is_not_there(dims):
    with pytest.raises(ValueError, match="Flatten: there is no axis"):
        nn.Flatten(*dims)(mg.ones((2, 3)))
