"""What the kernels of convolution mean: three, each the adjoint of the others."""

from __future__ import annotations

from typing import Any

from . import checks
from .epilogue import Epilogue
from .geometry import Geometry
from .registry import find
from .workspace import Workspace

__all__ = ["conv", "conv_input", "conv_weight"]

# An array of any registered device.
Array = Any


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
