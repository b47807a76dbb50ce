"""Kernels: arrays in, arrays out. This file says what each one means; packages compute it.

Start here, then read `geometry` (sizes), `epilogue` and `workspace` (the arguments that all
kernels share), `registry` (how the device of the arrays picks the package), and `cpu` (the CPU's
package, which is imported, together with Numba, by the first kernel call).

All kernels keep to these rules:

- Arrays are `(N, C, *spatial)` with 1, 2 or 3 spatial axes, all of one element type (float32 or
  float64 on the CPU) and on one device. They may have any strides. A kernel keeps no reference.
- `out=` is written and returned; it has the result's shape and element type, and may share memory
  with an argument. Without it a fresh array is returned.
- `workspace=` is where scratch memory comes from (see `Workspace`); without it the device uses one
  of its own for each thread.
- `epilogue=` is applied to the result before it is written (see `Epilogue`).
- The same call gives the same bits from run to run.
- NaN and infinity travel as IEEE arithmetic has them. A tap that lies in the padding adds
  nothing, or zero times its weight: which of the two, when that weight is not finite, is open.
  Kernels give no floating-point warnings.
- N = 0 works where a result exists. Wrong shapes raise ValueError, wrong types TypeError.

Convolution is three kernels, each the adjoint of the others: with `y = conv(x, w)`,
`<conv(x, w), g> = <x, conv_input(g, w)> = <w, conv_weight(x, g)>`, so each one's derivatives are
the other two. Max pooling leaves indices, with which `gather` and `scatter` are adjoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from . import checks
from .epilogue import Epilogue
from .geometry import Geometry, output_size
from .recurrent import RNNBackward, rnn, rnn_backward
from .registry import Device, find, register
from .workspace import Workspace

__all__ = [
    "BatchNorm",
    "BatchNormBackward",
    "Device",
    "Epilogue",
    "Geometry",
    "MaxPool",
    "Moments",
    "RNNBackward",
    "Warmed",
    "Workspace",
    "average_pool",
    "average_pool_input",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_given",
    "conv",
    "conv_input",
    "conv_weight",
    "gather",
    "max_pool",
    "moments",
    "output_size",
    "register",
    "rnn",
    "rnn_backward",
    "scatter",
    "sum_pool",
    "sum_pool_input",
    "warmup",
]

# An array of any registered device.
Array = Any


class MaxPool(NamedTuple):
    """What `max_pool` returns: the maxima, and where they stood."""

    values: Array
    indices: Array


class Moments(NamedTuple):
    """What `moments` returns: `(C,)` each; the variance is the biased one."""

    mean: Array
    variance: Array


class BatchNorm(NamedTuple):
    """What `batch_norm` returns: the output, and `(C,)` each of mean and `1/sqrt(var + eps)`."""

    output: Array
    mean: Array
    inverse_std: Array


class BatchNormBackward(NamedTuple):
    """What `batch_norm_backward` returns: `(N, C, *spatial)`, `(C,)`, `(C,)`."""

    gx: Array
    ggamma: Array
    gbeta: Array


class Warmed(NamedTuple):
    """What `warmup` tells of one kernel: its name, element type, place among all, and seconds."""

    kernel: str
    dtype: str
    done: int
    total: int
    seconds: float


# --- Convolution ---------------------------------------------------------------------------------


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


# --- Pooling -------------------------------------------------------------------------------------


def max_pool(
    x: Array,
    geometry: Geometry,
    *,
    out: tuple[Array, Array] | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> MaxPool:
    """The maximum of each window, and where it stands.

    The first of equal maxima wins. A NaN wins over every number (the last one, if there are
    several, as in PyTorch). The padding never wins.

    Args:
        x: `(N, C, *size)`.
        geometry: `groups` must be 1.
        out: `(values, indices)`, both `(N, C, *output)`, indices of int64.
        workspace: scratch memory.
        epilogue: is applied to the values.

    Returns:
        The values, and int64 indices into the flat input plane: `0 .. prod(size) − 1`.

    Raises:
        ValueError: some window holds nothing but padding.
    """
    values, indices = (None, None) if out is None else out
    compute = find("max_pool", x=x, out=values, **checks.parts(epilogue))
    shape = checks.pool("max_pool", geometry, x=x)
    checks.covered("max_pool", geometry)
    checks.result("max_pool", shape, values, epilogue)
    if indices is not None:
        checks.indices("max_pool", "out[1]", indices, shape)
    return MaxPool(*compute(x, geometry, values, indices, workspace, epilogue))


def gather(
    x: Array,
    indices: Array,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """Read each plane at flat indices: `y[n, c, p] = x[n, c].flat[indices[n, c, p]]`.

    Linear in x, and the adjoint of `scatter` with the same indices: with those of `max_pool` it
    is the pool's derivative in a direction.

    Args:
        x: `(N, C, *size)`.
        indices: int64 `(N, C, *output)`.
        out: `(N, C, *output)`.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Raises:
        IndexError: an index does not lie in `0 .. prod(size) − 1`.
    """
    compute = find("gather", x=x, out=out, **checks.parts(epilogue))
    shape = checks.planes("gather", "x", x, indices)
    checks.result("gather", shape, out, epilogue)
    return compute(x, indices, out, workspace, epilogue)


def scatter(
    g: Array,
    indices: Array,
    size: Iterable[int],
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """Add into planes at flat indices: `y[n, c].flat[indices[n, c, p]] += g[n, c, p]`, from zeros.

    Linear in g, and the adjoint of `gather`: with the indices of `max_pool` it is the pool's
    gradient, and, where windows do not overlap, unpooling.

    Args:
        g: `(N, C, *output)`.
        indices: int64 `(N, C, *output)`.
        size: the spatial size of the result.
        out: `(N, C, *size)`.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Raises:
        IndexError: an index does not lie in `0 .. prod(size) − 1`.
    """
    compute = find("scatter", g=g, out=out, **checks.parts(epilogue))
    size = tuple(size)
    checks.same_shape("scatter", "g", g, indices)
    checks.result("scatter", (*g.shape[:2], *size), out, epilogue)
    return compute(g, indices, size, out, workspace, epilogue)


def sum_pool(
    x: Array,
    geometry: Geometry,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The sum of each window; the padding counts as 0.

    Args:
        x: `(N, C, *size)`.
        geometry: `groups` must be 1.
        out: `(N, C, *output)`.
        workspace: scratch memory.
        epilogue: is applied to the result.
    """
    compute = find("sum_pool", x=x, out=out, **checks.parts(epilogue))
    checks.result("sum_pool", checks.pool("sum_pool", geometry, x=x), out, epilogue)
    return compute(x, geometry, out, workspace, epilogue)


