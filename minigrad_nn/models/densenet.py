"""Dense networks: every layer sees all that came before it in its block, 121 to 201 layers.

Source: G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, "Densely connected convolutional
networks", 2017, table 1.  The names of parts and of parameters are torchvision's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from minigrad.ops.shape import concatenate
from minigrad.transforms import checkpoint

from .. import init
from ..chaining import chain
from ..layers import (
    AvgPool2d,
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
    "DenseBlock",
    "DenseLayer",
    "DenseNet",
    "Transition",
    "densenet121",
    "densenet169",
    "densenet201",
    "name_today",
]

SMALLEST = 29
"""Pixels that leave one after five halvings, of which the last three round down."""


class DenseLayer(Module):
    """One layer of a dense block: a 1x1 convolution that narrows, and one of 3x3.

    Batch norm and ReLU stand before each convolution.

    Args:
        in_channels: of all that came before, together.
        growth: channels that it adds.
        narrow: the first convolution has `narrow * growth` channels.
        dropout: how much of the result is dropped while training.
        save_memory: whether all before the second batch norm is computed again for the backward
            pass instead of being kept.
    """

    def __init__(
        self,
        in_channels: int,
        growth: int,
        narrow: int = 4,
        dropout: float = 0.0,
        save_memory: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(in_channels)
        self.conv1 = Conv2d(in_channels, narrow * growth, 1, bias=False)
        self.norm2 = BatchNorm2d(narrow * growth)
        self.conv2 = Conv2d(narrow * growth, growth, 3, padding=1, bias=False)
        self.relu = ReLU()
        self.dropout = Dropout(dropout) if dropout else None
        self.save_memory = save_memory

    def narrowed(self, *features: Any) -> Any:
        """What the first convolution makes of all features together."""
        return chain(concatenate(features, axis=1), self.norm1, self.relu, self.conv1)

    def forward(self, *features: Any) -> Any:
        """`(N, growth, H, W)` of features `(N, C_i, H, W)` with `in_channels` in all."""
        narrowed = checkpoint(self.narrowed) if self.save_memory else self.narrowed
        y = chain(narrowed(*features), self.norm2, self.relu, self.conv2)
        return y if self.dropout is None else self.dropout(y)


class DenseBlock(Module):
    """Layers of which each sees what came in and what all layers before it made.

    Args:
        in_channels: of what comes in.
        layers: how many.
        growth, narrow, dropout, save_memory: as for `DenseLayer`.
    """

    def __init__(
        self,
        in_channels: int,
        layers: int,
        growth: int,
        narrow: int = 4,
        dropout: float = 0.0,
        save_memory: bool = False,
    ) -> None:
        super().__init__()
        for i in range(layers):
            layer = DenseLayer(in_channels + i * growth, growth, narrow, dropout, save_memory)
            setattr(self, f"denselayer{i + 1}", layer)

    def forward(self, x: Any) -> Any:
        """`(N, in_channels + layers * growth, H, W)`: what came in, and all that was made."""
        features = [x]
        for layer in self.children():
            features.append(layer(*features))
        return concatenate(features, axis=1)


class Transition(Module):
    """What stands between two dense blocks: fewer channels, and half the size.

    Args:
        in_channels, out_channels: of what comes in, and of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(in_channels)
        self.relu = ReLU()
        self.conv = Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = AvgPool2d(2)

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, H / 2, W / 2)`, rounded down."""
        return chain(x, self.norm, self.relu, self.conv, self.pool)


class DenseNet(Module):
    """A densely connected network, as table 1 of the paper has it.

    =========== ======= ===================== ========== === === ===
    part        output  what it is            channels   121 169 201
    =========== ======= ===================== ========== === === ===
    conv0       112x112 7x7, stride 2         64
    pool0       56x56   3x3 maxima, stride 2
    denseblock1 56x56   1x1, 128; 3x3, 32     + 32 each  x6  x6  x6
    transition1 28x28   1x1; 2x2 averages     half
    denseblock2 28x28   1x1, 128; 3x3, 32     + 32 each  x12 x12 x12
    transition2 14x14   1x1; 2x2 averages     half
    denseblock3 14x14   1x1, 128; 3x3, 32     + 32 each  x24 x32 x48
    transition3 7x7     1x1; 2x2 averages     half
    denseblock4 7x7     1x1, 128; 3x3, 32     + 32 each  x16 x32 x32
    norm5       7x7     batch norm, ReLU
    avgpool     1x1     global average
    classifier          1000 classes
    =========== ======= ===================== ========== === === ===

    All parts but the last two stand in `features`.  Batch norm and ReLU come before each
    convolution but the first, where they come after it.

    Args:
        layers: how many layers each dense block has.
        classes: how many kinds to tell apart.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        growth: channels that each layer adds, the paper's k.
        width: channels of the first convolution.
        narrow: each layer's first convolution has `narrow * growth` channels.
        dropout: how much of each layer's result is dropped while training.
        save_memory: whether concatenations are computed again for the backward pass instead of
            being kept: their memory then grows with the depth of a block, not with its square
            (G. Pleiss and others, "Memory-efficient implementation of DenseNets", 2017).  The
            results are the same to the last bit.

    Raises:
        ValueError: no blocks.

    >>> import minigrad
    >>> DenseNet((2, 2), classes=10)(minigrad.zeros((1, 3, 32, 32))).shape
    (1, 10)
    """

    def __init__(
        self,
        layers: Sequence[int],
        classes: int = 1000,
        in_channels: int = 3,
        growth: int = 32,
        width: int = 64,
        narrow: int = 4,
        dropout: float = 0.0,
        save_memory: bool = False,
    ) -> None:
        super().__init__()
        if not layers or min(layers) < 1:
            raise ValueError(
                "DenseNet: layers must say how many each dense block has, at least 1, got "
                f"{tuple(layers)}"
            )
        self.in_channels = in_channels
        parts: dict[str, Module] = {
            "conv0": Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
            "norm0": BatchNorm2d(width),
            "relu0": ReLU(),
            "pool0": MaxPool2d(3, stride=2, padding=1),
        }
        channels = width
        for block, count in enumerate(layers, start=1):
            parts[f"denseblock{block}"] = DenseBlock(
                channels, count, growth, narrow, dropout, save_memory
            )
            channels += count * growth
            if block < len(layers):
                parts[f"transition{block}"] = Transition(channels, channels // 2)
                channels //= 2
        parts["norm5"] = BatchNorm2d(channels)
        self.features = Sequential(parts)
        self.relu = ReLU()
        self.avgpool = GlobalAvgPool()
        self.classifier = Linear(channels, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: of a scale that keeps signals alive behind a ReLU (He, 2015)."""
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight)
            elif isinstance(module, BatchNorm2d):
                module.reset_parameters()
        self.classifier.reset_parameters()
        if self.classifier.bias is not None:
            init.zeros_(self.classifier.bias)

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, in_channels, H, W)`, at least 29x29.

        Raises:
            ValueError: pictures of other axes or channels, or too small.
        """
        check_pictures("DenseNet", x, self.in_channels, SMALLEST)
        return chain(x, self.features, self.relu, self.avgpool, self.classifier)


def densenet121(classes: int = 1000, **settings: Any) -> DenseNet:
    """DenseNet-121, with 7,978,856 parameters; settings as for `DenseNet`."""
    return DenseNet((6, 12, 24, 16), classes, **settings)


def densenet169(classes: int = 1000, **settings: Any) -> DenseNet:
    """DenseNet-169, with 14,149,480 parameters; settings as for `DenseNet`."""
    return DenseNet((6, 12, 32, 32), classes, **settings)


def densenet201(classes: int = 1000, **settings: Any) -> DenseNet:
    """DenseNet-201, with 20,013,928 parameters; settings as for `DenseNet`."""
    return DenseNet((6, 12, 48, 32), classes, **settings)


def name_today(name: str) -> str:
    """The name of a parameter today, from its name in the files that torchvision offers.

    Those still call a layer's parts `norm.1` and `conv.2`, which are `norm1` and `conv2` now:
    `load_pretrained(densenet121(), path, rename=name_today)`.

    >>> name_today("features.denseblock1.denselayer2.norm.1.weight")
    'features.denseblock1.denselayer2.norm1.weight'
    """
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
