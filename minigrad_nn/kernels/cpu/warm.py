"""Compile kernels before they are needed, by calling each on arrays of a few numbers.

Entry points see one-dimensional arrays, so the types of a call depend on the element type alone:
one call of each row of each table compiles all that any geometry will need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import Warmed
from ..epilogue import Epilogue
from ..geometry import Geometry
from . import (
    elementwise,
    finish,
    gated,
    loss,
    normalise,
    pool,
    product,
    recurrent,
    separable,
    update,
)
from .convolution import TABLE

GEOMETRY = Geometry.of((3, 3), 2)
# What the rows that want other filters are able to compute.
OTHERS = (Geometry.of((4, 4), 3), Geometry.of((2, 2), 2))
# Windows that tile their plane.
TILES = Geometry.of((2, 2), 2, 2)


def _operands(dtype: Any, geometry: Geometry = GEOMETRY) -> dict[str, np.ndarray]:
    return {
        "x": np.ones((1, 1, *geometry.size), dtype),
        "w": np.ones((1, 1, *geometry.kernel), dtype),
        "g": np.ones((1, 1, *geometry.output), dtype),
        "vector": np.ones(1, dtype),
        "indices": np.zeros((1, 1, 2, 2), np.int32),
    }


def _rows(kernel: str, first: str, second: str) -> Callable[[dict[str, np.ndarray]], None]:
    def call(a: dict[str, np.ndarray]) -> None:
        # A weight's gradient takes no activation; the others compile the pass of an epilogue too.
        epilogue = None if kernel == "conv_weight" else Epilogue(activation="relu")
        for row in TABLE[kernel]:
            for geometry in filter(row.able, (GEOMETRY, *OTHERS)):
                own = _operands(a["x"].dtype, geometry)
                row.compute(own[first], own[second], geometry, None, None, epilogue)

    return call


def _sequence(a: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of three sequences, and the state and weight that fit."""
    plane = a["x"][0]
    return plane, plane[0], plane[0]


def _gates(a: dict[str, np.ndarray], gates: int, states: int) -> Any:
    """One step of one sequence with states of one number each, and the weight that fits."""
    one = np.ones((1, 1), a["x"].dtype)
    return one.repeat(gates)[None, None], *[one] * states, one.repeat(gates)[:, None]


def _lstm(x: np.ndarray, h: np.ndarray, c: np.ndarray, w: np.ndarray) -> None:
    gated.lstm(x, h, c, w, False, None, None)


def _lstm_backward(x: np.ndarray, h: np.ndarray, c: np.ndarray, w: np.ndarray) -> None:
    y = h[None]
    gated.lstm_backward(y, y, y, y, x, h, c, w, False, None, None)


