"""Fully convolutional networks: a classifier that slides, and gives every pixel a class.

Source: J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic segmentation",
2015, figures 2 and 3; the lecture on semantic segmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.ops.index import getitem

from .. import init
from ..layers import Conv2d, ConvTranspose2d, Dropout, Linear, MaxPool2d, ReLU
from ..module import Module, ModuleList, Sequential
from .pictures import check_pictures
from .segnet import copy_layers
from .vgg import VGG

__all__ = ["FCN", "bilinear_", "fcn8s", "fcn16s", "fcn32s", "fcn_small"]


def bilinear_(weight: Any) -> Any:
    """Make the filters of a transposed convolution interpolate, each channel on its own.

    With filters of size 2f and stride f it enlarges by f: a value's filter is a tent that reaches
    its neighbours, and the tents that lie over a pixel add up to 1.

    Args:
        weight: `(channels, channels / groups, 2f, 2f)`, written in place.

    Raises:
        ValueError: other shapes.

    >>> import minigrad
    >>> bilinear_(minigrad.zeros((1, 1, 4, 4))).numpy()[0, 0, 1].tolist()
    [0.1875, 0.5625, 0.5625, 0.1875]
    """
    channels, inside, height, width = weight.shape
    if height != width or height % 2 or inside not in (1, channels):
        raise ValueError(
            "bilinear_: weight must be (channels, channels, 2f, 2f), or (channels, 1, 2f, 2f) for "
            f"groups, got shape {weight.shape}"
        )
    tent = 1.0 - np.abs(np.arange(height) - (height - 1) / 2.0) / (height / 2.0)
    filters = np.zeros(weight.shape, weight.dtype)
    each = np.arange(channels)
    filters[each, each if inside == channels else 0] = np.outer(tent, tent)
    return weight.assign(filters, "bilinear_")


class _Map(NamedTuple):
    """Maps, and where they lie: cell i is centred `first + stride * i` pixels into the picture."""

    x: Any
    first: float
    stride: int


def _cropped(x: Any, start: int, height: int, width: int) -> Any:
    if x.shape[2:] == (height, width) and not start:
        return x
    rows, columns = slice(start, start + height), slice(start, start + width)
    return getitem(x, index=(slice(None), slice(None), rows, columns))


class FCN(Module):
    """FCN-32s, FCN-16s or FCN-8s: VGG-16 without its end, and a way back to the pixels.

    ========= ============================= ==============================================
    part      layers                        output for pictures of HxW
    ========= ============================= ==============================================
    stages.0  64 x2, pool                   H' / 2, where H' = H + 198
    stages.1  128 x2, pool                  H' / 4
    stages.2  256 x3, pool                  H' / 8
    stages.3  512 x3, pool                  H' / 16
    stages.4  512 x3, pool                  H' / 32
    fc6       4096 filters of 7x7           H' / 32 - 6
    fc7       4096 of 1x1                   the same
    score     one of 1x1 for each class     the same
    up.0      x2, learned                   + score of stages.3: all there is for FCN-16s
    up.1      x2, learned                   + score of stages.2: for FCN-8s
    upscore   x32, x16 or x8, bilinear      H, cropped
    ========= ============================= ==============================================

    fc6 and fc7 are the fully connected layers of VGG, read as convolutions: where VGG says what is
    in a picture, they say it for every place of a larger one.  That is coarse, a place for each 32
    pixels, so earlier, finer maps are scored too and added; `skips` hold those scores.  Transposed
    convolutions begin as bilinear interpolation; those in between learn, the last one does not.

    The first convolution pads by 100, so that even a small picture gives fc6 something to see.
    What comes out is larger than the picture; each map knows where it lies, and from that it is
    known where to cut it (5, 9 and 31 cells in the original FCN-8s).

    FCN-32s with 21 classes, as for Pascal VOC, learns 134,346,581 weights, FCN-16s 17,829 more, and
    FCN-8s again 12,453 more.

    Args:
        classes: how many kinds of pixels to tell apart.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        stride: of the finest map that is scored: that of the last pool, or of one before it.
        widths: filters of each stage.
        depths: how many convolutions each of them has.
        fc_width: filters of fc6 and fc7.
        fc_kernel: side of those of fc6.
        padding: of the first convolution.
        dropout: how much of fc6 and fc7 is dropped while training.

    Raises:
        ValueError: widths and depths that do not belong together, a stride that no pool has, or a
            padding that is too small for fc6 to see the corners.

    >>> import minigrad
    >>> fcn_small(11, in_channels=1)(minigrad.zeros((2, 1, 50, 64))).shape
    (2, 11, 50, 64)
    """

    def __init__(
        self,
        classes: int,
        in_channels: int = 3,
        stride: int = 8,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        depths: Sequence[int] = (2, 2, 3, 3, 3),
        fc_width: int = 4096,
        fc_kernel: int = 7,
        padding: int = 100,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        count = len(widths)
        if not count or count != len(depths) or min(*widths, *depths, classes) < 1:
            raise ValueError(
                "FCN: needs at least one class, and a width and a depth of at least 1 for each "
                f"stage, got classes={classes}, widths={tuple(widths)} and depths={tuple(depths)}"
            )
        strides = [2 ** (i + 1) for i in range(count)]
        if stride not in strides:
            raise ValueError(f"FCN: stride must be that of a pool, one of {strides}, got {stride}")
        least = 1 + max(strides[-1] * (fc_kernel - 2) // 2, 0)
        if padding < least:
            raise ValueError(
                f"FCN: filters of {fc_kernel}x{fc_kernel} at stride {strides[-1]} leave a border "
                f"unless the padding is at least {least}, got {padding}"
            )
        self.classes = classes
        self.in_channels = in_channels
        self.smallest = max(strides[-1] * (fc_kernel - 1) + 3 - 2 * padding, 1)
        self.stride = stride
        self.padding = padding
        self.fc_kernel = fc_kernel
        with init.without_drawing():
            self.stages = ModuleList()
            given = in_channels
            for width, depth in zip(widths, depths, strict=True):
                layers: list[Module] = []
                for _ in range(depth):
                    first = not len(self.stages) and not layers
                    layers += [Conv2d(given, width, 3, padding=padding if first else 1), ReLU()]
                    given = width
                self.stages.append(Sequential(*layers, MaxPool2d(2, ceil_mode=True)))
            self.fc6 = Conv2d(given, fc_width, fc_kernel)
            self.fc7 = Conv2d(fc_width, fc_width, 1)
            self.relu = ReLU()
            self.dropout = Dropout(dropout)
            self.score = Conv2d(fc_width, classes, 1)
            self._skipped = list(range(strides.index(stride), count - 1))[::-1]
            self.skips = ModuleList(Conv2d(widths[i], classes, 1) for i in self._skipped)
            self.up = ModuleList(
                ConvTranspose2d(classes, classes, 4, stride=2, bias=False) for _ in self._skipped
            )
            self.upscore = ConvTranspose2d(
                classes, classes, 2 * stride, stride=stride, groups=classes, bias=False
            )
        self.upscore.requires_grad_(False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights (He, 2015); scores begin at 0, and all enlarging as interpolation."""
        scores = {id(layer) for layer in (self.score, *self.skips)}
        for module in self.modules():
            if isinstance(module, ConvTranspose2d):
                bilinear_(module.weight)
            elif isinstance(module, Conv2d):
                if id(module) in scores:
                    init.zeros_(module.weight)
                else:
                    init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    init.zeros_(module.bias)

    def load_vgg(self, vgg: VGG) -> None:
        """Begin with a trained VGG-16: its convolutions, and its first two fully connected layers.

        Args:
            vgg: without batch norm, of the same widths.

        Raises:
            ValueError: its layers are others.
        """
        dense = [layer for layer in vgg.classifier if isinstance(layer, Linear)][:2]
        pairs = list(zip(dense, (self.fc6, self.fc7), strict=True))
        for linear, conv in pairs:
            if (
                linear.weight.size != conv.weight.size
                or linear.weight.shape[0] != conv.out_channels
            ):
                raise ValueError(
                    f"FCN.load_vgg: a fully connected layer of shape {linear.weight.shape} cannot "
                    f"be read as filters of shape {conv.weight.shape}"
                )
        copy_layers("FCN.load_vgg", vgg.features, self.stages)
        for linear, conv in pairs:
            conv.weight.assign(linear.weight.numpy().reshape(conv.weight.shape), "FCN.load_vgg")
            if conv.bias is not None and linear.bias is not None:
                conv.bias.assign(linear.bias.numpy(), "FCN.load_vgg")

    def forward(self, x: Any) -> Any:
        """Logits for each pixel, `(N, classes, H, W)`, of pictures `(N, in_channels, H, W)`.

        H and W may be any numbers that leave fc6 something to see: with the paper's padding all,
        and with less from `smallest` on.

        Raises:
            ValueError: pictures of other axes or channels, or too small.
        """
        check_pictures("FCN", x, self.in_channels, self.smallest)
        height, width = x.shape[2:]
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        for layer in (self.fc6, self.fc7):
            x = self.dropout(self.relu(layer(x)))
        found = self._map(self.score(x), len(maps) - 1, self.fc_kernel)
        for number, skip, up in zip(self._skipped, self.skips, self.up, strict=True):
            found = _added(
                _Map(up(found.x), found.first - 0.75 * found.stride, found.stride // 2),
                self._map(skip(maps[number]), number, 1),
            )
        # A cell's tent is centred behind the first `stride - 0.5` pixels of what is painted.
        start = int(found.stride - 0.5 - found.first)
        return _cropped(self.upscore(found.x), start, height, width)

    def _map(self, x: Any, stage: int, kernel: int) -> _Map:
        """Where the cells of a stage lie, which each see `kernel` of its cells in a row."""
        stride = 2 ** (stage + 1)
        return _Map(x, stride * kernel / 2.0 - 0.5 - (self.padding - 1), stride)

    def extra_repr(self) -> str:
        """Its stride and padding."""
        return f"stride={self.stride}, padding={self.padding}"


def _added(a: _Map, b: _Map) -> _Map:
    """The sum of two maps of the same stride, where both have cells."""
    ahead = int((a.first - b.first) / a.stride)  # so many cells of b stand before the first of a
    starts = max(-ahead, 0), max(ahead, 0)
    size = [
        min(n - starts[0], m - starts[1]) for n, m in zip(a.x.shape[2:], b.x.shape[2:], strict=True)
    ]
    total = _cropped(a.x, starts[0], *size) + _cropped(b.x, starts[1], *size)
    return _Map(total, max(a.first, b.first), a.stride)


def fcn32s(classes: int, in_channels: int = 3, **settings: Any) -> FCN:
    """FCN-32s: from the last map alone, coarse; settings as for `FCN`."""
    return FCN(classes, in_channels, stride=32, **settings)


def fcn16s(classes: int, in_channels: int = 3, **settings: Any) -> FCN:
    """FCN-16s: with the fourth pool's map beside the last; settings as for `FCN`."""
    return FCN(classes, in_channels, stride=16, **settings)


def fcn8s(classes: int, in_channels: int = 3, **settings: Any) -> FCN:
    """FCN-8s: with the third and fourth pool's maps, the finest; settings as for `FCN`."""
    return FCN(classes, in_channels, stride=8, **settings)


def fcn_small(classes: int, in_channels: int = 3, stride: int = 2, dropout: float = 0.2) -> FCN:
    """An FCN that trains on a laptop, for pictures of some 64x64.

    Four stages of 16, 32, 64 and 64 filters without the wide border, and every pool's map is scored
    by default; with 16 for the stride it is as coarse as its last map.
    """
    return FCN(
        classes,
        in_channels,
        stride,
        widths=(16, 32, 64, 64),
        depths=(1, 2, 2, 2),
        fc_width=128,
        fc_kernel=3,
        padding=9,
        dropout=dropout,
    )
