"""Residual networks for pictures of 32x32, 20 to 110 layers deep, and plain ones to compare with.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2015,
section 4.2.
"""

from __future__ import annotations

from typing import Any

from .resnet import BasicBlock, ResNet

__all__ = [
    "CifarResNet",
    "plain20",
    "plain32",
    "plain44",
    "plain56",
    "plain110",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
]


class CifarResNet(ResNet):
    """The narrow residual network of the paper's section on CIFAR-10, `6n + 2` layers deep.

    ======= ======= ================ =================================================
    part    output  what it is       times, for 20, 32, 44, 56, 110 layers
    ======= ======= ================ =================================================
    conv1   32x32   3x3, 16          1
    layer1  32x32   3x3, 16; 3x3, 16 n = 3, 5, 7, 9, 18
    layer2  16x16   3x3, 32; 3x3, 32 n, the first with stride 2
    layer3  8x8     3x3, 64; 3x3, 64 n, the first with stride 2
    avgpool 1x1     global average
    fc              10 classes
    ======= ======= ================ =================================================

    Args:
        depth: layers with weights, counted along the longest way: 20, 32, 44, 56, 110, or any other
            `6n + 2`.
        classes: how many kinds to tell apart.
        shortcut: "padding", without parameters, as in the paper; "projection", 1x1 convolutions;
            or "none" for the plain network.
        settings: `in_channels`, `width` (16), `zero_init_residual` and `dropout` of `ResNet`.

    Raises:
        ValueError: a depth that is not `6n + 2`, or settings that `ResNet` refuses.

    >>> import minigrad
    >>> CifarResNet(20)(minigrad.zeros((2, 3, 32, 32))).shape
    (2, 10)
    """

    def __init__(
        self, depth: int = 20, classes: int = 10, shortcut: str = "padding", **settings: Any
    ) -> None:
        if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
            raise ValueError(
                f"CifarResNet: depth must be 6n + 2, such as 20, 32, 44, 56 or 110, got {depth!r}: "
                "three stages of n blocks, of two layers each, between conv1 and fc"
            )
        blocks = (depth - 2) // 6
        settings = {"width": 16, "stem": "cifar", **settings}
        super().__init__(BasicBlock, (blocks,) * 3, classes, shortcut=shortcut, **settings)
        self.depth = depth


def resnet20(classes: int = 10, **settings: Any) -> CifarResNet:
    """The CIFAR ResNet of 20 layers, with 269,722 parameters; settings as for `CifarResNet`."""
    return CifarResNet(20, classes, **settings)


def resnet32(classes: int = 10, **settings: Any) -> CifarResNet:
    """The CIFAR ResNet of 32 layers, with 464,154 parameters; settings as for `CifarResNet`."""
    return CifarResNet(32, classes, **settings)


def resnet44(classes: int = 10, **settings: Any) -> CifarResNet:
    """The CIFAR ResNet of 44 layers, with 658,586 parameters; settings as for `CifarResNet`."""
    return CifarResNet(44, classes, **settings)


def resnet56(classes: int = 10, **settings: Any) -> CifarResNet:
    """The CIFAR ResNet of 56 layers, with 853,018 parameters; settings as for `CifarResNet`."""
    return CifarResNet(56, classes, **settings)


def resnet110(classes: int = 10, **settings: Any) -> CifarResNet:
    """The CIFAR ResNet of 110 layers, with 1,727,962 parameters; settings as for `CifarResNet`.

    The paper starts it at a learning rate of 0.01 until it has begun to learn, and goes on at 0.1.
    """
    return CifarResNet(110, classes, **settings)


def plain20(classes: int = 10, **settings: Any) -> CifarResNet:
    """`resnet20` without its shortcuts, to compare with."""
    return CifarResNet(20, classes, "none", **settings)


def plain32(classes: int = 10, **settings: Any) -> CifarResNet:
    """`resnet32` without its shortcuts."""
    return CifarResNet(32, classes, "none", **settings)


def plain44(classes: int = 10, **settings: Any) -> CifarResNet:
    """`resnet44` without its shortcuts."""
    return CifarResNet(44, classes, "none", **settings)


def plain56(classes: int = 10, **settings: Any) -> CifarResNet:
    """`resnet56` without its shortcuts, which learns worse than `plain20` (figure 6)."""
    return CifarResNet(56, classes, "none", **settings)


def plain110(classes: int = 10, **settings: Any) -> CifarResNet:
    """`resnet110` without its shortcuts; the paper found that it does not learn."""
    return CifarResNet(110, classes, "none", **settings)
