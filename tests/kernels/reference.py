"""What the kernels mean, written as plainly as possible: loops over taps, NumPy slices, float64.

Nothing here shares an idea with the kernels: no lines, no phases, no patches.
"""

from itertools import product

import numpy as np

from minigrad_nn.kernels import Geometry


def padded(x, geometry: Geometry, value=0.0):
    pairs = [(0, 0), (0, 0), *geometry.padding]
    return np.pad(np.asarray(x, np.float64), pairs, constant_values=value)


def taps(geometry: Geometry):
    """Index of each tap, and the slices of the padded input that it reads."""
    for tap in product(*(range(k) for k in geometry.kernel)):
        starts = [t * d for t, d in zip(tap, geometry.dilation, strict=True)]
        places = [
            slice(a, a + (n - 1) * s + 1, s)
            for a, n, s in zip(starts, geometry.output, geometry.stride, strict=True)
        ]
        yield tap, (slice(None), slice(None), *places)


def groups_of(geometry: Geometry, channels: int, filters: int):
    c, o = channels // geometry.groups, filters // geometry.groups
    for g in range(geometry.groups):
        yield slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)


def conv(x, w, geometry: Geometry):
    xp, w = padded(x, geometry), np.asarray(w, np.float64)
    y = np.zeros((len(x), len(w), *geometry.output))
    for tap, where in taps(geometry):
        window = xp[where]
        for c, o in groups_of(geometry, x.shape[1], len(w)):
            y[:, o] += np.einsum("nc...,oc->no...", window[:, c], w[(o, slice(None), *tap)])
    return y


def conv_input(g, w, geometry: Geometry):
    g, w = np.asarray(g, np.float64), np.asarray(w, np.float64)
    channels = w.shape[1] * geometry.groups
    gxp = padded(np.zeros((len(g), channels, *geometry.size)), geometry)
    for tap, where in taps(geometry):
        for c, o in groups_of(geometry, channels, len(w)):
            part = np.einsum("no...,oc->nc...", g[:, o], w[(o, slice(None), *tap)])
            gxp[where][:, c] += part
    return cropped(gxp, geometry)