def sum_pool_input(
    g: Array,
    geometry: Geometry,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The adjoint of `sum_pool`: each `g[n, c, p]` is added to every place of its window.

    Args:
        g: `(N, C, *output)`.
        geometry: the geometry of the forward pool; its `size` is the size of this result.
        out: `(N, C, *size)`.
        workspace: scratch memory.
        epilogue: is applied to the result.
    """
    compute = find("sum_pool_input", g=g, out=out, **checks.parts(epilogue))
    checks.result("sum_pool_input", checks.pool("sum_pool_input", geometry, g=g), out, epilogue)
    return compute(g, geometry, out, workspace, epilogue)


def average_pool(
    x: Array,
    geometry: Geometry,
    *,
    count_include_pad: bool = True,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The average of each window.

    The divisor is the number of taps inside the input, or, with `count_include_pad`, inside the
    padded input: a tap that only `ceil` put beyond the padding counts for neither (as in PyTorch).

    Args:
        x: `(N, C, *size)`.
        geometry: `groups` must be 1.
        count_include_pad: whether taps in the padding count, as zeros.
        out: `(N, C, *output)`.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Raises:
        ValueError: some window holds nothing but padding.
    """
    compute = find("average_pool", x=x, out=out, **checks.parts(epilogue))
    shape = checks.pool("average_pool", geometry, x=x)
    checks.covered("average_pool", geometry)
    checks.result("average_pool", shape, out, epilogue)
    return compute(x, geometry, count_include_pad, out, workspace, epilogue)


def average_pool_input(
    g: Array,
    geometry: Geometry,
    *,
    count_include_pad: bool = True,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The adjoint of `average_pool`: each `g[n, c, p]` over its divisor, added to its window.

    Args:
        g: `(N, C, *output)`.
        geometry: the geometry of the forward pool; its `size` is the size of this result.
        count_include_pad: as in the forward pool.
        out: `(N, C, *size)`.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Raises:
        ValueError: some window holds nothing but padding.
    """
    compute = find("average_pool_input", g=g, out=out, **checks.parts(epilogue))
    shape = checks.pool("average_pool_input", geometry, g=g)
    checks.covered("average_pool_input", geometry)
    checks.result("average_pool_input", shape, out, epilogue)
    return compute(g, geometry, count_include_pad, out, workspace, epilogue)


# --- Batch normalisation -------------------------------------------------------------------------


def moments(x: Array, *, workspace: Workspace | None = None) -> Moments:
    """Mean and biased variance over all axes but the channel axis 1.

    Computed in float64 around each plane's own mean, so a large mean costs no digits.

    Args:
        x: `(N, C, *spatial)`, also `(N, C)`.
        workspace: scratch memory.

    Returns:
        `(C,)` each, of x's element type.

    Raises:
        ValueError: a channel holds no value.
    """
    compute = find("moments", x=x)
    checks.channels("moments", "x", x)
    checks.not_empty("moments", x)
    return Moments(*compute(x, workspace))


def batch_norm(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    eps: float = 1e-5,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> BatchNorm:
    """Normalise each channel by the statistics of this batch (Ioffe and Szegedy, 2015).

    `y = gamma · (x − mean) / sqrt(variance + eps) + beta`, the variance being the biased one.

    Args:
        x: `(N, C, *spatial)`, also `(N, C)`.
        gamma: `(C,)`, or None for ones.
        beta: `(C,)`, or None for zeros.
        eps: is added to the variance.
        out: the shape of x.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Returns:
        The output, the mean and `1 / sqrt(variance + eps)`. Take the variance for running
        statistics from `1 / inverse_std² − eps`, or from `moments` where every digit counts.

    Raises:
        ValueError: a channel holds no value.
    """
    compute = find("batch_norm", x=x, gamma=gamma, beta=beta, out=out, **checks.parts(epilogue))
    checks.channels("batch_norm", "x", x, gamma=gamma, beta=beta)
    checks.not_empty("batch_norm", x)
    checks.result("batch_norm", x.shape, out, epilogue)
    return BatchNorm(*compute(x, gamma, beta, eps, out, workspace, epilogue))


def batch_norm_given(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inverse_std: Array,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """Normalise each channel by given statistics: `y = gamma · (x − mean) · inverse_std + beta`.

    Args:
        x: `(N, C, *spatial)`, also `(N, C)`.
        gamma: `(C,)`, or None for ones.
        beta: `(C,)`, or None for zeros.
        mean: `(C,)`.
        inverse_std: `(C,)`, such as `1 / sqrt(running_variance + eps)`.
        out: the shape of x.
        workspace: scratch memory.
        epilogue: is applied to the result.
    """
    compute = find(
        "batch_norm_given",
        x=x,
        gamma=gamma,
        beta=beta,
        mean=mean,
        inverse_std=inverse_std,
        out=out,
        **checks.parts(epilogue),
    )
    checks.channels(
        "batch_norm_given", "x", x, gamma=gamma, beta=beta, mean=mean, inverse_std=inverse_std
    )
    checks.result("batch_norm_given", x.shape, out, epilogue)
    return compute(x, gamma, beta, mean, inverse_std, out, workspace, epilogue)


def batch_norm_backward(
    g: Array,
    x: Array,
    gamma: Array | None,
    mean: Array,
    inverse_std: Array,
    *,
    given: bool = False,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> BatchNormBackward:
    """The gradients of `batch_norm`, or with `given=True` of `batch_norm_given`, in one call.

    With `m` values a channel and `h = (x − mean) · inverse_std`: `gbeta = Σ g`, `ggamma = Σ g·h`,
    and `gx = gamma · inverse_std · (g − gbeta/m − h · ggamma/m)`; when the statistics were given
    they do not depend on x, and `gx = gamma · inverse_std · g`.

    Args:
        g: the shape of x, the gradient of the output.
        x: `(N, C, *spatial)`, also `(N, C)`: the input of the forward kernel.
        gamma: `(C,)`, or None for ones.
        mean: `(C,)`, as the forward kernel returned or was given.
        inverse_std: `(C,)`, likewise.
        given: whether the statistics were given rather than taken from x.
        out: the shape of x, for gx.
        workspace: scratch memory.

    Returns:
        gx, ggamma and gbeta.
    """
    compute = find(
        "batch_norm_backward", g=g, x=x, gamma=gamma, mean=mean, inverse_std=inverse_std, out=out
    )
    checks.channels("batch_norm_backward", "x", x, gamma=gamma, mean=mean, inverse_std=inverse_std)
    checks.same_shape("batch_norm_backward", "g", g, x, "x")
    checks.result("batch_norm_backward", x.shape, out, None)
    return BatchNormBackward(*compute(g, x, gamma, mean, inverse_std, given, out, workspace))


# --- Compiling ahead -----------------------------------------------------------------------------


def warmup(
    kernels: Iterable[str] | None = None,
    dtypes: Iterable[Any] = ("float32",),
    progress: Callable[[Warmed], None] | None = None,
    device: Device | None = None,
) -> list[Warmed]:
    """Compile kernels, or load them from the cache, before they are needed.

    A compiled kernel serves every geometry and shape of its element type, so a name is all that
    is asked for.

    Args:
        kernels: names such as `"conv"` and `"max_pool"`; None means all of them.
        dtypes: element types.
        progress: is called after each kernel with what was done, how far it is, and how long the
            kernel took.
        device: the CPU if it is None.

    Returns:
        What `progress` was told.

    Raises:
        ValueError: a name is not that of a kernel.
    """
    import numpy as np

    from .registry import device_of

    device = device or device_of("warmup", np.empty(0))
    return device.load().warmup(kernels, dtypes, progress)
