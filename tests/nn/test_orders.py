"""Each operation of `functional` at order 1 and 2: a new one without samples fails by name."""

import importlib
import pkgutil

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn.functional as functional
from minigrad.check import GradientError, check_gradients
from minigrad.core import Op
from minigrad_nn import kernels
from minigrad_nn.functional import conv, loss, norm, pool, recurrent_steps, separable
from minigrad_nn.kernels import Geometry
from tests.nn import samples

rng = np.random.default_rng(7)


def drawn(*shape):
    return rng.standard_normal(shape)


def apart(*shape):
    """Numbers of which no two are near each other: no maximum changes within a step."""
    return rng.permutation(np.arange(np.prod(shape), dtype=np.float64)).reshape(shape) / 3.0


G1 = Geometry.of((7,), 3, 2, 1)
G2 = Geometry.of((5, 4), (3, 2), (1, 2), ((1, 0), (0, 1)), (1, 2), groups=2)
G3 = Geometry.of((3, 3, 2), 2, 1, 1)
P2 = Geometry.of((5, 4), 3, 2, 1)
INDICES = rng.integers(0, 12, (2, 3, 2, 2))
MAXIMA = kernels.max_pool(drawn(1, 2, *P2.size), P2).indices
TARGETS = np.array([2, 0, 1])
PLANES = np.array([[1, 0, 2, 2]])
ENDS = np.array([2, 0])
STATISTICS = (drawn(3), rng.uniform(0.5, 2.0, 3))
S1 = Geometry.of((3, 4), 3, 1, 1, groups=2)
S2 = Geometry.of((4, 3), 3, 2, ((0, 2), (1, 1)), groups=2)
S3 = Geometry.of((2, 3), 2, 1, 1, groups=2)  # by the kernels one after the other


def between_norms(geometry, activations):
    """A depthwise filter between two batch norms, as a function of its six inputs."""
    norms = [
        separable.Norm(None, None, None, None, 0.1, 0.1, activation) for activation in activations
    ]

    def f(x, gamma, beta, w, gamma2, beta2):
        return separable.norm_depthwise_norm(
            x,
            norms[0]._replace(weight=gamma, bias=beta),
            w,
            norms[1]._replace(weight=gamma2, bias=beta2),
            geometry.stride,
            geometry.padding,
        )

    return f


def between_inputs(geometry, images=2):
    channels = geometry.groups
    return (
        drawn(images, channels, *geometry.size),
        *(drawn(channels), drawn(channels)),
        drawn(channels, 1, *geometry.kernel),
        *(drawn(channels), drawn(channels)),
    )


# For each op: functions of the inputs that are differentiated, and those inputs.
# The package exports the function `linear`, which hides the module of that name.
OWN_PRODUCT = importlib.import_module("minigrad_nn.functional.linear")._product

