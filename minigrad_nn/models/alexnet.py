"""AlexNet: the network that won ImageNet in 2012, and its later form in one piece.

Source: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet classification with deep convolutional
neural networks", 2012, figure 2; A. Krizhevsky, "One weird trick for parallelizing convolutional
neural networks", 2014.
"""

from __future__ import annotations

from typing import Any

from .. import init
from ..chaining import chain
from ..layers import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
)
from ..module import Module, Sequential
from .pictures import check_pictures

__all__ = ["AlexNet", "AlexNet2014", "alexnet", "response_norm"]

PICTURE = 227
"""Side of the pictures: the 224 of the paper does not fit filters of 11x11 at stride 4."""


def response_norm() -> LocalResponseNorm:
    """The normalisation of the paper's section 3.3: n = 5, alpha = 1e-4, beta = 0.75, k = 2.

    The paper multiplies alpha by a sum over n channels, the layer by their mean.
    """
    return LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


class AlexNet(Module):
    """AlexNet, layer for layer as the lecture's table names them: pools stand before norms.

    ====== ====================================== ================== ==========
    layer  what it does                           output             parameters
    ====== ====================================== ================== ==========
    input                                         (N, 3, 227, 227)
    conv1  96 filters of 11x11 at stride 4        (N, 96, 55, 55)    34,944
    pool1  maxima of 3x3 at stride 2              (N, 96, 27, 27)
    norm1  divides by the activity of 5 channels  (N, 96, 27, 27)
    conv2  256 filters of 5x5, padding 2, groups  (N, 256, 27, 27)   307,456
    pool2  maxima of 3x3 at stride 2              (N, 256, 13, 13)
    norm2  divides by the activity of 5 channels  (N, 256, 13, 13)
    conv3  384 filters of 3x3, padding 1          (N, 384, 13, 13)   885,120
    conv4  384 filters of 3x3, padding 1, groups  (N, 384, 13, 13)   663,936
    conv5  256 filters of 3x3, padding 1, groups  (N, 256, 13, 13)   442,624
    pool3  maxima of 3x3 at stride 2              (N, 256, 6, 6)
    fc6    fully connected                        (N, 4096)          37,752,832
    fc7    fully connected                        (N, 4096)          16,781,312
    fc8    fully connected: the class scores      (N, 1000)          4,097,000
    ====== ====================================== ================== ==========

    That is 60,965,224 parameters and 659,272 units (outputs of the eight layers that learn).  The
    groups are the two GPUs of the paper: half of the filters sees one half of the maps, the other
    half the other; `groups=1` gives 62,378,344 parameters.  ReLU follows every layer that learns
    but the last, and dropout follows fc6 and fc7.

    Args:
        classes: how many kinds to tell apart.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        groups: of conv2, conv4 and conv5.
        dropout: which part of fc6 and fc7 is switched off while training.
    """

    def __init__(
        self, classes: int = 1000, in_channels: int = 3, groups: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        with init.without_drawing():
            self.conv1 = Conv2d(in_channels, 96, 11, stride=4)
            self.pool1 = MaxPool2d(3, stride=2)
            self.norm1 = response_norm()
            self.conv2 = Conv2d(96, 256, 5, padding=2, groups=groups)
            self.pool2 = MaxPool2d(3, stride=2)
            self.norm2 = response_norm()
            self.conv3 = Conv2d(256, 384, 3, padding=1)
            self.conv4 = Conv2d(384, 384, 3, padding=1, groups=groups)
            self.conv5 = Conv2d(384, 256, 3, padding=1, groups=groups)
            self.pool3 = MaxPool2d(3, stride=2)
            self.fc6 = Linear(256 * 6 * 6, 4096)
            self.fc7 = Linear(4096, 4096)
            self.fc8 = Linear(4096, classes)
        self.relu = ReLU()
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights as section 5 of the paper: normal with standard deviation 0.01.

        Biases of conv2, conv4, conv5, fc6 and fc7 are 1, so that their ReLUs begin open.
        """
        ones = (self.conv2, self.conv4, self.conv5, self.fc6, self.fc7)
        for layer in (*ones, self.conv1, self.conv3, self.fc8):
            init.normal_(layer.weight, 0.0, 0.01)
            if layer.bias is not None:
                init.constant_(layer.bias, float(layer in ones))

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, in_channels, 227, 227)`.

        Raises:
            ValueError: pictures of another shape.
        """
        check_pictures("AlexNet", x, self.in_channels)
        if x.shape[2:] != (PICTURE, PICTURE):
            raise ValueError(
                f"AlexNet: pictures must be (N, {self.in_channels}, {PICTURE}, {PICTURE}), got "
                f"shape {x.shape}: crop or scale them; alexnet() takes any size from 63"
            )
        x = chain(x, self.conv1, self.relu, self.pool1, self.norm1)
        x = chain(x, self.conv2, self.relu, self.pool2, self.norm2)
        x = chain(x, self.conv3, self.relu, self.conv4, self.relu)
        x = chain(x, self.conv5, self.relu, self.pool3)
        x = x.reshape(x.shape[0], 256 * 6 * 6)
        x = self.dropout(self.relu(self.fc6(x)))
        x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)


