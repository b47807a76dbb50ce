"""Panels and planes: what drawn geometries are too small to reach, and the same bits for all."""

import numba
import numpy as np
import pytest

from minigrad_nn.kernels import Epilogue, Geometry, Workspace
from minigrad_nn.kernels.cpu import panel_weights, panels
from minigrad_nn.kernels.cpu.convolution import TABLE
from tests.kernels import reference

KERNELS = ("conv", "conv_input", "conv_weight")
ROWS = {(name, row.name): row for name in KERNELS for row in TABLE[name]}


def case(geometry, images, channels, filters, dtype=np.float32, whole=False):
    rng = np.random.default_rng(0)
    shapes = (
        (images, channels, *geometry.size),
        (filters, channels // geometry.groups, *geometry.kernel),
        (images, filters, *geometry.output),
    )
    if whole:
        return tuple(rng.integers(-4, 5, shape).astype(dtype) for shape in shapes)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def operands(name, x, w, g):
    return {"conv": (x, w), "conv_input": (g, w), "conv_weight": (x, g)}[name]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("images", [1, 2, 4])
def test_images_that_are_packed_a_few_at_a_time_are_the_same(name, images, monkeypatch):
    geometry = Geometry.of((11, 12), 3, 2, 1)
    a, b = operands(name, *case(geometry, 5, 6, 14, whole=True))
    expected = getattr(reference, name)(a, b, geometry)
    residual = np.ones(expected.shape, np.float32)
    one = panels.packed_image(panels.plans.forward(geometry, 6, 4), 6) * 4
    for module in (panels, panel_weights):
        # conv_input packs gradients: 14 channels in place of 6 x 4 phases.
        monkeypatch.setattr(module, "PACKED_BYTES", images * one)
    row = ROWS[name, "panels"]
    assert np.array_equal(row.compute(a, b, geometry, None, None, None), expected)
    result = row.compute(a, b, geometry, None, None, Epilogue(residual=residual))
    assert np.array_equal(result, expected + residual)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("geometry", "images", "channels", "filters"),
    [
        (Geometry.of((40, 52), 1), 3, 24, 40),  # columns are shared
        (Geometry.of((5, 5), 1), 3, 70, 100),  # outputs, or entries, are shared
        (Geometry.of((17, 18), 3, 2, 1), 5, 9, 13),
    ],
)
def test_any_number_of_threads_gives_the_same_bits(name, geometry, images, channels, filters):
    a, b = operands(name, *case(geometry, images, channels, filters))
    row = ROWS[name, "panels"]
    expected = row.compute(a, b, geometry, None, None, None)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = row.compute(a, b, geometry, None, None, None)
    finally:
        numba.set_num_threads(before)
    assert alone.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("channels", "filters"), [(3, 40), (40, 3), (63, 64), (64, 65), (9, 9)])
def test_the_weight_of_a_pointwise_filter_has_few_channels_or_many(channels, filters, dtype):
    geometry = Geometry.of((33, 40), 1)
    x, _, g = case(geometry, 3, channels, filters, dtype, whole=True)
    expected = reference.conv_weight(x, g, geometry)
    residual = np.arange(expected.size, dtype=dtype).reshape(expected.shape)
    compute = ROWS["conv_weight", "panels"].compute
    assert np.array_equal(compute(x, g, geometry, None, None, None), expected)
    wanted = expected + residual
    for out in (None, np.empty_like(expected), residual):  # the last is overwritten by the result
        result = compute(x, g, geometry, out, Workspace(), Epilogue(residual=residual))
        assert np.array_equal(result, wanted)
        assert out is None or result is out


@pytest.mark.parametrize("padding", [[(1, 1), (0, 2)], [(2, 0), (1, 1)]])
def test_padding_may_make_up_for_a_stride(padding):
    """A filter of one tap whose output is as large as its input, and yet reads other places."""
    geometry = Geometry.of((3, 3), 1, 2, padding)
    assert geometry.output == (3, 3)
    x, _, g = case(geometry, 3, 5, 9, whole=True)
    result = ROWS["conv_weight", "panels"].compute(x, g, geometry, None, None, None)
    assert np.array_equal(result, reference.conv_weight(x, g, geometry))


@pytest.mark.parametrize("name", ["conv", "conv_input"])
def test_an_image_gives_the_same_bits_alone_and_in_a_batch(name):
    geometry = Geometry.of((7, 7), 1)
    a, b = operands(name, *case(geometry, 9, 40, 28))
    together = ROWS[name, "panels"].compute(a, b, geometry, None, None, None)
    for n in range(len(a)):
        alone = ROWS[name, "panels"].compute(a[n : n + 1], b, geometry, None, None, None)
        assert alone.tobytes() == together[n].tobytes()


@pytest.mark.parametrize("row", ["panels", "depthwise"])
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_error_is_that_of_a_sum(row, name, dtype):
    groups = 6 if row == "depthwise" else 1
    geometry = Geometry.of((45, 47), 3, 2, 1, groups=groups)
    a, b = operands(name, *case(geometry, 3, 6, 12, dtype))
    wide = [array.astype(np.float64) for array in (a, b)]
    expected = getattr(reference, name)(*wide, geometry)
    terms = getattr(reference, name)(*(np.abs(array) for array in wide), geometry)
    result = ROWS[name, row].compute(a, b, geometry, None, Workspace(), None)
    error = np.abs(result - expected)
    # Sums of up to 1600 products, each rounded once: far below the bound of n·eps.
    assert np.all(error <= 16 * np.finfo(dtype).eps * terms + 1e-30)


def test_a_depthwise_filter_may_have_several_outputs_and_inputs():
    geometry = Geometry.of((13, 40), (3, 5), (1, 2), (1, 2), groups=4)
    x, w, g = case(geometry, 2, 8, 12, whole=True)
    for name in KERNELS:
        a, b = operands(name, x, w, g)
        result = ROWS[name, "depthwise"].compute(a, b, geometry, None, None, None)
        assert np.array_equal(result, getattr(reference, name)(a, b, geometry))


@pytest.mark.parametrize("column", [0, 8, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_nan_reaches_only_the_taps_that_read_it(column, stride):
    """Lanes beyond the end of a row read numbers that no window reads."""
    geometry = Geometry.of((3, 10), (1, 3), (1, stride), 0, groups=2)
    x, w, g = case(geometry, 1, 2, 2, whole=True)
    x[0, 1, 1, column] = np.nan
    for name in ("conv", "conv_weight"):
        a, b = operands(name, x, w, g)
        result = ROWS[name, "depthwise"].compute(a, b, geometry, None, None, None)
        assert np.array_equal(result, getattr(reference, name)(a, b, geometry), equal_nan=True)
