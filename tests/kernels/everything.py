"""Every kernel as a call that can be made again with other arrays in the same places.

The tests of red zones, threads and compiled twins run all kernels through this one list.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry
from minigrad_nn.kernels.cpu import convolution
from minigrad_nn.kernels.cpu.convolution import TABLE


@dataclass
class Call:
    """`run(arrays, outs, workspace)` fills `outs`, of these shapes and types, and returns them."""

    name: str
    arrays: list[np.ndarray]
    outs: list[tuple[tuple[int, ...], Any]]
    run: Any


GEOMETRIES = {
    "wide": Geometry.of((6, 70), 3, 1, 1),
    "groups": Geometry.of((9, 8), (3, 2), (2, 3), ((1, 0), (0, 2)), (1, 2), groups=2),
    "line": Geometry.of((21,), 4, 3, 2),
    "volume": Geometry.of((3, 4, 5), 2, (1, 2, 1), 1),
    "whole": Geometry.of((3, 5), (3, 5)),
    "sparse": Geometry.of((9, 9), 2, 4, 1),
    "tiles": Geometry.of((9, 21), 3, 1, (1, 2)),
    "point": Geometry.of((48, 48), 1),
    "planes": Geometry.of((11, 38), 3, (1, 2), 1, groups=5),
    "many": Geometry.of((6, 5), 3, 1, 1),
    "filters": Geometry.of((7, 35), 3, 1, ((2, 0), (1, 3)), (1, 2), groups=5),
    "halves": Geometry.of((8, 37), 3, 2, ((0, 2), (3, 1)), groups=5),
}
# A channel and filters of its own for each group, which 3x3 filters have kernels for.
SLIM = ("filters", "halves")


def numbers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


def convolutions(dtype):
    rng = np.random.default_rng(0)
    for label, geometry in GEOMETRIES.items():
        groups = geometry.groups
        images = 19 if label == "many" else 3  # more than a vector has lanes
        channels, filters = (1, 2) if label in SLIM else (3, 13)
        x = numbers(rng, (images, channels * groups, *geometry.size), dtype)
        w = numbers(rng, (filters * groups, channels, *geometry.kernel), dtype)
        g = numbers(rng, (images, filters * groups, *geometry.output), dtype)
        for name, (a, b, c) in {
            "conv": (x, w, g),
            "conv_input": (g, w, x),
            "conv_weight": (x, g, w),
        }.items():
            residual = numbers(rng, c.shape, dtype)
            bias = numbers(rng, c.shape[1], dtype)
            for row in (row for row in TABLE[name] if row.able(geometry)):

                def run(arrays, outs, workspace, row=row, geometry=geometry, name=name):
                    a, b, bias, residual = arrays
                    if name == "conv_weight":
                        epilogue = Epilogue(residual=residual)
                    else:
                        epilogue = Epilogue(bias=bias, residual=residual, activation="relu")
                    return [row.compute(a, b, geometry, outs[0], workspace, epilogue)]

                yield Call(
                    f"{name}-{row.name}-{label}", [a, b, bias, residual], [(c.shape, dtype)], run
                )


def pools(dtype):
    rng = np.random.default_rng(1)
    for label, geometry in {
        "overlapping": Geometry.of((7, 40), 3, 2, 1, ceil=True),
        "volume": Geometry.of((3, 4, 5), 2, (1, 2, 1), 1),
        "line": Geometry.of((21,), 4, 3, 2),
        "tiles": Geometry.of((6, 38), 2, 2),
    }.items():
        x = numbers(rng, (2, 3, *geometry.size), dtype)
        g = numbers(rng, (2, 3, *geometry.output), dtype)
        indices = kernels.max_pool(x, geometry).indices
        bias = numbers(rng, 3, dtype)
        up, down = (g.shape, dtype), (x.shape, dtype)
        both = [up, (g.shape, np.int32)]
        for name, arrays, outs, run in (
            (
                "max_pool",
                [x],
                both,
                lambda a, o, w, e, k: kernels.max_pool(a[0], e, out=(*o,), **k),
            ),
            (
                "max_pool_input",
                [g, indices],
                [down],
                lambda a, o, w, e, k: [kernels.max_pool_input(*a, e, out=o[0], **k)],
            ),
            (
                "gather",
                [x, indices],
                [up],
                lambda a, o, w, e, k: [kernels.gather(*a, out=o[0], **k)],
            ),
            (
                "scatter",
                [g, indices],
                [down],
                lambda a, o, w, e, k: [kernels.scatter(*a, e.size, out=o[0], **k)],
            ),
            ("sum_pool", [x], [up], lambda a, o, w, e, k: [kernels.sum_pool(*a, e, out=o[0], **k)]),
            (
                "sum_pool_input",
                [g],
                [down],
                lambda a, o, w, e, k: [kernels.sum_pool_input(*a, e, out=o[0], **k)],
            ),
            (
                "average_pool",
                [x],
                [up],
                lambda a, o, w, e, k: [kernels.average_pool(*a, e, out=o[0], **k)],
            ),
            (
                "average_pool_input",
                [g],
                [down],
                lambda a, o, w, e, k: [kernels.average_pool_input(*a, e, out=o[0], **k)],
            ),
        ):

            def call(arrays, outs, workspace, run=run, geometry=geometry):
                epilogue = Epilogue(bias=arrays[-1], activation="relu")
                keywords = dict(workspace=workspace, epilogue=epilogue)
                return list(run(arrays[:-1], outs, workspace, geometry, keywords))

            yield Call(f"{name}-{label}", [*arrays, bias], outs, call)


def batch_norms(dtype):
    rng = np.random.default_rng(2)
    for label, shape in {"planes": (3, 5, 7, 11), "flat": (9, 4)}.items():
        x, g, residual = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
        gamma, beta = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
        _, mean, inverse_std = kernels.batch_norm(x, gamma, beta)
        same = [(shape, dtype)]

        def forward(arrays, outs, workspace):
            x, gamma, beta, residual = arrays
            epilogue = Epilogue(residual=residual, activation="relu6")
            return kernels.batch_norm(
                x, gamma, beta, out=outs[0], workspace=workspace, epilogue=epilogue
            )

        def fixed(arrays, outs, workspace):
            return [kernels.batch_norm_given(*arrays, out=outs[0], workspace=workspace)]

        def backward(arrays, outs, workspace):
            return kernels.batch_norm_backward(*arrays, out=outs[0], workspace=workspace)

        def masked(arrays, outs, workspace):
            found = kernels.batch_norm_epilogue_backward(
                *arrays[:6], "relu6", *arrays[6:], out=outs[0], workspace=workspace
            )
            return [one for one in found if one is not None]

        def through(arrays, outs, workspace):
            return kernels.epilogue_backward(*arrays, "relu", out=outs[0], workspace=workspace)

        yield Call(f"epilogue_backward-{label}", [g, np.maximum(x, 0)], same, through)
        statistics = [mean, inverse_std]
        for number, rest in enumerate(([], [residual])):
            arrays = [g, x, gamma, beta, *statistics, *rest]
            yield Call(f"batch_norm_epilogue_backward-{label}-{number}", arrays, same, masked)
        yield Call(f"batch_norm-{label}", [x, gamma, beta, residual], same, forward)
        yield Call(f"batch_norm_given-{label}", [x, gamma, beta, mean, inverse_std], same, fixed)
        yield Call(f"batch_norm_backward-{label}", [g, x, gamma, mean, inverse_std], same, backward)


def separables(dtype):
    """What makes its results itself, so that there is nothing to fill."""
    rng = np.random.default_rng(7)
    for label, geometry in {
        "whole": Geometry.of((6, 35), 3, 1, ((2, 0), (1, 3)), (1, 2), groups=19),
        "halves": Geometry.of((9, 7), 3, 2, ((0, 2), (3, 1)), groups=19),
        "large": Geometry.of((7, 6), 5, 1, 2, groups=3),
    }.items():
        groups, bends = geometry.groups, ("relu6", "relu")
        x = rng.standard_normal((3, groups, *geometry.size)).astype(dtype)
        g = rng.standard_normal((3, groups, *geometry.output)).astype(dtype)
        w = rng.standard_normal((groups, 1, *geometry.kernel)).astype(dtype)
        vectors = list(rng.standard_normal((4, groups)).astype(dtype))
        arrays = [x, *vectors[:2], w, *vectors[2:]]
        made = kernels.norm_depthwise_norm(*arrays, geometry, bends)

        def forward(arrays, outs, workspace, geometry=geometry, bends=bends):
            return kernels.norm_depthwise_norm(*arrays, geometry, bends, workspace=workspace)

        def backward(arrays, outs, workspace, geometry=geometry, bends=bends):
            return kernels.norm_depthwise_norm_backward(
                *arrays, geometry, bends, workspace=workspace
            )

        yield Call(f"norm_depthwise_norm-{label}", arrays, [], forward)
        arrays = [g, *arrays[:3], *made[1:3], w, *vectors[2:], *made[3:]]
        yield Call(f"norm_depthwise_norm_backward-{label}", arrays, [], backward)


def recurrent(dtype):
    rng = np.random.default_rng(3)
    steps, count, size = 4, 6, 5

    def drawn(*shape):
        return rng.standard_normal(shape).astype(dtype)

    h, c, g, gm = drawn(count, size), drawn(count, size), *(drawn(4, 6, 5) for _ in range(2))
    ends = np.array([4, 2, 0, 1, 4, 3])
    made, wide = [((steps, count, size), dtype)], {}
    for gates, name in ((1, "rnn"), (4, "lstm"), (3, "gru")):
        wide[name] = drawn(steps, count, gates * size), drawn(gates * size, size)
    b = drawn(3 * size)
    (x, w), (lstm_x, lstm_w), (gru_x, gru_w) = (wide[name] for name in ("rnn", "lstm", "gru"))
    for label, settings in {"": (False, None), "-short": (True, ends)}.items():
        bend = ("relu" if label else "tanh", *settings)
        y = kernels.rnn(x, h, w, *bend)
        lstm = kernels.lstm(lstm_x, h, c, lstm_w, *settings)
        gru = kernels.gru(gru_x, h, gru_w, b, *settings)
        for name, kernel, own, arrays, first in (
            ("rnn", kernels.rnn, bend, [x, h, w], made),
            ("rnn_backward", kernels.rnn_backward, bend, [g, y, h, w], made),
            ("lstm", kernels.lstm, settings, [lstm_x, h, c, lstm_w], made),
            (
                *("lstm_backward", kernels.lstm_backward, settings),
                *([g, gm, *lstm, h, c, lstm_w], [(lstm_x.shape, dtype)]),
            ),
            ("gru", kernels.gru, settings, [gru_x, h, gru_w, b], made),
            (
                *("gru_backward", kernels.gru_backward, settings),
                *([g, *gru, h, gru_w], [(gru_x.shape, dtype)]),
            ),
        ):

            def run(arrays, outs, workspace, kernel=kernel, own=own):
                found = kernel(*arrays, *own, out=outs[0], workspace=workspace)
                return list(found) if isinstance(found, tuple) else [found]

            yield Call(f"{name}{label}", arrays, first, run)


def products(dtype):
    rng = np.random.default_rng(4)
    for label, rows, turned in (("rows", 3, False), ("dots", 3, True), ("packed", 40, True)):
        a = rng.standard_normal((rows, 37)).astype(dtype)
        b = rng.standard_normal((75, 37) if turned else (37, 75)).astype(dtype)

        def run(arrays, outs, workspace, turned=turned):
            a, b = arrays
            b = b.T if turned else b
            return [kernels.matmul(a, b, out=outs[0], workspace=workspace)]

        yield Call(f"matmul-{label}", [a, b], [((rows, 75), dtype)], run)


def losses(dtype):
    rng = np.random.default_rng(5)
    for label, shape in {"rows": (5, 19), "places": (2, 3, 5, 7)}.items():
        x = rng.standard_normal(shape).astype(dtype)
        target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        made = kernels.cross_entropy(x, target, 0.1)
        g = rng.standard_normal(target.shape).astype(dtype)

        def forward(arrays, outs, workspace):
            outs[0][...] = kernels.cross_entropy(*arrays, 0.1).loss
            return [outs[0]]

        def backward(arrays, outs, workspace):
            return [kernels.cross_entropy_backward(*arrays, 0.1, out=outs[0])]

        yield Call(f"cross_entropy-{label}", [x, target], [(target.shape, dtype)], forward)
        arrays = [g, x, target, made.top, made.log_sum]
        yield Call(f"cross_entropy_backward-{label}", arrays, [(shape, dtype)], backward)


def activations(dtype):
    rng = np.random.default_rng(6)
    g, y = (rng.standard_normal((3, 5, 7)).astype(dtype) for _ in range(2))
    for name in ("relu", "tanh", "sigmoid"):
        for end in ("", "_backward"):
            yield activation(name + end, [g, y] if end else [g])


def activation(name, arrays):
    def run(arrays, outs, workspace):
        return [getattr(kernels, name)(*arrays, out=outs[0])]

    return Call(name, arrays, [(arrays[0].shape, arrays[0].dtype)], run)


def filter_by_planes(monkeypatch):
    """Let every processor filter channels plane by plane, as those do that mask for nothing.

    Other ways round otherwise, and kernels that go through more than the filter have none.
    """
    monkeypatch.setattr(convolution, "masks_are_free", True)
    monkeypatch.setattr(convolution, "_chosen", {})


def every_call(dtype) -> list[Call]:
    return [
        *convolutions(dtype),
        *pools(dtype),
        *batch_norms(dtype),
        *separables(dtype),
        *recurrent(dtype),
        *products(dtype),
        *losses(dtype),
        *activations(dtype),
    ]


def results(call: Call) -> list[np.ndarray]:
    """Run a call with fresh outputs."""
    outs = [np.empty(shape, dtype) for shape, dtype in call.outs]
    return list(call.run(call.arrays, outs, None))
