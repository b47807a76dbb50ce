"""U-Net: down to see what there is, up again to say where, with what was seen on the way beside it.

Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image
segmentation", 2015, figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.ops.shape import concatenate

from ..layers import BatchNorm2d, Conv2d, MaxPool2d, ReLU, Upsample
from ..module import Module, ModuleList, Sequential
from .pictures import check_pictures

__all__ = ["UNet"]


class UNet(Module):
    """A U of convolutions: maps of pictures, each pixel of which knows its surroundings.

    With channels (c0, c1, ..., cn):

    ======== ===================================================== ==========================
    layer    what it does                                          output
    ======== ===================================================== ==========================
    down.0   convolutions                                          (N, c0, H, W)
    down.k   maximum of 2x2, convolutions                          (N, ck, H / 2^k, W / 2^k)
    up.0     down.n twice as large beside down.(n-1), convolutions (N, c(n-1), ...)
    up.k     up.(k-1) twice as large beside down.(n-1-k), the same (N, c(n-1-k), ...)
    answers  1x1 convolution                                       (N, outputs, H, W)
    ======== ===================================================== ==========================

    The original has two 3x3 convolutions in each place and channels (64, 128, 256, 512, 1024).
    Here edges are padded, so that the result is as large as the picture, each convolution is
    followed by batch norm, and maps grow by repeating pixels instead of by a learned 2x2.

    Args:
        in_channels: 1 for grey pictures, 3 for colour.
        outputs: numbers for each pixel, such as the logits of its class.
        channels: from the top of the U to its bottom, at least two.
        depth: convolutions in each place.

    Raises:
        ValueError: fewer than two numbers of channels, or a depth below 1.

    >>> import minigrad
    >>> UNet(1, 5, channels=(4, 6, 8), depth=1)(minigrad.zeros((2, 1, 16, 24))).shape
    (2, 5, 16, 24)
    """

    def __init__(
        self,
        in_channels: int = 1,
        outputs: int = 2,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        depth: int = 2,
    ) -> None:
        super().__init__()
        if len(channels) < 2 or depth < 1:
            raise ValueError(
                "UNet: channels must hold at least two numbers and depth be at least 1, got "
                f"{tuple(channels)} and {depth}"
            )
        self.in_channels = in_channels
        self.pool, self.grow = MaxPool2d(2), Upsample(scale_factor=2)
        inputs = (in_channels, *channels[:-1])
        self.down = ModuleList(
            _convolutions(given, made, depth) for given, made in zip(inputs, channels, strict=True)
        )
        self.up = ModuleList(
            _convolutions(deep + wide, wide, depth)
            for deep, wide in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.answers = Conv2d(channels[0], outputs, 1)

    def forward(self, x: Any) -> Any:
        """`(N, outputs, H, W)` for pictures `(N, in_channels, H, W)`.

        Raises:
            ValueError: other channels, or sides that cannot be halved as often as needed.
        """
        check_pictures("UNet", x, self.in_channels)
        unit = 2 ** len(self.up)
        if x.shape[2] % unit or x.shape[3] % unit:
            raise ValueError(
                f"UNet: height and width are halved {len(self.up)} times, so they must be "
                f"multiples of {unit}, got {x.shape[2]}x{x.shape[3]}; pad or crop the pictures"
            )
        seen: list[Any] = []
        for layer in self.down:
            x = layer(self.pool(x) if seen else x)
            seen.append(x)
        for layer, before in zip(self.up, seen[-2::-1], strict=True):
            x = layer(concatenate([self.grow(x), before], axis=1))
        return self.answers(x)


def _convolutions(inputs: int, outputs: int, depth: int) -> Sequential:
    layers: list[Module] = []
    for k in range(depth):
        layers += [
            Conv2d(outputs if k else inputs, outputs, 3, padding=1, bias=False),
            BatchNorm2d(outputs),
            ReLU(),
        ]
    return Sequential(*layers)
