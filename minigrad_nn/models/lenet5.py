"""LeNet-5: convolutions that find strokes, and a classifier that reads them.

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86 (1998), figure 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.ops.shape import repeat

from .. import init
from ..layers import AvgPool2d, Conv2d, Linear, Tanh
from ..module import Module

__all__ = ["LeNet5"]

RETINA = 32
"""Side of the picture that C1 looks at, larger than any digit in it, as in the paper."""


class LeNet5(Module):
    """LeNet-5, layer for layer as figure 2 of the paper names them.

    ====== ===================================== ================ ==========
    layer  what it does                          output           parameters
    ====== ===================================== ================ ==========
    input                                        (N, 1, 32, 32)
    c1     6 filters of 5x5                      (N, 6, 28, 28)   156
    s2     averages of 2x2                       (N, 6, 14, 14)
    c3     16 filters of 5x5                     (N, 16, 10, 10)  2,416
    s4     averages of 2x2                       (N, 16, 5, 5)
    c5     120 filters of 5x5                    (N, 120, 1, 1)   48,120
    f6     fully connected                       (N, 84)          10,164
    output fully connected                       (N, 10)          850
    ====== ===================================== ================ ==========

    That is 61,706 parameters, with the squashing function after c1, c3, c5 and f6.  Three things
    are as today's frameworks have them: c3 sees all six maps instead of a chosen few, s2 and s4
    have no coefficients of their own, and the output is logits for a softmax instead of distances
    to drawn characters.

    Smaller pictures are brought to the 32x32 of the paper by the network itself: each pixel is
    repeated as often as fits (8x8: 4 times along both axes), and the rest is padding (28x28: 2 at
    each side), zeros, which is the mean of normalised pictures.

    Args:
        size: side of the pictures: 28 for MNIST, 8 for the embedded digits; even, from 4 to 32.
        classes: how many kinds to tell apart.
        channels: 1 for grey pictures, 3 for colour.
        activation: makes the layer after each convolution; `ReLU` is today's choice.
        pool: makes the layers s2 and s4, given the size 2; `MaxPool2d` is today's choice.

    Raises:
        ValueError: a size that cannot be centred in 32x32.

    >>> import minigrad
    >>> LeNet5(size=8)(minigrad.zeros((2, 1, 8, 8))).shape
    (2, 10)
    """

    def __init__(
        self,
        size: int = 28,
        classes: int = 10,
        channels: int = 1,
        activation: Callable[[], Module] = Tanh,
        pool: Callable[[int], Module] = AvgPool2d,
    ) -> None:
        super().__init__()
        if not isinstance(size, int) or not 4 <= size <= RETINA or size % 2:
            raise ValueError(
                f"LeNet5: size must be an even number from 4 to {RETINA}, got {size!r}: crop or "
                "scale the pictures"
            )
        self.size = size
        self.channels = channels
        self.enlarge = RETINA // size
        self.c1 = Conv2d(channels, 6, 5, padding=(RETINA - size * self.enlarge) // 2)
        self.s2 = pool(2)
        self.c3 = Conv2d(6, 16, 5)
        self.s4 = pool(2)
        self.c5 = Conv2d(16, 120, 5)
        self.f6 = Linear(120, 84)
        self.output = Linear(84, classes)
        self.squash = activation()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, of a scale that lets signals and gradients through (see `init`)."""
        for layer in (self.c1, self.c3, self.c5, self.f6, self.output):
            init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                init.zeros_(layer.bias)

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, channels, size, size)`.

        Raises:
            ValueError: pictures of another shape.
        """
        wanted = (self.channels, self.size, self.size)
        if x.ndim != 4 or x.shape[1:] != wanted:
            raise ValueError(
                f"LeNet5: pictures must be (N, {', '.join(map(str, wanted))}), got shape "
                f"{x.shape}; LeNet5(size=..., channels=...) makes it for others"
            )
        if self.enlarge > 1:
            x = repeat(repeat(x, self.enlarge, axis=2), self.enlarge, axis=3)
        x = self.s2(self.squash(self.c1(x)))
        x = self.s4(self.squash(self.c3(x)))
        x = self.squash(self.c5(x)).reshape(x.shape[0], 120)
        x = self.squash(self.f6(x))
        return self.output(x)

    def extra_repr(self) -> str:
        """The size of its pictures."""
        return f"size={self.size}"
