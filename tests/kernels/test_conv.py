"""Convolution and its adjoints against plain NumPy, through every row of the table.

Winograd's row computes some geometries only and rounds otherwise: see `test_winograd`.
"""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry, Workspace, blas
from minigrad_nn.kernels.cpu import tile
from minigrad_nn.kernels.cpu.convolution import TABLE, choose
from tests.kernels import reference
from tests.kernels.draws import convolutions

SOME = ("winograd", "dense")  # these compute some geometries only
ROWS = [(name, row) for name, rows in TABLE.items() for row in rows if row.name not in SOME]


def operands(name, x, w, g):
    return {"conv": (x, w), "conv_input": (g, w), "conv_weight": (x, g)}[name]


def case(geometry, images, channels, filters, dtype=np.float32, seed=0):
    """Whole numbers for one geometry; their products add up exactly."""
    rng = np.random.default_rng(seed)
    shapes = (
        (images, channels, *geometry.size),
        (filters, channels // geometry.groups, *geometry.kernel),
        (images, filters, *geometry.output),
    )
    return geometry, *(rng.integers(-4, 5, shape).astype(dtype) for shape in shapes)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}-{r.name}" for n, r in ROWS])
@given(drawn=convolutions())
@example(drawn=case(Geometry.of((20, 70), 3, 1, 1), 2, 3, 14))
@example(drawn=case(Geometry.of((20, 70), 3, 1, 1), 2, 3, 14, np.float64))
@example(drawn=case(Geometry.of((9, 7), 3, 1, 1), 37, 2, 13))
@example(drawn=case(Geometry.of((9, 7), (3, 2), (2, 3), 1, groups=2), 16, 4, 14, np.float64))
@example(drawn=case(Geometry.of((6, 6), 2, 3), 1, 2, 60))
@example(drawn=case(Geometry.of((4, 4), 4), 3, 2, 5))
@example(drawn=case(Geometry.of((5, 1, 4), (5, 1, 4)), 2, 6, 4))
@example(drawn=case(Geometry.of((3, 3), 1, 1, groups=40), 40, 40, 40))
@example(drawn=case(Geometry.of((2, 2), 1, 5, 2), 2, 1, 1))
@example(drawn=case(Geometry.of((0, 3), 1, 1, 1), 2, 1, 2))
@example(drawn=case(Geometry.of((48, 48), 1), 1, 9, 14))
@example(drawn=case(Geometry.of((5, 23), 1), 7, 17, 40, np.float64))
@example(drawn=case(Geometry.of((21, 40), (5, 4), (1, 2), 2, groups=3), 2, 3, 3))
@example(drawn=case(Geometry.of((21, 20), 3, 2, 1, 2, groups=2), 2, 4, 6, np.float64))
def test_every_row_equals_the_reference(name, row, drawn):
    geometry, x, w, g = drawn
    assume(row.able(geometry))
    a, b = operands(name, x, w, g)
    result = row.compute(a, b, geometry, None, None, None)
    expected = getattr(reference, name)(a, b, geometry)
    assert result.dtype == x.dtype and result.shape == expected.shape
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}-{r.name}" for n, r in ROWS])
@pytest.mark.parametrize("given_out", [False, True])
@pytest.mark.parametrize(
    ("size", "images"), [((4, 5), 0), ((0, 5), 2), ((4, 0), 16), ((0, 0), 2), ((0, 5), 0)]
)
def test_what_is_empty_stays_so(name, row, given_out, size, images):
    """No pictures, or pictures without places, of which the padding is still convolved."""
    geometry, x, w, g = case(Geometry.of(size, 2, 2, 1, groups=2), images, 4, 6)
    if not row.able(geometry):
        pytest.skip("never computes this")
    a, b = operands(name, x, w, g)
    expected = getattr(reference, name)(a, b, geometry)
    epilogue = None if name == "conv_weight" else Epilogue(bias=np.ones(expected.shape[1], "f4"))
    out = np.full(expected.shape, np.nan, np.float32) if given_out else None
    result = row.compute(a, b, geometry, out, None, epilogue)
    assert result is out or not given_out
    assert result.shape == expected.shape and result.dtype == np.float32
    assert np.array_equal(result, expected + (epilogue is not None))


