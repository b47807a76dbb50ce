"""Batch normalisation: one kernel forward, one backward, and the plain formula that they equal.

What stands behind a batch norm in most networks, a residual that is added and a ReLU, costs more
than the batch norm itself if each is a pass over memory of its own.  So there are operations that
take them along, `FUSED`, each with the composition that it equals.

Ioffe and Szegedy, "Batch normalization", 2015.  Running statistics are updated outside of the
operation: they are state, not part of the function that is differentiated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, Saved, raw
from minigrad.effects import constant, writing
from minigrad.ops.elementwise import divide, relu, sqrt
from minigrad.ops.reduce import mean as mean_over
from minigrad.ops.shape import reshape
from minigrad.recording import is_recomputing
from minigrad_nn import kernels
from minigrad_nn.functional.nonlinear import relu6
from minigrad_nn.kernels import Epilogue

__all__ = ["batch_norm"]


def _column(v: Any, x: Any) -> Any:
    """`(C,)` as something that broadcasts against `(N, C, *spatial)`."""
    return reshape(v, (-1,) + (1,) * (raw(x).ndim - 2))


def batch_norm_plain(x: Any, gamma: Any, beta: Any, *, eps: float) -> tuple:
    """What the fused operation equals: output, mean and `1 / sqrt(variance + eps)`."""
    axes = (0, *range(2, raw(x).ndim))
    mean = mean_over(x, axes, keepdims=True)
    centred = x - mean
    inverse_std = divide(1.0, sqrt(mean_over(centred * centred, axes, keepdims=True) + eps))
    y = centred * inverse_std * _column(gamma, x) + _column(beta, x)
    return y, reshape(mean, -1), reshape(inverse_std, -1)


def _batch_norm_rule(saved: Saved, g: tuple, needs: tuple[bool, ...]) -> list:
    return list(
        kernels.batch_norm_backward(g[0], saved.x, saved.gamma, saved.mean, saved.inverse_std)
    )


_batch_norm = Op(
    "batch_norm",
    lambda x, gamma, beta, *, eps: kernels.batch_norm(x, gamma, beta, eps=eps),
    inputs=("x", "gamma", "beta"),
    outputs=("y", "mean", "inverse_std"),
    differentiable=(True, False, False),
    saves=("x", "gamma", "mean", "inverse_std"),
    backward=_batch_norm_rule,
    like=batch_norm_plain,
)


def batch_norm_given_plain(x: Any, gamma: Any, beta: Any, mean: Any, inverse_std: Any) -> Any:
    """What normalising by given statistics equals."""
    h = (x - _column(mean, x)) * _column(inverse_std, x)
    return h * _column(gamma, x) + _column(beta, x)


def _given_rule(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
    found = kernels.batch_norm_backward(
        g, saved.x, saved.gamma, saved.mean, saved.inverse_std, given=True
    )
    return [*found, None, None]


_batch_norm_given = Op(
    "batch_norm_given",
    kernels.batch_norm_given,
    inputs=("x", "gamma", "beta", "mean", "inverse_std"),
    saves=("x", "gamma", "mean", "inverse_std"),
    backward=_given_rule,
    like=batch_norm_given_plain,
)


# --- with what follows ---------------------------------------------------------------------------

ACTIVATIONS: dict[str | None, Any] = {None: lambda x: x, "relu": relu, "relu6": relu6}


def _fused(given: bool, adds: bool, activation: str | None) -> Op:
    """`batch_norm`, or `batch_norm_given`, and then the sum with a residual and an activation."""
    inputs = ["x", "gamma", "beta"]
    inputs += ["mean", "inverse_std"] if given else []
    inputs += ["residual"] if adds else []
    count = 5 if given else 3
    compute: Any = kernels.batch_norm_given if given else kernels.batch_norm
    plain: Any = batch_norm_given_plain if given else batch_norm_plain

    def forward(*args: Any, **settings: Any) -> Any:
        epilogue = Epilogue(residual=args[count] if adds else None, activation=activation)
        return compute(*args[:count], **settings, epilogue=epilogue)

    def like(*args: Any, **eps: Any) -> Any:
        found = plain(*args[:count], **eps)
        y, statistics = (found, ()) if given else (found[0], found[1:])
        y = ACTIVATIONS[activation](y + args[count] if adds else y)
        return y if given else (y, *statistics)

    def backward(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
        g = g if given else g[0]
        found = kernels.batch_norm_epilogue_backward(
            *(g, saved.x, saved.gamma, saved.beta, saved.mean, saved.inverse_std),
            activation,
            saved.y if adds and activation else None,
            given=given,
        )
        residual = [found.gresidual if activation else g] if adds else []
        return [*found[:3], *([None, None] if given else []), *residual]

    parts = ["batch_norm"] + ["given"] * given + ["add"] * adds + [activation] * bool(activation)
    outputs = ("y",) if given else ("y", "mean", "inverse_std")
    return Op(
        "_".join(part for part in parts if part),
        forward,
        inputs=inputs,
        outputs=outputs,
        differentiable=(True, False, False)[: len(outputs)],
        saves=("x", "gamma", "beta", "mean", "inverse_std") + ("y",) * bool(adds and activation),
        backward=backward,
        like=like,
        gate="selects" if activation else None,
    )


FUSED: dict[tuple[bool, bool, str | None], Op] = {
    key: _fused(*key)
    for given in (False, True)
    for adds in (False, True)
    for activation in ACTIVATIONS
    if (key := (given, adds, activation))[1:] != (False, None)
}
"""By whether statistics are given, whether a residual is added, and the activation."""


@writing
def _follow(
    running_mean: Any,
    running_var: Any,
    mean: Any,
    inverse_std: Any,
    eps: float,
    count: int,
    momentum: float,
) -> None:
    """Write what a batch makes of the running statistics; either may be None."""
    if running_mean is not None:
        mix(running_mean, mean, momentum)
    if running_var is not None:
        with np.errstate(all="ignore"):
            variance = np.maximum(1.0 / np.square(inverse_std) - eps, 0.0)
            mix(running_var, variance * (count / (count - 1)), momentum)


def mix(running: Any, value: Any, momentum: float) -> None:
    """Write `(1 - momentum) * running + momentum * value` into a running statistic."""
    array = running._data
    array *= 1.0 - momentum
    array += momentum * value
    backend.written(array, "batch_norm's running statistics")


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Any = None,
    activation: str | None = None,
) -> Any:
    """Give each channel mean 0 and variance 1, then scale by `weight` and shift by `bias`.

    While training, the statistics are those of this batch, gradients flow through them, and the
    running ones are updated in place: `running = (1 - momentum) * running + momentum * batch`,
    with the unbiased variance.  Otherwise the running ones are used, as constants.

    With `residual` and `activation` it equals `activation(batch_norm(...) + residual)`, as one
    operation that passes over memory once and keeps less of it.

    Args:
        x: `(N, C)` or `(N, C, *spatial)`.
        running_mean, running_var: tensors `(C,)`; both may be None while training.
        weight, bias: `(C,)`; None for 1 and 0.
        training: whose statistics to use.
        momentum: the weight of this batch in the running statistics.
        eps: added to the variance.
        residual: the shape of x, what is added to the result; or None.
        activation: "relu", "relu6" or None.

    Returns:
        The shape of x.

    Raises:
        ValueError: a single value a channel while training, no statistics otherwise, shapes that
            do not belong together, or another activation.

    >>> import minigrad
    >>> x = minigrad.tensor([[1.0], [3.0]])
    >>> batch_norm(x, training=True, eps=0.0, activation="relu")
    tensor([[0.],
            [1.]])
    """
    values = raw(x)
    shape = values.shape
    check_norm("batch_norm", shape, running_mean, running_var, activation)
    weight, bias = scale_and_shift(values, weight, bias)
    key = (not training, residual is not None, activation)
    more = () if residual is None else (residual,)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError(
                "batch_norm: without training=True it needs running_mean and running_var"
            )
        given_op = FUSED.get(key, _batch_norm_given)
        given = _given(raw(running_mean), raw(running_var), eps, values.dtype)
        return given_op(x, weight, bias, *given, *more)
    count = check_count("batch_norm", shape)
    y, batch_mean, inverse_std = FUSED.get(key, _batch_norm)(x, weight, bias, *more, eps=eps)
    update_running(
        running_mean, running_var, raw(batch_mean), raw(inverse_std), eps, count, momentum
    )
    return y


def check_norm(
    name: str,
    shape: tuple[int, ...],
    running_mean: Any,
    running_var: Any,
    activation: str | None,
) -> None:
    """Raise ValueError where a batch norm cannot be of an x of this shape."""
    if len(shape) < 2:
        raise ValueError(f"{name}: x must be (N, C) or (N, C, *spatial), got shape {shape}")
    for what, given in (("running_mean", running_mean), ("running_var", running_var)):
        if given is not None and raw(given).shape != shape[1:2]:
            raise ValueError(
                f"{name}: {what} must have shape {shape[1:2]}, one number for each channel of "
                f"x of shape {shape}, got {raw(given).shape}"
            )
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{name}: activation must be one of {tuple(ACTIVATIONS)}, got {activation!r}"
        )


def check_count(name: str, shape: tuple[int, ...]) -> int:
    """How many values a channel has; ValueError where one alone would be its own mean."""
    count = math.prod(shape) // shape[1] if shape[1] else 0
    if count < 2:
        raise ValueError(
            f"{name}: training needs more than one value a channel, got x of shape {shape}: "
            "use a larger batch, or eval()"
        )
    return count


def scale_and_shift(x: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
    """Weight and bias of a norm over the array x; constants for None."""
    return (
        _filled(x, 1.0) if weight is None else weight,
        _filled(x, 0.0) if bias is None else bias,
    )


def update_running(
    running_mean: Any,
    running_var: Any,
    mean: Any,
    inverse_std: Any,
    eps: float,
    count: int,
    momentum: float,
) -> None:
    """Let running statistics follow those of a batch, unless it is computed a second time."""
    if not is_recomputing() and (running_mean is not None or running_var is not None):
        _follow(running_mean, running_var, mean, inverse_std, eps, count, momentum)


def batch_norm_in_place(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: bool,
    momentum: float,
    eps: float,
    *,
    residual: Any = None,
    activation: str | None = None,
) -> Any:
    """`batch_norm` by running statistics, which overwrites x and gives it back.

    It is for who made x and shows it to nobody.  Nothing is recorded; arguments as `batch_norm`,
    and `training` is False.
    """
    values = raw(x)
    args = [
        values,
        *map(raw, scale_and_shift(values, weight, bias)),
        *_given(raw(running_mean), raw(running_var), eps, values.dtype),
    ]
    if residual is not None:
        args.append(raw(residual))
    given_op = FUSED.get((True, residual is not None, activation), _batch_norm_given)
    found = backend.execute(given_op, args, {}, values)
    if found is not values:  # another thread has begun to watch, and whoever watches takes no `out`
        values[...] = found
    return x


@writing
def _given(mean: Any, variance: Any, eps: float, dtype: Any) -> tuple[Any, Any]:
    """Mean and inverse deviation of running statistics, as `_batch_norm_given` wants them.

    They are copies: a later update of the running statistics must not reach into a graph.
    """
    inverse_std = 1.0 / np.sqrt(variance + eps)
    return mean.astype(dtype), inverse_std.astype(dtype)


def _filled(like: Any, value: float) -> Any:
    """A constant `(C,)` where the values of `like` lie."""
    filled = np.full(like.shape[1], value, like.dtype)
    return constant(backend.device_of(like).from_numpy(filled))