SAMPLES = {
    "conv": [
        (
            lambda x, w, g=g: conv.conv(x, w, geometry=g),
            drawn(2, c, *g.size),
            drawn(o, i, *g.kernel),
        )
        for g, c, o, i in ((G1, 2, 3, 2), (G2, 4, 2, 2), (G3, 1, 2, 1))
    ],
    "conv_input": [
        (
            lambda h, w: conv.conv_input(h, w, geometry=G2),
            drawn(2, 2, *G2.output),
            drawn(2, 2, *G2.kernel),
        )
    ],
    "conv_weight": [
        (
            lambda x, h: conv.conv_weight(x, h, geometry=G2),
            drawn(2, 4, *G2.size),
            drawn(2, 2, *G2.output),
        )
    ],
    "conv_bias": [
        (
            lambda x, w, b: conv.conv_bias(x, w, b, geometry=G2),
            drawn(2, 4, *G2.size),
            drawn(2, 2, *G2.kernel),
            drawn(2),
        )
    ],
    "conv_bias_relu": [
        (
            lambda x, w, b, g=g: conv.conv_bias_relu(x, w, b, geometry=g) ** 2,
            drawn(2, c, *g.size),
            drawn(o, i, *g.kernel),
            drawn(o),
        )
        for g, c, o, i in ((G1, 2, 3, 2), (G2, 4, 2, 2))
    ],
    "rnn_steps": [
        (
            lambda x, h, w, s=s: (
                recurrent_steps.rnn_steps(x, h, w, nonlinearity=s[0], reverse=s[1], lengths=s[2])
                ** 2
            ),
            drawn(3, 2, 2),
            drawn(2, 2),
            drawn(2, 2),
        )
        for s in (("tanh", False, None), ("relu", True, None), ("tanh", True, ENDS))
    ],
    "lstm_steps": [
        (
            lambda x, h, c, w, s=s: mg.multiply(
                *recurrent_steps.lstm_steps(x, h, c, w, reverse=s[0], lengths=s[1])[:2]
            ),
            drawn(3, 2, 8),
            drawn(2, 2),
            drawn(2, 2),
            drawn(8, 2),
        )
        for s in ((False, None), (True, ENDS))
    ],
    "gru_steps": [
        (
            lambda x, h, w, b, s=s: (
                recurrent_steps.gru_steps(x, h, w, b, reverse=s[0], lengths=s[1])[0] ** 2
            ),
            drawn(3, 2, 6),
            drawn(2, 2),
            drawn(6, 2),
            drawn(6),
        )
        for s in ((False, None), (True, ENDS))
    ],
    "channel_sum": [
        (lambda x: conv.channel_sum(x) ** 2, drawn(2, 3, 2, 2)),
        (conv.channel_sum, drawn(2, 3)),
    ],
    "max_pool": [
        (lambda x: functional.max_pool2d(x, 2) ** 2, apart(1, 2, 4, 4)),
        (lambda x: functional.max_pool1d(x, 3, 1, 1, 1) ** 3, apart(2, 1, 5)),
        (lambda x: functional.max_pool3d(x, 2, 1) ** 2, apart(1, 1, 3, 3, 2)),
        (lambda x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True) ** 2, apart(1, 1, 6, 5)),
    ],
    "max_pool_input": [
        (
            lambda h: pool._max_pool_input(h, MAXIMA, geometry=P2) ** 2,
            drawn(1, 2, *P2.output),
        )
    ],
    "gather": [(lambda x: pool.gather(x, INDICES) ** 2, drawn(2, 3, 3, 4))],
    "scatter": [(lambda h: pool.scatter(h, INDICES, size=(3, 4)) ** 2, drawn(2, 3, 2, 2))],
    "average_pool": [
        (lambda x: functional.avg_pool2d(x, 3, 2, 1) ** 2, drawn(1, 2, 5, 4)),
        (lambda x: functional.avg_pool1d(x, 2, 1, 1, True, False) ** 2, drawn(1, 2, 5)),
        (lambda x: functional.avg_pool3d(x, 2) ** 2, drawn(1, 1, 2, 4, 2)),
    ],
    "average_pool_input": [
        (
            lambda h: pool._average_pool_input(h, geometry=P2, pad=False) ** 2,
            drawn(1, 2, *P2.output),
        )
    ],
    "sum_pool": [
        (lambda x: functional.sum_pool2d(x, 3, 2, 1) ** 2, drawn(1, 2, 5, 4)),
        (lambda x: functional.sum_pool1d(x, 2) ** 2, drawn(1, 2, 5)),
        (lambda x: functional.sum_pool3d(x, 2, 1) ** 2, drawn(1, 1, 2, 3, 2)),
    ],
    "sum_pool_input": [
        (lambda h: pool._sum_pool_input(h, geometry=P2) ** 2, drawn(1, 2, *P2.output))
    ],
    "linear": [
        (functional.linear, drawn(3, 4), drawn(2, 4)),
        (functional.linear, drawn(2, 3, 4), drawn(2, 4)),
    ],
    "matmul": [(OWN_PRODUCT, drawn(3, 4), drawn(4, 2))],
    "linear_bias": [
        (functional.linear, drawn(3, 4), drawn(2, 4), drawn(2)),
        (functional.linear, drawn(2, 1, 4), drawn(3, 4), drawn(3)),
    ],
    "softmax": [
        (functional.softmax, drawn(3, 4)),
        (lambda x: functional.softmax(x, 1), drawn(2, 3, 2)),
    ],
    "log_softmax": [
        (functional.log_softmax, drawn(3, 4)),
        (lambda x: functional.log_softmax(x, 0), drawn(3, 2)),
    ],
    "pick": [(lambda x: loss.pick(x, TARGETS) ** 2, drawn(3, 4))],
    "place": [(lambda h: loss.place(h, TARGETS, classes=4) ** 2, drawn(3))],
    "cross_entropy": [
        (
            lambda x, s=s, r=r: functional.cross_entropy(x, TARGETS, r, s),
            drawn(3, 4),
        )
        for s, r in ((0.0, "mean"), (0.1, "sum"), (0.2, "none"))
    ]
    + [(lambda x: functional.cross_entropy(x, PLANES, "none", 0.1), drawn(1, 3, 4))],
    "batch_norm": [
        (
            lambda x, g, b: functional.batch_norm(x, None, None, g, b, training=True),
            drawn(*shape),
            drawn(3),
            drawn(3),
        )
        for shape in ((4, 3), (2, 3, 3), (2, 3, 2, 2), (2, 3, 1, 2, 2))
    ],
    "batch_norm_given": [
        (
            lambda x, g, b: (
                functional.batch_norm(x, mg.tensor(STATISTICS[0]), mg.tensor(STATISTICS[1]), g, b)
                ** 2
            ),
            drawn(2, 3, 2, 2),
            drawn(3),
            drawn(3),
        )
    ],
    "norm_depthwise_norm": [
        (between_norms(g, bends), *between_inputs(g))
        for g, bends in (
            (S1, (None, None)),
            (S1, ("relu6", None)),
            (S2, (None, "relu6")),
            (S3, ("relu", "relu")),
        )
    ],
    **samples.OPS,
}


