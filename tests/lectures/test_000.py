"""Deck 000, Convolutional Networks: the numbers that it gives."""

import itertools

import numpy as np

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn import models
from minigrad_nn.kernels.geometry import output_size

from .rows import plus, row, value
from .tools import image, summarised

IMAGE = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
CROSS = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


@row(
    "000",
    "a 5×5 image with a 3×3 kernel",
    value("first output", 4),
    plus("whole", [[4, 3, 4], [2, 4, 3], [2, 3, 4]]),
)
def test_the_five_by_five_image():
    y = F.conv2d(image(IMAGE), image(CROSS))[0, 0]
    return y[0, 0], y


@row(
    "000, 002",
    "true convolution flips the kernel, layers do not; f = 1 2 4 8, w = −1 1 0",
    plus("`convolve1d`", [-2, -4]),
    plus("`conv1d`", [1, 2]),
    plus("`convolve2d` is the definition's double sum", True),
    plus("`conv2d` with the kernel flipped is `convolve2d`", True),
)
def test_true_convolution_flips_the_kernel():
    f, w = mg.tensor([[[1, 2, 4, 8]]]), mg.tensor([[[-1, 1, 0]]])
    generator = mg.random.Generator(0)
    x, k = (mg.tensor(generator.normal((1, 1, n, n))) for n in (6, 3))
    y = F.convolve2d(x, k)
    # (f * w)[i, j] = sum over k, l of f[i - k, j - l] w[k, l], where no index leaves the image.
    summed = np.zeros((4, 4))
    for i, j, a, b in itertools.product(range(4), range(4), range(3), range(3)):
        summed[i, j] += x[0, 0, i + 2 - a, j + 2 - b].item() * k[0, 0, a, b].item()
    flipped = F.conv2d(x, mg.flip(k, (2, 3)))
    return (
        F.convolve1d(f, w)[0, 0],
        F.conv1d(f, w)[0, 0],
        np.allclose(y.numpy()[0, 0], summed, atol=1e-5),
        np.array_equal(y.numpy(), flipped.numpy()),
    )


@row(
    "000",
    "(N − F) / stride + 1 for N = 7, F = 3",
    value("stride 1", 5),
    value("stride 2", 3),
    value("stride 3", "does not fit", deck="2.33"),
)
def test_output_size_exactly():
    def places(stride):
        try:
            return output_size(7, 3, stride, exact=True)
        except ValueError as error:
            assert "= 2.333 places" in str(error)
            return str(error).partition(":")[0]

    return places(1), places(2), places(3)


@row(
    "000",
    "padding that keeps the size",
    value("7×7, F = 3, stride 1, pad 1", (7, 7)),
    value("F = 3: pad", 1),
    value("F = 5: pad", 2),
    value("F = 7: pad", 3),
)
def test_padding_keeps_the_size():
    def pad(size):
        x, w = mg.zeros((1, 1, 9, 9)), mg.zeros((1, 1, size, size))
        keeping = [p for p in range(5) if F.conv2d(x, w, padding=p).shape == x.shape]
        assert F.conv2d(x, w, padding="same").shape == x.shape
        (found,) = keeping
        return found

    y = F.conv2d(mg.zeros((1, 1, 7, 7)), mg.zeros((1, 1, 3, 3)), stride=1, padding=1)
    return y.shape[2:], pad(3), pad(5), pad(7)


@row("000, 001", "32×32×3 with six filters 5×5×3", value("", (28, 28, 6)))
def test_six_activation_maps():
    layer = nn.Conv2d(3, 6, 5)
    return nn.summary(layer, (3, 32, 32), layout="channels_last").rows[0].output_shape


VOLUMES = {
    "conv1": (55, 55, 96),
    "pool1": (27, 27, 96),
    "norm1": (27, 27, 96),
    "conv2": (27, 27, 256),
    "pool2": (13, 13, 256),
    "norm2": (13, 13, 256),
    "conv3": (13, 13, 384),
    "conv4": (13, 13, 384),
    "conv5": (13, 13, 256),
    "pool3": (6, 6, 256),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}


@row("000, 001", "AlexNet's volumes, 227×227×3", *(value(n, s) for n, s in VOLUMES.items()))
def test_the_volumes_of_alexnet():
    found = summarised(models.AlexNet, (3, 227, 227), layout="channels_last")
    order = [r.path for r in found.rows if r.path in VOLUMES]
    assert order == list(VOLUMES)
    return tuple(found.row(name).output_shape for name in VOLUMES)


def millions(number):
    return {"deck": f"{number} M", "near": (number * 1e6, 0.5e6)}


@row(
    "000, 001",
    "parameters of VGG (deck 001's copy of the table lacks layers)",
    plus("A", 132_863_336, **millions(133)),
    plus("A-LRN", 132_863_336, **millions(133)),
    plus("B", 133_047_848, **millions(133)),
    plus("C", 133_638_952, **millions(134)),
    plus("D", 138_357_544, **millions(138)),
    plus("E", 143_667_240, **millions(144)),
)
def test_the_parameters_of_vgg():
    found = []
    for name in ("A", "A-LRN", "B", "C", "D", "E"):
        with nn.init.without_drawing():
            model = models.VGG(name)
        found.append(sum(p.size for p in model.parameters()))
    return tuple(found)


def billions(number):
    return {"deck": f"{number} × 10⁹", "near": (number * 1e9, 0.1e9)}


@row(
    "000",
    "multiply-adds of ResNet, stride on the first 1×1 of a stage, with projections and fc",
    plus("18", 1_814_073_344, **billions(1.8)),
    plus("34", 3_663_761_408, **billions(3.6)),
    plus("50", 3_857_973_248, **billions(3.8)),
    plus("101", 7_570_194_432, **billions(7.6)),
    plus("152", 11_282_415_616, **billions(11.3)),
)
def test_the_multiply_adds_of_resnet():
    found = []
    for depth in (18, 34, 50, 101, 152):
        make = getattr(models, f"resnet{depth}")
        found.append(summarised(make, (3, 224, 224), stride_on="1x1").totals.multiply_adds)
    return tuple(found)
