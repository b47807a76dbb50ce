"""Several predictions for one picture, averaged: by several networks, or from several views of it.

Networks that were trained apart make different mistakes, and so does one network on a picture and
on the same picture moved a little; the mean is right more often than each (seven AlexNets: 15.4 %
top-5 error instead of 18.2 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minigrad.ops.reduce import logsumexp
from minigrad.ops.shape import flip, pad, stack
from minigrad.random import Generator
from minigrad.tensor import Tensor

from .data import Transform
from .functional import log_softmax
from .module import Module, ModuleList

__all__ = [
    "Ensemble",
    "FixedChange",
    "TestTimeAugmentation",
    "average_predictions",
    "five_crops",
    "horizontal_flip",
    "identity",
    "moved",
]

Change = Callable[[Any], Any]

AVERAGES = ("probabilities", "logits")


def average_predictions(outputs: Sequence[Any], average: str = "probabilities") -> Any:
    """The mean of several predictions, as logits again.

    Args:
        outputs: logits of one shape, `(N, classes)` or `(N, classes, *spatial)`.
        average: "probabilities": the logarithm of the mean of their softmax, which is the logits
            of that mean, so that losses and metrics take it as they take one network's output;
            "logits": the mean of the logits themselves, in which a sure network counts for more.

    Raises:
        ValueError: no outputs, shapes that differ, or another average.

    >>> import minigrad
    >>> sure, unsure = minigrad.tensor([[9.0, 0.0]]), minigrad.tensor([[0.0, 1.0]])
    >>> average_predictions([sure, unsure]).exp().numpy().round(3)
    array([[0.634, 0.366]], dtype=float32)
    """
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
    if not outputs:
        raise ValueError("there are no predictions to average")
    shapes = [output.shape for output in outputs]
    if len(set(shapes)) > 1 or len(shapes[0]) < 2:
        raise ValueError(
            "predictions must be logits (N, classes, ...) of one shape, got "
            + ", ".join(map(str, shapes))
        )
    if average == "logits":
        return sum(outputs[1:], outputs[0]) * (1.0 / len(outputs))
    together = stack([log_softmax(output, 1) for output in outputs])
    return logsumexp(together, 0) - math.log(len(outputs))


class Ensemble(Module):
    """Networks that predict together: the mean of their predictions; see `average_predictions`.

    Their state stands under `members.0`, `members.1` and so on.  Train them apart, from different
    seeds, and put them together afterwards; one network given twice counts twice.

    Args:
        models: at least one, each from the same inputs to logits of the same shape.
        average: "probabilities" or "logits".

    Raises:
        ValueError: no models, or another average.

    >>> import minigrad
    >>> from minigrad_nn import Linear
    >>> both = Ensemble([Linear(3, 2), Linear(3, 2)])
    >>> both(minigrad.ones((4, 3))).shape
    (4, 2)
    >>> sorted(both.state_dict())
    ['members.0.bias', 'members.0.weight', 'members.1.bias', 'members.1.weight']
    """

    def __init__(self, models: Iterable[Module], average: str = "probabilities") -> None:
        super().__init__()
        self.members = ModuleList(models)
        if not len(self.members):
            raise ValueError("Ensemble: give at least one model")
        self.average = _known(type(self).__name__, average)

    def forward(self, x: Any) -> Any:
        """Logits of the mean, `(N, classes, ...)`.

        Raises:
            ValueError: the members' outputs differ in shape.
        """
        return average_predictions([member(x) for member in self.members], self.average)

    def extra_repr(self) -> str:
        return f"average={self.average!r}"


class TestTimeAugmentation(Module):
    """One network that looks at each picture several times, changed a little, and takes the mean.

    Args:
        model: from pictures to logits.
        changes: functions from pictures `(N, C, H, W)`, a tensor, to pictures: `identity`,
            `horizontal_flip`, `moved(down, right)`, those of `five_crops(size)`, or a
            `FixedChange` of what training was done with.  Each is one look.
        average: "probabilities" or "logits"; see `average_predictions`.

    Raises:
        ValueError: no changes, or another average.

    >>> import minigrad
    >>> from minigrad_nn import Flatten, Linear, Sequential
    >>> model = Sequential(Flatten(), Linear(16, 3))
    >>> careful = TestTimeAugmentation(model, [identity, horizontal_flip, moved(0, 1)])
    >>> careful(minigrad.ones((2, 1, 4, 4))).shape
    (2, 3)
    """

    __test__ = False  # the name is no test's

    def __init__(
        self, model: Module, changes: Iterable[Change], average: str = "probabilities"
    ) -> None:
        super().__init__()
        self.model = model
        self.changes = tuple(changes)
        if not self.changes:
            raise ValueError("TestTimeAugmentation: give at least one change, such as identity")
        self.average = _known(type(self).__name__, average)

    def forward(self, x: Any) -> Any:
        """Logits of the mean, `(N, classes, ...)`."""
        return average_predictions([self.model(change(x)) for change in self.changes], self.average)

    def extra_repr(self) -> str:
        return f"{len(self.changes)} looks, average={self.average!r}"


def _known(name: str, average: str) -> str:
    if average not in AVERAGES:
        raise ValueError(f"{name}: average must be one of {', '.join(AVERAGES)}, got {average!r}")
    return average


def identity(x: Any) -> Any:
    """The pictures as they are."""
    return x


def horizontal_flip(x: Any) -> Any:
    """The pictures in a mirror, left to right."""
    return flip(x, -1)


def moved(down: int, right: int) -> Change:
    """The change that moves pictures by whole pixels, with zeros where nothing comes from.

    Zeros are the mean of pictures that `Normalize` has seen.

    Args:
        down: in pixels, negative for up.
        right: in pixels, negative for left.
    """

    def change(x: Any) -> Any:
        height, width = x.shape[-2:]
        sides = [(0, 0)] * (len(x.shape) - 2)
        x = pad(x, [*sides, (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0))])
        top, left = max(-down, 0), max(-right, 0)
        return x[..., top : top + height, left : left + width]

    return change


def five_crops(size: int | tuple[int, int]) -> list[Change]:
    """The five changes that cut out the four corners, from the upper left on, and the middle.

    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012, average over these and their mirror images.

    Args:
        size: of the windows, a number or (rows, columns).
    """
    rows, columns = (size, size) if isinstance(size, int) else size

    def crop(down: float, right: float) -> Change:
        def change(x: Any) -> Any:
            free = x.shape[-2] - rows, x.shape[-1] - columns
            if min(free) < 0:
                raise ValueError(
                    f"five_crops: windows of {rows}x{columns} do not fit into pictures of "
                    f"{x.shape[-2]}x{x.shape[-1]}"
                )
            top, left = int(down * free[0]), int(right * free[1])
            return x[..., top : top + rows, left : left + columns]

        return change

    return [crop(*at) for at in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))]


class FixedChange:
    """A random change of `minigrad_nn.data.augment` with random numbers that are always the same.

    The numbers belong to the place in the batch, and no gradients flow through it.

    Args:
        transform: of batches, such as `RandomAffine(degrees=10)`.
        seed: which random numbers.
    """

    def __init__(self, transform: Transform, seed: int = 0) -> None:
        self.transform = transform
        self.seed = seed

    def __call__(self, x: Any) -> Any:
        """The pictures `(N, C, H, W)`, changed."""
        x = x if isinstance(x, Tensor) else Tensor(x)
        pictures = self.transform((x.numpy(),), Generator(self.seed))[0]
        return Tensor(pictures).to(x.device)
