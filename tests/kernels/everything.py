"""Every kernel as a call that can be made again with other arrays in the same places.

The tests of red zones, threads and compiled twins run all kernels through this one list.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry
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
}


def numbers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


def convolutions(dtype):
    rng = np.random.default_rng(0)
    for label, geometry in GEOMETRIES.items():
        groups = geometry.groups
        images = 19 if label == "many" else 3  # more than a vector has lanes
        x = numbers(rng, (images, 3 * groups, *geometry.size), dtype)
        w = numbers(rng, (13 * groups, 3, *geometry.kernel), dtype)
        g = numbers(rng, (images, 13 * groups, *geometry.output), dtype)
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


def recurrent(dtype):
    rng = np.random.default_rng(3)
    x, g = (rng.standard_normal((4, 3, 5)).astype(dtype) for _ in range(2))
    h, w = (rng.standard_normal(shape).astype(dtype) for shape in ((3, 5), (5, 5)))
    same = [(x.shape, dtype)]
    for nonlinearity, reverse in (("tanh", False), ("relu", True)):
        y = kernels.rnn(x, h, w, nonlinearity, reverse)

        def forward(arrays, outs, workspace, settings=(nonlinearity, reverse)):
            return [kernels.rnn(*arrays, *settings, out=outs[0], workspace=workspace)]

        def backward(arrays, outs, workspace, settings=(nonlinearity, reverse)):
            return kernels.rnn_backward(*arrays, *settings, out=outs[0], workspace=workspace)

        yield Call(f"rnn-{nonlinearity}", [x, h, w], same, forward)
        yield Call(f"rnn_backward-{nonlinearity}", [g, y, h, w], same, backward)


def every_call(dtype) -> list[Call]:
    return [*convolutions(dtype), *pools(dtype), *batch_norms(dtype), *recurrent(dtype)]


def results(call: Call) -> list[np.ndarray]:
    """Run a call with fresh outputs."""
    outs = [np.empty(shape, dtype) for shape, dtype in call.outs]
    return list(call.run(call.arrays, outs, None))
