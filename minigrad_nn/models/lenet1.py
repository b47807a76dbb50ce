"""LeNet-1: the first convolutional network that learned by backprop and read real digits.

Source: Y. LeCun, B. Boser, J. Denker, D. Henderson, R. Howard, W. Hubbard, L. Jackel, "Handwritten
digit recognition with a back-propagation network", NIPS 2 (1990), figure 2 and table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.ops.index import put_add
from minigrad.ops.shape import reshape

from .. import functional as F
from .. import init
from ..layers import AvgPool2d, Conv2d, Linear, SumPool2d, Tanh
from ..module import Module, Parameter

__all__ = ["H3_TABLE", "ChosenConv2d", "LeNet1", "Subsampling"]

Table = Sequence[Sequence[int]]

H3_TABLE: Table = (
    (0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1),
    (2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3),
)  # fmt: skip
"""Which of the 4 maps below each of the 12 maps of h3 sees: 20 connections, table 1."""


class ChosenConv2d(Module):
    """A convolution in which each map sees only some of the maps below it, by a table.

    It has a filter for each connection of the table and none for the others.  Fewer connections
    cost less, and maps that see different things must learn different things.

    Args:
        in_channels: maps below.
        table: for each map of the output, the numbers of the maps that it sees.
        kernel_size: side of the filters.

    Attributes:
        weight: `(connections, kernel_size, kernel_size)`, in the order of the table.
        bias: `(maps,)`.

    Raises:
        ValueError: a map that sees nothing, something twice, or a map that is not there.

    >>> import minigrad
    >>> layer = ChosenConv2d(3, [(0, 1), (2,)], 5)
    >>> layer(minigrad.zeros((1, 3, 12, 12))).shape, layer.weight.shape
    ((1, 2, 8, 8), (3, 5, 5))
    """

    weight: Parameter
    bias: Parameter

    def __init__(self, in_channels: int, table: Table, kernel_size: int) -> None:
        super().__init__()
        for number, row in enumerate(table):
            if not row or len(set(row)) != len(row) or min(row) < 0 or max(row) >= in_channels:
                raise ValueError(
                    f"ChosenConv2d: row {number} of the table must name some of the maps 0 to "
                    f"{in_channels - 1}, each once, got {tuple(row)}"
                )
        self.in_channels = in_channels
        self.table = tuple(tuple(row) for row in table)
        pairs = [(out, below) for out, row in enumerate(self.table) for below in row]
        self._places = tuple(np.array(pairs).T)
        self.weight = Parameter(np.zeros((len(pairs), kernel_size, kernel_size), np.float32))
        self.bias = Parameter(np.zeros(len(self.table), np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new filters, normal with variance 2 / (inputs of one output)."""
        size = self.weight.shape[1]
        fan_in = np.array([len(self.table[out]) for out in self._places[0]]) * size * size
        init.normal_(self.weight)
        scaled = self.weight.numpy() * np.sqrt(2.0 / fan_in)[:, None, None]
        self.weight.assign(scaled, "ChosenConv2d.reset_parameters")
        init.zeros_(self.bias)

    def dense(self) -> Any:
        """All filters, `(maps, in_channels, kernel_size, kernel_size)`, 0 where nothing leads."""
        shape = (len(self.table), self.in_channels, *self.weight.shape[1:])
        return put_add(self.weight, shape=shape, index=self._places)

    def forward(self, x: Any) -> Any:
        """`(N, maps, H', W')` of `(N, in_channels, H, W)`."""
        return F.conv2d(x, self.dense(), self.bias)

    def extra_repr(self) -> str:
        """Its sizes."""
        size = self.weight.shape[1]
        return (
            f"{self.in_channels}, {len(self.table)}, kernel_size={(size, size)}, "
            f"connections={len(self.weight)}"
        )


