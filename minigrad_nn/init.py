"""Initial weights: random numbers of a scale that keeps signals alive through many layers.

Each function writes into a tensor in place and returns it, as PyTorch's of the same name.
Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
2010 (Xavier); He and others, "Delving deep into rectifiers", 2015 (Kaiming).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from minigrad import backend
from minigrad.random import Generator, default_generator
from minigrad.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "default_",
    "fans",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "without_drawing",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_drawing: ContextVar[bool] = ContextVar("drawing", default=True)


@contextmanager
def without_drawing() -> Iterator[None]:
    """Build layers without random weights inside the block: what they draw stays 0.

    For weights that are overwritten at once, drawing them is most of the time that a large network
    takes to be built.  The numbers of the default generator are not used up either.

    >>> from minigrad_nn.layers import Linear
    >>> with without_drawing():
    ...     layer = Linear(2, 2)
    >>> layer.weight.tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    before = _drawing.set(False)
    try:
        yield
    finally:
        _drawing.reset(before)


def _draw(tensor: Tensor, draw: Callable[[Any], Any], writer: str) -> Tensor:
    """Let `draw` fill the memory of a tensor, which for a large one spares a second array."""
    if not _drawing.get():
        return tensor
    tensor.assign(0.0, f"init.{writer}")  # raises unless it may be written
    device = backend.device_of(tensor._data)
    memory = device.to_numpy(tensor._data)  # itself where NumPy can write, and a copy elsewhere
    draw(memory)
    if memory is not tensor._data:
        tensor.assign(device.from_numpy(memory), f"init.{writer}")
    return tensor


def fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs feed one output of a weight, and how many outputs one input feeds.

    Args:
        tensor: a weight `(outputs, inputs, *kernel)`.

    Raises:
        ValueError: fewer than two axes.

    >>> import minigrad
    >>> fans(minigrad.zeros((6, 3, 5, 5)))
    (75, 150)
    """
    shape = tensor.shape
    if len(shape) < 2:
        raise ValueError(
            f"fans: needs a weight (outputs, inputs, *kernel), got shape {shape}; a vector such as "
            "a bias has no fans, use constant_ or uniform_"
        )
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much to scale weights in front of a nonlinearity, so that variances are kept.

    Args:
        nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu", or the name of a
            convolution ("conv2d").
        param: the negative slope of "leaky_relu", 0.01 by default.

    Raises:
        ValueError: the nonlinearity is not known.
    """
    if nonlinearity in ("linear", "sigmoid", "conv1d", "conv2d", "conv3d"):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + (0.01 if param is None else param) ** 2))
    raise ValueError(
        f"calculate_gain: unknown nonlinearity {nonlinearity!r}; choose linear, sigmoid, tanh, "
        "relu or leaky_relu"
    )


def constant_(tensor: Tensor, value: float) -> Tensor:
    """Set every element to one value."""
    return tensor.assign(value, "init.constant_")


def zeros_(tensor: Tensor) -> Tensor:
    """Set every element to 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Set every element to 1."""
    return constant_(tensor, 1.0)


def uniform_(
    tensor: Tensor, low: float = 0.0, high: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw every element uniformly from [low, high).

    Args:
        tensor: written in place.
        low, high: the bounds.
        generator: `minigrad.random`'s default one if None.
    """
    source = generator or default_generator()
    return _draw(
        tensor,
        lambda out: source.uniform(out.shape, low, high, dtype=out.dtype, out=out),
        "uniform_",
    )


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw every element from the normal distribution of this mean and standard deviation."""
    source = generator or default_generator()
    return _draw(
        tensor, lambda out: source.normal(out.shape, mean, std, dtype=out.dtype, out=out), "normal_"
    )


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform within `gain * sqrt(6 / (fan_in + fan_out))`; see Glorot and Bengio, 2010."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation `gain * sqrt(2 / (fan_in + fan_out))`."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'kaiming: mode must be "fan_in" or "fan_out", got {mode!r}')
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform within `gain * sqrt(3 / fan)`; see He and others, 2015.

    Args:
        tensor: a weight, written in place.
        a: the negative slope of the leaky ReLU that follows; 0 for a ReLU.
        mode: "fan_in" keeps the variance of activations, "fan_out" that of gradients.
        nonlinearity: as for `calculate_gain`.
        generator: `minigrad.random`'s default one if None.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with standard deviation `gain / sqrt(fan)`; arguments as `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def default_(weight: Tensor, bias: Tensor | None, generator: Generator | None = None) -> None:
    """What PyTorch's linear and convolutional layers start with: uniform in 1 / sqrt(fan_in)."""
    fan = fans(weight)[0]
    bound = 1.0 / math.sqrt(fan) if fan else 0.0
    uniform_(weight, -bound, bound, generator)
    if bias is not None:
        uniform_(bias, -bound, bound, generator)