class AlexNet2014(Module):
    """AlexNet in one piece, without normalisation: torchvision's `alexnet`, with its state names.

    ============ ========================================== =========================
    layer        what it does                               output for 224x224
    ============ ========================================== =========================
    features.0   64 filters of 11x11 at stride 4, padding 2 (N, 64, 55, 55)
    features.2   maxima of 3x3 at stride 2                  (N, 64, 27, 27)
    features.3   192 filters of 5x5, padding 2              (N, 192, 27, 27)
    features.5   maxima of 3x3 at stride 2                  (N, 192, 13, 13)
    features.6   384 filters of 3x3, padding 1              (N, 384, 13, 13)
    features.8   256 filters of 3x3, padding 1              (N, 256, 13, 13)
    features.10  256 filters of 3x3, padding 1              (N, 256, 13, 13)
    features.12  maxima of 3x3 at stride 2                  (N, 256, 6, 6)
    avgpool      averages, to 6x6 whatever the picture      (N, 256, 6, 6)
    classifier.1 fully connected, dropout before it         (N, 4096)
    classifier.4 fully connected, dropout before it         (N, 4096)
    classifier.6 fully connected: the class scores          (N, classes)
    ============ ========================================== =========================

    The missing numbers are ReLUs and dropout.  1000 classes make 61,100,840 parameters.

    Args:
        classes: how many kinds to tell apart.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        dropout: which part is switched off in front of the first two fully connected layers.
    """

    def __init__(self, classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.features = Sequential(
            Conv2d(in_channels, 64, 11, stride=4, padding=2),
            ReLU(),
            MaxPool2d(3, stride=2),
            Conv2d(64, 192, 5, padding=2),
            ReLU(),
            MaxPool2d(3, stride=2),
            Conv2d(192, 384, 3, padding=1),
            ReLU(),
            Conv2d(384, 256, 3, padding=1),
            ReLU(),
            Conv2d(256, 256, 3, padding=1),
            ReLU(),
            MaxPool2d(3, stride=2),
        )
        self.avgpool = AdaptiveAvgPool2d((6, 6))
        self.flatten = Flatten()
        self.classifier = Sequential(
            Dropout(dropout),
            Linear(256 * 6 * 6, 4096),
            ReLU(),
            Dropout(dropout),
            Linear(4096, 4096),
            ReLU(),
            Linear(4096, classes),
        )

    def reset_parameters(self) -> None:
        """Draw new weights as each layer starts with: uniform within 1 / sqrt(its inputs)."""
        for module in self.modules():
            if isinstance(module, (Conv2d, Linear)):
                module.reset_parameters()

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, in_channels, H, W)`, at least 63x63.

        Raises:
            ValueError: pictures of other axes or channels, or too small.
        """
        check_pictures("alexnet", x, self.in_channels, smallest=63)
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


def alexnet(classes: int = 1000, **settings: Any) -> AlexNet2014:
    """torchvision's AlexNet, with 61,100,840 parameters; settings as for `AlexNet2014`."""
    return AlexNet2014(classes, **settings)
