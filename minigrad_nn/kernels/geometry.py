"""What a filter and an input have to do with each other: sizes, stride, padding, dilation, groups.

One frozen `Geometry` is shared by a convolution, its two adjoints and all pools, so the arithmetic
of sizes stands in one place. It checks itself when it is made; a kernel only compares shapes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

IntOrInts = int | Sequence[int]
Padding = int | Sequence[int | Sequence[int]]


def output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
    *,
    exact: bool = False,
    ceil: bool = False,
) -> int:
    """How many places a filter takes on an axis: `(size + before + after − extent)/stride + 1`.

    `extent = dilation·(kernel − 1) + 1` is what the filter covers. A remainder rounds down, as in
    every framework; `exact=True` raises instead, and `ceil=True` rounds up but drops a last window
    that would start in the padding after the input (PyTorch's `ceil_mode`).

    Raises:
        ValueError: the filter is larger than the padded input, a number is out of its range, or
            `exact` is asked for and there is a remainder.

    >>> output_size(7, 3, stride=2)
    3
    >>> output_size(6, 3, stride=2, padding=1)
    3
    >>> output_size(6, 3, stride=2, padding=1, exact=True)
    Traceback (most recent call last):
        ...
    ValueError: does not fit: (6 + 1 + 1 - 3)/2 + 1 = 3.5 places for size 6, kernel 3, stride 2, \
padding (1, 1); rounding down gives 3
    """
    before, after = (padding, padding) if isinstance(padding, int) else padding
    for name, value, least in (
        ("size", size, 0),
        ("kernel", kernel, 1),
        ("stride", stride, 1),
        ("padding before", before, 0),
        ("padding after", after, 0),
        ("dilation", dilation, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    extent = dilation * (kernel - 1) + 1
    room = size + before + after - extent
    dilated = "" if dilation == 1 or kernel == 1 else f" = {dilation}*({kernel} - 1) + 1"
    if room < 0:
        raise ValueError(
            f"the filter is larger than its padded input: it covers {extent}{dilated}, "
            f"the input has {size} + {before} + {after} = {size + before + after} "
            "(size + padding before + padding after)"
        )
    places, remainder = divmod(room, stride)
    # A window that rounding up adds must not start in the padding after the input.
    up = bool(remainder) and ceil and (places + 1) * stride < size + before
    places += 1 + up
    if remainder and exact:
        raise ValueError(
            f"does not fit: ({size} + {before} + {after} - {extent})/{stride} + 1 = "
            f"{room / stride + 1:.4g} places for size {size}, kernel {kernel}, stride {stride}, "
            f"padding {before, after}{'' if dilation == 1 else f', dilation {dilation}'}; "
            f"rounding {'up' if up else 'down'} gives {places}"
        )
    return places


@dataclass(frozen=True)
class Geometry:
    """The geometry of a filter over an input with 1, 2 or 3 spatial axes.

    All fields but `groups` and `ceil` hold one entry for each spatial axis. `Geometry.of` builds
    one from plain integers, and the same call twice gives the same object.

    Attributes:
        size: the input's spatial size, such as `(H, W)`.
        kernel: the filter's spatial size.
        stride: the step between two windows.
        padding: zeros `(before, after)` around the input.
        dilation: the step between two taps of the filter.
        groups: convolution only. Output channels of group i see only input channels of group i.
        ceil: pooling only. A remainder rounds up instead of down.

    Raises:
        ValueError: a number is out of range, or the filter is larger than its padded input.
        TypeError: a number is not an integer.

    >>> Geometry.of((32, 32), 5).output
    (28, 28)
    >>> Geometry.of((10, 7), (3, 3), stride=(1, 2), padding=1).output
    (10, 4)
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    ceil: bool = False

    @staticmethod
    def of(
        size: Iterable[int],
        kernel: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        ceil: bool = False,
    ) -> Geometry:
        """A geometry from integers: one integer stands for the same on each axis of `size`.

        `padding` may be an integer, one integer an axis, or one pair `(before, after)` an axis.
        """
        size = _integers("size", size)
        axes = len(size)
        return _cached(
            size,
            _spread("kernel", kernel, axes),
            _spread("stride", stride, axes),
            _pairs(padding, axes),
            _spread("dilation", dilation, axes),
            _integer("groups", groups),
            bool(ceil),
        )

    def __post_init__(self) -> None:
        """Check every number once, here, so that no kernel has to."""
        axes = len(self.size)
        if axes not in (1, 2, 3):
            raise ValueError(f"size must have 1, 2 or 3 spatial axes, got {axes}: {self.size}")
        for name in ("kernel", "stride", "padding", "dilation"):
            value = getattr(self, name)
            if len(value) != axes:
                raise ValueError(
                    f"{name} must have one entry for each of the {axes} spatial axes of size "
                    f"{self.size}, got {value}"
                )
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, got {self.groups}")
        for axis in range(axes):
            try:
                self._output(axis)
            except ValueError as error:
                raise ValueError(f"spatial axis {axis}: {error}") from None

    def _output(self, axis: int, exact: bool = False) -> int:
        return output_size(
            self.size[axis],
            self.kernel[axis],
            self.stride[axis],
            self.padding[axis],
            self.dilation[axis],
            exact=exact,
            ceil=self.ceil,
        )

    @property
    def axes(self) -> int:
        """How many spatial axes there are: 1, 2 or 3."""
        return len(self.size)

    @cached_property
    def output(self) -> tuple[int, ...]:
        """The output's spatial size."""
        return tuple(self._output(axis) for axis in range(self.axes))

    @cached_property
    def taps(self) -> int:
        """How many taps the filter has in one channel: the product of `kernel`."""
        return _product(self.kernel)

    def check_exact(self) -> None:
        """Raise ValueError, with the numbers, where a remainder is rounded away on some axis."""
        for axis in range(self.axes):
            try:
                self._output(axis, exact=True)
            except ValueError as error:
                raise ValueError(f"spatial axis {axis}: {error}") from None

    @cached_property
    def uncovered(self) -> tuple[int, int] | None:
        """A window that holds nothing but padding, as `(axis, place)`, or None if there is none.

        The maximum of such a window does not exist, and its average without padding is 0/0.
        """
        for axis in range(self.axes):
            step, (before, _) = self.dilation[axis], self.padding[axis]
            for place in range(self.output[axis]):
                start = place * self.stride[axis] - before
                first = 0 if start >= 0 else -(start // step)
                if first >= self.kernel[axis] or start + first * step >= self.size[axis]:
                    return axis, place
        return None

    @cached_property
    def volume(self) -> Geometry:
        """The same geometry with 3 spatial axes: axes of size 1 are put in front.

        Kernels are written once, for `(D, H, W)`; an axis of size 1 costs them nothing.
        """
        missing = 3 - self.axes
        one = (1,) * missing
        return _cached(
            one + self.size,
            one + self.kernel,
            one + self.stride,
            ((0, 0),) * missing + self.padding,
            one + self.dilation,
            self.groups,
            self.ceil,
        )


@lru_cache(maxsize=4096)
def _cached(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
    ceil: bool,
) -> Geometry:
    return Geometry(size, kernel, stride, padding, dilation, groups, ceil)


def _product(numbers: Iterable[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def _integer(name: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]  # whatever is no integer raises
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def _integers(name: str, values: Iterable[int]) -> tuple[int, ...]:
    return tuple(_integer(f"each entry of {name}", value) for value in values)


def _spread(name: str, value: IntOrInts, axes: int) -> tuple[int, ...]:
    if isinstance(value, Iterable):
        return _integers(name, value)
    return (_integer(name, value),) * axes


def _pairs(padding: Padding, axes: int) -> tuple[tuple[int, int], ...]:
    if not isinstance(padding, Iterable):
        one = _integer("padding", padding)
        return ((one, one),) * axes
    pairs = []
    for entry in padding:
        pair = _spread("padding", entry, 2)
        if len(pair) != 2:
            raise ValueError(f"an entry of padding must be one integer or (before, after): {entry}")
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)
