"""Hypothesis strategies for geometries and the arrays that belong to them."""

import numpy as np
from hypothesis import strategies as st

from minigrad_nn.kernels import Geometry

DTYPES = (np.float32, np.float64)


@st.composite
def geometries(draw, axes=(1, 2, 3), groups=1, ceil=False, covered=False):
    """A geometry whose filter fits; with `covered` each window reads some of the input."""
    number = draw(st.sampled_from(axes))
    sizes, kernels, strides, paddings, dilations = [], [], [], [], []
    for axis in range(number):
        # Now and then the last axis is as long as the widest tile.
        longest = 70 if axis == number - 1 and draw(st.integers(0, 3)) == 0 else 9
        kernel = draw(st.integers(1, 4 if number < 3 else 3))
        dilation = draw(st.integers(1, 3 if number < 3 else 2))
        before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        extent = dilation * (kernel - 1) + 1
        if covered and dilation > 1:
            # Taps of a dilated filter can step over a short input.
            least = max(extent, 1)
        else:
            least = max(extent - before - after, 1)
        if covered:
            before, after = min(before, kernel // 2), min(after, kernel // 2)
            least = max(least, extent - before - after)
        sizes.append(draw(st.integers(least, max(least, longest))))
        kernels.append(kernel)
        strides.append(draw(st.integers(1, 4)))
        paddings.append((before, after))
        dilations.append(dilation)
    return Geometry.of(
        sizes,
        kernels,
        strides,
        paddings,
        dilations,
        groups=draw(st.integers(1, 3)) if groups != 1 else 1,
        ceil=draw(st.booleans()) if ceil else False,
    )


def whole(draw, shape, dtype, least=-4, most=4):
    """Whole numbers: sums of their products are exact, so kernels can be compared for equality."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    return rng.integers(least, most + 1, shape).astype(dtype)


@st.composite
def convolutions(draw):
    """`(geometry, x, w, g)` of whole numbers."""
    geometry = draw(geometries(groups=3))
    dtype = draw(st.sampled_from(DTYPES))
    images = draw(st.sampled_from((1, 2, 3, 0, 20)))
    channels = draw(st.integers(1, 3)) * geometry.groups
    filters = draw(st.sampled_from((1, 2, 3, 5, 6, 7, 13))) * geometry.groups
    x = whole(draw, (images, channels, *geometry.size), dtype)
    w = whole(draw, (filters, channels // geometry.groups, *geometry.kernel), dtype)
    g = whole(draw, (images, filters, *geometry.output), dtype)
    return geometry, x, w, g


@st.composite
def pools(draw, ceil=True, covered=True):
    """`(geometry, x, g)` of whole numbers; many are equal, so that maxima tie."""
    geometry = draw(geometries(ceil=ceil, covered=covered))
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.sampled_from(((1, 1), (2, 3), (0, 2))))
    x = whole(draw, (*shape, *geometry.size), dtype)
    return geometry, x, whole(draw, (*shape, *geometry.output), dtype)
