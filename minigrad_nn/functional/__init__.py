"""Differentiable functions of networks, over the kernels; all orders of derivative exist.

Start with `activation` (the rules beside their forwards), then `conv` (three operations that are
each other's derivatives).  `norm` and `loss` show fused operations: a kernel together with the
plain composition that it equals.  Most of the rest is composed of these: `conv_more`, `norm_more`
and `loss_more` hold the relatives, `recurrent` writes one step again and again.
"""

from minigrad_nn.functional.activation import log_softmax, relu, sigmoid, softmax, tanh
from minigrad_nn.functional.adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    global_avg_pool,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from minigrad_nn.functional.conv import conv1d, conv2d, conv3d
from minigrad_nn.functional.conv_more import (
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    convolve1d,
    convolve2d,
    convolve3d,
    depthwise_conv1d,
    depthwise_conv2d,
    depthwise_conv3d,
    pointwise_conv,
    separable_conv1d,
    separable_conv2d,
    separable_conv3d,
)
from minigrad_nn.functional.dropout import dropout, dropout1d, dropout2d, dropout3d
from minigrad_nn.functional.large import use_kernels
from minigrad_nn.functional.linear import linear
from minigrad_nn.functional.lookup import embedding
from minigrad_nn.functional.loss import cross_entropy, mse_loss, nll_loss
from minigrad_nn.functional.loss_more import (
    binary_cross_entropy_with_logits,
    dice_loss,
    focal_loss,
    l1_loss,
    l2_penalty,
    sigmoid_focal_loss,
    smooth_l1_loss,
)
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
from minigrad_nn.functional.norm_more import (
    divisive_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    subtractive_norm,
)
from minigrad_nn.functional.padding import pad
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
from minigrad_nn.functional.recurrent import gru, gru_cell, lstm, lstm_cell, rnn, rnn_cell
from minigrad_nn.functional.resize import interpolate

use_kernels()

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolve1d",
    "convolve2d",
    "convolve3d",
    "cross_entropy",
    "depthwise_conv1d",
    "depthwise_conv2d",
    "depthwise_conv3d",
    "dice_loss",
    "divisive_norm",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "embedding",
    "erf",
    "focal_loss",
    "gelu",
    "global_avg_pool",
    "group_norm",
    "gru",
    "gru_cell",
    "hardswish",
    "instance_norm",
    "interpolate",
    "l1_loss",
    "l2_penalty",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "lstm",
    "lstm_cell",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mse_loss",
    "nll_loss",
    "pad",
    "pointwise_conv",
    "prelu",
    "relu",
    "relu6",
    "rnn",
    "rnn_cell",
    "separable_conv1d",
    "separable_conv2d",
    "separable_conv3d",
    "sigmoid",
    "sigmoid_focal_loss",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "subtractive_norm",
    "sum_pool1d",
    "sum_pool2d",
    "sum_pool3d",
    "tanh",
]
