"""CUDA cards: whether one can be used, how many there are, waiting for them, and their memory.

A tensor goes to a card with `.to("cuda")`, a module with `model.to("cuda")`; the rest is as on the
CPU.  What computes there stands in `minigrad_nn.kernels.cuda`; nothing of it is imported before it
is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from minigrad import backend

__all__ = [
    "Availability",
    "device_count",
    "device_name",
    "empty_cache",
    "from_dlpack",
    "get_matmul_precision",
    "is_available",
    "memory_stats",
    "reset_peak_memory",
    "set_matmul_precision",
    "synchronize",
]


class Availability:
    """Yes, or no with a reason: `if minigrad.cuda.is_available()`, and printed it says why not.

    Attributes:
        reason: why no card can be used; None where one can.
    """

    def __init__(self, reason: str | None) -> None:
        self.reason = reason

    def __bool__(self) -> bool:
        return self.reason is None

    def __repr__(self) -> str:
        return "True" if self else f"False: {self.reason}"


def is_available() -> Availability:
    """Whether a CUDA card can be used here, with the reason if none can.

    >>> import minigrad
    >>> x = minigrad.ones(3)
    >>> if minigrad.cuda.is_available():
    ...     x = x.to("cuda")
    """
    try:
        return Availability(_package().why_unavailable())
    except ImportError as error:
        return Availability(str(error))


def device_count() -> int:
    """How many cards can be used: "cuda:0" to "cuda:{count - 1}"."""
    return _package().count() if is_available() else 0


def device_name(device: str = "cuda") -> str:
    """What the maker calls a card.

    Raises:
        ValueError: there is no such card.
    """
    return _card(device).driver.limits.name


def synchronize(device: str | None = None) -> None:
    """Wait until all work of a card, or of all cards in use, is done.

    Computing on a card only starts it; reading a value waits by itself.  Whoever takes the time
    calls this first.

    Raises:
        ValueError: there is no such card.
    """
    for card in _opened() if device is None else [_card(device)]:
        card.synchronise()


def memory_stats(device: str = "cuda") -> Any:
    """Bytes of a card's memory in arrays and held for them: allocated, reserved, and their peaks.

    Raises:
        ValueError: there is no such card.
    """
    return _card(device).memory()


def reset_peak_memory(device: str = "cuda") -> None:
    """Let the peaks of `memory_stats` begin again at what is held now.

    Raises:
        ValueError: there is no such card.
    """
    _card(device).allocator.reset_peak()


def empty_cache(device: str | None = None) -> int:
    """Give memory that no array uses back to the card, or to all in use; returns the bytes.

    Raises:
        ValueError: there is no such card.
    """
    cards = _opened() if device is None else [_card(device)]
    return sum(card.allocator.empty() for card in cards)


def set_matmul_precision(precision: str) -> None:
    """To what products of float32 round their factors on all cards, from here on.

    Matrix products and convolutions whose factors are rounded are multiplied by tensor cores, and
    added up in float32.  Where the exact result is `sum(a * b)` over k terms, the error is at most
    `c * sum(abs(a * b))`:

    ============  =====================  ==================================  =====================
    name          bits of the mantissa   c, of the factors                   c, of the sums, about
    ============  =====================  ==================================  =====================
    "float32"     23                     0                                   k / 2**24
    "tf32"        10                     2**-10 + 2**-22, less than 0.001    k / 2**23
    "bfloat16"    7                      2**-7 + 2**-16, less than 0.008     k / 2**23
    ============  =====================  ==================================  =====================

    That holds for factors that are no subnormal numbers.  Both have the range of float32: NaN and
    infinity stay, and no number below 3.39e38 becomes infinite.  What is stored, gradients and
    weights among it, stays float32.  Products of float64 are as they were, and so are the steps of
    the plain RNN, depthwise convolutions, and what cuBLAS computes with MINIGRAD_CUBLAS=1.

    Cards before compute capability 8.0 have no such tensor cores: they multiply in float32 whatever
    is set here, and `get_matmul_precision("cuda")` says so.  The environment's
    MINIGRAD_MATMUL_PRECISION is what a process begins with, MINIGRAD_TF32=1 is "tf32".

    Args:
        precision: "float32", which it is unless it is set, "tf32", or "bfloat16".

    Raises:
        ValueError: another name.
    """
    _precision().set_precision(precision)


def get_matmul_precision(device: str | None = None) -> str:
    """What `set_matmul_precision` has set; for a device, what that card can do of it.

    Raises:
        ValueError: there is no such card.
    """
    if device is None:
        return _precision().get_precision()
    return _precision().on(_card(device).driver.limits.capability)


def from_dlpack(source: Any) -> Any:
    """A raw array over the memory of another library's array on a card, without a copy.

    `minigrad.tensor` makes a tensor of it, and copies; other libraries take tensors of minigrad by
    their own `from_dlpack`.

    Raises:
        BufferError: it does not lie on a card, or holds something else than numbers.
    """
    return _package().from_dlpack(source)


def _package() -> Any:
    return backend.package_of("cuda")


def _precision() -> Any:
    return importlib.import_module(f"{_package().__name__}.precision")


def _opened() -> list[Any]:
    return _package().opened() if is_available() else []


def _card(device: str) -> Any:
    array_type: Any = backend.get_device(device).array_type
    if not hasattr(array_type, "card"):
        raise ValueError(f"{device!r} is no CUDA card")
    return array_type.card