def ops_of_functional():
    found = {}
    for info in pkgutil.iter_modules(functional.__path__):
        module = importlib.import_module(f"{functional.__name__}.{info.name}")
        for value in vars(module).values():
            # Those of the engine are checked with the engine.
            if isinstance(value, Op) and value.forward.__module__.startswith("minigrad_nn"):
                found[value.name] = value
    return found


OPS = ops_of_functional()


def test_every_op_has_samples():
    assert sorted(OPS) == sorted(SAMPLES)


@pytest.mark.parametrize(
    "name, number", [(name, i) for name, cases in SAMPLES.items() for i in range(len(cases))]
)
def test_order_1_and_2(name, number):
    f, *inputs = SAMPLES[name][number]
    check_gradients(f, *inputs)


def test_every_public_function_has_samples():
    covered = {*samples.FUNCTIONS, *samples.BY_OP, *samples.ENGINE, *OPS}
    assert [name for name in functional.__all__ if name not in covered] == []
    assert set(samples.BY_OP.values()) <= set(SAMPLES)
    assert {*samples.FUNCTIONS, *samples.BY_OP, *samples.ENGINE} <= set(functional.__all__)


@pytest.mark.parametrize(
    "name, number",
    [(name, i) for name, cases in samples.FUNCTIONS.items() for i in range(len(cases))],
)
def test_compositions_at_order_1_and_2(name, number):
    f, *inputs = samples.FUNCTIONS[name][number]
    check_gradients(f, *inputs)


def test_a_wrong_rule_of_order_1_is_found():
    bad = mg.op("bad", lambda x: np.square(x), lambda g, x: g * x)
    with pytest.raises(GradientError, match="order 1"):
        check_gradients(bad, drawn(3))


def test_a_wrong_rule_of_order_2_is_found():
    # The slope is right but no longer depends on x for who differentiates again.
    bad = mg.op("bad", lambda x: np.square(x), lambda g, x: g * (2.0 * getattr(x, "_data", x)))
    with pytest.raises(GradientError, match="order 2"):
        check_gradients(bad, drawn(3))


def hessian_times(f, inputs, weights, direction):
    """The derivative along a direction of the gradients of a weighted sum."""
    variables = [mg.tensor(x, requires_grad=True) for x in inputs]
    first = mg.gradients((f(*variables) * weights).sum(), variables, create_graph=True)
    along = sum((g * d).sum() for g, d in zip(first, direction, strict=True))
    return [h.data for h in mg.gradients(along, variables)]


def whole(found):
    """Outputs, last state and last memory of an LSTM in one array."""
    y, (h, c) = found
    return mg.concatenate([y, h[None], c[None]])


