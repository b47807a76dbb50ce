"""Depthwise 3x3 filters, walking down planes, against plain NumPy and the kernels with tables."""

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad_nn.kernels import Epilogue, Geometry
from minigrad_nn.kernels.cpu import depthwise, three
from tests.kernels import reference
from tests.kernels.draws import DTYPES, whole
from tests.kernels.redzone import GuardedWorkspace, Zones

KERNELS = ("conv", "conv_input", "conv_weight")


@st.composite
def geometries(draw):
    """3x3 filters that move by 1 or 2, with a group for each channel."""
    stride, step = draw(st.sampled_from((1, 2))), draw(st.integers(1, 3))
    paddings = [draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in range(2)]
    size = [
        draw(st.integers(max(1, extent - sum(around)), 40))
        for extent, around in zip((3, 2 * step + 1), paddings, strict=True)
    ]
    return Geometry.of(size, 3, stride, paddings, (1, step), groups=draw(st.integers(1, 4)))


def shapes(geometry, images, times):
    """Of x, of filters of which there are so many times the channels, and of the result."""
    channels = geometry.groups
    return {
        "x": (images, channels, *geometry.size),
        "w": (times * channels, 1, 3, 3),
        "g": (images, times * channels, *geometry.output),
    }


@st.composite
def filters(draw):
    """`(geometry, x, w, g)` of whole numbers."""
    geometry, dtype = draw(geometries()), draw(st.sampled_from(DTYPES))
    made = shapes(geometry, draw(st.integers(1, 3)), draw(st.sampled_from((1, 1, 2))))
    return geometry, *(whole(draw, shape, dtype) for shape in made.values())


def case(geometry, dtype=np.float32, images=2, times=1):
    """Whole numbers for one geometry."""
    rng = np.random.default_rng(0)
    made = shapes(geometry, images, times)
    return geometry, *(rng.integers(-4, 5, shape).astype(dtype) for shape in made.values())


def operands(name, x, w, g):
    return {"conv": (x, w), "conv_input": (g, w), "conv_weight": (x, g)}[name]


def without_tables(name, geometry):
    return three.able(geometry, 1, name == "conv_input")


@pytest.mark.parametrize("name", KERNELS)
@given(drawn=filters(), data=st.data())
@example(drawn=case(Geometry.of((1, 1), 3, 1, 1, groups=3)), data=None)
@example(drawn=case(Geometry.of((1, 1), 3, 2, (3, 2), groups=2)), data=None)
@example(drawn=case(Geometry.of((7, 7), 3, 1, 1, groups=3), np.float64, 3), data=None)
@example(drawn=case(Geometry.of((7, 7), 3, 2, 1, groups=3), np.float64, 3), data=None)
@example(drawn=case(Geometry.of((14, 33), 3, 2, ((0, 1), (0, 1)), groups=2), times=2), data=None)
def test_filters_equal_the_reference(name, drawn, data):
    """Among red zones, with a whole epilogue, a part of one or none."""
    geometry, x, w, g = drawn
    zones = Zones()
    a, b = operands(name, x, w, g)
    wanted = getattr(reference, name)(a, b, geometry)
    rng = np.random.default_rng(1)
    residual = rng.integers(-9, 9, wanted.shape).astype(x.dtype)
    bias = rng.integers(-9, 9, wanted.shape[1]).astype(x.dtype)
    has_bias, has_residual, relu = (data is None or data.draw(st.booleans()) for _ in range(3))
    parts = {}
    if has_residual:
        parts["residual"], wanted = zones.copy(residual), wanted + residual
    if has_bias and name != "conv_weight":
        parts["bias"], wanted = zones.copy(bias), wanted + bias.reshape(-1, 1, 1)
    if relu and name != "conv_weight":
        parts["activation"], wanted = "relu", np.maximum(wanted, 0)
    epilogue = Epilogue(**parts) if parts else None
    out = zones.empty(wanted.shape, x.dtype)
    found = getattr(depthwise, name)(
        zones.copy(a), zones.copy(b), geometry, out, GuardedWorkspace(zones), epilogue
    )
    assert found is out and np.array_equal(found, wanted)
    zones.check()
    if has_residual:  # a residual may be where the result goes
        found = getattr(depthwise, name)(a, b, geometry, parts["residual"], None, epilogue)
        assert found is parts["residual"] and np.array_equal(found, wanted)


