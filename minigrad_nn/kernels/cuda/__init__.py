"""Kernels for CUDA cards, compiled by Numba when they are first called.

Read in this order: `driver` (what is asked of CUDA), `allocator` (memory, kept), `array`
(`CudaArray`, whose views NumPy computes), `card` (cards by number, and how they become known to the
engine), `launch` (how a kernel is written, compiled and started), `graph` (launches that are noted
once and asked for as a whole).  Then the kernels: `tile` (the
product of tiles that all dense kernels share), `precision` and `tensor` (tensor cores), `product`
(matrices), `convolution` (which algorithm one takes), `plan` (where its taps read), `implicit`,
`weights`, `depthwise`, `pool`, `places`, `statistics`, `normalise`, `separable`, `gates`,
`recurrent`, `gated`, `loss`, `update`; `arrays` is what they share, and `warm` compiles them ahead.

Importing this package loads no compiler: Numba is imported with the first card that is opened.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
"""Element types that kernels compute with."""

# Where each kernel of `minigrad_nn.kernels` stands; imported when it is first called.
_HOME = {
    kernel: module
    for module, kernels in {
        "convolution": ("conv", "conv_input", "conv_weight"),
        "gates": (
            "channel_sum",
            "epilogue_backward",
            "relu",
            "relu_backward",
            "sigmoid",
            "sigmoid_backward",
            "tanh",
            "tanh_backward",
        ),
        "gated": ("gru", "gru_backward", "lstm", "lstm_backward"),
        "loss": ("cross_entropy", "cross_entropy_backward"),
        "normalise": (
            "batch_norm",
            "batch_norm_backward",
            "batch_norm_epilogue_backward",
            "batch_norm_given",
            "moments",
        ),
        "places": ("gather", "scatter"),
        "pool": (
            "average_pool",
            "average_pool_input",
            "max_pool",
            "max_pool_input",
            "sum_pool",
            "sum_pool_input",
        ),
        "product": ("matmul",),
        "recurrent": ("rnn", "rnn_backward"),
        "separable": ("norm_depthwise_norm", "norm_depthwise_norm_backward"),
        "update": ("adam_update", "sgd_update"),
        "warm": ("warmup",),
    }.items()
    for kernel in kernels
}


def __getattr__(name: str) -> Any:
    """Import a kernel when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def open_device(number: int) -> None:
    """Make the card of this number known to the engine as "cuda:0", "cuda:1", ...

    Raises:
        RuntimeError: no card can be used here; the message says why.
        ValueError: there are not as many cards.
    """
    from .card import card

    card(number)


def why_unavailable() -> str | None:
    """Why no card can be used here; None where one can."""
    from .driver import why_unavailable

    return why_unavailable()


def count() -> int:
    """How many cards there are."""
    from .driver import count

    return count()


def opened() -> list[Any]:
    """The cards that are in use."""
    from .card import opened

    return opened()


def from_dlpack(source: Any) -> Any:
    """An array over the memory of another library's array, which lies on a card."""
    from .interchange import from_dlpack

    return from_dlpack(source)
