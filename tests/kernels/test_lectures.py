"""The numbers of the lectures, computed by kernels."""

import numpy as np
import pytest

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry

IMAGE = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
CROSS = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def one(rows):
    """An image or filter `(1, 1, H, W)`."""
    return np.array(rows, np.float32)[None, None]


def filtered(image, kernel, **geometry):
    image, kernel = one(image), one(kernel)
    geometry = Geometry.of(image.shape[2:], kernel.shape[2:], **geometry)
    return kernels.conv(image, kernel, geometry)[0, 0].tolist()


def test_the_five_by_five_image():
    assert filtered(IMAGE, CROSS) == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]


def test_the_gradient_of_that_kernel_is_a_correlation_too():
    ones = np.ones((1, 1, 3, 3), np.float32)
    gradient = kernels.conv_weight(one(IMAGE), ones, Geometry.of((5, 5), 3))
    assert gradient[0, 0].tolist() == [[6, 7, 6], [4, 7, 7], [4, 6, 6]]


def test_a_vertical_edge_and_the_flip_of_true_convolution():
    image, edge = [[10, 10, 10, 0, 0, 0]] * 6, np.array([[1, 0, -1]] * 3)
    assert filtered(image, edge) == [[0, 30, 30, 0]] * 4
    assert filtered(image, edge[::-1, ::-1]) == [[0, -30, -30, 0]] * 4


def test_a_horizontal_edge():
    image = [[10, 10, 10, 0, 0, 0]] * 3 + [[0, 0, 0, 10, 10, 10]] * 3
    edge = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
    assert filtered(image, edge) == [[0] * 4, [30, 10, -10, -30], [30, 10, -10, -30], [0] * 4]


def test_the_centre_of_the_two_filter_demo():
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
    channels = [filtered(x, w)[0][0] for x, w in zip(windows, filters, strict=True)]
    assert channels == [0, 2, -5]
    x, w = np.array([windows], np.float32), np.array([filters], np.float32)
    epilogue = Epilogue(bias=np.ones(1, np.float32))
    assert kernels.conv(x, w, Geometry.of((3, 3), 3), epilogue=epilogue).item() == -2


def test_shapes_of_the_two_filter_demo_and_of_the_first_layer():
    geometry = Geometry.of((5, 5), 3, stride=2, padding=1)
    x, w = np.ones((1, 3, 5, 5), np.float32), np.ones((2, 3, 3, 3), np.float32)
    assert kernels.conv(x, w, geometry).shape == (1, 2, 3, 3)
    assert w.size + len(w) == 56
    x, w = np.ones((1, 3, 32, 32), np.float32), np.ones((6, 3, 5, 5), np.float32)
    assert kernels.conv(x, w, Geometry.of((32, 32), 5)).shape == (1, 6, 28, 28)
    assert w.size == 450 and w.size * 28 * 28 == 352_800


RING = np.array(
    [
        [0, -0.2, -0.1, -0.2, 0],
        [-0.2, 0.7, 1, 0.7, -0.2],
        [-0.1, 1, -2.5, 1, -0.1],
        [-0.2, 0.7, 1, 0.7, -0.2],
        [0, -0.2, -0.1, -0.2, 0],
    ]
)


PIXELS = [
    [0.73, 0.86, 0.74, 0.85, 0.99, 0.58, 0.96, 0.25],
    [0.29, 0.92, 0.25, 0.38, 0.67, 0.16, 0.63, 0.73],
    [0.90, 0.99, 0.95, 0.06, 0.56, 0.85, 0.23, 0.84],
    [0.00, 0.45, 0.55, 0.28, 0.33, 0.59, 0.69, 0.01],
    [0.50, 0.23, 0.03, 0.41, 0.48, 0.23, 0.62, 0.69],
    [0.85, 0.52, 0.11, 0.95, 0.80, 0.24, 0.03, 0.54],
    [0.99, 0.07, 0.69, 0.35, 0.05, 0.15, 0.61, 0.80],
    [0.03, 0.84, 0.79, 0.52, 0.17, 0.66, 0.73, 0.01],
]


def test_how_donutty_the_upper_left_pixel_is():
    answers = filtered(PIXELS, RING, padding=2)
    assert len(answers) == len(answers[0]) == 8
    assert answers[0][0] == pytest.approx(-0.443, abs=1e-6)


@pytest.mark.parametrize(("middle", "answer"), [(0, 6.8), (1, 4.3)])
def test_the_donut_filter_answers_a_ring_more_than_a_disc(middle, answer):
    image = np.zeros((5, 5))
    image[1:4, 1:4] = 1
    image[2, 2] = middle
    assert filtered(image, RING)[0][0] == pytest.approx(answer, abs=1e-5)


def test_a_stride_of_the_kernel_size_cuts_into_patches():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 8, 12)), rng.standard_normal((5, 3, 4, 4))
    patches = x.reshape(2, 3, 2, 4, 3, 4)
    expected = np.einsum("nchiwj,ocij->nohw", patches, w)
    np.testing.assert_allclose(kernels.conv(x, w, Geometry.of((8, 12), 4, 4)), expected)


def test_max_pool_of_the_four_by_four():
    x = one([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    values, indices = kernels.max_pool(x, Geometry.of((4, 4), 2, 2))
    assert values[0, 0].tolist() == [[6, 8], [3, 4]]
    assert indices[0, 0].tolist() == [[5, 7], [8, 15]]


def test_one_dimension_shares_three_weights():
    # 7 inputs and 3 hidden units: 21 weights fully connected, 3 when they are shared.
    x, w = np.arange(7.0)[None, None], np.array([[[1.0, 2, 3]]])
    y = kernels.conv(x, w, Geometry.of((7,), 3, 2))
    assert y.tolist() == [[[8, 20, 32]]] and w.size == 3 and x.size * y.size == 21
    flipped = kernels.conv(x, w[..., ::-1], Geometry.of((7,), 3))
    assert flipped[0, 0].tolist() == np.convolve(x[0, 0], w[0, 0], mode="valid").tolist()
