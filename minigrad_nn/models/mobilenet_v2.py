"""MobileNet v2: residual blocks turned inside out, narrow where they add and wide inside.

Source: M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L. Chen, "MobileNetV2: inverted residuals and
linear bottlenecks", 2018, table 2.  The names of parts and of parameters are torchvision's.
"""

from __future__ import annotations

from typing import Any

from .. import init
from ..chaining import Plus, chain
from ..layers import (
    BatchNorm2d,
    Conv2d,
    DepthwiseConv2d,
    Dropout,
    GlobalAvgPool,
    Linear,
    ReLU6,
)
from ..module import Module, Sequential
from .pictures import check_pictures

__all__ = ["InvertedResidual", "MobileNetV2", "mobilenet_v2"]

# Widening t, channels c, times n, and stride s of the first, down the table.
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def _divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple, which hardware likes, but not less than nine tenths."""
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * channels else nearest


def _then_norm(conv: Conv2d) -> Sequential:
    """A convolution, batch norm and ReLU6."""
    return Sequential(conv, BatchNorm2d(conv.out_channels), ReLU6())


class InvertedResidual(Module):
    """Widen with 1x1, filter each channel on its own, narrow with 1x1; and add what came in.

    The narrow ends stay linear: a ReLU6 there would lose what few channels carry.  What came in is
    added where sizes allow it, which is at stride 1 and with as many channels out as in.

    Args:
        in_channels, out_channels: of what comes in, and of the result.
        stride: of the depthwise convolution.
        widen: how many times more channels there are inside; at 1 nothing is widened.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, widen: int) -> None:
        super().__init__()
        inside = in_channels * widen
        parts: list[Module] = []
        if widen != 1:
            parts.append(_then_norm(Conv2d(in_channels, inside, 1, bias=False)))
        depthwise = DepthwiseConv2d(inside, 3, stride=stride, padding=1, bias=False)
        parts += [
            _then_norm(depthwise),
            Conv2d(inside, out_channels, 1, bias=False),
            BatchNorm2d(out_channels),
        ]
        self.conv = Sequential(*parts)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, H / stride, W / stride)`, rounded up."""
        return chain(x, self.conv, *([Plus(x)] if self.adds else []))


class MobileNetV2(Module):
    """MobileNet v2, as table 2 of the paper has it.

    ============== ============ ================== === ==== == ==
    part           input        what it is         t   c    n  s
    ============== ============ ================== === ==== == ==
    features.0     224x224x3    3x3                    32   1  2
    features.1     112x112x32   bottleneck         1   16   1  1
    features.2-3   112x112x16   bottleneck         6   24   2  2
    features.4-6   56x56x24     bottleneck         6   32   3  2
    features.7-10  28x28x32     bottleneck         6   64   4  2
    features.11-13 14x14x64     bottleneck         6   96   3  1
    features.14-16 14x14x96     bottleneck         6   160  3  2
    features.17    7x7x160      bottleneck         6   320  1  1
    features.18    7x7x320      1x1                    1280 1  1
    avgpool        7x7x1280     global average
    classifier     1x1x1280     dropout, 1000
    ============== ============ ================== === ==== == ==

    Each line is repeated n times with c channels; the first of them has stride s, and inside they
    are t times wider.

    Args:
        classes: how many kinds to tell apart.
        width_mult: by how much all numbers of channels are multiplied, rounded to multiples of 8;
            the last convolution never has fewer than 1280.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        dropout: how much of what the classifier sees is dropped while training.

    Raises:
        ValueError: a width_mult that is not above 0.

    >>> import minigrad
    >>> MobileNetV2(classes=10)(minigrad.zeros((2, 3, 32, 32))).shape
    (2, 10)
    """

    def __init__(
        self,
        classes: int = 1000,
        width_mult: float = 1.0,
        in_channels: int = 3,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if not width_mult > 0:
            raise ValueError(
                f"MobileNetV2: width_mult must be above 0, got {width_mult!r}; 1.0 is the whole "
                "network, 0.5 has half as many channels almost everywhere"
            )
        self.in_channels = in_channels
        given = _divisible(32 * width_mult)
        parts: list[Module] = [
            _then_norm(Conv2d(in_channels, given, 3, stride=2, padding=1, bias=False))
        ]
        for widen, channels, times, stride in STAGES:
            gives = _divisible(channels * width_mult)
            for i in range(times):
                parts.append(InvertedResidual(given, gives, 1 if i else stride, widen))
                given = gives
        last = _divisible(1280 * max(1.0, width_mult))
        parts.append(_then_norm(Conv2d(given, last, 1, bias=False)))
        self.features = Sequential(*parts)
        self.avgpool = GlobalAvgPool()
        self.classifier = Sequential(Dropout(dropout), Linear(last, classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: of a scale that keeps gradients alive, and a classifier near 0."""
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, Linear):
                init.normal_(module.weight, 0.0, 0.01)
                if module.bias is not None:
                    init.zeros_(module.bias)

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, in_channels, H, W)` of any size.

        Raises:
            ValueError: pictures of other axes or channels.
        """
        check_pictures("MobileNetV2", x, self.in_channels)
        return self.classifier(self.avgpool(self.features(x)))


def mobilenet_v2(classes: int = 1000, **settings: Any) -> MobileNetV2:
    """MobileNet v2, with 3,504,872 parameters; settings as for `MobileNetV2`."""
    return MobileNetV2(classes, **settings)