def conv_weight(x, g, geometry: Geometry):
    xp, g = padded(x, geometry), np.asarray(g, np.float64)
    gw = np.zeros((g.shape[1], x.shape[1] // geometry.groups, *geometry.kernel))
    places = int(np.prod(geometry.output))
    for tap, where in taps(geometry):
        window = xp[where]
        for c, o in groups_of(geometry, x.shape[1], g.shape[1]):
            gw[(o, slice(None), *tap)] = np.einsum(
                "nop,ncp->oc",
                g[:, o].reshape(len(g), o.stop - o.start, places),
                window[:, c].reshape(len(g), c.stop - c.start, places),
            )
    return gw


def cropped(gxp, geometry: Geometry):
    inner = tuple(
        slice(before, before + n)
        for (before, _), n in zip(geometry.padding, geometry.size, strict=True)
    )
    return gxp[(slice(None), slice(None), *inner)]


def windows(geometry: Geometry):
    """Each output place, with the input places that its taps read and how many lie in the padding.

    The count of padding leaves out what `ceil` put beyond the padded input.
    """
    for place in product(*(range(n) for n in geometry.output)):
        inside, padding = [], 0
        for tap in product(*(range(k) for k in geometry.kernel)):
            at = [
                p * s - before + t * d
                for p, s, (before, _), t, d in zip(
                    place, geometry.stride, geometry.padding, tap, geometry.dilation, strict=True
                )
            ]
            ends = [
                n + after for n, (_, after) in zip(geometry.size, geometry.padding, strict=True)
            ]
            if all(0 <= a < n for a, n in zip(at, geometry.size, strict=True)):
                inside.append(tuple(at))
            elif all(a < end for a, end in zip(at, ends, strict=True)):
                padding += 1
        yield place, inside, padding


def max_pool(x, geometry: Geometry):
    values = np.empty((*x.shape[:2], *geometry.output), x.dtype)
    indices = np.empty(values.shape, np.int64)
    for place, inside, _ in windows(geometry):
        for n, c in np.ndindex(x.shape[:2]):
            best = None
            for at in inside:
                value = x[(n, c, *at)]
                if best is None or value > best[0] or np.isnan(value):
                    best = value, np.ravel_multi_index(at, geometry.size)
            values[(n, c, *place)], indices[(n, c, *place)] = best
    return values, indices


def sum_pool(x, geometry: Geometry, divisor=None):
    """`divisor` is None, "inside" or "padded"."""
    y = np.zeros((*x.shape[:2], *geometry.output))
    for place, inside, padding in windows(geometry):
        total = sum((np.asarray(x[(..., *at)], np.float64) for at in inside), np.zeros(x.shape[:2]))
        y[(..., *place)] = total / count(divisor, len(inside), padding)
    return y


def sum_pool_input(g, geometry: Geometry, divisor=None):
    y = np.zeros((*g.shape[:2], *geometry.size))
    for place, inside, padding in windows(geometry):
        share = np.asarray(g[(..., *place)], np.float64) / count(divisor, len(inside), padding)
        for at in inside:
            y[(..., *at)] += share
    return y


def count(divisor, inside: int, padding: int) -> int:
    return {None: 1, "inside": inside, "padded": inside + padding}[divisor]


def batch_norm(x, gamma, beta, eps):
    x = np.asarray(x, np.float64)
    axes = (0, *range(2, x.ndim))
    across = (1, -1) + (1,) * (x.ndim - 2)
    mean = x.mean(axis=axes)
    variance = ((x - mean.reshape(across)) ** 2).mean(axis=axes)
    h = (x - mean.reshape(across)) / np.sqrt(variance.reshape(across) + eps)
    return h * gamma.reshape(across) + beta.reshape(across), mean, variance


def batch_norm_backward(g, x, gamma, eps):
    """The gradients of `batch_norm` by x, gamma and beta."""
    g = np.asarray(g, np.float64)
    axes = (0, *range(2, g.ndim))
    across = (1, -1) + (1,) * (g.ndim - 2)
    h, _, variance = batch_norm(x, np.ones(g.shape[1]), np.zeros(g.shape[1]), eps)
    ggamma, gbeta = (g * h).sum(axes), g.sum(axes)
    count = g.size // g.shape[1]
    off = (gbeta.reshape(across) + h * ggamma.reshape(across)) / count
    scale = np.asarray(gamma, np.float64) / np.sqrt(variance + eps)
    return (g - off) * scale.reshape(across), ggamma, gbeta


def activated(y, activation):
    """relu, relu6 or nothing."""
    low, high = {None: (None, None), "relu": (0, None), "relu6": (0, 6)}[activation]
    return y if activation is None else np.clip(y, low, high)


def norm_depthwise_norm(x, gamma, beta, w, gamma2, beta2, geometry, activations, eps):
    """Batch norm, activation, convolution, batch norm, activation; and the statistics."""
    h, mean, variance = batch_norm(x, gamma, beta, eps[0])
    z = conv(activated(h, activations[0]), w, geometry)
    y, mean2, variance2 = batch_norm(z, gamma2, beta2, eps[1])
    y = activated(y, activations[1])
    return y, mean, 1 / np.sqrt(variance + eps[0]), mean2, 1 / np.sqrt(variance2 + eps[1])


def norm_depthwise_norm_backward(g, x, gamma, beta, w, gamma2, beta2, geometry, activations, eps):
    """The gradients of `norm_depthwise_norm` by its six inputs."""

    def passed(g, y, activation):
        closed = (y <= 0) & (activation is not None) | (y >= 6) & (activation == "relu6")
        return np.where(closed, 0, g)

    h = batch_norm(x, gamma, beta, eps[0])[0]
    z = conv(activated(h, activations[0]), w, geometry)
    y = batch_norm(z, gamma2, beta2, eps[1])[0]
    gz, ggamma2, gbeta2 = batch_norm_backward(passed(g, y, activations[1]), z, gamma2, eps[1])
    gh = passed(conv_input(gz, w, geometry), h, activations[0])
    gw = conv_weight(activated(h, activations[0]), gz, geometry)
    return *batch_norm_backward(gh, x, gamma, eps[0]), gw, ggamma2, gbeta2
