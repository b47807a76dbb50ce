"""Kernels for the CPU, compiled by Numba when they are first called.

Read in this order: `convolution` (which algorithm a convolution takes), `plan` (the tables behind a
direct convolution), `tile` (the innermost loops), `lines` and `weights` (the convolution and its
weight gradient along long lines), `gemm`, `panels` and `panel_weights` (pointwise filters as matrix
products in packed panels), `depthwise` (plane by plane), `three` (its
3x3 filters), `stacks` (an image in each lane, for small
planes), `winograd` (3x3 filters with a quarter of the products; its matrices come from `toom`),
`patches` (matrix products), `pool` and `pool_quads`, `normalise`, `separable` (a depthwise
filter between two batch norms), `product` (matrix products in
tiles of our own), `curves` (exponentials of vectors), `recurrent`, `gated`, `loss`, `elementwise`,
`update`. What all share: `compile` (how a kernel is compiled and called), `progress` (telling so),
`memory` (a pool for results), `cache` (compiled code on disk), `placement` (threads and cores),
`arrays` (arguments and results), `finish` (the epilogue as a pass of its own), `warm` (compiling
ahead).
"""

from .convolution import conv, conv_input, conv_weight
from .elementwise import relu, relu_backward, sigmoid, sigmoid_backward, tanh, tanh_backward
from .finish import channel_sum, epilogue_backward
from .gated import gru, gru_backward, lstm, lstm_backward
from .loss import cross_entropy, cross_entropy_backward
from .normalise import (
    batch_norm,
    batch_norm_backward,
    batch_norm_epilogue_backward,
    batch_norm_given,
    moments,
)
from .pool import (
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
from .recurrent import rnn, rnn_backward
from .separable import norm_depthwise_norm, norm_depthwise_norm_backward
from .update import adam_update, sgd_update
from .warm import warmup

__all__ = [
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
    "relu",
    "relu_backward",
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
