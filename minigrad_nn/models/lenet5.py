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
from .lenet1 import ChosenConv2d, Subsampling, Table

__all__ = ["C3_TABLE", "LeNet5"]

RETINA = 32
"""Side of the picture that C1 looks at, larger than any digit in it, as in the paper."""

C3_TABLE: Table = (
    *(tuple((first + step) % 6 for step in range(3)) for first in range(6)),
    *(tuple((first + step) % 6 for step in range(4)) for first in range(6)),
    *(tuple((first + step) % 6 for step in (0, 1, 3, 4)) for first in range(3)),
    tuple(range(6)),
)
"""Which of the 6 maps of s2 each of the 16 maps of c3 sees in the paper, table I: 3 neighbours, 4
neighbours, two pairs, or all."""


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
    to drawn characters.  The first two are as in the paper with `LeNet5(table=C3_TABLE,
    subsampling=True)`: c3 then has 1,516 parameters, s2 and s4 have 12 and 32, and all up to f6
    have the 60,000 that the paper counts.

    Smaller pictures are brought to the 32x32 of the paper by the network itself: each pixel is
    repeated as often as fits (8x8: 4 times along both axes), and the rest is padding (28x28: 2 at
    each side), zeros, which is the mean of normalised pictures.

    Args:
        size: side of the pictures: 28 for MNIST, 8 for the embedded digits; even, from 4 to 32.
        classes: how many kinds to tell apart.
        channels: 1 for grey pictures, 3 for colour.
        activation: makes the layer after each convolution; `ReLU` is today's choice.
        pool: makes the layers s2 and s4, given the size 2; `MaxPool2d` is today's choice.
        table: for each map of c3 which maps of s2 it sees; None for all of them.
        subsampling: whether s2 and s4 learn a coefficient and a bias for each map, and are squashed
            too; `pool` has no say then.

    Raises:
        ValueError: a size that cannot be centred in 32x32, or a table that does not fit.

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
        table: Table | None = None,
        subsampling: bool = False,
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
        maps = 16 if table is None else len(table)
        self.s2 = Subsampling(6) if subsampling else pool(2)
        self.c3 = Conv2d(6, maps, 5) if table is None else ChosenConv2d(6, table, 5)
        self.s4 = Subsampling(maps) if subsampling else pool(2)
        self.c5 = Conv2d(maps, 120, 5)
        self.f6 = Linear(120, 84)
        self.output = Linear(84, classes)
        self.squash = activation()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, of a scale that lets signals and gradients through (see `init`)."""
        for layer in (self.c1, self.c3, self.c5, self.f6, self.output):
            if isinstance(layer, ChosenConv2d):
                layer.reset_parameters()
                continue
            init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                init.zeros_(layer.bias)
        for pool in (self.s2, self.s4):
            if isinstance(pool, Subsampling):
                pool.reset_parameters()

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
        x = self._pooled(self.s2, self.squash(self.c1(x)))
        x = self._pooled(self.s4, self.squash(self.c3(x)))
        x = self.squash(self.c5(x)).reshape(x.shape[0], 120)
        x = self.squash(self.f6(x))
        return self.output(x)

    def _pooled(self, pool: Module, x: Any) -> Any:
        x = pool(x)
        return self.squash(x) if isinstance(pool, Subsampling) else x

    def extra_repr(self) -> str:
        """The size of its pictures."""
        return f"size={self.size}"
