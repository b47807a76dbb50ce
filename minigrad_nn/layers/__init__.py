"""Layers: modules that hold the parameters of one function of `minigrad_nn.functional`.

One small file a family; start with `linear`.  Names, arguments and state are PyTorch's.
"""

from minigrad_nn.layers.activation import ReLU, Sigmoid, Softmax, Tanh
from minigrad_nn.layers.conv import Conv1d, Conv2d, Conv3d
from minigrad_nn.layers.dropout import Dropout
from minigrad_nn.layers.linear import Flatten, Identity, Linear
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
    "Identity",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "SumPool1d",
    "SumPool2d",
    "SumPool3d",
    "Tanh",
]