PLAIN = {
    "cross_entropy": lambda x: loss.cross_entropy_plain(
        x, TARGETS, smoothing=0.1, reduction="mean"
    ),
    "batch_norm": lambda x, g, b: norm.batch_norm_plain(x, g, b, eps=1e-5)[0],
    "batch_norm_given": lambda x, g, b: norm.batch_norm_given_plain(
        x, g, b, STATISTICS[0], 1.0 / np.sqrt(STATISTICS[1] + 1e-5)
    ),
    "norm_depthwise_norm": lambda *inputs: separable.norm_depthwise_norm_plain(
        *inputs, geometry=S2, activations=("relu6", "relu"), eps=(0.1, 0.1)
    )[0],
    "conv_bias": lambda x, w, b: conv.conv(x, w, geometry=G2) + b.reshape(-1, 1, 1),
    "conv_bias_relu": lambda x, w, b: mg.relu(conv.conv_bias(x, w, b, geometry=G2)),
    "linear_bias": lambda x, w, b: mg.matmul(x, w.T) + b,
    "softmax": lambda x: mg.exp(x) / mg.exp(x).sum(-1, keepdims=True),
    "log_softmax": lambda x: x - mg.logsumexp(x, -1, keepdims=True),
    "rnn_steps": lambda x, h, *w: functional.rnn(x, h, *w, unrolled=True)[0],
    "lstm_steps": lambda x, h, c, *w: whole(functional.lstm(x, (h, c), *w, unrolled=True)),
    "gru_steps": lambda x, h, *w: functional.gru(x, h, *w, unrolled=True)[0],
}
FUSED = {
    "cross_entropy": lambda x: functional.cross_entropy(x, TARGETS, label_smoothing=0.1),
    "batch_norm": SAMPLES["batch_norm"][2][0],
    "batch_norm_given": lambda x, g, b: functional.batch_norm(
        x, mg.tensor(STATISTICS[0]), mg.tensor(STATISTICS[1]), g, b
    ),
    "norm_depthwise_norm": between_norms(S2, ("relu6", "relu")),
    "conv_bias": SAMPLES["conv_bias"][0][0],
    "conv_bias_relu": lambda x, w, b: conv.conv_bias_relu(x, w, b, geometry=G2),
    "linear_bias": SAMPLES["linear_bias"][0][0],
    "softmax": functional.softmax,
    "log_softmax": functional.log_softmax,
    "rnn_steps": lambda x, h, *w: functional.rnn(x, h, *w)[0],
    "lstm_steps": lambda x, h, c, *w: whole(functional.lstm(x, (h, c), *w)),
    "gru_steps": lambda x, h, *w: functional.gru(x, h, *w)[0],
}
INPUTS = {
    "cross_entropy": [drawn(3, 4)],
    "batch_norm": [drawn(3, 3, 2, 2), drawn(3), drawn(3)],
    "batch_norm_given": [drawn(3, 3, 2, 2), drawn(3), drawn(3)],
    "norm_depthwise_norm": list(between_inputs(S2, 3)),
    "conv_bias": list(SAMPLES["conv_bias"][0][1:]),
    "conv_bias_relu": list(SAMPLES["conv_bias_relu"][1][1:]),
    "linear_bias": [drawn(3, 4), drawn(2, 4), drawn(2)],
    "softmax": [drawn(3, 4)],
    "log_softmax": [drawn(3, 4)],
    "rnn_steps": [drawn(4, 2, 3), drawn(2, 2), drawn(2, 3), drawn(2, 2), drawn(2), drawn(2)],
    "lstm_steps": [
        *(drawn(4, 2, 3), drawn(2, 2), drawn(2, 2), drawn(8, 3), drawn(8, 2), drawn(8), drawn(8))
    ],
    "gru_steps": [drawn(4, 2, 3), drawn(2, 2), drawn(6, 3), drawn(6, 2), drawn(6), drawn(6)],
}


def test_every_op_with_a_declared_composition_is_compared_with_it():
    assert {name for name, op in OPS.items() if op.like is not None} <= set(PLAIN)


@pytest.mark.parametrize("name", PLAIN)
def test_a_fused_op_equals_its_plain_composition(name):
    arrays = INPUTS[name]
    variables = [[mg.tensor(a, requires_grad=True) for a in arrays] for _ in range(2)]
    outputs = [f(*v) for f, v in zip((FUSED[name], PLAIN[name]), variables, strict=True)]
    np.testing.assert_allclose(outputs[0].data, outputs[1].data, rtol=1e-12, atol=1e-12)
    weights = rng.standard_normal(outputs[0].shape)
    found, wanted = (
        mg.gradients((y * weights).sum(), v) for y, v in zip(outputs, variables, strict=True)
    )
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-10, atol=1e-12)
    direction = [rng.standard_normal(a.shape) for a in arrays]
    found, wanted = (hessian_times(f[name], arrays, weights, direction) for f in (FUSED, PLAIN))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_the_third_derivative_of_a_convolution_exists():
    x, w = (
        mg.tensor(drawn(1, 1, 6), requires_grad=True),
        mg.tensor(drawn(1, 1, 3), requires_grad=True),
    )
    y = (functional.conv1d(x, w) ** 3).sum()
    (first,) = mg.gradients(y, [x], create_graph=True)
    (second,) = mg.gradients(first.sum(), [w], create_graph=True)
    (third,) = mg.gradients(second.sum(), [x])
    step = 1e-5

    def second_at(values):
        x = mg.tensor(values, requires_grad=True)
        (first,) = mg.gradients((functional.conv1d(x, w) ** 3).sum(), [x], create_graph=True)
        return mg.gradients(first.sum(), [w])[0].data.sum()

    for i in range(6):
        move = np.zeros((1, 1, 6))
        move[0, 0, i] = step
        wanted = (second_at(x.data + move) - second_at(x.data - move)) / (2 * step)
        assert third.data[0, 0, i] == pytest.approx(wanted, rel=1e-6)
