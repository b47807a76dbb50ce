"""Random programs: graphs of ops with shared parts, to be run by minigrad or by a peer."""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import minigrad as mg
from minigrad.testing import Domain, arrays, shapes


class Step(NamedTuple):
    """One op: its name, the numbers of its operands, and what else it takes."""

    name: str
    operands: tuple[int, ...]
    static: Any = None


class Program(NamedTuple):
    """Inputs, steps, and the values that are returned, all by number."""

    inputs: list[np.ndarray]
    steps: list[Step]
    outputs: tuple[int, ...]


# What each step means in minigrad; a peer has a table with the same names.
MINIGRAD = {
    "tanh": lambda x, _: mg.tanh(x),
    "sin": lambda x, _: mg.sin(x),
    "sigmoid": lambda x, _: mg.sigmoid(x),
    "exp": lambda x, _: mg.exp(x * 0.3),
    "square": lambda x, _: x * x * 0.5,
    "sqrt": lambda x, _: mg.sqrt(x * x + 1.0),
    "log": lambda x, _: mg.log(x * x + 1.0),
    "negative": lambda x, _: -x,
    "shift": lambda x, c: c - x,
    "add": lambda x, y, _: x + y,
    "subtract": lambda x, y, _: x - y,
    "multiply": lambda x, y, _: x * y,
    "divide": lambda x, y, _: x / (y * y + 1.0),
    "maximum": lambda x, y, _: mg.maximum(x, y + 0.37),
    "where": lambda x, y, mask: mg.where(mask, x, y),
    "matmul": lambda x, y, _: x @ y,
    "sum": lambda x, axis: mg.sum(x, axis),
    "mean": lambda x, axis: mg.mean(x, axis, keepdims=True),
    "logsumexp": lambda x, axis: mg.logsumexp(x, axis),
    "cumsum": lambda x, axis: mg.cumsum(x, axis),
    "reshape": lambda x, _: mg.reshape(x, -1),
    "transpose": lambda x, _: mg.transpose(x),
    "expand": lambda x, _: mg.broadcast_to(x, (2, *x.shape)),
    "row": lambda x, i: x[i],
    "every other": lambda x, _: x[..., ::2],
    "take": lambda x, places: x[places],
    "concatenate": lambda x, y, _: mg.concatenate([mg.reshape(x, -1), mg.reshape(y, -1)]),
    "stack": lambda x, _: mg.stack([x, x * 2.0]),
}
SMOOTH = "tanh sin sigmoid exp square sqrt log negative".split()


def candidates(draw, values):
    """A step that fits some of the values so far."""
    i = draw(st.integers(0, len(values) - 1))
    j = draw(st.integers(0, len(values) - 1))
    x, y = values[i], values[j]
    found = [st.sampled_from([Step(name, (i,)) for name in SMOOTH])]
    found.append(st.just(Step("shift", (i,), 1.5)))
    found.append(st.just(Step("concatenate", (i, j))))
    if x.ndim < 3 and x.size < 40:
        found += [st.just(Step("expand", (i,))), st.just(Step("stack", (i,)))]
    if x.ndim:
        axis = st.integers(0, x.ndim - 1)
        found += [
            axis.map(lambda a, name=name: Step(name, (i,), a))
            for name in ("sum", "mean", "logsumexp", "cumsum")
        ]
        found += [st.just(Step(n, (i,))) for n in ("reshape", "transpose", "every other")]
        found.append(st.integers(0, len(x) - 1).map(lambda k: Step("row", (i,), k)))
        places = st.lists(st.integers(0, len(x) - 1), min_size=1, max_size=3).map(np.array)
        found.append(places.map(lambda p: Step("take", (i,), p)))
    if x.ndim == y.ndim == 2 and x.shape[1] == y.shape[0]:
        found += [st.just(Step("matmul", (i, j)))] * 4
    try:
        size = np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return draw(st.one_of(found))
    if np.prod(size) <= 100:
        binary = ("add", "subtract", "multiply", "divide", "maximum")
        found += [st.just(Step(name, (i, j))) for name in binary]
        mask = arrays(size).map(lambda m: m > 0)
        found.append(mask.map(lambda m: Step("where", (i, j), m)))
    return draw(st.one_of(found))


@st.composite
def programs(draw, max_steps=10):
    """A program whose values stay moderate, so that derivatives can be compared."""
    size = draw(shapes(0, 2, 1, 3))
    count = draw(st.integers(1, 3))
    sizes = [draw(st.sampled_from([size, size[-1:], (3, 3), ()])) for _ in range(count)]
    inputs = [draw(arrays(s, Domain(-1.5, 1.5))) for s in sizes]
    values, steps = list(inputs), []
    for _ in range(draw(st.integers(1, max_steps))):
        step = candidates(draw, values)
        value = MINIGRAD[step.name](*[values[i] for i in step.operands], step.static)
        # Growing values go through tanh, so that nothing overflows.
        steps.append(step)
        values.append(np.asarray(value))
        if np.max(np.abs(value)) > 20:
            steps.append(Step("tanh", (len(values) - 1,)))
            values.append(np.tanh(value))
    last = len(values) - 1
    outputs = draw(st.sampled_from([(last,), (last, last // 2)]))
    return Program(inputs, steps, outputs)


def run(program, inputs, table=MINIGRAD):
    """The program's outputs, computed by whoever the table belongs to."""
    values = list(inputs)
    for step in program.steps:
        values.append(table[step.name](*[values[i] for i in step.operands], step.static))
    return tuple(values[i] for i in program.outputs)
