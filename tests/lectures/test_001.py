"""Deck 001, CNN, Convolutional Neural Network: the numbers that it gives."""

import numpy as np

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn import models

from .rows import Measured, plus, row, value
from .tools import image

DONUT = [
    [0, -0.2, -0.1, -0.2, 0],
    [-0.2, 0.7, 1, 0.7, -0.2],
    [-0.1, 1, -2.5, 1, -0.1],
    [-0.2, 0.7, 1, 0.7, -0.2],
    [0, -0.2, -0.1, -0.2, 0],
]
PIXELS = [
    [0.73, 0.86, 0.74, 0.85, 0.99, 0.58, 0.96, 0.25],
    [0.29, 0.92, 0.25, 0.38, 0.67, 0.16, 0.63, 0.73],
    [0.90, 0.99, 0.95, 0.06, 0.56, 0.85, 0.23, 0.84],
    [0.00, 0.45, 0.55, 0.28, 0.33, 0.59, 0.69, 0.01],
    [0.50, 0.23, 0.03, 0.41, 0.48, 0.23, 0.62, 0.69],
    [0.85, 0.52, 0.11, 0.95, 0.80, 0.24, 0.03, 0.54],
    [0.99, 0.07, 0.69, 0.35, 0.05, 0.15, 0.61, 0.80],
    [0.03, 0.84, 0.79, 0.52, 0.17, 0.66, 0.73, 0.01],
]


@row(
    "001",
    "the donut filter, pad 2, on the deck's 8×8 image",
    plus("upper-left pixel", "-0.443"),
    plus("an ideal ring", "6.8"),
    plus("the same, filled", "4.3"),
)
def test_how_donutty_a_pixel_is():
    ring = np.zeros((5, 5))
    ring[1:4, 1:4] = 1.0
    filled = ring.copy()
    ring[2, 2] = 0.0
    upper_left = F.conv2d(image(PIXELS), image(DONUT), padding=2)[0, 0, 0, 0]
    answers = [F.conv2d(image(x.tolist()), image(DONUT)).item() for x in (ring, filled)]
    return upper_left.item(), *answers


@row(
    "001",
    "32×32×3 to 28×28×6 without biases",
    value("fully connected: parameters", 14_450_688, deck="14.5 M"),
    value("convolutional: parameters", 450),
    value("convolutional: multiplies", 352_800, deck="~350 K"),
)
def test_fully_connected_and_convolutional():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(32 * 32 * 3, 28 * 28 * 6, bias=False)

        def forward(self, x):
            return self.fc(x.reshape(x.shape[0], -1)).reshape(-1, 6, 28, 28)

    with nn.init.without_drawing():
        dense = nn.summary(Dense(), (3, 32, 32))
    conv = nn.summary(nn.Conv2d(3, 6, 5, bias=False), (3, 32, 32))
    assert dense.rows[0].output_shape == conv.rows[0].output_shape
    return dense.totals.parameters, conv.totals.parameters, conv.totals.multiply_adds


@row(
    "001",
    "four layers without biases",
    value("3×3, one filter each", 36),
    value("fully connected 25-16-16-9-9", 881),
)
def test_four_layers():
    conv = nn.Sequential(*[nn.Conv2d(1, 1, 3, bias=False) for _ in range(4)])
    dense = models.MLP((25, 16, 16, 9, 9), bias=False)
    return tuple(sum(p.size for p in model.parameters()) for model in (conv, dense))


@row(
    "001, 000",
    "max pool 2×2, stride 2, of 1 1 2 4; 5 6 7 8; 3 2 1 0; 1 2 3 4 (its numbers are ours⁺)",
    value("", [[6, 8], [3, 4]]),
)
def test_max_pool():
    x = mg.tensor([[[[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]]]])
    return F.max_pool2d(x, 2, stride=2)[0, 0]


LADDER = {"softmax": 90.23, "mlp": 98.0, "lenet5": 98.85, "deep": 99.38}
NAMES = {
    "softmax": "softmax",
    "mlp": "deep fully connected",
    "lenet5": "CNN",
    "deep": "deep CNN",
}


@row(
    "001",
    "test accuracy on MNIST: reached and beaten",
    *(Measured(NAMES[n], best, ("mnist_ladder", n)) for n, best in LADDER.items()),
)
def test_the_ladder_of_mnist():
    values = test_the_ladder_of_mnist.row.values
    return tuple(one.read() for one in values)
