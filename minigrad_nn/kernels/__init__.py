"""Kernels: arrays in, arrays out. The files here say what each one means; packages compute it.

Start here, then read `convolution`, `pooling`, `normalisation`, `recurrent`, `loss`, `product`,
`elementwise` and `update` (what each kernel means), `geometry` (sizes), `epilogue` and `workspace`
(arguments that kernels share), `memory` (results that are kept), `registry` (how the device of the
arrays picks the package), and `cpu` (the CPU's package, which is imported, together with Numba, by
the first kernel call).

All kernels keep to these rules:

- Arrays are `(N, C, *spatial)` with 1, 2 or 3 spatial axes, all of one element type (float32 or
  float64 on the CPU) and on one device. They may have any strides. A kernel keeps no reference.
- `out=` is written and returned; it has the result's shape and element type, and may share memory
  with an argument. Without it a fresh array is returned.
- `workspace=` is where scratch memory comes from (see `Workspace`); without it the device uses one
  of its own for each thread.
- `epilogue=` is applied to the result before it is written (see `Epilogue`).
- The same call gives the same bits from run to run.
- NaN and infinity travel as IEEE arithmetic has them. A tap that lies in the padding adds
  nothing, or zero times its weight: which of the two, when that weight is not finite, is open.
  Kernels give no floating-point warnings.
- N = 0 works where a result exists. Wrong shapes raise ValueError, wrong types TypeError.

Convolution is three kernels, each the adjoint of the others: with `y = conv(x, w)`,
`<conv(x, w), g> = <x, conv_input(g, w)> = <w, conv_weight(x, g)>`, so each one's derivatives are
the other two. Max pooling leaves indices, with which `gather` and `scatter` are adjoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .convolution import (
    EpilogueBackward,
    channel_sum,
    conv,
    conv_input,
    conv_weight,
    epilogue_backward,
)
from .elementwise import relu, relu_backward, sigmoid, sigmoid_backward, tanh, tanh_backward
from .epilogue import Epilogue
from .geometry import Geometry, output_size
from .loss import CrossEntropy, cross_entropy, cross_entropy_backward
from .memory import reuse_memory
from .normalisation import (
    BatchNorm,
    BatchNormBackward,
    BatchNormEpilogueBackward,
    Moments,
    batch_norm,
    batch_norm_backward,
    batch_norm_epilogue_backward,
    batch_norm_given,
    moments,
)
from .pooling import (
    MaxPool,
    average_pool,
    average_pool_input,
    gather,
    max_pool,
    max_pool_input,
    scatter,
    sum_pool,
    sum_pool_input,
)
from .product import matmul
from .recurrent import (
    GRU,
    LSTM,
    GRUBackward,
    LSTMBackward,
    RNNBackward,
    gru,
    gru_backward,
    lstm,
    lstm_backward,
    rnn,
    rnn_backward,
)
from .registry import Device, offers, register
from .separable import (
    NormDepthwiseNorm,
    NormDepthwiseNormBackward,
    norm_depthwise_norm,
    norm_depthwise_norm_backward,
)
from .update import adam_update, sgd_update
from .workspace import Workspace

__all__ = [
    "GRU",
    "LSTM",
    "BatchNorm",
    "BatchNormBackward",
    "BatchNormEpilogueBackward",
    "CrossEntropy",
    "Device",
    "Epilogue",
    "EpilogueBackward",
    "GRUBackward",
    "Geometry",
    "LSTMBackward",
    "MaxPool",
    "Moments",
    "NormDepthwiseNorm",
    "NormDepthwiseNormBackward",
    "RNNBackward",
    "Warmed",
    "Workspace",
    "adam_update",
    "average_pool",
    "average_pool_input",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_epilogue_backward",
    "batch_norm_given",
    "channel_sum",
    "conv",
    "conv_input",
    "conv_weight",
    "cross_entropy",
    "cross_entropy_backward",
    "epilogue_backward",
    "gather",
    "gru",
    "gru_backward",
    "lstm",
    "lstm_backward",
    "matmul",
    "max_pool",
    "max_pool_input",
    "moments",
    "norm_depthwise_norm",
    "norm_depthwise_norm_backward",
    "offers",
    "output_size",
    "register",
    "relu",
    "relu_backward",
    "reuse_memory",
    "rnn",
    "rnn_backward",
    "scatter",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "sum_pool",
    "sum_pool_input",
    "tanh",
    "tanh_backward",
    "warmup",
]


class Warmed(NamedTuple):
    """What `warmup` tells of one kernel: its name, element type, place among all, and seconds."""

    kernel: str
    dtype: str
    done: int
    total: int
    seconds: float


def warmup(
    kernels: Iterable[str] | None = None,
    dtypes: Iterable[Any] = ("float32",),
    progress: Callable[[Warmed], None] | None = None,
    device: Device | None = None,
) -> list[Warmed]:
    """Compile kernels, or load them from the cache, before they are needed.

    A compiled kernel serves every geometry and shape of its element type, so a name is all that
    is asked for.

    Args:
        kernels: names such as `"conv"` and `"max_pool"`; None means all of them.
        dtypes: element types.
        progress: is called after each kernel with what was done, how far it is, and how long the
            kernel took.
        device: the CPU if it is None.

    Returns:
        What `progress` was told.

    Raises:
        ValueError: a name is not that of a kernel.
    """
    import numpy as np

    from .registry import device_of

    device = device or device_of("warmup", np.empty(0))
    return device.load().warmup(kernels, dtypes, progress)
