"""Check derivatives of any order: what the rules compute against what the function really does.

The numeric side is central differences in float64, extrapolated (Richardson) and taken at smaller
and smaller steps, so that a kink near the point does no harm and a kink at the point is reported
as a kink.  Order k checks the gradient function of order k - 1, so every order uses the same code.

`levels` makes functions of arrays out of the user's function and its gradients; `compare` takes
differences of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad.check.compare import Checker, GradientError, KinkError
from minigrad.check.levels import Arguments, Function, Level, check_pure

__all__ = ["GradientError", "GradientReport", "KinkError", "check_gradients"]


class GradientReport(NamedTuple):
    """What a passed check found.

    Attributes:
        largest_error: the largest difference between rules and numbers that was accepted.
        compared: how many derivatives were compared.
        kinks: how many were left out because the function has a kink there.
    """

    largest_error: float
    compared: int
    kinks: int


def check_gradients(
    f: Callable,
    *inputs: Any,
    order: int = 2,
    directions: int | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    step: float = 1e-3,
    kinks: str = "raise",
    seed: int = 0,
) -> GradientReport:
    """Check the derivatives of a function at a point, up to some order.

    Args:
        f: from tensors to a tensor, or from scalars to a scalar; or to a tuple or list of them,
            of which those of floats are checked.
        inputs: where to check.  Tensors and arrays of floats are differentiated, in float64
            whatever their dtype; scalars and floats too if there is no tensor or array among the
            inputs.  Everything else is handed to `f` as it is.
        order: check derivatives of orders 1 to `order`.
        directions: along how many random directions to check each input; by default each element
            on its own up to 64 elements, and 8 directions beyond.
        rtol, atol: accepted difference, relative to the derivative and absolute.
        step: the largest step of the differences, relative to inputs larger than 1.
        kinks: "raise" or "skip", where `f` has no derivative but the rules' choice lies between
            the slopes on both sides.
        seed: of the random weights and directions.

    Returns:
        How far the check went and the largest accepted error.

    Raises:
        GradientError: a derivative is wrong; the message names order, input, element, and both
            numbers.
        KinkError: `f` has no derivative at this point.
        TypeError, ValueError: there is nothing to differentiate, or `f` cannot be checked: it is
            not finite, not in float64, or not the same twice.

    >>> import minigrad
    >>> check_gradients(minigrad.tanh, minigrad.tensor([0.5, -1.0])).compared
    5
    >>> check_gradients(lambda x, y: x * y, 4.0, -3.0).compared
    5
    >>> halved = minigrad.op("halved", lambda x: 0.5 * x, lambda g: g)
    >>> check_gradients(halved, minigrad.tensor([3.0]))
    Traceback (most recent call last):
    minigrad.check.GradientError: order 1, the output by input 0[0]: \
the rules give 1.0, but differences give 0.5 (off by 0.5, factor 2)
    """
    if order < 1:
        raise ValueError(f"check_gradients: order must be at least 1, got {order}")
    if kinks not in ("raise", "skip"):
        raise ValueError(f"check_gradients: kinks must be 'raise' or 'skip', got {kinks!r}")
    arguments = Arguments(inputs)
    function = Function(f, arguments)
    points, names = arguments.points, arguments.names
    rng = np.random.default_rng(seed)
    # An earlier call at another point must leave nothing behind that a rule picks up at this one.
    function.evaluate([x + step * rng.uniform(-1.0, 1.0, x.shape) for x in points])
    check_pure(function, points)
    checker = Checker(rng, directions, rtol, atol, step, kinks == "skip")
    level: Level = function
    for k in range(1, order + 1):
        points, names, level = checker.check(level, points, names, k, last=k == order)
    return GradientReport(checker.largest, checker.compared, checker.kinks)
