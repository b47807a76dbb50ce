"""Inputs at which the operations and functions of `minigrad_nn.functional` are differentiated.

`OPS` by name of the op, `FUNCTIONS` by public name of a composition; each entry is a list of
`(function, *inputs)`.  `test_orders.py` checks them all at order 1 and 2, and that none is missing.
"""

import numpy as np

import minigrad as mg
from minigrad_nn import functional as F

rng = np.random.default_rng(11)
TARGETS = np.array([2, 0, 1])


def drawn(*shape):
    return rng.standard_normal(shape)


def apart(*shape):
    """Numbers of which no two are near each other, and none near 0."""
    return (rng.permutation(np.arange(np.prod(shape), dtype=np.float64)) / 3.0 + 0.1).reshape(shape)


def off(corners, *shape):
    """Numbers that keep away from corners."""
    x = rng.uniform(-8.0, 8.0, shape)
    for corner in corners:
        near = np.abs(x - corner) < 0.1
        x[near] += 0.3
    return x


OPS = {
    "relu6": [(lambda x: F.relu6(x) ** 2, off((0.0, 6.0), 9))],
    "leaky_relu": [(lambda x: F.leaky_relu(x, 0.3) ** 2, off((0.0,), 9))],
    "prelu": [
        (F.prelu, off((0.0,), 2, 3, 2), drawn(3)),
        (F.prelu, off((0.0,), 5), drawn(1)),
    ],
    "elu": [(lambda x: F.elu(x, 0.7), off((0.0,), 9) / 3.0)],
    "hardswish": [(F.hardswish, off((-3.0, 3.0), 9))],
    "silu": [(F.silu, drawn(2, 4))],
    "softplus": [
        (lambda x: F.softplus(x, 1.5), drawn(8)),
        (lambda x: F.softplus(x, 1.0, 0.5) ** 2, off((0.5,), 8)),
    ],
    "erf": [(F.erf, drawn(2, 4))],
    "gelu": [(F.gelu, drawn(2, 4))],
}

FUNCTIONS = {
    "dropout": [
        (lambda x: F.dropout(x, 0.4, generator=mg.random.Generator(5)) ** 2, drawn(2, 4)),
    ],
    "mse_loss": [(lambda a, b: F.mse_loss(a, b, "sum"), drawn(2, 3), drawn(2, 3))],
    "nll_loss": [(lambda x: F.nll_loss(x**2, TARGETS), drawn(3, 4))],
    "gelu": [(lambda x: F.gelu(x, "tanh"), drawn(2, 4))],
}

# Public functions that are one op, or are differentiated as part of the samples of the op.
BY_OP = {
    **{f"avg_pool{n}d": "average_pool" for n in (1, 2, 3)},
    **{f"max_pool{n}d": "max_pool" for n in (1, 2, 3)},
    **{f"sum_pool{n}d": "sum_pool" for n in (1, 2, 3)},
    **{f"conv{n}d": "conv" for n in (1, 2, 3)},
    "batch_norm": "batch_norm",
    "cross_entropy": "cross_entropy",
    "linear": "linear",
    "log_softmax": "log_softmax",
    "softmax": "softmax",
}
# The engine's, checked there.
ENGINE = {"relu", "sigmoid", "tanh"}
