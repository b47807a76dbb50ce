"""What a kernel does to its result before it writes it: bias, residual, activation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

ENDS = {
    None: (math.nan, math.nan),
    "relu": (0.0, math.nan),
    "relu6": (0.0, 6.0),
}
"""Floor and ceiling of each activation; NaN for none, as no number is below or above it."""

ACTIVATIONS = tuple(ENDS)


@dataclass(frozen=True, eq=False, kw_only=True)
class Epilogue:
    """`y = activation(result + bias + residual)`, done while the result is still at hand.

    A result of 50 MB that is written, read and written again costs more than a convolution; an
    epilogue makes it one write. Each kernel with an epilogue equals the kernel without one
    followed by the same steps, up to rounding.

    Attributes:
        bias: `(C,)`, added to each channel (axis 1 of the result), or None.
        residual: an array of the result's shape that is added, or None.
        activation: `"relu"` (NaN stays NaN, −0.0 becomes 0.0), `"relu6"` (the same, and at most 6;
            batch norm alone has it) or None.

    Raises:
        ValueError: the activation is not known.
    """

    bias: Any = None
    residual: Any = None
    activation: str | None = None

    def __post_init__(self) -> None:
        """Refuse an activation that no kernel has."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}, got {self.activation!r}")

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where bias or residual does not belong to a result of this shape."""
        if self.bias is not None and tuple(self.bias.shape) != (shape[1],):
            raise ValueError(
                f"epilogue.bias must have shape {(shape[1],)}, one number for each channel of a "
                f"result of shape {shape}, got shape {tuple(self.bias.shape)}"
            )
        if self.residual is not None and tuple(self.residual.shape) != tuple(shape):
            raise ValueError(
                f"epilogue.residual must have the result's shape {shape}, got shape "
                f"{tuple(self.residual.shape)}"
            )


NOTHING = Epilogue()
