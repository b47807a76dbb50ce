"""Differentiable functions of networks, over the kernels; all orders of derivative exist.

Start with `activation` (the rules beside their forwards), then `conv` (three operations that are
each other's derivatives).  `norm` and `loss` show fused operations: a kernel together with the
plain composition that it equals.
"""

from minigrad_nn.functional.activation import log_softmax, relu, sigmoid, softmax, tanh
from minigrad_nn.functional.conv import conv1d, conv2d, conv3d
from minigrad_nn.functional.dropout import dropout
from minigrad_nn.functional.linear import linear
from minigrad_nn.functional.loss import cross_entropy, mse_loss, nll_loss
from minigrad_nn.functional.nonlinear import (
    elu,
    erf,
    gelu,
    hardswish,
    leaky_relu,
    prelu,
    relu6,
    silu,
    softplus,
)
from minigrad_nn.functional.norm import batch_norm
from minigrad_nn.functional.pool import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    sum_pool1d,
    sum_pool2d,
    sum_pool3d,
)

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv3d",
    "cross_entropy",
    "dropout",
    "elu",
    "erf",
    "gelu",
    "hardswish",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "mse_loss",
    "nll_loss",
    "prelu",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "sum_pool1d",
    "sum_pool2d",
    "sum_pool3d",
    "tanh",
]
