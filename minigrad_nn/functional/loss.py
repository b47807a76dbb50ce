"""Losses: cross-entropy, negative log-likelihood and mean squared error.

`cross_entropy` is one fused operation with kernels of its own, stable for logits of any size; the
plain composition that it equals stands beside it, and is what computes it where there are no such
kernels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, Saved, op, raw
from minigrad.effects import constant, decided, value
from minigrad.ops.elementwise import square, where
from minigrad.ops.reduce import mean
from minigrad.ops.reduce import sum as sum_over
from minigrad_nn import kernels
from minigrad_nn.functional.activation import log_softmax, softmax_raw
from minigrad_nn.kernels.registry import offers

__all__ = ["cross_entropy", "mse_loss", "nll_loss"]

REDUCTIONS = ("mean", "sum", "none")
FEW = 2048
"""So many numbers NumPy does nearly as fast: they are not worth the compiling of kernels."""


@lru_cache(maxsize=64)
def _rows(count: int) -> np.ndarray:
    """The numbers of rows, made once."""
    return np.arange(count)


def _places(target: Any) -> tuple:
    """The index that reads class `target[n, ...]` of `(N, C, ...)`."""
    if target.ndim == 1:
        return _rows(target.shape[0]), target
    first, *rest = np.ogrid[tuple(slice(n) for n in target.shape)]
    return (first, target, *rest)


def _place(h: Any, target: Any, *, classes: int) -> Any:
    shape = (target.shape[0], classes, *target.shape[1:])
    x = backend.device_of(h).module.zeros(shape, h.dtype)
    x[_places(target)] = h
    return x


pick: Op = op(
    "pick",
    lambda x, target: x[_places(target)],
    lambda g, target, x_shape: place(g, target, classes=x_shape[1]),
    lambda g: None,
    gate="selects",
)
"""`(N, ...)` out of `(N, C, ...)`: the number of each target class."""

place: Op = op(
    "place",
    _place,
    lambda g, target: pick(g, target),
    lambda g: None,
)
"""The adjoint of `pick`: `(N, ...)` into zeros `(N, C, ...)`."""


def _there(array: Any, x: Any) -> Any:
    """Class numbers, weights or masks, which are checked on the CPU, where `x` lies."""
    return backend.beside(array, raw(x))


def _reduce(loss: Any, reduction: str) -> Any:
    if reduction == "mean":
        return mean(loss)
    return sum_over(loss) if reduction == "sum" else loss


def cross_entropy_plain(x: Any, target: Any, *, smoothing: float, reduction: str) -> Any:
    """What the fused `cross_entropy` equals, in single operations."""
    log_p = log_softmax(x, 1)
    loss = -pick(log_p, target)
    if smoothing:
        classes = raw(x).shape[1]
        loss = (1.0 - smoothing) * loss - (smoothing / classes) * sum_over(log_p, 1)
    return _reduce(loss, reduction)


def _pays(x: Any) -> bool:
    """Whether a kernel is worth its loading."""
    return x.size > FEW or not isinstance(x, np.ndarray)


def _cross_entropy_raw(x: Any, target: Any, *, smoothing: float, reduction: str) -> tuple:
    if _pays(x) and offers("cross_entropy", x):
        loss, top, log_sum = kernels.cross_entropy(x, target, smoothing)
    else:
        top, log_sum, log_p = _log_softmax_parts(x)
        loss = -log_p[_places(target)]
        if smoothing:
            loss *= 1.0 - smoothing
            loss -= (smoothing / x.shape[1]) * np.add.reduce(log_p, axis=1)
    if reduction == "none":
        return loss, top, log_sum
    # Arrays to the end: NumPy makes a number of what has no axes.
    total = np.add.reduce(loss, axis=None, keepdims=True)
    if reduction == "mean":
        with np.errstate(invalid="ignore"):
            total = total / loss.size
    return total.reshape(()), top, log_sum


def _log_softmax_parts(x: Any) -> tuple:
    """The largest number of each place, the logarithm of its sum, and all logarithms."""
    with np.errstate(invalid="ignore"):
        top = np.maximum.reduce(x, axis=1)
        log_p = x - np.expand_dims(top, 1)
    with np.errstate(under="ignore"):
        log_sum = np.log(np.add.reduce(np.exp(log_p), axis=1))
    log_p -= np.expand_dims(log_sum, 1)
    return top, log_sum, log_p


def _cross_entropy_rule(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
    """Softmax minus the (smoothed) target distribution."""
    x, target, gate = saved.x, saved.target, g[0]
    if saved.reduction == "mean":
        gate = gate / target.size
    if _pays(x) and offers("cross_entropy_backward", x):
        gates = np.broadcast_to(gate, target.shape).astype(x.dtype, order="C", copy=False)
        made = (saved.top, saved.log_sum, saved.smoothing)
        return [kernels.cross_entropy_backward(gates, x, target, *made), None]
    gx = softmax_raw(x, axis=1)
    gx[_places(target)] -= 1.0 - saved.smoothing
    if saved.smoothing:
        gx -= saved.smoothing / x.shape[1]
    gx *= np.expand_dims(gate, 1) if saved.reduction == "none" else gate
    return [gx, None]


def cross_entropy_parts(x: Any, target: Any, *, smoothing: float, reduction: str) -> tuple:
    """`cross_entropy_plain`, and what the fused operation keeps besides."""
    top, log_sum, _ = _log_softmax_parts(raw(x))
    return cross_entropy_plain(x, target, smoothing=smoothing, reduction=reduction), top, log_sum


_cross_entropy = Op(
    "cross_entropy",
    _cross_entropy_raw,
    inputs=("x", "target"),
    outputs=("y", "top", "log_sum"),
    differentiable=(True, False, False),
    saves=("x", "target", "top", "log_sum"),
    backward=_cross_entropy_rule,
    like=cross_entropy_parts,
)


def _checked(
    name: str, x: Any, target: Any, reduction: str, ignore_index: int | None = None
) -> Any:
    """The target classes as a NumPy array that is known to fit, but for those to be ignored."""
    values, classes = raw(x), backend.on_cpu(raw(target))
    classes = classes if isinstance(classes, np.ndarray) else constant(np.asarray(classes))
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    if values.dtype.kind != "f":
        raise TypeError(f"{name}: x must hold floats, got {values.dtype}; convert it with .astype")
    if values.ndim < 2:
        raise ValueError(
            f"{name}: x must be (N, classes) or (N, classes, *spatial), got shape {values.shape}"
        )
    wanted = (values.shape[0], *values.shape[2:])
    if classes.dtype.kind not in "iu":
        soft = f", or probabilities of shape {values.shape}" if name == "cross_entropy" else ""
        raise TypeError(
            f"{name}: target must hold class numbers, integers of shape {wanted}{soft}, got "
            f"{classes.dtype} of shape {classes.shape}; convert them with .astype(int), or take "
            ".argmax(1) of one-hot rows"
        )
    if classes.shape != wanted:
        raise ValueError(
            f"{name}: target must have shape {wanted}, one class number for each prediction in x "
            f"of shape {values.shape}, got shape {classes.shape}"
        )
    _check_classes(name, classes, values.shape, ignore_index)
    return classes


@value
def _check_classes(name: str, classes: Any, shape: tuple, ignore_index: int | None) -> None:
    outside = classes.size and (classes.min() < 0 or classes.max() >= shape[1])
    bad = (classes < 0) | (classes >= shape[1]) if outside else np.zeros(0, bool)
    if outside and ignore_index is not None:
        bad &= classes != ignore_index
    if bad.any():
        wrong = np.argwhere(bad)[0]
        at = ", ".join(map(str, wrong))
        raise ValueError(
            f"{name}: target[{at}] is {classes[tuple(wrong)]}, but x of shape {shape} has "
            f"the classes 0 to {shape[1] - 1}"
        )


def _class_weights(name: str, values: Any, weight: Any) -> Any:
    """(classes, 1, ..., 1), to be multiplied with `values`, (N, classes, ...)."""
    weight = raw(weight)
    if not backend.is_array(weight):
        weight = constant(np.asarray(weight))
    weight = _weights_as(weight, values.dtype)
    if weight.shape != values.shape[1:2]:
        raise ValueError(
            f"{name}: weight must have shape {values.shape[1:2]}, one number for each class of "
            f"x of shape {values.shape}, got {weight.shape}"
        )
    return _reshaped(weight, (-1, *[1] * (values.ndim - 2)))


def _weights(
    name: str, x: Any, classes: Any, weight: Any, ignore_index: int
) -> tuple[Any, Any, Any]:
    """Class weights as an array or None, safe classes, and what counts, or None if all does."""
    if weight is not None:
        weight = _reshaped(_class_weights(name, raw(x), weight), (-1,))
    counts = _counting(classes, ignore_index)
    if decided(_all, counts):
        return weight, classes, None
    return weight, _safe(classes, counts), counts


@value
def _weights_as(weight: Any, dtype: Any) -> Any:
    return np.asarray(backend.device_of(weight).to_numpy(weight), dtype)


@value
def _reshaped(weight: Any, shape: tuple[int, ...]) -> Any:
    return weight.reshape(shape)


@value
def _counting(classes: Any, ignore_index: int) -> Any:
    return classes != ignore_index


def _all(counts: Any) -> bool:
    return bool(counts.all())


@value
def _safe(classes: Any, counts: Any) -> Any:
    """Classes that can be read everywhere, also where nothing counts."""
    return np.where(counts, classes, 0)


@value
def _picked(weight: Any, classes: Any) -> Any:
    return weight[classes]


@value
def _numbered(classes: Any) -> Any:
    """Classes as the kernels want them."""
    return classes.astype(np.int64, copy=False)


@value
def _one_over_total(classes: Any, weight: Any, counts: Any) -> float:
    share = np.ones(classes.shape) if weight is None else weight[classes]
    total = float((share if counts is None else share * counts).sum())
    return 1.0 / total if total else float("nan")


def _weighted(loss: Any, classes: Any, weight: Any, counts: Any, reduction: str) -> Any:
    """The reduction in which each prediction counts by the weight of its class, or not at all."""
    if counts is not None:
        loss = where(_there(counts, loss), loss, 0.0)
    if reduction != "mean":
        return _reduce(loss, reduction)
    return sum_over(loss) * _one_over_total(classes, weight, counts)


def _are_probabilities(x: Any, target: Any) -> bool:
    """Whether a target holds a float for each logit, and not class numbers."""
    values = raw(target)
    if not hasattr(values, "dtype"):
        values = np.asarray(values)
    return bool(values.dtype.kind == "f" and values.ndim > 1 and values.shape == raw(x).shape)


def _soft_cross_entropy(
    x: Any, target: Any, reduction: str, smoothing: float, weight: Any, ignore_index: int
) -> Any:
    """`-sum(weight * target * log_softmax(x))` over the classes, for each prediction; reduced."""
    values = raw(x)
    if reduction not in REDUCTIONS:
        raise ValueError(f"cross_entropy: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    if values.dtype.kind != "f":
        raise TypeError(
            f"cross_entropy: x must hold floats, got {values.dtype}; convert it with .astype"
        )
    if ignore_index >= 0:
        raise ValueError(
            f"cross_entropy: ignore_index={ignore_index} names a class number to leave out, but "
            "the target holds probabilities; give it a weight of 0"
        )
    if not hasattr(target, "astype"):
        target = _there(np.asarray(target), x)
    target = target.astype(values.dtype)
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / values.shape[1]
    log_p = log_softmax(x, 1)
    if weight is not None:
        log_p = log_p * _there(_class_weights("cross_entropy", values, weight), x)
    return _reduce(-sum_over(log_p * target, 1), reduction)


def cross_entropy(
    x: Any,
    target: Any,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    weight: Any = None,
    ignore_index: int = -100,
) -> Any:
    """How surprised a prediction is by the truth: `-log(softmax(x)[target])`.

    It is one operation that equals `-log_softmax(x, 1)` at the targets, reduced.

    Where the truth is not one class but a probability for each, as `Mixup` gives it, every class is
    a little of a surprise: `-sum(target * log(softmax(x)))`, over the classes.

    With label smoothing s the truth is taken to be `1 - s` for the target and `s / classes` for
    every class besides: `(1 - s) * loss - (s / classes) * sum(log_softmax(x))` (Szegedy and
    others, "Rethinking the Inception architecture", 2016).

    Args:
        x: logits, `(N, classes)` or `(N, classes, *spatial)`.
        target: class numbers, integers of shape `(N,)` or `(N, *spatial)`; or probabilities,
            floats of the shape of `x`, which may have a gradient of their own.
        reduction: "mean" or "sum" over all predictions, or "none".
        label_smoothing: in [0, 1].
        weight: `(classes,)`, how much each class counts; the mean over class numbers is then by
            these weights, the mean over probabilities is not.
        ignore_index: a target that does not count, such as that of unlabelled pixels; negative,
            and without effect, for probabilities.

    Raises:
        ValueError: a target that is no class, wrong shapes, or an argument out of its range.
        TypeError: targets that are neither, or logits that are no floats.

    >>> import minigrad
    >>> loss = cross_entropy(minigrad.tensor([[0.97, 0.02, 0.01]]).log(), [0])
    >>> f"{loss.item():.2f}"
    '0.03'
    >>> f"{cross_entropy(minigrad.zeros((1, 3)), [[0.5, 0.5, 0.0]]).item():.4f}"
    '1.0986'
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    if _are_probabilities(x, target):
        return _soft_cross_entropy(x, target, reduction, label_smoothing, weight, ignore_index)
    classes = _checked("cross_entropy", x, target, reduction, ignore_index)
    weight, classes, counts = _weights("cross_entropy", x, classes, weight, ignore_index)
    if classes.dtype != np.int64:
        classes = _numbered(classes)
    if weight is None and counts is None:
        there = _there(classes, x)
        return _cross_entropy(x, there, smoothing=label_smoothing, reduction=reduction)[0]
    if weight is None or not label_smoothing:
        there = _there(classes, x)
        loss = _cross_entropy(x, there, smoothing=label_smoothing, reduction="none")[0]
        if weight is not None:
            loss = loss * _there(_picked(weight, classes), x)
    else:
        # The classes' shares of a smoothed target count by their weights, too.
        log_p = log_softmax(x, 1)
        shares = log_p * _there(_reshaped(weight, (-1, *[1] * (classes.ndim - 1))), x)
        picked = pick(log_p, _there(classes, x)) * _there(_picked(weight, classes), x)
        loss = (label_smoothing - 1.0) * picked
        loss = loss - (label_smoothing / raw(x).shape[1]) * sum_over(shares, 1)
    return _weighted(loss, classes, weight, counts, reduction)


