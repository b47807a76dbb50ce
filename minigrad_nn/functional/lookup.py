"""Embedding: a vector for each number, read from a table whose gradient is a scatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, op, raw
from minigrad.effects import constant, effect, value
from minigrad.ops.elementwise import where

__all__ = ["embedding"]


def _add_rows(h: Any, numbers: Any, *, rows: int) -> Any:
    """Add each vector into the row of its number; in the order of the numbers, so always alike."""
    width = h.shape[-1]
    table = np.zeros((rows, width), h.dtype)
    flat = numbers.reshape(-1)
    if flat.size:
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        table[ordered[starts]] = np.add.reduceat(h.reshape(-1, width)[order], starts, axis=0)
    return table


read_rows: Op = op(
    "read_rows",
    lambda weight, numbers: weight[numbers],
    lambda g, numbers, weight_shape: add_rows(g, numbers, rows=weight_shape[0]),
    lambda g: None,
    gate="selects",
)
"""Rows of a table `(rows, width)` at integers of any shape: `(..., width)`."""

add_rows: Op = op(
    "add_rows",
    _add_rows,
    lambda g, numbers: read_rows(g, numbers),
    lambda g: None,
)
"""The adjoint of `read_rows`: vectors `(..., width)` added into zeros `(rows, width)`."""


def embedding(x: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """The row of `weight` for each number: what a one-hot vector times the table would give.

    Args:
        x: integers of any shape, from 0 to rows - 1.
        weight: `(rows, width)`.
        padding_idx: a row that gets no gradient; a negative one counts from the end.

    Returns:
        `(*x.shape, width)`.

    Raises:
        ValueError: a number without a row, or wrong shapes.
        TypeError: x does not hold integers.

    >>> import minigrad
    >>> table = minigrad.tensor([[0.0, 0.0], [1.0, 2.0]])
    >>> embedding([1, 0, 1], table)
    tensor([[1., 2.],
            [0., 0.],
            [1., 2.]])
    """
    numbers, table = raw(x), raw(weight)
    numbers = backend.on_cpu(numbers)
    numbers = numbers if isinstance(numbers, np.ndarray) else constant(np.asarray(numbers))
    if np.ndim(table) != 2:
        raise ValueError(f"embedding: weight must be (rows, width), got shape {np.shape(table)}")
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"embedding: x must hold integers, got {numbers.dtype}")
    rows = table.shape[0]
    _check_rows(numbers, rows)
    y = read_rows(weight, backend.beside(numbers, table))
    if padding_idx is None:
        return y
    if not -rows <= padding_idx < rows:
        raise ValueError(f"embedding: padding_idx {padding_idx} is none of the {rows} rows")
    row = padding_idx % rows
    return where(backend.beside(_others(numbers, row), table), y, _row(table, row))


@value
def _check_rows(numbers: Any, rows: int) -> None:
    if numbers.size and (numbers.min() < 0 or numbers.max() >= rows):
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise ValueError(f"embedding: x holds {wrong}, but weight has the rows 0 to {rows - 1}")


@value
def _others(numbers: Any, row: int) -> Any:
    return numbers[..., None] != row


@effect
def _row(table: Any, row: int) -> Any:
    return table[row]
