"""The neocognitron: cells that look for a pattern, and cells that forgive where it stood.

Every convolutional network since has its two kinds of layers.  What it did not have is backprop:
it learned without a teacher, by letting the cell that answers most strongly become still better.

Sources: K. Fukushima, "Neocognitron: a self-organizing neural network model for a mechanism of
pattern recognition unaffected by shift in position", Biological Cybernetics 36 (1980); the order
of training from K. Fukushima, S. Miyake, "Neocognitron: a new algorithm for pattern recognition
tolerant of deformations and shifts in position", Pattern Recognition 15 (1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.core import no_grad, raw
from minigrad.ops.elementwise import absolute, relu, sqrt
from minigrad.ops.reduce import mean
from minigrad.ops.shape import reshape
from minigrad.random import Generator, default_generator
from minigrad.tensor import Tensor

from .. import functional as F
from .. import init
from ..layers import Linear
from ..module import Module, ModuleList, Parameter
from .pictures import check_pictures

__all__ = ["CCells", "Neocognitron", "SCells", "Seed", "Stage"]

Pair = tuple[int, int]


class Stage(NamedTuple):
    """Sizes and settings of one pair of layers, S and C.

    Attributes:
        planes: how many kinds of patterns the S-cells look for.
        s_kernel: side of the square that an S-cell sees.
        s_padding: zeros before and after, as they are added to both axes.
        selectivity: r of the paper, how sure an S-cell must be: it answers if the cosine between
            what it sees and what it learned is above `r / (1 + r)`.
        speed: q of the paper, by how much a seed cell is reinforced.
        c_kernel: side of the square over which a C-cell is tolerant.
        c_stride: only every so many places have a C-cell.
        c_padding: zeros before and after.
    """

    planes: int
    s_kernel: int
    s_padding: Pair
    selectivity: float
    speed: float
    c_kernel: int
    c_stride: int
    c_padding: Pair


FUKUSHIMA = (
    Stage(24, 5, (2, 2), 4.0, 1.0, 5, 2, (3, 4)),
    Stage(24, 5, (1, 1), 1.5, 16.0, 5, 2, (3, 4)),
    Stage(24, 5, (0, 0), 1.5, 16.0, 2, 1, (0, 0)),
)
"""The three stages of the paper, for 16x16 pixels: 24 planes each, down to a single C-cell."""


class Seed(NamedTuple):
    """A cell that was chosen to learn: its plane, and the place where it stands."""

    plane: int
    row: int
    column: int


def _falloff(kernel: int, ratio: float) -> np.ndarray:
    """`ratio ** distance` from the centre of a square: strongest there, as the paper's c and d."""
    away = np.abs(np.arange(kernel) - (kernel - 1) / 2.0)
    return ratio ** np.hypot(away[:, None], away[None, :])


