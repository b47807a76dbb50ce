"""GoogLeNet: modules that look with filters of several sizes at once, and two heads on the way.

Source: C. Szegedy and others, "Going deeper with convolutions", 2014, table 1 and figures 2 and 3,
with batch norm as in S. Ioffe, C. Szegedy, "Batch normalization", 2015.  The names of parts and of
parameters are torchvision's.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minigrad.ops.shape import concatenate
from minigrad.tensor import Tensor

from .. import functional as F
from .. import init
from ..chaining import chain
from ..layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    ReLU,
)
from ..module import Module, Sequential
from .pictures import check_pictures

__all__ = [
    "GoogLeNet",
    "GoogLeNetOutput",
    "Inception",
    "auxiliary_cross_entropy",
    "googlenet",
    "main_logits",
]

# What weights trained by others expect: pictures normalised to (value - 0.5) / 0.5 in each channel,
# where the mean and deviation of ImageNet are what everyone else normalises by.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
SMALLEST = 31
"""Side of the smallest pictures of which something is left before the last pool."""


class GoogLeNetOutput(NamedTuple):
    """What GoogLeNet returns while training: logits `(N, classes)` of the three heads.

    Attributes:
        logits: of the main head, at the end.
        aux_logits2: of the head behind inception4d.
        aux_logits1: of the head behind inception4a.
    """

    logits: Any
    aux_logits2: Any
    aux_logits1: Any


def auxiliary_cross_entropy(output: Any, labels: Any, weight: float = 0.3) -> Any:
    """Cross-entropy of the main head, and `weight` times that of each auxiliary head.

    Section 5 of the paper.  A training takes it as `loss`, and its metrics look at `main_logits`:
    `fit(..., loss=auxiliary_cross_entropy, metrics={"accuracy": lambda y, t:
    accuracy(main_logits(y), t)})`.

    Args:
        output: of `GoogLeNet`: the three heads', or logits `(N, classes)` alone.
        labels: `(N,)`.
        weight: 0.3 in the paper.

    Returns:
        One number.
    """
    loss = F.cross_entropy(main_logits(output), labels)
    if isinstance(output, GoogLeNetOutput):
        for head in (output.aux_logits2, output.aux_logits1):
            loss = loss + F.cross_entropy(head, labels) * weight
    return loss


def main_logits(output: Any) -> Any:
    """The logits `(N, classes)` of the main head, from whatever `GoogLeNet` returned."""
    return output.logits if isinstance(output, GoogLeNetOutput) else output


class _Filters(Module):
    """A convolution without bias, batch norm, and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = Conv2d(
            in_channels, out_channels, size, stride=stride, padding=size // 2, bias=False
        )
        self.bn = BatchNorm2d(out_channels, eps=0.001)
        self.relu = ReLU()

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, H / stride, W / stride)`, rounded up."""
        return chain(x, self.conv, self.bn, self.relu)


class Inception(Module):
    """Four ways through one module, laid side by side as channels (figure 2b of the paper).

    ======= ============= =======================
    branch  first         then
    ======= ============= =======================
    branch1 1x1: `one`
    branch2 1x1 reduces   3x3
    branch3 1x1 reduces   5x5, or 3x3 (see below)
    branch4 maxima of 3x3 1x1: `pool`
    ======= ============= =======================

    Args:
        in_channels: of what comes in.
        one: filters of branch1.
        three: of branch2, a pair: those that reduce, and those of 3x3.
        five: of branch3, a pair: those that reduce, and those of 5x5.
        pool: filters of branch4.
        third_filter: the side of branch3's filters, 5 in the paper; torchvision's weights have 3.
    """

    def __init__(
        self,
        in_channels: int,
        one: int,
        three: tuple[int, int],
        five: tuple[int, int],
        pool: int,
        third_filter: int = 3,
    ) -> None:
        super().__init__()
        self.branch1 = _Filters(in_channels, one, 1)
        self.branch2 = Sequential(_Filters(in_channels, three[0], 1), _Filters(*three, 3))
        self.branch3 = Sequential(_Filters(in_channels, five[0], 1), _Filters(*five, third_filter))
        self.branch4 = Sequential(MaxPool2d(3, stride=1, padding=1), _Filters(in_channels, pool, 1))

    def forward(self, x: Any) -> Any:
        """`(N, one + three[1] + five[1] + pool, H, W)`."""
        return concatenate(
            [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], axis=1
        )


class _AuxiliaryHead(Module):
    """A small classifier on the way, which brings gradients to the lower layers while training."""

    def __init__(self, in_channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.pool = AdaptiveAvgPool2d(4)
        self.conv = _Filters(in_channels, 128, 1)
        self.fc1 = Linear(128 * 4 * 4, 1024)
        self.relu = ReLU()
        self.dropout = Dropout(dropout)
        self.fc2 = Linear(1024, classes)

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`."""
        x = self.conv(self.pool(x))
        x = self.relu(self.fc1(x.reshape(x.shape[0], self.fc1.in_features)))
        return self.fc2(self.dropout(x))


class GoogLeNet(Module):
    """GoogLeNet, or Inception v1, as in table 1 of the paper; sizes are those for 224x224 pixels.

    =========== ================================ ======= === ======== ======= ====
    part        what it does                     output  1x1 3x3      5x5     pool
    =========== ================================ ======= === ======== ======= ====
    conv1       64 filters of 7x7 at stride 2    112x112
    maxpool1    maxima of 3x3 at stride 2        56x56
    conv2       64 filters of 1x1                56x56
    conv3       192 filters of 3x3               56x56
    maxpool2    maxima of 3x3 at stride 2        28x28
    inception3a 256 channels                     28x28   64  96, 128  16, 32  32
    inception3b 480 channels                     28x28   128 128, 192 32, 96  64
    maxpool3    maxima of 3x3 at stride 2        14x14
    inception4a 512 channels; aux1 looks at them 14x14   192 96, 208  16, 48  64
    inception4b 512 channels                     14x14   160 112, 224 24, 64  64
    inception4c 512 channels                     14x14   128 128, 256 24, 64  64
    inception4d 528 channels; aux2 looks at them 14x14   112 144, 288 32, 64  64
    inception4e 832 channels                     14x14   256 160, 320 32, 128 128
    maxpool4    maxima of 2x2 at stride 2        7x7
    inception5a 832 channels                     7x7     256 160, 320 32, 128 128
    inception5b 1024 channels                    7x7     384 192, 384 48, 128 128
    avgpool     global average                   1x1
    fc          the class scores
    =========== ================================ ======= === ======== ======= ====

    The last columns are the filters of each branch of `Inception`; of two numbers, the first are
    those of 1x1 that reduce.  ReLU and, unlike in the paper, batch norm follow each convolution.
    The paper has filters of 5x5 in the third branch, and maxpool4 of 3x3; torchvision has 3x3 and
    2x2, and its weights fit that.  With auxiliary heads it has 13,004,888 parameters, and
    6,624,904 without.

    While training it returns a `GoogLeNetOutput`, the logits of three heads, for which
    `auxiliary_cross_entropy` is the loss; in `eval()` mode, or without auxiliary heads, logits.

    Args:
        classes: how many kinds to tell apart.
        aux_logits: whether there are auxiliary heads.
        transform_input: whether pictures, normalised by ImageNet's mean and deviation, are first
            brought to what the weights that torchvision publishes were trained on: (value - 0.5) /
            0.5.  They want True.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        dropout: which part of what fc sees is switched off while training; 0.4 in the paper.
        dropout_aux: the same for the auxiliary heads.
        third_filter: the side of the third branch's filters: 3 as torchvision, 5 as the paper.

    Raises:
        ValueError: `transform_input` with other channels than three; an even filter.

    >>> import minigrad
    >>> model = GoogLeNet(classes=5)
    >>> output = model(minigrad.zeros((2, 3, 64, 64)))
    >>> output.logits.shape, output.aux_logits1.shape
    ((2, 5), (2, 5))
    >>> model.eval()(minigrad.zeros((1, 3, 64, 64))).shape
    (1, 5)
    """

    heads = ("aux1.fc2", "aux2.fc2", "fc")
    """Paths of the layers that give the classes, for `minigrad_nn.transfer`."""

    def __init__(
        self,
        classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool = False,
        in_channels: int = 3,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
        third_filter: int = 3,
    ) -> None:
        super().__init__()
        if transform_input and in_channels != 3:
            raise ValueError(
                f"GoogLeNet: transform_input is for pictures of 3 channels, got {in_channels}"
            )
        if third_filter % 2 == 0:
            raise ValueError(
                f"GoogLeNet: third_filter must be odd, so that the branches keep one size, got "
                f"{third_filter}"
            )
        self.in_channels = in_channels
        self.aux_logits = aux_logits
        self.transform_input = transform_input
        inception = partial(Inception, third_filter=third_filter)

        self.conv1 = _Filters(in_channels, 64, 7, stride=2)
        self.maxpool1 = MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = _Filters(64, 64, 1)
        self.conv3 = _Filters(64, 192, 3)
        self.maxpool2 = MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = inception(192, 64, (96, 128), (16, 32), 32)
        self.inception3b = inception(256, 128, (128, 192), (32, 96), 64)
        self.maxpool3 = MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = inception(480, 192, (96, 208), (16, 48), 64)
        self.inception4b = inception(512, 160, (112, 224), (24, 64), 64)
        self.inception4c = inception(512, 128, (128, 256), (24, 64), 64)
        self.inception4d = inception(512, 112, (144, 288), (32, 64), 64)
        self.inception4e = inception(528, 256, (160, 320), (32, 128), 128)
        self.maxpool4 = MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = inception(832, 256, (160, 320), (32, 128), 128)
        self.inception5b = inception(832, 384, (192, 384), (48, 128), 128)
        self.aux1 = _AuxiliaryHead(512, classes, dropout_aux) if aux_logits else None
        self.aux2 = _AuxiliaryHead(528, classes, dropout_aux) if aux_logits else None
        self.avgpool = GlobalAvgPool()
        self.dropout = Dropout(dropout)
        self.fc = Linear(1024, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: normal with deviation 0.01, as torchvision."""
        for module in self.modules():
            if isinstance(module, (BatchNorm2d, Linear)):
                module.reset_parameters()
            if isinstance(module, (Conv2d, Linear)):
                init.normal_(module.weight, 0.0, 0.01)

    def forward(self, x: Any) -> Any:
        """Logits, or while training a `GoogLeNetOutput`, of pictures `(N, in_channels, H, W)`.

        Raises:
            ValueError: pictures of other axes or channels, or smaller than 31x31.
        """
        check_pictures("GoogLeNet", x, self.in_channels, smallest=SMALLEST)
        if self.transform_input:
            mean, deviation = (
                Tensor(np.reshape(numbers, (1, 3, 1, 1)), x.dtype).to(x.device)
                for numbers in (IMAGENET_MEAN, IMAGENET_DEVIATION)
            )
            x = (x * deviation + mean - 0.5) / 0.5
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        first = x = self.inception4a(x)
        second = x = self.inception4d(self.inception4c(self.inception4b(x)))
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(self.avgpool(x)))
        if not self.training or self.aux1 is None or self.aux2 is None:
            return logits
        return GoogLeNetOutput(logits, self.aux2(second), self.aux1(first))


def googlenet(classes: int = 1000, **settings: Any) -> GoogLeNet:
    """GoogLeNet with auxiliary heads, of 13,004,888 parameters; settings as for `GoogLeNet`."""
    return GoogLeNet(classes, **settings)