class Subsampling(Module):
    """A pool that learns: the sum of each window, times a coefficient, plus a bias.

    A small coefficient leaves the squashing function behind it nearly linear, so that the layer
    only blurs; a large one makes it a noisy "or" or "and" of its inputs (LeCun, 1998).  It starts
    as an average.

    Args:
        channels: each has a coefficient and a bias of its own.
        size: side of the windows, and the step between them.

    >>> import minigrad
    >>> Subsampling(4)(minigrad.ones((1, 4, 24, 24))).shape
    (1, 4, 12, 12)
    """

    coefficient: Parameter
    bias: Parameter

    def __init__(self, channels: int, size: int = 2) -> None:
        super().__init__()
        self.size = size
        self.sum = SumPool2d(size)
        self.coefficient = Parameter(np.zeros(channels, np.float32))
        self.bias = Parameter(np.zeros(channels, np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start again as an average."""
        init.constant_(self.coefficient, 1.0 / self.size**2)
        init.zeros_(self.bias)

    def forward(self, x: Any) -> Any:
        """`(N, channels, H / size, W / size)` of `(N, channels, H, W)`."""
        each = (1, -1, 1, 1)
        return self.sum(x) * reshape(self.coefficient, each) + reshape(self.bias, each)


class LeNet1(Module):
    """LeNet-1, layer for layer as figure 2 of the paper names them.

    ====== ================================== ================ ========== ===========
    layer  what it does                       output           parameters connections
    ====== ================================== ================ ========== ===========
    input                                     (N, 1, 28, 28)
    h1     4 filters of 5x5                   (N, 4, 24, 24)   104        59,904
    h2     learned averages of 2x2            (N, 4, 12, 12)   8          2,880
    h3     12 maps of 5x5, by table 1         (N, 12, 8, 8)    512        32,768
    h4     learned averages of 2x2            (N, 12, 4, 4)    24         960
    output fully connected                    (N, 10)          1,930      1,930
    ====== ================================== ================ ========== ===========

    That is 2,578 parameters and 98,442 connections, the numbers of the paper, with the squashing
    function after h1 to h4.  The output is logits for a softmax, instead of being squashed too.

    Args:
        classes: how many kinds to tell apart.
        channels: 1 for grey pictures, 3 for colour.
        activation: makes the squashing function.
        table: which maps of h2 each map of h3 sees; None for all of them (3,278 parameters).
        subsampling: whether h2 and h4 learn a coefficient and a bias for each map, and are
            squashed; else they are plain averages.

    Raises:
        ValueError: a table that does not fit.

    >>> import minigrad
    >>> model = LeNet1()
    >>> model(minigrad.zeros((2, 1, 28, 28))).shape, sum(p.size for p in model.parameters())
    ((2, 10), 2578)
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 1,
        activation: Callable[[], Module] = Tanh,
        table: Table | None = H3_TABLE,
        subsampling: bool = True,
    ) -> None:
        super().__init__()
        self.channels = channels
        maps = 12 if table is None else len(table)
        self.h1 = Conv2d(channels, 4, 5)
        self.h2 = Subsampling(4) if subsampling else AvgPool2d(2)
        self.h3 = Conv2d(4, maps, 5) if table is None else ChosenConv2d(4, table, 5)
        self.h4 = Subsampling(maps) if subsampling else AvgPool2d(2)
        self.output = Linear(maps * 4 * 4, classes)
        self.squash = activation()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, of a scale that lets signals and gradients through (see `init`)."""
        for layer in (self.h1, self.h3, self.output):
            if isinstance(layer, ChosenConv2d):
                layer.reset_parameters()
                continue
            init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                init.zeros_(layer.bias)
        for pool in (self.h2, self.h4):
            if isinstance(pool, Subsampling):
                pool.reset_parameters()

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, channels, 28, 28)`.

        Raises:
            ValueError: pictures of another shape.
        """
        wanted = (self.channels, 28, 28)
        if x.ndim != 4 or x.shape[1:] != wanted:
            raise ValueError(
                f"LeNet1: pictures must be (N, {', '.join(map(str, wanted))}), got shape {x.shape};"
                " LeNet1(channels=...) takes others, and other sizes must be scaled or padded"
            )
        x = self._pooled(self.h2, self.squash(self.h1(x)))
        x = self._pooled(self.h4, self.squash(self.h3(x)))
        return self.output(x.reshape(x.shape[0], self.output.in_features))

    def _pooled(self, pool: Module, x: Any) -> Any:
        x = pool(x)
        return self.squash(x) if isinstance(pool, Subsampling) else x