@pytest.mark.parametrize("name", TABLE)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from((0, 1, 5)),
    st.sampled_from((np.float32, np.float64)),
    st.sampled_from((None, "relu")),
)
def test_a_filter_as_large_as_its_input_is_a_matrix_product(name, size, images, dtype, activation):
    geometry, x, w, g = case(Geometry.of(size, size), images, 3, 7, dtype)
    a, b = operands(name, x, w, g)
    row = next(row for row in TABLE[name] if row.name == "dense")
    assert row.able(geometry) and choose(name, a, b, geometry) is row
    expected = getattr(reference, name)(a, b, geometry)
    result = row.compute(a, b, geometry, None, None, None)
    assert result.dtype == dtype and np.array_equal(result, expected)
    residual = np.ones(expected.shape, dtype)
    if name == "conv_weight":
        epilogue, expected = Epilogue(residual=residual), expected + 1
    else:
        bias = np.arange(expected.shape[1]).astype(dtype)
        epilogue = Epilogue(bias=bias, residual=residual, activation=activation)
        expected = expected + 1 + bias.reshape(1, -1, *(1,) * geometry.axes)
        expected = expected if activation is None else np.maximum(expected, 0)
    turned = np.full(expected.shape[::-1], np.nan, dtype).T
    for out in (None, turned, residual):
        result = row.compute(np.asfortranarray(a), b, geometry, out, None, epilogue)
        assert np.array_equal(result, expected) and (out is None or result is out)


@pytest.mark.parametrize(
    "geometry",
    [Geometry.of((3, 3), 2), Geometry.of((2, 2), 2, 1, 1), Geometry.of((2, 2), 2, groups=2)],
)
def test_other_filters_are_no_single_product(geometry):
    assert not any(row.able(geometry) for row in TABLE["conv"] if row.name == "dense")


@given(convolutions())
def test_the_three_kernels_are_adjoint(drawn):
    geometry, x, w, g = drawn
    one = np.sum(kernels.conv(x, w, geometry) * g, dtype=np.float64)
    two = np.sum(x * kernels.conv_input(g, w, geometry), dtype=np.float64)
    three = np.sum(w * kernels.conv_weight(x, g, geometry), dtype=np.float64)
    assert one == two == three


@pytest.mark.parametrize("name", TABLE)
def test_the_last_row_always_fits_and_each_row_is_taken_somewhere(name):
    taken = set()
    for geometry, images, channels, filters in (
        (Geometry.of((28, 28), 5, 1, 2), 32, 1, 6),
        (Geometry.of((28, 28), 5, 1, 2), 2, 1, 6),
        (Geometry.of((5, 5), 5), 2, 16, 120),
        (Geometry.of((4, 4), 3), 2, 16, 120),
        (Geometry.of((2, 2), 2), 2, 3, 64),
        (Geometry.of((7, 7), 1), 2, 24, 40),
        (Geometry.of((14, 14), 3, 2, 1, groups=6), 2, 6, 6),
        (Geometry.of((16, 16), 3, 1, 1), 2, 32, 32),
    ):
        _, x, w, g = case(geometry, images, channels, filters)
        taken.add(choose(name, *operands(name, x, w, g), geometry).name)
    # Where masks cost something, planes are packed into lines.
    without = set() if tile.masks_are_free else {"depthwise"}
    assert taken == {row.name for row in TABLE[name]} - without


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}-{r.name}" for n, r in ROWS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_strides_and_read_only_inputs_give_the_same_bits(name, row, dtype):
    rng = np.random.default_rng(1)
    geometry = Geometry.of((7, 8), 3, (2, 1), 1, groups=2)
    shapes = ((2, 4, 7, 8), (6, 2, 3, 3), (2, 6, *geometry.output))
    x, w, g = (rng.standard_normal(s).astype(dtype) for s in shapes)
    a, b = operands(name, x, w, g)
    expected = row.compute(a, b, geometry, None, None, None)
    turned = np.asfortranarray(a)
    spread = np.repeat(b, 2, axis=0)[::2]
    spread.flags.writeable = False
    odd = np.empty(a.nbytes + 1, np.uint8)[1:].view(dtype).reshape(a.shape)  # not aligned
    odd[...] = a
    frozen = a.copy()
    frozen.flags.writeable = False
    for first in (turned, odd, frozen, a[::-1][::-1]):
        assert np.array_equal(row.compute(first, spread, geometry, None, None, None), expected)
    for array, original in ((frozen, a), (spread, b)):
        assert np.array_equal(array, original)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}-{r.name}" for n, r in ROWS])
