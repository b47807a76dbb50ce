"""Convolution and pooling: the lectures' numbers, what errors say, and what is passed on."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad_nn import functional as F

IMAGE = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
CROSS = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def picture(rows, **options):
    return mg.tensor([[rows]], **options)


def test_the_lecture_example_and_its_gradients():
    x, w = picture(IMAGE, requires_grad=True), picture(CROSS, requires_grad=True)
    y = F.conv2d(x, w)
    assert y.tolist() == [[[[4, 3, 4], [2, 4, 3], [2, 3, 4]]]]
    y.backward(np.ones((1, 1, 3, 3), np.float32))
    # The gradient by the kernel is itself a correlation: of the image with the upstream gradient.
    assert w.grad.tolist() == [[[[6, 7, 6], [4, 7, 7], [4, 6, 6]]]]
    again = F.conv2d(picture(IMAGE), picture([[1, 1, 1]] * 3))
    assert w.grad.tolist() == again.tolist()
    # The gradient by the image counts, for each pixel, the kernel's weights that touched it.
    assert x.grad.data.sum() == 9 * 5
    assert x.grad.data[0, 0, 2, 2] == 5 and x.grad.data[0, 0, 0, 0] == 1


def test_edges_of_the_lectures():
    left = [[10, 10, 10, 0, 0, 0]]
    vertical = picture([[1, 0, -1]] * 3)
    assert F.conv2d(picture(left * 6), vertical).tolist() == [[[[0, 30, 30, 0]] * 4]]
    # True convolution flips the kernel.
    flipped = mg.flip(vertical, (2, 3))
    assert F.conv2d(picture(left * 6), flipped).tolist() == [[[[0, -30, -30, 0]] * 4]]
    horizontal = picture([[1, 1, 1], [0, 0, 0], [-1, -1, -1]])
    checker = left * 3 + [[0, 0, 0, 10, 10, 10]] * 3
    rows = F.conv2d(picture(checker), horizontal).tolist()[0][0]
    assert rows == [[0] * 4, [30, 10, -10, -30], [30, 10, -10, -30], [0] * 4]


def test_the_two_filter_demo():
    windows = [
        [[2, 1, 2], [1, 1, 1], [0, 0, 0]],
        [[2, 2, 2], [2, 2, 0], [0, 2, 2]],
        [[1, 1, 0], [0, 2, 1], [0, 0, 2]],
    ]
    filters = [
        [[1, 1, 0], [-1, -1, -1], [1, -1, 0]],
        [[0, -1, 0], [1, 1, -1], [0, 0, 0]],
        [[-1, -1, 1], [-1, -1, -1], [0, 1, 0]],
    ]
    x, w = mg.tensor([windows]), mg.tensor([filters])
    assert F.conv2d(x, w, mg.tensor([1])).item() == -2
    parts = F.conv2d(x, mg.tensor([[f] for f in filters]), groups=3)
    assert parts.data.ravel().tolist() == [0, 2, -5]
    y = F.conv2d(mg.zeros((1, 3, 5, 5)), mg.zeros((2, 3, 3, 3)), stride=2, padding=1)
    assert y.shape == (1, 2, 3, 3)


def test_pools_of_the_lecture():
    x = picture([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    assert F.max_pool2d(x, 2).tolist() == [[[[6, 8], [3, 4]]]]
    assert F.sum_pool2d(x, 2).tolist() == [[[[13, 21], [8, 8]]]]
    assert F.avg_pool2d(x, 2).tolist() == [[[[3.25, 5.25], [2, 2]]]]
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    assert values.tolist() == [[[[6, 8], [3, 4]]]] and indices.tolist() == [[[[5, 7], [8, 15]]]]


def test_the_first_of_equal_maxima_gets_the_gradient():
    x = picture([[1, 1], [1, 1]], requires_grad=True)
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.tolist() == [[[[1, 0], [0, 0]]]]


def test_a_stride_of_the_kernel_size_is_cutting_into_patches():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 6, 9)), rng.standard_normal((4, 3, 2, 3))
    patches = x.reshape(2, 3, 3, 2, 3, 3).transpose(0, 2, 4, 1, 3, 5).reshape(2, 3, 3, 18)
    wanted = (patches @ w.reshape(4, 18).T).transpose(0, 3, 1, 2)
    found = F.conv2d(mg.tensor(x), mg.tensor(w), stride=(2, 3))
    np.testing.assert_allclose(found.data, wanted, rtol=1e-12)


@given(
    kernel=st.integers(1, 5), dilation=st.integers(1, 3), size=st.integers(1, 9), axes=st.just(1)
)
def test_same_padding_keeps_the_size(kernel, dilation, size, axes):
    x = mg.ones((1, 1, size), dtype=np.float64)
    w = mg.ones((1, 1, kernel), dtype=np.float64)
    y = F.conv1d(x, w, padding="same", dilation=dilation)
    assert y.shape == (1, 1, size)
    padded = np.pad(np.ones(size), (dilation * (kernel - 1) // 2, dilation * kernel))
    taps = sum(padded[t * dilation : t * dilation + size] for t in range(kernel))
    assert y.data.ravel().tolist() == taps.tolist()


def test_same_padding_needs_stride_1():
    with pytest.raises(ValueError, match="stride 1, not 2"):
        F.conv1d(mg.ones((1, 1, 4)), mg.ones((1, 1, 3)), stride=2, padding="same")


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.conv2d(mg.ones((3, 5, 5)), mg.ones((1, 3, 3, 3))), ValueError, r"x\[None\]"),
        (lambda: F.conv2d(mg.ones((5, 5)), mg.ones((1, 3, 3, 3))), ValueError, r"\(N, C, H, W\)"),
        (lambda: F.conv1d(mg.ones((1, 1, 5)), mg.ones((1, 3))), ValueError, "3 axes"),
        (lambda: F.conv2d(mg.ones((1, 3, 5, 5)), mg.ones((1, 2, 3, 3))), ValueError, "channels"),
        (lambda: F.conv2d(mg.ones((1, 3, 2, 2)), mg.ones((1, 3, 3, 3))), ValueError, "larger"),
        (
            lambda: F.conv1d(mg.ones((1, 1, 5)), mg.ones((1, 1, 2)), padding="full"),
            ValueError,
            "full",
        ),
        (lambda: F.conv1d(mg.ones((1, 1, 5)), mg.ones((1, 1, 2)), mg.ones(3)), ValueError, "bias"),
        (
            lambda: F.conv1d(mg.ones((1, 1, 5)), mg.ones((1, 1, 2), dtype=np.float64)),
            TypeError,
            "float64",
        ),
        (lambda: F.max_pool2d(mg.ones((3, 5, 5)), 2), ValueError, r"max_pool2d.*x\[None\]"),
        (lambda: F.max_pool2d(mg.ones((1, 3, 5, 5)), 6), ValueError, "larger"),
        (lambda: F.avg_pool1d(mg.ones((1, 3, 2)), 1, padding=1), ValueError, "nothing but padding"),
    ],
)
def test_wrong_shapes_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nothing_is_recorded_or_computed_that_is_not_needed():
    x, w = mg.ones((1, 2, 4, 4)), mg.ones((3, 2, 2, 2), requires_grad=True)
    y = F.conv2d(x, w, mg.ones(3))
    assert y.node.needs == (False, True, False)
    with mg.no_grad():
        assert not F.conv2d(x, w).requires_grad
        assert not F.max_pool2d(F.conv2d(x, w), 2).requires_grad


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_spreads_just_as_far_as_a_window(value):
    x = np.ones((1, 1, 7))
    x[0, 0, 3] = value
    y = F.conv1d(mg.tensor(x), mg.tensor(np.array([[[1.0, 2.0, 3.0]]]))).data[0, 0]
    assert [not np.isfinite(v) for v in y] == [False, True, True, True, False]
    pooled = F.max_pool1d(mg.tensor(x), 3, 1).data[0, 0]
    wanted = [1.0, value, value, value, 1.0] if value != -math.inf else [1.0] * 5
    np.testing.assert_array_equal(pooled, wanted)


def test_an_empty_batch_passes_through_with_gradients_of_zero():
    x = mg.zeros((0, 2, 5, 5), requires_grad=True)
    w, b = mg.ones((3, 2, 2, 2), requires_grad=True), mg.ones(3, requires_grad=True)
    y = F.max_pool2d(F.relu(F.conv2d(x, w, b)), 2)
    assert y.shape == (0, 3, 2, 2)
    y.sum().backward()
    assert x.grad.shape == x.shape and not w.grad.data.any() and not b.grad.data.any()


def test_raw_arrays_give_raw_arrays():
    x, w = np.ones((1, 1, 3)), np.ones((1, 1, 2))
    assert type(F.conv1d(x, w)) is np.ndarray
    assert type(F.max_pool1d(x, 2)) is np.ndarray
    assert F.conv1d(x, w, np.ones(1)).tolist() == [[[3.0, 3.0]]]