class SCells(Module):
    """Simple cells: planes of detectors, each plane with one template that all its cells share.

    The answer of a cell of plane k at place n to the planes u below it is

        u_S = r * relu((1 + sum a_k u) / (1 + 2 r / (1 + r) * b_k * v) - 1),  v = sqrt(sum c u ** 2)

    where both sums go over the square around n and all planes.  The excitation is a template
    match, a convolution.  The inhibition is shunting, it divides: the V-cell measures how much
    there is to be seen at all, so that a cell asks for the right pattern and not for much light.
    Weights are magnitudes, as in the paper: of a stored one the sign means nothing.

    Args:
        in_planes, planes: below, and here.
        kernel: side of the square that a cell sees.
        padding: zeros before and after, one number or a pair.
        selectivity: r of the formula, above 0.
        falloff: c is `falloff ** distance` from the centre, and adds up to 1.
        dtype: of the weights.

    Attributes:
        excitatory: a, `(planes, in_planes, kernel, kernel)`.
        inhibitory: b, `(planes,)`.

    Raises:
        ValueError: a selectivity that is not above 0.
    """

    excitatory: Parameter
    inhibitory: Parameter
    nearness: Tensor

    def __init__(
        self,
        in_planes: int,
        planes: int,
        kernel: int,
        padding: int | Pair = 0,
        selectivity: float = 4.0,
        falloff: float = 0.9,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        if not selectivity > 0:
            raise ValueError(f"SCells: selectivity must be above 0, got {selectivity}")
        before, after = (padding, padding) if isinstance(padding, int) else padding
        self.padding = ((before, after), (before, after))
        self.selectivity = selectivity
        self.excitatory = Parameter(np.zeros((planes, in_planes, kernel, kernel), dtype))
        self.inhibitory = Parameter(np.zeros(planes, dtype))
        near = np.broadcast_to(_falloff(kernel, falloff), (1, in_planes, kernel, kernel))
        self.register_buffer("nearness", Tensor((near / near.sum()).astype(dtype)), False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw strong templates at random, each cell answering if the cosine is above a quarter.

        That is where backprop begins: with the paper's selectivity nearly all cells would be
        silent, and no gradient would flow.  The paper's own learning begins with `silence`.
        """
        init.uniform_(self.excitatory, 0.0, 4.0)
        near, r = self.nearness.numpy(), self.selectivity
        a = self.excitatory.numpy() * near
        strength = np.sqrt((a**2 / near).sum((1, 2, 3)))
        self.excitatory.assign(a, "SCells.reset_parameters")
        self.inhibitory.assign(strength * (1.0 + r) / (8.0 * r), "SCells.reset_parameters")

    def silence(self, generator: Generator) -> None:
        """Forget everything: weak, different templates, and no inhibition at all."""
        weak = generator.uniform(self.excitatory.shape, 0.0, 0.1, dtype=self.excitatory.dtype)
        self.excitatory.assign(weak * self.nearness.numpy(), "SCells.silence")
        init.zeros_(self.inhibitory)

    def inhibition(self, u: Any) -> Any:
        """v of the formula, `(N, 1, H', W')`: how much each square holds, whatever it is."""
        power = relu(F.conv2d(u * u, self.nearness, padding=self.padding))
        # The root has no slope at 0, where a square is empty; this little gives it one, of 0.
        return sqrt(power + 1e-12)

    def forward(self, u: Any) -> Any:
        """Answers, `(N, planes, H', W')`, to the planes below, `(N, in_planes, H, W)`."""
        r = self.selectivity
        excitation = F.conv2d(u, absolute(self.excitatory), padding=self.padding)
        b = reshape(absolute(self.inhibitory), (1, -1, 1, 1))
        inhibition = (2.0 * r / (1.0 + r)) * b * self.inhibition(u)
        return r * relu((1.0 + excitation) / (1.0 + inhibition) - 1.0)

    def seeds(self, answers: np.ndarray, column: int) -> list[Seed]:
        """Which cells learn: at most one of each plane, the strongest of its surroundings.

        An S-column is a square of places with the cells of all planes in it.  Of each the cell
        that answers most strongly is a candidate, and of the candidates of a plane the strongest
        is its seed.  So one pattern makes one plane learn, and different patterns different ones.

        Args:
            answers: `(planes, H, W)`, to one picture.
            column: side of an S-column.

        Returns:
            The seeds, by plane; none where no cell answered.
        """
        height, width = answers.shape[1:]
        best: dict[int, tuple[float, Seed]] = {}
        side = min(column, height, width)
        windows = np.lib.stride_tricks.sliding_window_view(answers, (side, side), (1, 2))
        for top in range(windows.shape[1]):
            for left in range(windows.shape[2]):
                found = windows[:, top, left]
                plane, row, place = np.unravel_index(int(found.argmax()), found.shape)
                value = float(found[plane, row, place])
                if value > 0.0 and value > best.get(int(plane), (0.0,))[0]:
                    seed = Seed(int(plane), top + int(row), left + int(place))
                    best[int(plane)] = value, seed
        return [best[plane][1] for plane in sorted(best)]

    def learn(self, u: Any, speed: float, column: int) -> list[Seed]:
        """Let the seed cells become better at what they saw: `a += q c u`, `b += q v / 2`.

        The whole plane shares the template, so it is learned for every place at once.

        Args:
            u: one picture's planes below, `(1, in_planes, H, W)`.
            speed: q of the rule.
            column: side of an S-column.

        Returns:
            The cells that learned.
        """
        with no_grad():
            seeds = self.seeds(np.asarray(raw(self(u)))[0], column)
            seen = np.asarray(raw(self.inhibition(u)))[0, 0]
        if not seeds:
            return seeds
        below = np.pad(np.asarray(raw(u))[0], ((0, 0), *self.padding))
        a, b = np.array(self.excitatory.numpy()), np.array(self.inhibitory.numpy())
        near, side = self.nearness.numpy()[0], self.excitatory.shape[2]
        for plane, row, place in seeds:
            square = below[:, row : row + side, place : place + side]
            a[plane] = np.abs(a[plane]) + speed * near * square
            b[plane] = np.abs(b[plane]) + speed / 2.0 * seen[row, place]
        self.excitatory.assign(a, "SCells.learn")
        self.inhibitory.assign(b, "SCells.learn")
        return seeds

    def extra_repr(self) -> str:
        """Its sizes and selectivity."""
        planes, below, kernel, _ = self.excitatory.shape
        return f"{below}, {planes}, kernel={kernel}, selectivity={self.selectivity}"


class CCells(Module):
    """Complex cells: each answers if any S-cell of its plane does, somewhere in its square.

        u_C = psi((1 + sum d u_S) / (1 + v) - 1),  psi(x) = relu(x) / (alpha + relu(x))

    with v the mean of `sum d u_S` over all planes: planes inhibit each other, and psi saturates, so
    that it matters little how many S-cells answered, and where.  Nothing here is learned.

    Args:
        kernel: side of the square.
        stride: only every so many places have a C-cell: positions get coarser.
        padding: zeros before and after, one number or a pair.
        falloff: d is `falloff ** distance` from the centre.
        strength: the largest d.
        alpha: at which input an answer is a half.
        dtype: of d.
    """

    blur: Tensor

    def __init__(
        self,
        kernel: int,
        stride: int = 1,
        padding: int | Pair = 0,
        falloff: float = 0.9,
        strength: float = 4.0,
        alpha: float = 0.5,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        before, after = (padding, padding) if isinstance(padding, int) else padding
        self.padding = ((before, after), (before, after))
        self.stride = stride
        self.alpha = alpha
        weights = _falloff(kernel, falloff)
        weights *= strength / weights.max()
        self.register_buffer("blur", Tensor(weights[None, None].astype(dtype)), False)

    def forward(self, u: Any) -> Any:
        """Answers, `(N, planes, H', W')`, to S-cells `(N, planes, H, W)`."""
        count, planes, height, width = u.shape
        alone = reshape(u, (count * planes, 1, height, width))
        alone = F.conv2d(alone, self.blur, stride=self.stride, padding=self.padding)
        total = reshape(alone, (count, planes, *alone.shape[2:]))
        x = relu((1.0 + total) / (1.0 + mean(total, axis=1, keepdims=True)) - 1.0)
        return x / (self.alpha + x)

    def extra_repr(self) -> str:
        """Its size and stride."""
        return f"kernel={self.blur.shape[2]}, stride={self.stride}"


class Neocognitron(Module):
    """Stages of S-cells and C-cells, from parts of strokes up to whole patterns.

    ===== ================= ============== ====================================================
    layer cells             output         what it does
    ===== ================= ============== ====================================================
    U0    photoreceptors    (N, 1, 16, 16) a picture, not negative
    s.0   S                 (24, 16, 16)   looks for parts in 5x5
    c.0   C                 (24, 10, 10)   forgives their places, at every second place
    s.1   S                 (24, 8, 8)     looks for compositions of parts in 5x5
    c.1   C                 (24, 6, 6)     forgives
    s.2   S                 (24, 2, 2)     looks for whole patterns
    c.2   C                 (24, 1, 1)     one cell for each, wherever it is
    ===== ================= ============== ====================================================

    `learn` is the paper's learning without a teacher, stage after stage; after it each kind of
    pattern has a C-cell of its own in the last layer, which answers wherever the pattern stands.
    As a `Module` it also learns by backprop, end to end, as its descendants do: with `classes` the
    last C-cells lead to logits.

    How c and d fall off, and how large d is, is chosen here, the same for all stages.

    Args:
        stages: sizes and settings; those of the paper, for 16x16 pixels, by default.
        classes: add a fully connected layer from the last C-cells to so many logits; None for the
            C-cells themselves.
        size: side of the pictures.
        in_planes: of the pictures.
        dtype: of all weights.

    Raises:
        ValueError: no stages, or stages that leave nothing of such pictures.

    >>> import minigrad
    >>> Neocognitron()(minigrad.zeros((3, 1, 16, 16))).shape
    (3, 24)
    """

    def __init__(
        self,
        stages: Sequence[Stage] = FUKUSHIMA,
        classes: int | None = None,
        size: int = 16,
        in_planes: int = 1,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        if not stages:
            raise ValueError("Neocognitron: needs at least one Stage, got none")
        self.size = size
        self.in_planes = in_planes
        self.stages = tuple(stages)
        self.s = ModuleList()
        self.c = ModuleList()
        below = in_planes
        for number, stage in enumerate(self.stages):
            kernel, padding, r = stage.s_kernel, stage.s_padding, stage.selectivity
            self.s.append(SCells(below, stage.planes, kernel, padding, r, dtype=dtype))
            pool = (stage.c_kernel, stage.c_stride, stage.c_padding)
            self.c.append(CCells(*pool, dtype=dtype))
            size = size + sum(stage.s_padding) - stage.s_kernel + 1
            left = (size + sum(stage.c_padding) - stage.c_kernel) // stage.c_stride + 1
            if size < 1 or left < 1:
                raise ValueError(
                    f"Neocognitron: nothing is left of pictures of {self.size}x{self.size} in "
                    f"stage {number}, with kernels of {stage.s_kernel} and {stage.c_kernel}; use "
                    "fewer stages, or more padding"
                )
            size, below = left, stage.planes
        self.output = None if classes is None else Linear(below * size * size, classes, dtype=dtype)

    def layers(self, x: Any, stages: int | None = None) -> list[Any]:
        """What every layer answers: S of the first stage, its C, S of the second, and so on.

        Args:
            x: pictures `(N, in_planes, size, size)`, not negative.
            stages: only so many; all if None.

        Raises:
            ValueError: pictures of another size.
        """
        check_pictures("Neocognitron", x, self.in_planes)
        if x.shape[2:] != (self.size, self.size):
            raise ValueError(
                f"Neocognitron: pictures must be {self.size}x{self.size}, got shape {x.shape}; "
                "Neocognitron(size=...) takes others"
            )
        found = []
        for s, c in list(zip(self.s, self.c, strict=True))[:stages]:
            found.append(s(x))
            x = c(found[-1])
            found.append(x)
        return found

    def forward(self, x: Any) -> Any:
        """The last C-cells, flattened `(N, cells)`, or logits `(N, classes)`.

        Args:
            x: pictures `(N, in_planes, size, size)`, not negative.

        Raises:
            ValueError: pictures of another size.
        """
        top = self.layers(x)[-1]
        flat = reshape(top, (top.shape[0], int(np.prod(top.shape[1:]))))
        return flat if self.output is None else self.output(flat)

    def learn(
        self,
        pictures: Any,
        rounds: int = 20,
        column: int = 5,
        fresh: bool = True,
        generator: Generator | None = None,
    ) -> list[list[set[int]]]:
        """Organise itself on pictures, without labels: one stage after the other, from the eye on.

        Args:
            pictures: `(N, in_planes, size, size)`, not negative; each stage sees each of them so
                many rounds.
            rounds: how often.
            column: side of the S-columns in which cells compete.
            fresh: forget what was learned before.
            generator: draws the first, weak templates; the default one of `minigrad.random` if
                None.

        Returns:
            For each stage and each picture, which planes learned from it in the last round.

        Raises:
            ValueError: pictures of another size, or with negative pixels.
        """
        data = np.asarray(raw(pictures), self.s[0].excitatory.dtype)
        if data.size and data.min() < 0:
            raise ValueError(
                f"Neocognitron.learn: pixels are amounts of light, at least 0, got {data.min()}; "
                "give the pictures before they are normalised"
            )
        if fresh:
            source = default_generator() if generator is None else generator
            for s in self.s:
                s.silence(source)
        learned: list[list[set[int]]] = []
        for number, s in enumerate(self.s):
            with no_grad():
                # The stages below have settled, so what they answer is computed once.
                below = [self._below(Tensor(data[i : i + 1]), number) for i in range(len(data))]
            last: list[set[int]] = [set() for _ in below]
            for _ in range(rounds):
                for i, u in enumerate(below):
                    seeds = s.learn(u, self.stages[number].speed, column)
                    last[i] = {seed.plane for seed in seeds}
            learned.append(last)
        return learned

    def _below(self, x: Any, stage: int) -> Any:
        found = self.layers(x, stage)
        return found[-1] if found else x

    def extra_repr(self) -> str:
        """The size of its pictures."""
        return f"size={self.size}"
