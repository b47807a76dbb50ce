"""Random programs, drawn by Hypothesis: scalar and tensor graphs with shared values.

A program is a list of small integers, decoded against what it has computed so far, so that any
list is a valid program and Hypothesis can shrink it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import minigrad

UNARY = [
    minigrad.negative,
    minigrad.tanh,
    minigrad.sigmoid,
    minigrad.sin,
    minigrad.square,
    minigrad.relu,
    minigrad.exp,
]
BINARY = [minigrad.add, minigrad.subtract, minigrad.multiply, minigrad.maximum]


@dataclass(frozen=True)
class Program:
    """Leaf values (numbers, or arrays) and steps; `run` computes it on new leaves."""

    leaves: tuple
    steps: tuple

    def make_leaves(self) -> list[Any]:
        if isinstance(self.leaves[0], float):
            return [minigrad.scalar(v, name=f"x{i}") for i, v in enumerate(self.leaves)]
        return [
            minigrad.tensor(v, requires_grad=True, name=f"x{i}") for i, v in enumerate(self.leaves)
        ]

    def run(self, leaves: list[Any]) -> list[Any]:
        """All values that were computed; the last one is the loss."""
        values = list(leaves)
        scalar = isinstance(self.leaves[0], float)
        for step in self.steps:
            values.append((scalar_step if scalar else tensor_step)(values, *step))
        if not scalar:
            values.append(values[-1].sum())
        return values


def scalar_step(values: list, kind: int, i: int, j: int) -> Any:
    a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
    kind %= len(UNARY) + len(BINARY)
    if kind < len(BINARY):
        return BINARY[kind](a, b)
    op = UNARY[kind - len(BINARY)]
    return op(minigrad.tanh(a)) if op in (minigrad.exp, minigrad.square) else op(a)


def tensor_step(values: list, kind: int, i: int, j: int) -> Any:
    a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
    makers = [lambda op=op: op(minigrad.tanh(a)) for op in UNARY]
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        pass
    else:
        makers += [lambda op=op: op(minigrad.tanh(a), b) for op in BINARY] * 2
    if a.ndim == 2:
        makers += [
            lambda: a.sum(axis=0),
            lambda: a.mean(axis=1, keepdims=True),
            lambda: a.T,
            lambda: minigrad.tanh(a) @ minigrad.tanh(a).T,
            lambda: a[[0, 0, -1]],
        ]
        if b.ndim == 2 and a.shape[1] == b.shape[0]:
            makers += [lambda: minigrad.tanh(a) @ b] * 3
    if a.ndim:
        makers += [
            lambda: a[0],
            lambda: a.reshape(-1),
            lambda: minigrad.logsumexp(a),
            lambda: minigrad.concatenate([a, a * 0.5]),
        ]
    return makers[kind % len(makers)]()


_numbers = st.integers(-8, 8).map(lambda n: n / 4 + 0.1)
_steps = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=10
).map(tuple)


@st.composite
def scalar_programs(draw: Any) -> Program:
    leaves = draw(st.lists(_numbers, min_size=1, max_size=4))
    return Program(tuple(leaves), draw(_steps))


@st.composite
def tensor_programs(draw: Any, dtype: Any = np.float64) -> Program:
    shapes = draw(
        st.lists(
            st.sampled_from([(), (3,), (2, 3), (1, 3), (3, 3), (3, 2), (2, 1)]),
            min_size=1,
            max_size=4,
        )
    )
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    leaves = [np.asarray(rng.uniform(-1.5, 1.5, shape), dtype) for shape in shapes]
    return Program(tuple(leaves), draw(_steps))
