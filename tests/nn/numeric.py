"""Central differences against backward passes, for order 1 and 2, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

STEP = 1e-5


def loss_of(f: Callable, inputs: list[np.ndarray], weights: np.ndarray) -> float:
    with mg.no_grad():
        return float((f(*[mg.tensor(x) for x in inputs]) * weights).sum().item())


def gradients_of(f: Callable, inputs: list[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
    variables = [mg.tensor(x, requires_grad=True) for x in inputs]
    found = mg.gradients((f(*variables) * weights).sum(), variables)
    return [g.numpy() for g in found]


def hessian_times(
    f: Callable, inputs: list[np.ndarray], weights: np.ndarray, direction: list[np.ndarray]
) -> list[np.ndarray]:
    variables = [mg.tensor(x, requires_grad=True) for x in inputs]
    first = mg.gradients((f(*variables) * weights).sum(), variables, create_graph=True)
    along: Any = 0.0
    for g, d in zip(first, direction, strict=True):
        along = along + (g * d).sum()
    if not along.requires_grad:  # a linear function
        return [np.zeros_like(x) for x in inputs]
    return [h.numpy() for h in mg.gradients(along, variables)]


def check(f: Callable, *inputs: np.ndarray, order: int = 2, tolerance: float = 1e-6) -> None:
    """Compare every first derivative, and the second ones along a drawn direction."""
    arrays = [np.asarray(x, np.float64) for x in inputs]
    rng = np.random.default_rng(0)
    with mg.no_grad():
        shape = f(*[mg.tensor(x) for x in arrays]).shape
    # Different weights for each output, so that no two errors cancel.
    weights = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    found = gradients_of(f, arrays, weights)
    for i, x in enumerate(arrays):
        wanted = np.empty_like(x)
        for place in np.ndindex(x.shape):
            moved = [a.copy() for a in arrays]
            moved[i][place] = x[place] + STEP
            above = loss_of(f, moved, weights)
            moved[i][place] = x[place] - STEP
            wanted[place] = (above - loss_of(f, moved, weights)) / (2 * STEP)
        close(found[i], wanted, tolerance, f"gradient by input {i}")
    if order < 2:
        return
    direction = [rng.standard_normal(x.shape) for x in arrays]
    second = hessian_times(f, arrays, weights, direction)
    above, below = (
        gradients_of(f, [x + s * d for x, d in zip(arrays, direction, strict=True)], weights)
        for s in (STEP, -STEP)
    )
    for i, (found_i, a, b) in enumerate(zip(second, above, below, strict=True)):
        close(found_i, (a - b) / (2 * STEP), tolerance, f"second derivative by input {i}")


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float, what: str) -> None:
    assert found.shape == wanted.shape, what
    scale = 1.0 + np.abs(wanted).max(initial=0.0)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * scale, err_msg=what)
