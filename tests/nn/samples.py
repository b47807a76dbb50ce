"""Inputs at which the operations and functions of `minigrad_nn.functional` are differentiated.

`OPS` by name of the op, `FUNCTIONS` by public name of a composition; each entry is a list of
`(function, *inputs)`.  `test_orders.py` checks them all at order 1 and 2, and that none is missing.
"""

import numpy as np

import minigrad as mg
from minigrad_nn import functional as F
from minigrad_nn.functional import lookup

rng = np.random.default_rng(11)
TARGETS = np.array([2, 0, 1])
LENGTHS = np.array([3, 1])
CLASSES = np.array([0.5, 2.0, 1.0, 3.0])
PLANES = np.array([[[1, 0], [2, 2]], [[0, 0], [1, 0]]])
NUMBERS = np.array([[1, 0, 1, 4], [1, 4, 2, 1]])


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
    "conv_input_bias": [
        (
            lambda h, w, b: F.conv_transpose2d(h, w, b, (2, 1), 1, (1, 0), 2, (1, 2)),
            drawn(1, 4, 3, 3),
            drawn(4, 1, 2, 3),
            drawn(2),
        )
    ],
    "read_rows": [(lambda w: lookup.read_rows(w, NUMBERS) ** 2, drawn(5, 3))],
    "add_rows": [(lambda h: lookup.add_rows(h, NUMBERS, rows=5) ** 2, drawn(2, 4, 3))],
}

UNPOOLED = np.array([[[0, 5, 5, 3]]])  # the place 5 twice: the last one counts


def padded(mode, *pads):
    return [(lambda x, p=p: F.pad(x, p, mode) ** 2, drawn(2, 3, 4)) for p in pads]


WINDOW = np.array([[1.0, 2.0, 1.0], [0.5, 4.0, 1.0]])


def recurrent(f, gates, *shape, state=1):
    """Samples of a recurrent function with weights of those gates."""
    weights = (gates * 2, 3), (gates * 2, 2), (gates * 2,), (gates * 2,)
    return (
        f,
        drawn(*shape, 3),
        *(drawn(2, 2) for _ in range(state)),
        *(drawn(*w) for w in weights),
    )


def lstm_outputs(x, h, c, *weights):
    y, (last, memory) = F.lstm(x, (h, c), *weights, lengths=LENGTHS)
    return y.sum(0) + last * memory


def rnn_outputs(x, h, *weights):
    y, last = F.rnn(x, h, *weights, reverse=True, lengths=LENGTHS)
    return y.sum(0) * last


def dropped(f, *shape):
    return [(lambda x: f(x, 0.4, generator=mg.random.Generator(5)) ** 2, drawn(*shape))]


def running():
    return mg.tensor(np.array([0.5, -1.0])), mg.tensor(np.array([0.5, 2.0]))


