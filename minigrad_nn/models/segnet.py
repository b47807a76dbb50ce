"""SegNet: what a pool threw away, the way back still knows: where each maximum stood.

Source: V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: a deep convolutional encoder-decoder
architecture for image segmentation", 2015, figures 2 and 3; the lecture on semantic segmentation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from .. import functional as F
from .. import init
from ..layers import BatchNorm2d, Conv2d, MaxPool2d, ReLU
from ..module import Module, ModuleList, Sequential
from .pictures import check_pictures
from .vgg import VGG

__all__ = ["SegNet", "segnet", "segnet_small"]


def _stage(widths: Sequence[int]) -> Sequential:
    """Convolutions of 3x3 from each width to the next, each with batch norm and ReLU."""
    layers: list[Module] = []
    for given, width in itertools.pairwise(widths):
        layers += [Conv2d(given, width, 3, padding=1), BatchNorm2d(width), ReLU()]
    return Sequential(*layers)


class SegNet(Module):
    """SegNet: the convolutions of VGG-16, and the same once more in the opposite order.

    ========= ================== ======= ========= ========================== =======
    encoder   what it does       size    decoder   what it does               size
    ========= ================== ======= ========= ========================== =======
    encoder.0 64 x2, pool        H/2     decoder.4 unpool, 64, classes        H
    encoder.1 128 x2, pool       H/4     decoder.3 unpool, 128, 64            H/2
    encoder.2 256 x3, pool       H/8     decoder.2 unpool, 256 x2, 128        H/4
    encoder.3 512 x3, pool       H/16    decoder.1 unpool, 512 x2, 256        H/8
    encoder.4 512 x3, pool       H/32    decoder.0 unpool, 512 x3             H/16
    ========= ================== ======= ========= ========================== =======

    Numbers are filters of 3x3, each with batch norm and ReLU behind it but for the last, which
    gives logits.  Each pool of 2x2 hands the indices of its maxima across to the unpool that stands
    opposite, which puts its values back at those places and leaves 0 at all others; convolutions
    fill the gaps.  So outlines stay sharp, and no map has to be remembered.

    With 12 classes, as on CamVid in the paper, it has 29,449,932 parameters.

    Args:
        classes: how many kinds of pixels to tell apart.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        widths: filters of each stage of the encoder.
        depths: how many convolutions each of them has.

    Raises:
        ValueError: widths and depths that do not belong together.

    >>> import minigrad
    >>> segnet_small(11, in_channels=1)(minigrad.zeros((2, 1, 64, 64))).shape
    (2, 11, 64, 64)
    """

    def __init__(
        self,
        classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        depths: Sequence[int] = (2, 2, 3, 3, 3),
    ) -> None:
        super().__init__()
        if not widths or len(widths) != len(depths) or min(*widths, *depths, classes) < 1:
            raise ValueError(
                "SegNet: needs at least one class, and a width and a depth of at least 1 for each "
                f"stage, got classes={classes}, widths={tuple(widths)} and depths={tuple(depths)}"
            )
        self.classes = classes
        self.in_channels = in_channels
        self.pool = MaxPool2d(2, return_indices=True)
        with init.without_drawing():
            below = (in_channels, *widths[:-1])
            self.encoder = ModuleList(
                _stage((given, *[width] * depth))
                for given, width, depth in zip(below, widths, depths, strict=True)
            )
            # Opposite each stage the same number of convolutions, the last to the width before it.
            self.decoder = ModuleList(
                _stage((*[width] * depth, given))
                for given, width, depth in zip(
                    below[:0:-1], widths[:0:-1], depths[:0:-1], strict=True
                )
            )
            self.decoder.append(_stage([widths[0]] * depths[0]))
            self.classifier = Conv2d(widths[0], classes, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, of a scale that keeps signals alive behind a ReLU (He, 2015)."""
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    init.zeros_(module.bias)

    def load_vgg(self, vgg: VGG) -> None:
        """Begin with the encoder of a trained VGG that has batch norm, as the paper does.

        Args:
            vgg: of as many convolutions of the same widths, such as `vgg16_bn()`.

        Raises:
            ValueError: its convolutional part is another one.
        """
        copy_layers("SegNet.load_vgg", vgg.features, self.encoder)

    def forward(self, x: Any) -> Any:
        """Logits for each pixel, `(N, classes, H, W)`, of pictures `(N, in_channels, H, W)`.

        H and W may be any numbers that leave something after all pools.

        Raises:
            ValueError: pictures of other axes or channels, or too small.
        """
        check_pictures("SegNet", x, self.in_channels, smallest=2 ** len(self.encoder))
        handed = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[2:]
            x, indices = self.pool(x)
            handed.append((indices, size))
        for stage in self.decoder:
            indices, size = handed.pop()
            x = stage(F.max_unpool2d(x, indices, 2, output_size=size))
        return self.classifier(x)


def copy_layers(name: str, source: Module, target: Module) -> None:
    """Copy all convolutions and batch norms of one part into those of another, in their order.

    Raises:
        ValueError: they are not the same; then nothing is copied.
    """
    kinds = (Conv2d, BatchNorm2d)
    given, own = ([m for m in part.modules() if isinstance(m, kinds)] for part in (source, target))
    shapes = [
        [(type(m).__name__, *(p.shape for p in m.parameters())) for m in layers]
        for layers in (given, own)
    ]
    if shapes[0] != shapes[1]:
        here = next((i for i, (a, b) in enumerate(zip(*shapes, strict=False)) if a != b), None)
        what = (
            f"{len(given)} layers are given and {len(own)} wanted"
            if here is None
            else f"layer {here} is {shapes[0][here]}, but {shapes[1][here]} is wanted"
        )
        raise ValueError(f"{name}: the convolutional parts differ: {what}")
    for a, b in zip(given, own, strict=True):
        b.load_state_dict(a.state_dict())


def segnet(classes: int, in_channels: int = 3) -> SegNet:
    """SegNet on VGG-16, as in the paper."""
    return SegNet(classes, in_channels)


def segnet_small(classes: int, in_channels: int = 3) -> SegNet:
    """Three stages of 16, 32 and 64 filters, for pictures of some 64x64: 141 thousand weights."""
    return SegNet(classes, in_channels, widths=(16, 32, 64), depths=(1, 2, 2))
