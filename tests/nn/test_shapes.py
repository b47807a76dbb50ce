"""Adaptive and global pools, unpooling, padding, and relatives of convolution: lectures, errors."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F


def count(module):
    return sum(p.size for p in module.parameters())


def test_true_convolution_flips_and_cross_correlation_does_not():
    image = mg.tensor([[[[10, 10, 10, 0, 0, 0]] * 6]])
    edge = mg.tensor([[[[1, 0, -1]] * 3]])
    assert F.conv2d(image, edge).tolist() == [[[[0, 30, 30, 0]] * 4]]
    assert F.convolve2d(image, edge).tolist() == [[[[0, -30, -30, 0]] * 4]]
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(9), rng.standard_normal(4)
    found = F.convolve1d(mg.tensor(a[None, None]), mg.tensor(b[None, None]), padding=3)
    np.testing.assert_allclose(found.data[0, 0], np.convolve(a, b), rtol=1e-12)
    found = F.conv1d(mg.tensor(a[None, None]), mg.tensor(b[None, None]), padding=3)
    np.testing.assert_allclose(found.data[0, 0], np.correlate(a, b, "full"), rtol=1e-12)


def test_depthwise_separable_convolution_of_the_lecture():
    x = mg.zeros((1, 3, 224, 224))
    layers = [
        nn.Conv2d(3, 64, 3, bias=False),
        nn.DepthwiseConv2d(3, 3, bias=False),
        nn.PointwiseConv2d(3, 64, bias=False),
    ]
    y = [layers[0](x), layers[1](x)]
    y.append(layers[2](y[1]))
    assert [v.shape[1:] for v in y] == [(64, 222, 222), (3, 222, 222), (64, 222, 222)]
    # One multiplication for each weight at each place of the output.
    multiplications = [count(layer) * 222 * 222 for layer in layers]
    assert multiplications == [85_162_752, 1_330_668, 9_462_528]
    both = count(nn.SeparableConv2d(3, 64, 3, bias=False)) * 222 * 222
    assert both == 10_793_196 and round(multiplications[0] / both, 1) == 7.9


def test_transposed_convolution_is_the_adjoint():
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((1, 2, 7, 6)), rng.standard_normal((1, 3, 3, 3))
    w = rng.standard_normal((3, 2, 3, 2))
    y = F.conv2d(x, w, None, 2)
    back = F.conv_transpose2d(g, w, None, 2, 0, (0, 0))
    assert back.shape == (1, 2, 7, 6)
    assert (y * g).sum() == pytest.approx((back * x).sum())


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 4, 5)])
def test_global_average(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    wanted = x.mean(tuple(range(2, len(shape))))
    np.testing.assert_allclose(F.global_avg_pool(x), wanted)
    layer = nn.GlobalAvgPool(keepdims=True)
    assert layer(mg.tensor(x)).shape == (2, 3) + (1,) * (len(shape) - 2)
    adaptive = getattr(F, f"adaptive_avg_pool{len(shape) - 2}d")(mg.tensor(x), 1)
    np.testing.assert_allclose(adaptive.data.reshape(2, 3), wanted)


def test_unpooling_inverts_what_pooling_kept():
    x = mg.tensor(np.random.default_rng(0).standard_normal((2, 3, 6, 6)), requires_grad=True)
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    y, indices = pool(x)
    back = unpool(y, indices)
    kept = back.data != 0
    assert kept.sum() == y.size and (back.data[kept] == x.data[kept]).all()
    back.sum().backward()
    assert (x.grad.data == kept).all()


def test_padding_modes_in_words():
    x = mg.tensor([1.0, 2.0, 3.0])
    assert F.pad(x, (1, 2), value=9.0).tolist() == [9, 1, 2, 3, 9, 9]
    assert F.pad(x, (2, 1), "replicate").tolist() == [1, 1, 1, 2, 3, 3]
    assert F.pad(x, (2, 1), "circular").tolist() == [2, 3, 1, 2, 3, 1]
    assert F.pad(x, (2, 1), "reflect").tolist() == [3, 2, 1, 2, 3, 2]
    assert F.pad(x, (0, 0), "reflect") is x
    # A constant picture stays constant under a blur where the border is mirrored.
    blur = nn.Conv2d(1, 1, 3, padding="same", bias=False, padding_mode="reflect")
    blur.weight.assign(1 / 9)
    np.testing.assert_allclose(blur(mg.ones((1, 1, 4, 4))).data, 1, rtol=1e-6)
    assert "padding_mode='reflect'" in repr(blur)


X = mg.zeros((1, 2, 4, 4))
WRONG = [
    (lambda: F.global_avg_pool(mg.zeros((2, 3))), r"\(N, C, \*spatial\)"),
    (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), "output_size must have 2 numbers"),
    (lambda: F.adaptive_max_pool2d(X, 0), "at least 1"),
    (lambda: F.adaptive_avg_pool1d(X, 1), r"\(N, C, L\)"),
    (lambda: F.max_unpool2d(X, np.zeros((1, 2, 3, 3), int), 2), "indices must have the shape"),
    (lambda: F.max_unpool2d(X, np.full(X.shape, 64), 2), "64 places"),
    (lambda: F.max_unpool2d(X, np.zeros(X.shape, int), 2, output_size=(3,)), "2 numbers"),
    (lambda: F.pad(X, (1, 2, 3)), "pairs"),
    (lambda: F.pad(X, (1, -1)), "negative"),
    (lambda: F.pad(X, (4, 0), "reflect"), "can be at most 3"),
    (lambda: F.pad(X, (1, 1), "mirror"), "mode must be one of"),
    (lambda: F.pad(mg.zeros(2), (1, 1, 1, 1)), "2 pairs"),
    (lambda: nn.Conv2d(2, 2, 3, padding_mode="same"), "padding_mode"),
    (lambda: F.conv_transpose2d(X, mg.zeros((3, 2, 1, 1))), "channels of x"),
    (lambda: F.conv_transpose2d(X, mg.zeros((2, 2, 1, 1)), None, 2, 0, 2), "output_padding"),
    (lambda: F.conv_transpose2d(X, mg.zeros((2, 2, 1, 1)), None, 1, 9), "would have size"),
    (lambda: F.conv_transpose2d(X, mg.zeros((2, 2, 1, 1)), None, (1, 2, 3)), "stride must be"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, groups=2), "divisible by groups"),
    (lambda: nn.ConvTranspose2d(3, 4, (3, 3, 3)), "2 numbers"),
    (lambda: nn.ConvTranspose2d(2, 1, 2, stride=2)(X, (7, 8)), "between"),
    (lambda: F.depthwise_conv2d(X, mg.zeros((3, 1, 2, 2))), "2 channels of x"),
    (lambda: F.pointwise_conv(X, mg.zeros((3, 2, 1, 2))), "kernel of ones"),
    (lambda: F.pointwise_conv(mg.zeros((2, 3)), mg.zeros((2, 3))), "spatial axes"),
    (lambda: F.convolve2d(X, mg.zeros((2, 2, 2))), "4 axes"),
]


@pytest.mark.parametrize("call, message", WRONG)
def test_wrong_use_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