def test_out_may_have_any_strides_and_share_memory(name, row):
    geometry, x, w, g = case(Geometry.of((6, 6), 3, 1, 1), 3, 3, 3)
    a, b = operands(name, x, w, g)
    expected = row.compute(a, b, geometry, None, None, None)
    turned = np.full(expected.shape[::-1], np.nan, np.float32).T
    assert row.compute(a, b, geometry, turned, None, None) is turned
    assert np.array_equal(turned, expected)
    same = (b if name == "conv_weight" else a).copy() if a.shape == expected.shape else None
    if same is not None:
        assert row.compute(same, b, geometry, same, None, None) is same
        assert np.array_equal(same, expected)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}-{r.name}" for n, r in ROWS])
@given(drawn=convolutions())
def test_the_epilogue_equals_its_steps(name, row, drawn):
    geometry, x, w, g = drawn
    assume(row.able(geometry))
    a, b = operands(name, x, w, g)
    plain = row.compute(a, b, geometry, None, None, None)
    rng = np.random.default_rng(0)
    residual = rng.integers(-9, 9, plain.shape).astype(x.dtype)
    if name == "conv_weight":
        fused = row.compute(a, b, geometry, None, None, Epilogue(residual=residual))
        assert np.array_equal(fused, plain + residual)
        # A gradient is accumulated in place.
        assert row.compute(a, b, geometry, residual, None, Epilogue(residual=residual)) is residual
        assert np.array_equal(fused, residual)
        return
    bias = rng.integers(-9, 9, plain.shape[1]).astype(x.dtype)
    expected = plain + bias.reshape(1, -1, *(1,) * geometry.axes)
    fused = row.compute(a, b, geometry, None, None, Epilogue(bias=bias))
    assert np.array_equal(fused, expected)
    epilogue = Epilogue(bias=bias, residual=residual, activation="relu")
    fused = row.compute(a, b, geometry, None, None, epilogue)
    assert np.array_equal(fused, np.maximum(expected + residual, 0))
    assert row.compute(a, b, geometry, residual, None, epilogue) is residual
    assert np.array_equal(fused, residual)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}-{r.name}" for n, r in ROWS])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_what_reads_them_and_nothing_else(name, row, value):
    geometry = Geometry.of((9, 40), (3, 2), (1, 2), (1, 0))
    _, x, w, g = case(geometry, 2, 2, 7, seed=3)
    x, w, g = np.abs(x) + 1, np.abs(w) + 1, np.abs(g) + 1
    a, b = operands(name, x, w, g)
    clean = getattr(reference, name)(a, b, geometry)
    # At the end of a row: what a line computes beyond that must not come back.
    a[1, 1, 4, -1] = value
    result = row.compute(a, b, geometry, None, None, None)
    expected = getattr(reference, name)(a, b, geometry)
    assert np.array_equal(result, expected, equal_nan=True)
    changed = result != clean
    assert changed.any() and not changed.all()
    if name != "conv_weight":
        rectified = row.compute(a, b, geometry, None, None, Epilogue(activation="relu"))
        assert np.array_equal(rectified, np.maximum(expected, 0), equal_nan=True)


