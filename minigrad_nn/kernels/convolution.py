"""What the kernels of convolution mean: three, each the adjoint of the others.

A fourth leads back through the epilogue of the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import checks
from .epilogue import Epilogue
from .geometry import Geometry
from .registry import find
from .workspace import Workspace

__all__ = ["EpilogueBackward", "conv", "conv_input", "conv_weight", "epilogue_backward"]

# An array of any registered device.
Array = Any


class EpilogueBackward(NamedTuple):
    """What `epilogue_backward` returns: `(N, C, *spatial)` and `(C,)`."""

    g: Array
    gbias: Array


def conv(
    x: Array,
    w: Array,
    geometry: Geometry,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """Cross-correlation, which is what deep learning calls convolution: the filter is not flipped.

    `y[n, o, p] = Σ_c Σ_t x[n, group(o) + c, p·stride + t·dilation − before] · w[o, c, t]`, where
    taps in the padding read 0.

    With enough channels, 3x3 filters at stride 1 go by Winograd's method (`cpu.winograd`), here and
    in both adjoints: float32 then rounds some ten times more, and a NaN reaches the whole 4x4 tile
    of outputs around it. The environment variable `MINIGRAD_WINOGRAD=0` keeps to the definition.

    Args:
        x: `(N, C, *size)`.
        w: `(O, C / groups, *kernel)`; O is a multiple of groups.
        geometry: sizes, stride, padding, dilation and groups.
        out: `(N, O, *output)`.
        workspace: scratch memory.
        epilogue: its bias is `(O,)`.

    Returns:
        `(N, O, *output)`.

    >>> import numpy as np
    >>> x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    >>> w = np.array([[[-1, 0, 1]]], dtype=np.float32)
    >>> conv(x, w, Geometry.of((5,), 3))
    array([[[2., 2., 2.]]], dtype=float32)
    """
    compute = find("conv", x=x, w=w, out=out, **checks.parts(epilogue))
    shape = checks.conv("conv", geometry, x=x, w=w)
    checks.result("conv", shape, out, epilogue)
    return compute(x, w, geometry, out, workspace, epilogue)


def conv_input(
    g: Array,
    w: Array,
    geometry: Geometry,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The adjoint of `conv` in its input: its gradient, and the transposed convolution.

    `gx[n, c, q]` is the sum of `g[n, o, p] · w[o, c, t]` over all o, p, t that make `conv` read
    `x[n, c, q]`.

    Args:
        g: `(N, O, *output)`, the gradient of `conv`'s result.
        w: `(O, C / groups, *kernel)`.
        geometry: the geometry of the forward `conv`; its `size` is the size of this result.
        out: `(N, C, *size)`.
        workspace: scratch memory.
        epilogue: its bias is `(C,)`.

    Returns:
        `(N, C, *size)`.
    """
    compute = find("conv_input", g=g, w=w, out=out, **checks.parts(epilogue))
    shape = checks.conv("conv_input", geometry, w=w, g=g)
    checks.result("conv_input", shape, out, epilogue)
    return compute(g, w, geometry, out, workspace, epilogue)


def conv_weight(
    x: Array,
    g: Array,
    geometry: Geometry,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The adjoint of `conv` in its weight.

    `gw[o, c, t] = Σ_n Σ_p g[n, o, p] · x[n, group(o) + c, p·stride + t·dilation − before]`.

    Args:
        x: `(N, C, *size)`.
        g: `(N, O, *output)`, the gradient of `conv`'s result.
        geometry: the geometry of the forward `conv`.
        out: `(O, C / groups, *kernel)`.
        workspace: scratch memory.
        epilogue: only a residual is allowed: a gradient to which this one is added.

    Returns:
        `(O, C / groups, *kernel)`; zeros for N = 0.
    """
    compute = find("conv_weight", x=x, g=g, out=out, **checks.parts(epilogue))
    shape = checks.conv("conv_weight", geometry, x=x, g=g)
    checks.result("conv_weight", shape, out, epilogue)
    checks.residual_only("conv_weight", epilogue)
    return compute(x, g, geometry, out, workspace, epilogue)


def channel_sum(x: Array, *, workspace: Workspace | None = None) -> Array:
    """The sum over all axes but the channels', taken in float64: the gradient of a bias.

    Args:
        x: `(N, C, *spatial)`, also `(N, C)`.
        workspace: scratch memory.

    Returns:
        `(C,)`, of the type of x.

    >>> import numpy as np
    >>> channel_sum(np.ones((2, 3, 4)))
    array([8., 8., 8.])
    """
    compute = find("channel_sum", x=x)
    checks.channels("channel_sum", "x", x)
    return compute(x, workspace)


def epilogue_backward(
    g: Array,
    y: Array,
    activation: str | None,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> EpilogueBackward:
    """What the epilogue of a kernel lets through of a gradient, and the gradient of its bias.

    Where the activation's result is at 0 or, of `"relu6"`, at 6, nothing passes, not even a NaN;
    where it is NaN, everything.

    Args:
        g: `(N, C, *spatial)`, also `(N, C)`: the gradient of the output.
        y: the shape of g, the output.
        activation: that of the epilogue.
        out: the shape of g, for what is let through; it may be g.
        workspace: scratch memory.

    Returns:
        What is let through, which is also the gradient of the residual, and its sum over all axes
        but the channels'.

    Raises:
        ValueError: there is no such activation.

    >>> import numpy as np
    >>> g, y = np.full((2, 2), 3.0), np.array([[0.0, 1.0], [0.0, 2.0]])
    >>> epilogue_backward(g, y, "relu").gbias
    array([0., 6.])
    """
    Epilogue(activation=activation)  # which refuses what it does not know
    compute = find("epilogue_backward", g=g, y=y, out=out)
    checks.channels("epilogue_backward", "g", g)
    checks.same_shape("epilogue_backward", "y", y, g, "g")
    checks.result("epilogue_backward", g.shape, out, None)
    return EpilogueBackward(*compute(g, y, activation, out, workspace))