FUNCTIONS = {
    "rnn_cell": [recurrent(F.rnn_cell, 1, 2)],
    "gru_cell": [recurrent(F.gru_cell, 3, 2)],
    "lstm_cell": [
        recurrent(lambda x, h, c, *w: mg.concatenate(F.lstm_cell(x, (h, c), *w)), 4, 2, state=2)
    ],
    "rnn": [
        recurrent(rnn_outputs, 1, 3, 2),
        recurrent(lambda x, h, *w: F.rnn(x, h, *w)[0] ** 2, 1, 3, 2),
        recurrent(lambda x, h, *w: mg.multiply(*F.rnn(x, h, *w, "relu", True)), 1, 3, 2),
    ],
    "gru": [recurrent(lambda x, h, *w: F.gru(x, h, *w)[0], 3, 2, 2)],
    "lstm": [recurrent(lstm_outputs, 4, 3, 2, state=2)],
    "layer_norm": [
        (lambda x, w, b: F.layer_norm(x, (2, 2), w, b), drawn(3, 2, 2), drawn(2, 2), drawn(2, 2)),
        (lambda x: F.layer_norm(x, 4), drawn(2, 4)),
    ],
    "group_norm": [
        (lambda x, w, b: F.group_norm(x, 2, w, b), drawn(2, 4, 3), drawn(4), drawn(4)),
        (lambda x: F.group_norm(x, 1), drawn(2, 4)),
    ],
    "instance_norm": [
        (
            lambda x, w, b: F.instance_norm(x, None, None, w, b),
            drawn(2, 2, 2, 2),
            drawn(2),
            drawn(2),
        ),
        (
            lambda x: F.instance_norm(x, *running(), use_input_stats=False) ** 2,
            drawn(2, 2, 3),
        ),
    ],
    "local_response_norm": [
        (lambda x, n=n: F.local_response_norm(x, n, 0.5, 0.75, 2.0), drawn(1, 5, 2))
        for n in (1, 2, 3)
    ],
    "subtractive_norm": [(lambda x: F.subtractive_norm(x, WINDOW) ** 2, drawn(1, 2, 3, 3))],
    "divisive_norm": [(lambda x: F.divisive_norm(x, WINDOW), drawn(1, 2, 3, 3))],
    "dropout1d": dropped(F.dropout1d, 2, 3, 2),
    "dropout2d": dropped(F.dropout2d, 2, 3, 1, 2),
    "dropout3d": dropped(F.dropout3d, 2, 3, 1, 2, 1),
    "embedding": [
        (lambda w: F.embedding(NUMBERS, w) ** 2, drawn(5, 3)),
    ],
    "interpolate": [
        (lambda x, m=m, o=o: F.interpolate(x, o, mode=m) ** 2, drawn(1, 2, *size))
        for m, o, size in (
            ("nearest", (6,), (3,)),
            ("nearest", (3, 5), (4, 2)),
            ("linear", (5,), (3,)),
            ("bilinear", (4, 2), (3, 3)),
            ("trilinear", (3, 1, 4), (2, 2, 2)),
        )
    ]
    + [
        (
            lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", align_corners=True),
            drawn(1, 1, 3, 2),
        )
    ],
    **{
        f"adaptive_avg_pool{n}d": [
            (lambda x, f=f, o=o: f(x, o) ** 2, drawn(1, 2, *size)) for o in (out, 1)
        ]
        for n, f, size, out in (
            (1, F.adaptive_avg_pool1d, (5,), 3),
            (2, F.adaptive_avg_pool2d, (4, 5), (2, 3)),
            (3, F.adaptive_avg_pool3d, (3, 2, 4), (2, None, 3)),
        )
    },
    **{
        f"adaptive_max_pool{n}d": [
            (lambda x, f=f, o=o: f(x, o) ** 2, apart(1, 2, *size)) for o in (out, 1)
        ]
        for n, f, size, out in (
            (1, F.adaptive_max_pool1d, (5,), 3),
            (2, F.adaptive_max_pool2d, (4, 5), (2, 3)),
            (3, F.adaptive_max_pool3d, (3, 2, 4), (2, None, 3)),
        )
    },
    "global_avg_pool": [(lambda x: F.global_avg_pool(x) ** 2, drawn(2, 3, 2, 2))],
    "max_unpool1d": [(lambda x: F.max_unpool1d(x, UNPOOLED, 2) ** 2, drawn(1, 1, 4))],
    "max_unpool2d": [
        (lambda x: F.max_unpool2d(x, UNPOOLED[None], 2) ** 2, drawn(1, 1, 1, 4)),
    ],
    "max_unpool3d": [
        (lambda x: F.max_unpool3d(x, UNPOOLED[None, None], 2) ** 2, drawn(1, 1, 1, 1, 4)),
    ],
    "pad": [
        *padded("constant", (1, 2), (0, 1, 2, 0, 1, 1)),
        *padded("reflect", (1, 2), (0, 1, 2, 0)),
        *padded("replicate", (1, 2), (0, 1, 5, 0)),
        *padded("circular", (1, 4), (0, 1, 2, 0)),
    ],
    "conv_transpose1d": [
        (lambda h, w: F.conv_transpose1d(h, w, None, 2, 1, 1), drawn(2, 2, 3), drawn(2, 1, 3)),
    ],
    "conv_transpose2d": [
        (lambda h, w: F.conv_transpose2d(h, w), drawn(1, 2, 2, 2), drawn(2, 1, 2, 2)),
    ],
    "conv_transpose3d": [
        (
            lambda h, w, b: F.conv_transpose3d(h, w, b, 2),
            drawn(1, 1, 2, 1, 2),
            drawn(1, 2, 2, 2, 1),
            drawn(2),
        ),
    ],
    "convolve1d": [(F.convolve1d, drawn(1, 2, 5), drawn(1, 2, 3), drawn(1))],
    "convolve2d": [(F.convolve2d, drawn(1, 1, 3, 4), drawn(2, 1, 2, 3))],
    "convolve3d": [(F.convolve3d, drawn(1, 1, 2, 3, 2), drawn(1, 1, 2, 2, 1))],
    "depthwise_conv1d": [(F.depthwise_conv1d, drawn(1, 2, 4), drawn(4, 1, 2), drawn(4))],
    "depthwise_conv2d": [(F.depthwise_conv2d, drawn(1, 2, 3, 3), drawn(2, 1, 2, 2))],
    "depthwise_conv3d": [(F.depthwise_conv3d, drawn(1, 2, 2, 2, 2), drawn(2, 1, 2, 1, 2))],
    "pointwise_conv": [
        (F.pointwise_conv, drawn(1, 2, 3), drawn(3, 2, 1), drawn(3)),
        (F.pointwise_conv, drawn(1, 2, 2, 2), drawn(1, 2, 1, 1)),
    ],
    "separable_conv1d": [(F.separable_conv1d, drawn(1, 2, 4), drawn(2, 1, 2), drawn(2, 2, 1))],
    "separable_conv2d": [
        (F.separable_conv2d, drawn(1, 2, 3, 3), drawn(2, 1, 2, 2), drawn(1, 2, 1, 1), drawn(1)),
    ],
    "separable_conv3d": [
        (F.separable_conv3d, drawn(1, 1, 2, 2, 2), drawn(2, 1, 1, 2, 2), drawn(1, 2, 1, 1, 1)),
    ],
    "dropout": [
        (lambda x: F.dropout(x, 0.4, generator=mg.random.Generator(5)) ** 2, drawn(2, 4)),
    ],
    "mse_loss": [(lambda a, b: F.mse_loss(a, b, "sum"), drawn(2, 3), drawn(2, 3))],
    "nll_loss": [
        (lambda x: F.nll_loss(x**2, TARGETS), drawn(3, 4)),
        (lambda x: F.nll_loss(x**2, TARGETS, "sum", CLASSES, 0), drawn(3, 4)),
    ],
    "cross_entropy": [
        (
            lambda x, s=s, w=w, i=i, r=r: F.cross_entropy(x, TARGETS, r, s, w, i),
            drawn(3, 4),
        )
        for s, w, i, r in (
            (0.0, None, 0, "mean"),
            (0.2, CLASSES, 0, "mean"),
            (0.1, CLASSES, -100, "none"),
        )
    ]
    + [
        (
            lambda x, t, s=s, w=w, r=r: F.cross_entropy(x, t, r, s, w),
            drawn(*shape),
            rng.dirichlet(np.ones(4), shape[0] * int(np.prod(shape[2:]))).reshape(shape),
        )
        for s, w, r, shape in (
            (0.0, None, "mean", (3, 4)),
            (0.2, CLASSES, "sum", (2, 4)),
            (0.1, CLASSES, "none", (2, 4, 1)),
        )
    ],
    "l1_loss": [(F.l1_loss, apart(2, 3), apart(2, 3) + 0.05)],
    "smooth_l1_loss": [
        (lambda a, b: F.smooth_l1_loss(a, b, "none", 0.5), 3 * drawn(2, 4), drawn(2, 4)),
    ],
    "binary_cross_entropy_with_logits": [
        (
            lambda x, t: F.binary_cross_entropy_with_logits(x, t, None, "none"),
            drawn(2, 3),
            rng.uniform(0, 1, (2, 3)),
        ),
        (
            lambda x: F.binary_cross_entropy_with_logits(
                x, np.eye(3), CLASSES[:3], "mean", CLASSES[1:]
            ),
            drawn(3, 3),
        ),
    ],
    "sigmoid_focal_loss": [
        (lambda x: F.sigmoid_focal_loss(x, np.eye(3)), drawn(3, 3)),
        (lambda x: F.sigmoid_focal_loss(x, np.eye(3), -1, 1.5, "sum"), drawn(3, 3)),
    ],
    "focal_loss": [(lambda x: F.focal_loss(x, TARGETS, 1.5), drawn(3, 4))],
    "dice_loss": [(lambda x: F.dice_loss(x, PLANES), drawn(2, 3, 2, 2))],
    "l2_penalty": [(lambda a, b: F.l2_penalty([a, b], 0.3, 4) ** 2, drawn(2, 3), drawn(2))],
    "gelu": [(lambda x: F.gelu(x, "tanh"), drawn(2, 4))],
}

# Public functions that are one op, or are differentiated as part of the samples of the op.
BY_OP = {
    **{f"avg_pool{n}d": "average_pool" for n in (1, 2, 3)},
    **{f"max_pool{n}d": "max_pool" for n in (1, 2, 3)},
    **{f"sum_pool{n}d": "sum_pool" for n in (1, 2, 3)},
    **{f"conv{n}d": "conv" for n in (1, 2, 3)},
    "batch_norm": "batch_norm",
    "linear": "linear",
    "log_softmax": "log_softmax",
    "softmax": "softmax",
}
# The engine's, checked there.
ENGINE = {"relu", "sigmoid", "tanh"}