def test_a_workspace_is_used_again_and_changes_nothing():
    geometry, x, w, g = case(Geometry.of((12, 12), 3, 2, 1), 4, 3, 8)
    workspace = Workspace()
    for _ in range(3):
        for name in TABLE:
            a, b = operands(name, x, w, g)
            with_it = getattr(kernels, name)(a, b, geometry, workspace=workspace)
            assert np.array_equal(with_it, getattr(kernels, name)(a, b, geometry))
    held = workspace.nbytes
    assert held >= workspace.high_water > 0
    kernels.conv(x, w, geometry, workspace=workspace)
    assert workspace.nbytes == held


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, w, g, e: kernels.conv(x, w[:, :1], e), ValueError, "reads 1.1 = 1 channels"),
        (lambda x, w, g, e: kernels.conv(x[..., :5], w, e), ValueError, "geometry.size=\\(6, 6\\)"),
        (lambda x, w, g, e: kernels.conv(x, w.astype("f8"), e), TypeError, "x has float32 and w"),
        (lambda x, w, g, e: kernels.conv(x.astype("i4"), w, e), TypeError, "must be float32 or"),
        (lambda x, w, g, e: kernels.conv(x.tolist(), w, e), TypeError, "x must be an array of"),
        (lambda x, w, g, e: kernels.conv(x, w, e, out=g[:1]), ValueError, "out must have shape"),
        (lambda x, w, g, e: kernels.conv_input(g[:, :2], w, e), ValueError, "makes 4 channels"),
        (lambda x, w, g, e: kernels.conv_weight(x[:1], g, e), ValueError, "one batch size"),
        (lambda x, w, g, e: kernels.conv(x[:, :0], w[:, :0], e), ValueError, "has no channels"),
        (
            lambda x, w, g, e: kernels.conv(x, w, e, epilogue=Epilogue(bias=x[0, 0, 0])),
            ValueError,
            "epilogue.bias must have shape \\(4,\\)",
        ),
        (
            lambda x, w, g, e: kernels.conv_weight(x, g, e, epilogue=Epilogue(activation="relu")),
            ValueError,
            "a residual only",
        ),
        (
            lambda x, w, g, e: kernels.conv(x, w, Geometry.of((6, 6), 3, ceil=True)),
            ValueError,
            "a convolution rounds down",
        ),
        (
            lambda x, w, g, e: kernels.conv(x, w, Geometry.of((6, 6), 3, groups=3)),
            ValueError,
            "2 channels of x do not split into 3",
        ),
        (lambda x, w, g, e: Epilogue(activation="tanh"), ValueError, "activation must be one of"),
    ],
)
def test_wrong_arguments_are_told(call, error, message):
    geometry, x, w, g = case(Geometry.of((6, 6), 3), 2, 2, 4)
    with pytest.raises(error, match=message):
        call(x, w, g, geometry)


def test_a_read_only_out_is_refused():
    geometry, x, w, g = case(Geometry.of((6, 6), 3), 2, 2, 4)
    g.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        kernels.conv(x, w, geometry, out=g)


@pytest.mark.parametrize(
    ("cpu", "features", "shape"),
    [
        ("znver4", "+avx,+avx2,+avx512f,+avx512vl", (64, 4)),
        ("skylake-avx512", "+avx,+avx512f,+avx512vl", (32, 4)),
        ("haswell", "+avx,+avx2,+fma,-avx512f", (32, 2)),
        ("apple-m1", "+neon", (16, 4)),
        ("generic", "", (16, 2)),
    ],
)
def test_tiles_fit_the_registers_of_a_processor(cpu, features, shape):
    assert tile.vector_shape(cpu, features) == shape


@pytest.mark.parametrize("kernel", TABLE)
def test_patches_keep_their_memory_while_large_products_need_some(kernel):
    """Products of this size are a kernel's, which has scratch memory of its own."""
    rng = np.random.default_rng(0)
    geometry = Geometry.of((8, 8), 3, 1, 1)
    x, g = (rng.integers(-3, 4, (2, 130, 8, 8)).astype(np.float32) for _ in range(2))
    w = rng.integers(-3, 4, (130, 130, 3, 3)).astype(np.float32)
    assert 2 * 2 * 64 * w.size > blas.SMALL
    a, b = {"conv": (x, w), "conv_input": (g, w), "conv_weight": (x, g)}[kernel]
    made = {
        row.name: row.compute(a, b, geometry, None, None, None)
        for row in TABLE[kernel]
        if row.name in ("patches", "lines")
    }
    np.testing.assert_array_equal(made["patches"], made["lines"])
