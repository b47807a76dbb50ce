"""MobileNet: filters that see one channel each, then filters that see one place each.

Source: A. Howard and others, "MobileNets: efficient convolutional neural networks for mobile vision
applications", 2017, table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import init
from ..chaining import chain
from ..layers import (
    BatchNorm2d,
    Conv2d,
    DepthwiseConv2d,
    Dropout,
    GlobalAvgPool,
    Identity,
    Linear,
    PointwiseConv2d,
    ReLU6,
)
from ..module import Module, Sequential
from .pictures import check_pictures

__all__ = ["MobileNet", "SeparableBlock", "mobilenet_v1"]

# Channels and stride of each block, down the table.
BLOCKS = [
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
]


class SeparableBlock(Module):
    """A depthwise separable convolution: look around in each channel, then mix the channels.

    Batch norm and the non-linearity follow each of the two (figure 3 of the paper, right).

    Args:
        in_channels, out_channels: of what comes in, and of the result.
        stride: of the depthwise convolution.
        activation: makes the non-linearity.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        activation: Callable[[], Module] = ReLU6,
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2d(in_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(in_channels)
        self.relu = activation()
        self.pointwise = PointwiseConv2d(in_channels, out_channels, bias=False)
        self.bn2 = BatchNorm2d(out_channels)

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, H / stride, W / stride)`, rounded up."""
        return chain(x, *self._parts())

    def chained(self) -> Sequence[Module] | None:
        """All of its parts, so that neighbours of a block can be computed with its ends."""
        return self._parts() if type(self).forward is SeparableBlock.forward else None

    def _parts(self) -> list[Module]:
        first = [self.depthwise, self.bn1, self.relu]
        return [*first, self.pointwise, self.bn2, self.relu]


class MobileNet(Module):
    """MobileNet (version 1), line for line as the table of the lecture has it.

    =========== ====================== ====== ========== =====
    part        filters                stride input      times
    =========== ====================== ====== ========== =====
    conv1       3x3x3x32               2      224x224x3  1
    blocks.0    3x3x32 dw, 32x64       1      112x112x32 1
    blocks.1    3x3x64 dw, 64x128      2      112x112x64 1
    blocks.2    3x3x128 dw, 128x128    1      56x56x128  1
    blocks.3    3x3x128 dw, 128x256    2      56x56x128  1
    blocks.4    3x3x256 dw, 256x256    1      28x28x256  1
    blocks.5    3x3x256 dw, 256x512    2      28x28x256  1
    blocks.6-10 3x3x512 dw, 512x512    1      14x14x512  5
    blocks.11   3x3x512 dw, 512x1024   2      14x14x512  1
    blocks.12   3x3x1024 dw, 1024x1024 1      7x7x1024   1
    avgpool     global average                7x7x1024   1
    fc          1024x1000                     1x1x1024   1
    =========== ====================== ====== ========== =====

    That is 4,231,976 parameters and 568,740,352 multiply-adds for a picture of 224x224.  The table
    gives the depthwise layer of the last block stride 2; its sizes are those of stride 1.

    A smaller network comes of a smaller `width_mult` (the paper's alpha): 0.75, 0.5 and 0.25 leave
    2,585,560, 1,331,592 and 470,072 parameters, and 325, 149 and 41 million multiply-adds.  Smaller
    pictures (its rho: 192, 160 or 128 pixels) cost less with the same parameters.

    Args:
        classes: how many kinds to tell apart.
        width_mult: by how much all numbers of channels are multiplied; the result is rounded down,
            and at least 8.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        dropout: how much of what fc sees is dropped while training.
        activation: makes the non-linearity: `ReLU6`, which low precision can hold; the paper's own
            table says `ReLU`.

    Raises:
        ValueError: a width_mult that is not above 0.

    >>> sum(p.size for p in MobileNet().parameters())
    4231976
    """

    def __init__(
        self,
        classes: int = 1000,
        width_mult: float = 1.0,
        in_channels: int = 3,
        dropout: float = 0.0,
        activation: Callable[[], Module] = ReLU6,
    ) -> None:
        super().__init__()
        if not width_mult > 0:
            raise ValueError(
                f"MobileNet: width_mult must be above 0, got {width_mult!r}; 1.0 is the whole "
                "network, 0.5 has half as many channels everywhere"
            )
        self.in_channels = in_channels

        def wide(channels: int) -> int:
            return max(8, int(channels * width_mult))

        given = wide(32)
        self.conv1 = Conv2d(in_channels, given, 3, stride=2, padding=1, bias=False)
        self.bn1 = BatchNorm2d(given)
        self.relu = activation()
        blocks = []
        for channels, stride in BLOCKS:
            blocks.append(SeparableBlock(given, wide(channels), stride, activation))
            given = wide(channels)
        self.blocks = Sequential(*blocks)
        self.avgpool = GlobalAvgPool()
        self.dropout = Dropout(dropout) if dropout else Identity()
        self.fc = Linear(given, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: of a scale that keeps signals alive behind a ReLU (He, 2015)."""
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight)
            elif isinstance(module, BatchNorm2d):
                module.reset_parameters()
        self.fc.reset_parameters()

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, in_channels, H, W)` of any size.

        Raises:
            ValueError: pictures of other axes or channels.
        """
        check_pictures("MobileNet", x, self.in_channels)
        x = chain(x, self.conv1, self.bn1, self.relu, self.blocks)
        return self.fc(self.dropout(self.avgpool(x)))


def mobilenet_v1(classes: int = 1000, **settings: Any) -> MobileNet:
    """MobileNet, with 4,231,976 parameters; settings as for `MobileNet`."""
    return MobileNet(classes, **settings)