def nll_loss(
    x: Any,
    target: Any,
    reduction: str = "mean",
    weight: Any = None,
    ignore_index: int = -100,
) -> Any:
    """Negative log-likelihood: `-x[target]`, where x holds logarithms of probabilities.

    Args:
        x: log-probabilities, `(N, classes)` or `(N, classes, *spatial)`, as `log_softmax` gives.
        target: class numbers, integers of shape `(N,)` or `(N, *spatial)`.
        reduction: "mean" or "sum" over all predictions, or "none".
        weight: `(classes,)`, how much each class counts; the mean is then by these weights.
        ignore_index: a target that does not count.

    Raises:
        ValueError, TypeError: as `cross_entropy`.
    """
    classes = _checked("nll_loss", x, target, reduction, ignore_index)
    weight, classes, counts = _weights("nll_loss", x, classes, weight, ignore_index)
    loss = -pick(x, _there(classes, x))
    if weight is None and counts is None:
        return _reduce(loss, reduction)
    if weight is not None:
        loss = loss * _there(_picked(weight, classes), x)
    return _weighted(loss, classes, weight, counts, reduction)


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """Mean squared error, over all elements.

    Args:
        x: of any shape.
        target: of the same shape.
        reduction: "mean" or "sum" over all elements, or "none".

    Raises:
        ValueError: the shapes differ: broadcast on purpose, never by mistake.

    >>> import minigrad
    >>> mse_loss(minigrad.tensor([1.0, 2.0]), minigrad.tensor([0.0, 0.0]))
    tensor(2.5)
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"mse_loss: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    shapes = np.shape(raw(x)), np.shape(raw(target))
    if shapes[0] != shapes[1]:
        raise ValueError(f"mse_loss: x has shape {shapes[0]}, but target has shape {shapes[1]}")
    return _reduce(square(x - target), reduction)
