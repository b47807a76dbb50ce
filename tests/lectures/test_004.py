"""Deck 004, Convolutional Neural Networks (computer vision): the numbers that it gives."""

import numpy as np

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import models

from .rows import Measured, plus, row, value
from .tools import summarised


@row(
    "004",
    "f = x y at x = 4, y = −3",
    value("f", -12),
    value("∂f/∂x", -3),
    value("∂f/∂y", 4),
)
def test_a_product():
    x, y = mg.scalar(4.0), mg.scalar(-3.0)
    f = x * y
    f.backward()
    return f.data, x.grad, y.grad


@row(
    "004",
    "f = (x + y) z with q = x + y",
    value("∂f/∂q is z, the gate gradient", True),
    value("∂f/∂z is q", True),
    value("∂f/∂x is ∂f/∂q · ∂q/∂x, gate gradient times local gradient", True),
)
def test_the_chain_rule():
    found = []
    for values in np.random.default_rng(0).normal(size=(20, 3)).tolist():
        x, y, z = map(mg.scalar, values)
        q = x + y
        f = q * z
        f.backward()
        alone = mg.scalar(values[0])
        (alone + y).backward()
        local = alone.grad
        found.append((q.grad == z.data, z.grad == q.data, x.grad == q.grad * local))
    return tuple(all(one) for one in zip(*found, strict=True))


class Local(nn.Module):
    """Each of 3 hidden units sees 3 of the 7 inputs, with weights of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(np.ones((3, 3), np.float32))

    def forward(self, x):
        windows = mg.stack([x[:, i : i + 3] for i in (0, 2, 4)], axis=1)
        return (windows * self.weight).sum(axis=2)


@row(
    "004",
    "7 inputs, 3 hidden units",
    value("global connectivity", 21),
    value("local", 9),
    value("shared, a 1D convolution with kernel 3 and stride 2", 3),
)
def test_local_and_shared():
    dense, local = nn.Linear(7, 3, bias=False), Local()
    shared = nn.Conv1d(1, 1, 3, stride=2, bias=False)
    x = mg.tensor(mg.random.Generator(0).normal((2, 7)))
    local.weight.assign(np.tile(shared.weight.numpy()[0], (3, 1)))
    # With equal weights the local layer is the convolution.
    assert np.allclose(local(x).numpy(), shared(x.reshape(2, 1, 7)).numpy()[:, 0], atol=1e-6)
    assert dense(x).shape == local(x).shape
    return tuple(sum(p.size for p in m.parameters()) for m in (dense, local, shared))


@row(
    "004",
    "AlexNet on 227×227 (224 does not fit 11 at stride 4)",
    plus("parameters with two groups", 60_965_224, deck="60 M", near=(60e6, 1e6)),
    plus("without groups", 62_378_344),
    plus("units", 659_272, deck="650,000", near=(650_000, 10_000)),
)
def test_the_size_of_alexnet():
    groups = summarised(models.AlexNet, (3, 227, 227))
    alone = summarised(models.AlexNet, (3, 227, 227), groups=1)
    layers = [r for r in groups.rows if r.leaf and r.parameters]
    assert len(layers) == 8
    units = sum(int(np.prod(r.output_shape)) for r in layers)
    conv1 = nn.Conv2d(3, 96, 11, stride=4)
    assert nn.summary(conv1, (3, 224, 224)).warnings
    assert not nn.summary(conv1, (3, 227, 227)).warnings
    return groups.totals.parameters, alone.totals.parameters, units


def stack(channels, count, size):
    """Layers of one size, each with as many filters as there are channels, without biases."""
    layers = (nn.Conv2d(channels, channels, size, bias=False) for _ in range(count))
    found = nn.summary(nn.Sequential(*layers), (channels, 16, 16))
    return found.rows[0].receptive_field, found.totals.parameters


@row(
    "004",
    "receptive field of stacked 3×3 layers, and weights for C channels",
    value("two layers see", (5, 5)),
    value("three layers see", (7, 7)),
    plus("weights of two to those of one 5×5", "18 C² : 25 C²"),
    plus("weights of three to those of one 7×7", "27 C² : 49 C²"),
)
def test_stacked_layers():
    channels = 4
    square = channels * channels
    fields, ratios = [], []
    for count, size in ((2, 5), (3, 7)):
        field, weights = stack(channels, count, 3)
        one, others = stack(channels, 1, size)
        assert field == one
        fields.append(field)
        ratios.append(f"{weights // square} C² : {others // square} C²")
    return *fields, *ratios


@row(
    "004, 000",
    "of the same kind, measured on ours",
    Measured(
        "AlexNet on a GPU against a CPU",
        50.0, ("gpu", "alexnet"), beyond=1.0, unit="times", scale=1.0, field="speedup",
    ),
    Measured(
        "errors that an ensemble of 7 leaves (deck: 15.4 of 18.2)",
        84.6, ("mnist_ladder", "ensemble"), better="below", beyond=100.0,
    ),
)  # fmt: skip
def test_gpu_and_ensemble():
    speed, _ = test_gpu_and_ensemble.row.values
    ladder = [Measured("", 0.0, ("mnist_ladder", name)).read() for name in ("ensemble", "deep")]
    left = None if None in ladder else 100.0 * (100.0 - ladder[0]) / (100.0 - ladder[1])
    return speed.read(), left
