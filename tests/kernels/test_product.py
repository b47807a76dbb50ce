"""Products of matrices against float64, at sizes around those of tiles, blocks and panels."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels.cpu import product

DTYPES = (np.float32, np.float64)
# Around tiles of 4 and 6 rows, and vectors of 4 to 16 numbers; around the bounds of the algorithms.
SIZES = st.sampled_from((1, 2, 3, 4, 5, 6, 7, 13, 16, 17, 18, 31, 64, 65, 97, 130))
DEPTHS = st.sampled_from((0, 1, 2, 15, 16, 17, 33, 64, 255, 256, 257, 300))


def laid(matrix, way):
    """The same matrix in another layout."""
    if way == "columns":
        return np.asfortranarray(matrix)
    if way == "part":
        room = np.full((matrix.shape[0], matrix.shape[1] + 3), np.nan, matrix.dtype)
        room[:, 1:-2] = matrix
        return room[:, 1:-2]
    if way == "backwards":
        return matrix[::-1, ::-1].copy()[::-1, ::-1]
    if way == "readonly":
        matrix.flags.writeable = False
    return matrix


WAYS = st.sampled_from(("rows", "columns", "part", "backwards", "readonly"))


@st.composite
def cases(draw):
    rows, depth, columns = draw(SIZES), draw(DEPTHS), draw(SIZES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((rows, depth), (depth, columns)))
    return laid(a, draw(WAYS)), laid(b, draw(WAYS))


@given(cases())
def test_it_equals_the_sum_in_float64(case):
    a, b = case
    y = kernels.matmul(a, b)
    assert y.dtype == a.dtype and y.flags.c_contiguous
    size = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
    error = np.abs(y - a.astype(np.float64) @ b.astype(np.float64))
    # No order of adding has a larger error than this (Higham, 2002, section 3.1).
    assert (error <= (a.shape[1] + 1) * np.finfo(a.dtype).eps * size).all()


@pytest.mark.parametrize("shape", [(70, 300, 75), (5, 90, 75), (200, 3, 40), (3, 40, 16)])
@pytest.mark.parametrize("way", ["rows", "columns"])
def test_the_same_bits_at_any_number_of_threads(shape, way):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in (shape[:2], shape[1:]))
    b = laid(b, way)
    many = kernels.matmul(a, b)
    numba.set_num_threads(1)
    try:
        one = kernels.matmul(a, b)
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert one.tobytes() == many.tobytes()


def test_rows_do_not_depend_on_their_neighbours():
    """How rows fall into tiles has no influence on them."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((60, 300)), rng.standard_normal((300, 75))
    whole = kernels.matmul(a, b)
    for start in (1, 5, 17):
        part = kernels.matmul(a[start : start + 30], b)
        assert part.tobytes() == whole[start : start + 30].tobytes()


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("way", ["rows", "columns"])
def test_not_a_number_and_infinity_stay_in_their_row_and_column(rows, way):
    a, b = np.ones((rows, 20)), laid(np.ones((20, 33)), way)
    a[1, 2], b[3, 32] = np.nan, np.inf
    y = kernels.matmul(a, b)
    wanted = np.full((rows, 33), 20.0)
    wanted[:, 32] = np.inf
    wanted[1] = np.nan
    np.testing.assert_array_equal(y, wanted)


def test_out_may_lie_anywhere_and_share_memory():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((30, 30)), rng.standard_normal((30, 30))
    wanted = kernels.matmul(a, b)
    turned = np.full((30, 30), np.nan, order="F")
    assert kernels.matmul(a, b, out=turned) is turned and np.array_equal(turned, wanted)
    same = a.copy()
    assert kernels.matmul(same, b, out=same) is same and np.array_equal(same, wanted)


def test_every_algorithm_is_reached(monkeypatch):
    """The bounds between them are where the tests above think that they are."""
    reached = []
    for name in ("stream_kernel", "dots_kernel", "product_kernel"):
        real = getattr(product, name)
        monkeypatch.setattr(
            product, name, lambda *a, name=name, real=real: (reached.append(name), real(*a))
        )
    b = np.ones((20, 30))
    kernels.matmul(np.ones((16, 20)), b)
    kernels.matmul(np.ones((16, 20)), np.asfortranarray(b))
    kernels.matmul(np.asfortranarray(np.ones((16, 20))), np.asfortranarray(b))
    kernels.matmul(np.ones((17, 20)), b)
    assert reached == ["stream_kernel", "dots_kernel", "product_kernel", "product_kernel"]


@pytest.mark.parametrize("shapes", [((2, 3), (4, 5)), ((2,), (2, 3)), ((1, 2, 3), (3, 4))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match=r"needs matrices \(M, K\) and \(K, N\)"):
        kernels.matmul(*(np.ones(shape) for shape in shapes))


def test_empty_matrices():
    assert kernels.matmul(np.ones((0, 3)), np.ones((3, 4))).shape == (0, 4)
    assert kernels.matmul(np.ones((3, 2)), np.ones((2, 0))).shape == (3, 0)
    assert (kernels.matmul(np.ones((3, 0)), np.ones((0, 2))) == 0).all()
