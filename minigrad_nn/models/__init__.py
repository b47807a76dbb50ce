"""Architectures of the lectures, one file a family; start with `lenet5.py`.

Names in lower case make a network that torchvision has too, under its name, with its state.
`minigrad_nn.io.load_pretrained` reads weights for them.
"""

from .alexnet import AlexNet, AlexNet2014, alexnet
from .googlenet import (
    GoogLeNet,
    GoogLeNetOutput,
    Inception,
    auxiliary_cross_entropy,
    googlenet,
)
from .lenet5 import LeNet5
from .vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from .zfnet import ZFNet

__all__ = [
    "VGG",
    "AlexNet",
    "AlexNet2014",
    "GoogLeNet",
    "GoogLeNetOutput",
    "Inception",
    "LeNet5",
    "ZFNet",
    "alexnet",
    "auxiliary_cross_entropy",
    "googlenet",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]