def _gru(x: np.ndarray, h: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return gated.gru(x, h, w, np.ones(3, x.dtype), False, None, None)


def _gru_backward(x: np.ndarray, h: np.ndarray, w: np.ndarray) -> None:
    y, gates = _gru(x, h, w)
    gated.gru_backward(y, y, gates, h, w, False, None, None)


def _sums(compute: Callable, given: np.ndarray, size: int = 2, *more: Any) -> None:
    """Of windows that overlap, and of windows that are tiles (`size` is that of the array)."""
    compute(given, GEOMETRY, *more, None, None, RELU)
    compute(given[..., :size, :size], TILES, *more, None, None, RELU)


def _losses(x: np.ndarray, backward: bool) -> None:
    """Of rows, and of places."""
    for given in (x[..., 0, 0], x):
        target = np.zeros(given[:, 0].shape, np.int64)
        made = loss.cross_entropy(given, target, 0.0)
        if backward:
            loss.cross_entropy_backward(made[0], given, target, *made[1:], 0.0, None)


def _products(square: np.ndarray) -> None:
    """One of each algorithm."""
    tall = square.repeat(product.SMALL, axis=0)
    for a, b in ((square, square), (square, square.T), (tall, square)):
        product.matmul(a, b, None, None)


def _behind_relu(a: dict[str, np.ndarray]) -> Any:
    """The gradients of a batch norm with a ReLU."""
    x, v = a["x"], a["vector"]
    return normalise.batch_norm_epilogue_backward(x, x, v, v, v, v, "relu", None, False, None, None)


def _separable(a: dict[str, np.ndarray], backward: bool) -> None:
    """A depthwise filter between two batch norms."""
    x, v = a["x"], a["vector"]
    w = np.ones((x.shape[1], 1, 3, 3), x.dtype)
    geometry = Geometry.of(x.shape[2:], 3, padding=1, groups=x.shape[1])
    bends = "relu", "relu"
    if backward:
        separable.norm_depthwise_norm_backward(
            *(x, x, v, v, v, v, w, v, v, v, v), *(geometry, bends, None)
        )
    else:
        separable.norm_depthwise_norm(x, v, v, w, v, v, geometry, bends, (1e-5, 1e-5), None)


RELU = Epilogue(activation="relu")
CALLS: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "conv": _rows("conv", "x", "w"),
    "conv_input": _rows("conv_input", "g", "w"),
    "conv_weight": _rows("conv_weight", "x", "g"),
    "channel_sum": lambda a: finish.channel_sum(a["g"], None),
    "epilogue_backward": lambda a: finish.epilogue_backward(a["g"], a["g"], "relu", None, None),
    "max_pool": lambda a: pool.max_pool(a["x"], GEOMETRY, None, None, None, RELU),
    "max_pool_input": lambda a: pool.max_pool_input(
        a["g"], a["indices"], GEOMETRY, None, None, RELU
    ),
    "gather": lambda a: pool.gather(a["x"], a["indices"], None, None, RELU),
    "scatter": lambda a: pool.scatter(a["g"], a["indices"], (3, 3), None, None, RELU),
    "sum_pool": lambda a: _sums(pool.sum_pool, a["x"]),
    "sum_pool_input": lambda a: _sums(pool.sum_pool_input, a["g"], 1),
    "average_pool": lambda a: _sums(pool.average_pool, a["x"], 2, True),
    "average_pool_input": lambda a: _sums(pool.average_pool_input, a["g"], 1, True),
    "moments": lambda a: normalise.moments(a["x"], None),
    "batch_norm": lambda a: normalise.batch_norm(
        a["x"], a["vector"], a["vector"], 1e-5, None, None, RELU
    ),
    "batch_norm_given": lambda a: normalise.batch_norm_given(
        a["x"], a["vector"], a["vector"], a["vector"], a["vector"], None, None, RELU
    ),
    "rnn": lambda a: recurrent.rnn(*_sequence(a), "tanh", False, None, None),
    "rnn_backward": lambda a: recurrent.rnn_backward(
        a["x"][0], *_sequence(a), "tanh", False, None, None
    ),
    "lstm": lambda a: _lstm(*_gates(a, 4, 2)),
    "lstm_backward": lambda a: _lstm_backward(*_gates(a, 4, 2)),
    "gru": lambda a: _gru(*_gates(a, 3, 1)),
    "gru_backward": lambda a: _gru_backward(*_gates(a, 3, 1)),
    "cross_entropy": lambda a: _losses(a["x"], False),
    "cross_entropy_backward": lambda a: _losses(a["x"], True),
    "matmul": lambda a: _products(a["x"][0, 0]),
    "relu": lambda a: elementwise.relu(a["x"]),
    "tanh": lambda a: elementwise.tanh(a["x"]),
    "sigmoid": lambda a: elementwise.sigmoid(a["x"]),
    "relu_backward": lambda a: elementwise.relu_backward(a["x"], a["x"]),
    "tanh_backward": lambda a: elementwise.tanh_backward(a["x"], a["x"]),
    "sigmoid_backward": lambda a: elementwise.sigmoid_backward(a["x"], a["x"]),
    "sgd_update": lambda a: update.sgd_update(
        [a["vector"]], [a["vector"]], None, 0.1, 0.0, 0.0, 0.0, False, False
    ),
    "adam_update": lambda a: update.adam_update(
        [a["vector"]],
        [a["vector"]],
        [a["vector"]],
        [a["vector"]],
        1,
        0.1,
        (0.9, 0.99),
        1e-8,
        0.0,
        False,
    ),
    "batch_norm_backward": lambda a: normalise.batch_norm_backward(
        a["x"], a["x"], a["vector"], a["vector"], a["vector"], False, None, None
    ),
    "batch_norm_epilogue_backward": _behind_relu,
    "norm_depthwise_norm": lambda a: _separable(a, False),
    "norm_depthwise_norm_backward": lambda a: _separable(a, True),
}


def warmup(
    kernels: Iterable[str] | None,
    dtypes: Iterable[Any],
    progress: Callable[[Warmed], None] | None,
) -> list[Warmed]:
    """See `minigrad_nn.kernels.warmup`."""
    names = list(CALLS) if kernels is None else list(kernels)
    for name in names:
        if name not in CALLS:
            raise ValueError(f"warmup: no kernel is called {name!r}; there are {', '.join(CALLS)}")
    types = [np.dtype(dtype) for dtype in dtypes]
    told = []
    for number, (name, dtype) in enumerate((n, d) for n in names for d in types):
        start = time.perf_counter()
        CALLS[name](_operands(dtype))
        seconds = time.perf_counter() - start
        told.append(Warmed(name, str(dtype), number + 1, len(names) * len(types), seconds))
        if progress is not None:
            progress(told[-1])
    return told
