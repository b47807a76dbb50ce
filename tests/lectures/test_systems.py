"""What the decks say of convolution, pools and non-linearities, shown on small examples."""

import numpy as np

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F

from .rows import shown


def reached(layer, size, place):
    """Which inputs an output of a layer on signals depends on, by its gradient."""
    x = mg.ones((1, 1, size), requires_grad=True)
    layer(x).reshape(-1)[place].backward()
    return np.flatnonzero(x.grad.numpy()[0, 0]).tolist()


def dense(size):
    return nn.Sequential(nn.Flatten(), nn.Linear(size, size))


@shown("000, 002")
def test_sparse_connectivity_seen_from_above():
    """An output of a convolution depends on as many inputs as its kernel has taps, a dense one on
    all."""
    assert reached(nn.Conv1d(1, 1, 3, padding=1), 5, 2) == [1, 2, 3]
    assert reached(dense(5), 5, 2) == [0, 1, 2, 3, 4]


@shown("000, 002")
def test_sparse_connectivity_seen_from_below():
    """An input affects as many outputs of a convolution as its kernel has taps, all of a dense
    layer."""

    def affected(layer):
        return [i for i in range(5) if 2 in reached(layer, 5, i)]

    assert affected(nn.Conv1d(1, 1, 3, padding=1)) == [1, 2, 3]
    assert affected(dense(5)) == [0, 1, 2, 3, 4]


@shown("000")
def test_deeper_layers_see_more():
    """Each further layer with a kernel of 3 lets an output depend on two inputs more."""
    for depth, seen in ((1, 3), (2, 5), (3, 7)):
        layers = nn.Sequential(*[nn.Conv1d(1, 1, 3, padding=1) for _ in range(depth)])
        assert len(reached(layers, 9, 4)) == seen


@shown("000, 002, 004")
def test_parameters_are_shared():
    """A convolution is a dense layer whose rows are all the same three weights, moved; each weight
    collects its gradient from every place."""
    w = mg.tensor([[[0.5, -1.0, 2.0]]], requires_grad=True)
    columns = [F.conv1d(mg.tensor([[row]]), w)[0, 0].numpy() for row in np.eye(7).tolist()]
    matrix = np.stack(columns, axis=1)
    for i, row in enumerate(matrix):
        assert row.tolist() == [0.0] * i + [0.5, -1.0, 2.0] + [0.0] * (4 - i)
    x = mg.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]])
    F.conv1d(x, w).sum().backward()
    assert w.grad.tolist() == [[[15.0, 20.0, 25.0]]]  # sums over the five places of each tap


@shown("002")
def test_convolution_is_equivariant_to_translation():
    """To move a picture and then convolve is to convolve and then move; with a stride only for
    moves by multiples of it."""
    generator = mg.random.Generator(0)
    x = mg.tensor(generator.normal((1, 2, 12, 12)))
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    moved = mg.roll(x, (2, 5), (2, 3))
    there = mg.roll(conv(x), (2, 5), (2, 3))
    np.testing.assert_allclose(conv(moved).numpy(), there.numpy(), atol=1e-6)

    half = nn.Conv2d(2, 3, 3, stride=2, padding=1, padding_mode="circular")
    by_two, by_one = (half(mg.roll(x, step, 3)).numpy() for step in (2, 1))
    np.testing.assert_allclose(by_two, np.roll(half(x).numpy(), 1, 3), atol=1e-6)
    assert not np.allclose(by_one, np.roll(half(x).numpy(), 1, 3), atol=0.1)
    turned = mg.flip(x, 3)
    assert not np.allclose(conv(turned).numpy(), np.flip(conv(x).numpy(), 3), atol=0.1)


@shown("000, 002, 004")
def test_pools_are_invariant_to_small_shifts():
    """What moves inside a window changes no maximum, and over a whole picture most maxima stay when
    all moves by a pixel."""
    spot = np.zeros((1, 1, 8, 8), np.float32)
    spot[0, 0, 4, 4] = 1.0
    still, moved = mg.tensor(spot), mg.tensor(np.roll(spot, (1, 1), (2, 3)))
    for pool in (F.max_pool2d, F.avg_pool2d, F.sum_pool2d):
        assert np.array_equal(pool(still, 2).numpy(), pool(moved, 2).numpy())
    assert not np.array_equal(still.numpy(), moved.numpy())

    x = mg.random.Generator(0).normal((1, 1, 64, 64))
    first, second = (F.max_pool2d(mg.tensor(y), 4, 1).numpy() for y in (x, np.roll(x, 1, 3)))
    assert np.mean(first == second) > 0.5 and np.mean(x == np.roll(x, 1, 3)) < 0.01


@shown("003")
def test_relu6_at_low_precision():
    """Eight bits for 0 to 6 leave small activations ten times finer than eight bits for 0 to the
    largest one, when that is 60."""
    values = mg.tensor([*np.linspace(0.0, 5.0, 1001).tolist(), 60.0])

    def in_eight_bits(x):
        step = x.max().item() / 255
        return np.round(x.numpy() / step) * step

    def error(function):
        exact = function(values)
        return np.abs(in_eight_bits(exact) - exact.numpy())[:-1].max()

    relu, relu6 = error(F.relu), error(F.relu6)
    assert F.relu6(values).max().item() == 6.0
    assert relu > 0.1 and relu6 < 0.012 and round(relu / relu6) == 10


@shown("003")
def test_separable_filters_are_a_product():
    """A depthwise and a pointwise convolution are one convolution whose filters are their
    products."""
    generator = mg.random.Generator(0)
    shapes = ((1, 3, 8, 8), (3, 1, 3, 3), (5, 3, 1, 1))
    x, deep, mix = (mg.tensor(generator.normal(shape)) for shape in shapes)
    whole = mix * deep.reshape(1, 3, 3, 3)
    apart = F.separable_conv2d(x, deep, mix)
    np.testing.assert_allclose(apart.numpy(), F.conv2d(x, whole).numpy(), atol=1e-4)
