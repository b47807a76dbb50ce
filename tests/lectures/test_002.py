"""Deck 002, Convolutional Neural Networks: the numbers that it gives."""

import numpy as np

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F

from .rows import plus, row, value
from .test_000 import CROSS, IMAGE
from .tools import image


@row(
    "002, 000",
    "gradient of that kernel, upstream all ones: itself a correlation",
    plus("", [[6, 7, 6], [4, 7, 7], [4, 6, 6]]),
    plus("`conv2d` of the image with the upstream gradient gives the same", True),
)
def test_the_gradient_of_a_kernel():
    kernel = image(CROSS).requires_grad_()
    F.conv2d(image(IMAGE), kernel).backward(mg.ones((1, 1, 3, 3)))
    correlation = F.conv2d(image(IMAGE), mg.ones((1, 1, 3, 3)))
    return kernel.grad[0, 0], np.array_equal(kernel.grad.numpy(), correlation.numpy())


WINDOWS = [
    [[2, 1, 2], [1, 1, 1], [0, 0, 0]],
    [[2, 2, 2], [2, 2, 0], [0, 2, 2]],
    [[1, 1, 0], [0, 2, 1], [0, 0, 2]],
]
FILTERS = [
    [[1, 1, 0], [-1, -1, -1], [1, -1, 0]],
    [[0, -1, 0], [1, 1, -1], [0, 0, 0]],
    [[-1, -1, 1], [-1, -1, -1], [0, 1, 0]],
]


@row(
    "002",
    "the centre of the two-filter demo",
    value("by channel", [0, 2, -5]),
    value("with the bias 1", -2),
)
def test_the_centre_of_the_demo():
    channels = [F.conv2d(image(x), image(w)).item() for x, w in zip(WINDOWS, FILTERS, strict=True)]
    return channels, F.conv2d(image(WINDOWS), image(FILTERS), mg.tensor([1.0])).item()


@row(
    "002",
    "its shapes: 5×5×3, pad 1, stride 2, two filters 3×3×3",
    value("", (3, 3, 2)),
    plus("parameters", 56),
)
def test_the_shapes_of_the_demo():
    found = nn.summary(nn.Conv2d(3, 2, 3, 2, 1), (3, 5, 5), layout="channels_last")
    return found.rows[0].output_shape, found.totals.parameters


@row(
    "002",
    "O = (W − K + 2P) / S + 1",
    value("10 with 3", 8),
    value("5 with 3", 3),
    value("5 with 3, stride 2", 2),
    value("5 with 3, pad 2", 7),
)
def test_the_formula():
    def size(w, k, stride=1, padding=0):
        x, f = mg.zeros((1, 1, w, w)), mg.zeros((1, 1, k, k))
        return F.conv2d(x, f, None, stride, padding).shape[2]

    return size(10, 3), size(5, 3), size(5, 3, stride=2), size(5, 3, padding=2)


@row("002", "tiling: a stride of the kernel's size", value("equals cutting into patches", True))
def test_tiling():
    generator = mg.random.Generator(0)
    x = mg.tensor(generator.normal((2, 3, 8, 12)))
    w = mg.tensor(generator.normal((5, 3, 4, 4)))
    patches = x.reshape(2, 3, 2, 4, 3, 4).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * 4 * 4)
    cut = (patches @ w.reshape(5, -1).T).reshape(2, 2, 3, 5).transpose(0, 3, 1, 2)
    return np.allclose(F.conv2d(x, w, stride=4).numpy(), cut.numpy(), atol=1e-4)


@row(
    "002",
    "weights of one dense unit",
    value("on 32×32×3", 3_072),
    value("on 200×200×3", 120_000),
)
def test_one_dense_unit():
    def weights(*shape):
        unit = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 1, bias=False))
        return nn.summary(unit, shape).totals.parameters

    return weights(3, 32, 32), weights(3, 200, 200)