@pytest.mark.parametrize("name", KERNELS)
@given(drawn=filters())
def test_with_and_without_tables_the_numbers_are_the_same(name, drawn):
    geometry, x, w, g = drawn
    a, b = operands(name, x, w, g)
    usual = getattr(depthwise, name)(a, b, geometry, None, None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(three, "able", lambda *_: False)
        tables = getattr(depthwise, name)(a, b, geometry, None, None, None)
    assert np.array_equal(usual, tables)


def test_which_geometries_need_no_tables():
    for geometry, forward, backward in (
        (Geometry.of((9, 9), 3, 1, 1, groups=2), True, True),
        (Geometry.of((9, 9), 3, 2, (2, 0), groups=2), True, True),
        (Geometry.of((9, 9), 3, 1, 1, (1, 3), groups=2), True, True),
        (Geometry.of((9, 9), 3, 2, 1, (1, 3), groups=2), True, False),
        (Geometry.of((9, 9), 3, 1, 1, (2, 1), groups=2), False, False),
        (Geometry.of((9, 9), 3, (1, 2), 1, groups=2), False, False),
        (Geometry.of((9, 9), 3, 3, 1, groups=2), False, False),
        (Geometry.of((9, 9), 5, 1, 1, groups=2), False, False),
        (Geometry.of((9,), 3, 1, 1, groups=2), False, False),
        (Geometry.of((3, 9, 9), (1, 3, 3), 1, 0, groups=2), False, False),
    ):
        assert without_tables("conv", geometry) is forward
        assert without_tables("conv_weight", geometry) is forward
        assert without_tables("conv_input", geometry) is backward
        assert not three.able(geometry, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", KERNELS)
@given(drawn=filters(), data=st.data())
def test_nan_and_infinity_reach_what_reads_them_and_nothing_else(name, value, drawn, data):
    """Also those in a row's last columns, which at stride 2 no tap may read."""
    geometry, x, w, g = drawn
    a, b = operands(name, np.abs(x) + 1, np.abs(w) + 1, np.abs(g) + 1)
    last = [n - 1 for n in a.shape]
    place = tuple(data.draw(st.sampled_from((0, n, n)) | st.integers(0, n)) for n in last)
    a[place] = value
    found = getattr(depthwise, name)(a, b, geometry, None, None, None)
    with np.errstate(invalid="ignore"):
        wanted = getattr(reference, name)(a, b, geometry)
    assert np.array_equal(found, wanted, equal_nan=True)


def test_what_no_tap_reads_may_be_anything():
    geometry = Geometry.of((6, 6), 3, 2, groups=1)  # two windows of rows and columns 0 to 4
    _, x, w, g = case(geometry)
    clean = reference.conv(x, w, geometry), reference.conv_weight(x, g, geometry)
    x[:, :, 5], x[..., 5] = np.nan, np.nan
    assert np.array_equal(depthwise.conv(x, w, geometry, None, None, None), clean[0])
    assert np.array_equal(depthwise.conv_weight(x, g, geometry, None, None, None), clean[1])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", KERNELS)
def test_threads_change_no_bit(name, stride):
    rng = np.random.default_rng(2)
    geometry = Geometry.of((9, 20), 3, stride, 1, groups=7)
    drawn = (rng.standard_normal(s).astype("f4") for s in shapes(geometry, 3, 2).values())
    a, b = operands(name, *drawn)
    found = []
    for number in (1, 2, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(number)
        try:
            found.append(getattr(depthwise, name)(a, b, geometry, None, None, None).tobytes())
        finally:
            numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert len(set(found)) == 1
