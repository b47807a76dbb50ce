"""Residual networks: blocks that add what they compute to what they were given, 18 to 152 layers.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2015,
table 1 and figures 3 and 5.  The names of parts and of parameters are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.ops.index import getitem
from minigrad.ops.shape import pad

from .. import init
from ..chaining import Plus, chain
from ..layers import BatchNorm2d, Conv2d, Dropout, GlobalAvgPool, Identity, Linear, MaxPool2d, ReLU
from ..module import Module, Sequential
from .pictures import check_pictures

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "PaddedIdentity",
    "ResNet",
    "plain18",
    "plain34",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]

SHORTCUTS = ("projection", "padding", "none")
STRIDE_ON = ("3x3", "1x1")
STEMS = ("imagenet", "cifar")


class PaddedIdentity(Module):
    """The shortcut without parameters: every `stride`-th pixel, and zeros in the new channels.

    Option A of the paper.

    Args:
        in_channels, out_channels: of what comes in, and of what it is added to.
        stride: of the block beside it.

    Raises:
        ValueError: channels would have to be left out.

    >>> import minigrad
    >>> PaddedIdentity(16, 32, stride=2)(minigrad.zeros((1, 16, 32, 32))).shape
    (1, 32, 16, 16)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise ValueError(
                f"PaddedIdentity: zeros can only add channels, got {in_channels} to make "
                f'{out_channels}; use shortcut="projection"'
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, H / stride, W / stride)`, rounded up."""
        if self.stride > 1:
            step = slice(None, None, self.stride)
            x = getitem(x, index=(slice(None), slice(None), step, step))
        new = self.out_channels - self.in_channels
        return pad(x, ((0, 0), (0, new), (0, 0), (0, 0))) if new else x

    def extra_repr(self) -> str:
        """Its channels and stride."""
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"


class _Block(Module):
    """What the two blocks have in common: a way around, unless `shortcut` is "none"."""

    expansion: int
    downsample: Module | None

    def _go_around(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        """Make the way around, which is the identity wherever that fits."""
        self.shortcut = shortcut
        self.downsample = None
        if shortcut == "none" or (stride == 1 and in_channels == channels):
            return
        if shortcut == "padding":
            self.downsample = PaddedIdentity(in_channels, channels, stride)
        else:
            self.downsample = Sequential(
                Conv2d(in_channels, channels, 1, stride=stride, bias=False), BatchNorm2d(channels)
            )

    def start_as_shortcut(self) -> None:
        """Set the scale of the last batch norm to 0, so that nothing is added to the shortcut."""
        *_, last = (part for part in self.children() if isinstance(part, BatchNorm2d))
        if last.weight is not None:
            init.zeros_(last.weight)

    def _around(self, x: Any) -> tuple[Plus, ...]:
        """What is added to the result: x, which takes the way around."""
        return () if self.shortcut == "none" else (Plus(x, self.downsample),)


class BasicBlock(_Block):
    """Two convolutions of 3x3, and the way around them (figure 5, left).

    Args:
        in_channels: of what comes in.
        channels: of both convolutions.
        stride: of the first.
        shortcut: as for `ResNet`.
        stride_on: without meaning here; both convolutions are 3x3.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: str = "projection",
        stride_on: str = "3x3",
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu = ReLU()
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self._go_around(in_channels, channels, stride, shortcut)

    def forward(self, x: Any) -> Any:
        """`(N, channels, H / stride, W / stride)`, rounded up."""
        y = chain(x, self.conv1, self.bn1, self.relu)
        return chain(y, self.conv2, self.bn2, *self._around(x), self.relu)


class Bottleneck(_Block):
    """A 1x1 convolution that narrows, one of 3x3, a 1x1 that widens, and the way around them.

    Figure 5 of the paper, right.

    Args:
        in_channels: of what comes in.
        channels: of the first two convolutions; the third has four times as many.
        stride: of the block.
        shortcut: as for `ResNet`.
        stride_on: which convolution has the stride: the "3x3", or the first "1x1".
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: str = "projection",
        stride_on: str = "3x3",
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        wide = channels * self.expansion
        self.conv1 = Conv2d(in_channels, channels, 1, stride=first, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, stride=second, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = Conv2d(channels, wide, 1, bias=False)
        self.bn3 = BatchNorm2d(wide)
        self.relu = ReLU()
        self._go_around(in_channels, wide, stride, shortcut)

    def forward(self, x: Any) -> Any:
        """`(N, 4 * channels, H / stride, W / stride)`, rounded up."""
        y = chain(x, self.conv1, self.bn1, self.relu)
        y = chain(y, self.conv2, self.bn2, self.relu)
        return chain(y, self.conv3, self.bn3, *self._around(x), self.relu)


class ResNet(Module):
    """A residual network, as table 1 of the paper and the lecture's figure have it.

    ======= ======= ======= ================== == == ============================= == === ===
    part    figure  output  BasicBlock         18 34 Bottleneck                    50 101 152
    ======= ======= ======= ================== == == ============================= == === ===
    conv1   conv1   112x112 7x7, 64, stride 2        7x7, 64, stride 2
    maxpool conv2_x 56x56   3x3, stride 2            3x3, stride 2
    layer1  conv2_x 56x56   3x3, 64;  3x3, 64  x2 x3 1x1, 64;  3x3, 64;  1x1, 256  x3 x3  x3
    layer2  conv3_x 28x28   3x3, 128; 3x3, 128 x2 x4 1x1, 128; 3x3, 128; 1x1, 512  x4 x4  x8
    layer3  conv4_x 14x14   3x3, 256; 3x3, 256 x2 x6 1x1, 256; 3x3, 256; 1x1, 1024 x6 x23 x36
    layer4  conv5_x 7x7     3x3, 512; 3x3, 512 x2 x3 1x1, 512; 3x3, 512; 1x1, 2048 x3 x3  x3
    avgpool         1x1     global average           global average
    fc                      1000 classes             1000 classes
    ======= ======= ======= ================== == == ============================= == === ===

    Batch norm stands behind each convolution, and ReLU behind that; a block's last ReLU comes after
    the sum.  The first block of layer2, 3 and 4 has stride 2.  With it on the first 1x1, where the
    paper has it, ResNet-50 takes the 3.8 * 10^9 multiply-adds of the lecture; on the 3x3, where
    torchvision has it, it takes 4.1 * 10^9 and is a little better.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: how many blocks there are in each stage.
        classes: how many kinds to tell apart.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        width: channels of the first stage; each stage has twice as many as the one before it.
        stem: "imagenet" starts with 7x7 filters and a pool, as in the table; "cifar" with 3x3
            filters at stride 1 and no pool, for small pictures.
        stride_on: which convolution of a bottleneck has the stride: "3x3" or "1x1".
        shortcut: what leads around a block that changes the size: "projection", a 1x1 convolution
            (option B of the paper); "padding", zeros for new channels (option A); or "none": no
            block has a way around, which makes the plain network of the same depth.
        zero_init_residual: whether the last batch norm of each block starts at 0, so that every
            block starts as its shortcut (Goyal and others, "Accurate, large minibatch SGD", 2017).
        dropout: how much of what fc sees is dropped while training; 0 in the paper.

    Raises:
        ValueError: a word that is none of those above, or no stages.

    >>> import minigrad
    >>> resnet18(classes=10, stem="cifar")(minigrad.zeros((2, 3, 32, 32))).shape
    (2, 10)
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        stem: str = "imagenet",
        stride_on: str = "3x3",
        shortcut: str = "projection",
        zero_init_residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for argument, word, words in (
            ("stem", stem, STEMS),
            ("stride_on", stride_on, STRIDE_ON),
            ("shortcut", shortcut, SHORTCUTS),
        ):
            if word not in words:
                raise ValueError(f"{name}: {argument} must be one of {words}, got {word!r}")
        if not depths or min(depths) < 1:
            raise ValueError(
                f"{name}: depths must say how many blocks each stage has, at least 1, got {depths}"
            )
        if zero_init_residual and shortcut == "none":
            raise ValueError(
                f'{name}: zero_init_residual=True with shortcut="none" would give 0 everywhere: '
                "a plain network has nothing beside its blocks"
            )
        self.in_channels = in_channels
        self.zero_init_residual = zero_init_residual
        large = stem == "imagenet"
        self.conv1 = Conv2d(
            in_channels,
            width,
            7 if large else 3,
            stride=2 if large else 1,
            padding=3 if large else 1,
            bias=False,
        )
        self.bn1 = BatchNorm2d(width)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, stride=2, padding=1) if large else Identity()
        given = width
        self._stages: tuple[str, ...] = ()
        for stage, depth in enumerate(depths):
            channels = width * 2**stage
            blocks = []
            for i in range(depth):
                stride = 2 if stage and not i else 1
                blocks.append(block(given, channels, stride, shortcut, stride_on))
                given = channels * block.expansion
            self._stages += (f"layer{stage + 1}",)
            setattr(self, self._stages[-1], Sequential(*blocks))
        self.avgpool = GlobalAvgPool()
        self.dropout = Dropout(dropout) if dropout else Identity()
        self.fc = Linear(given, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: of a scale that keeps gradients alive behind a ReLU (He, 2015)."""
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BatchNorm2d):
                module.reset_parameters()
        self.fc.reset_parameters()
        if self.zero_init_residual:
            for module in self.modules():
                if isinstance(module, _Block):
                    module.start_as_shortcut()

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, in_channels, H, W)` of any size.

        Raises:
            ValueError: pictures of other axes or channels.
        """
        check_pictures(type(self).__name__, x, self.in_channels)
        x = chain(x, self.conv1, self.bn1, self.relu, self.maxpool)
        for stage in self._stages:
            x = getattr(self, stage)(x)
        return self.fc(self.dropout(self.avgpool(x)))


def resnet18(classes: int = 1000, **settings: Any) -> ResNet:
    """ResNet-18, with 11,689,512 parameters; settings as for `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes, **settings)


def resnet34(classes: int = 1000, **settings: Any) -> ResNet:
    """ResNet-34, with 21,797,672 parameters; settings as for `ResNet`."""
    return ResNet(BasicBlock, (3, 4, 6, 3), classes, **settings)


def resnet50(classes: int = 1000, **settings: Any) -> ResNet:
    """ResNet-50, with 25,557,032 parameters; settings as for `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes, **settings)


def resnet101(classes: int = 1000, **settings: Any) -> ResNet:
    """ResNet-101, with 44,549,160 parameters; settings as for `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 23, 3), classes, **settings)


def resnet152(classes: int = 1000, **settings: Any) -> ResNet:
    """ResNet-152, with 60,192,808 parameters; settings as for `ResNet`."""
    return ResNet(Bottleneck, (3, 8, 36, 3), classes, **settings)


def plain18(classes: int = 1000, **settings: Any) -> ResNet:
    """ResNet-18 without its shortcuts, to compare with; settings as for `ResNet`."""
    return resnet18(classes, shortcut="none", **settings)


def plain34(classes: int = 1000, **settings: Any) -> ResNet:
    """ResNet-34 without its shortcuts, which learns worse than `plain18` (figure 4)."""
    return resnet34(classes, shortcut="none", **settings)
