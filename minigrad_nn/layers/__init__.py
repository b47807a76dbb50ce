"""Layers: modules that hold the parameters of one function of `minigrad_nn.functional`.

One small file a family; start with `linear`.  Names, arguments and state are PyTorch's.
"""

from minigrad_nn.layers.activation import ReLU, Sigmoid, Softmax, Tanh
from minigrad_nn.layers.conv import Conv1d, Conv2d, Conv3d
from minigrad_nn.layers.dropout import Dropout
from minigrad_nn.layers.linear import Flatten, Identity, Linear
from minigrad_nn.layers.nonlinear import (
    ELU,
    GELU,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU6,
    SiLU,
    Softplus,
    Swish,
)
from minigrad_nn.layers.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from minigrad_nn.layers.pool import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    SumPool1d,
    SumPool2d,
    SumPool3d,
)

__all__ = [
    "ELU",
    "GELU",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Dropout",
    "Flatten",
    "Hardswish",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SumPool1d",
    "SumPool2d",
    "SumPool3d",
    "Swish",
    "Tanh",
]
