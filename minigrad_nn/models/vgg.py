"""VGG: nothing but 3x3 filters, and many layers of them; the configurations A to E.

Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image
recognition", 2014, table 1.  The names of parameters are torchvision's.
"""

from __future__ import annotations

from typing import Any

from .. import init
from ..layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
)
from ..module import Module, Sequential
from .alexnet import response_norm
from .pictures import check_pictures

__all__ = [
    "VGG",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]

# The columns of the table: five stages of convolutions, written `conv<filter>-<channels>`.
CONFIGURATIONS = {
    "A": (
        "conv3-64",
        "conv3-128",
        "conv3-256 conv3-256",
        "conv3-512 conv3-512",
        "conv3-512 conv3-512",
    ),
    "A-LRN": (
        "conv3-64 LRN",
        "conv3-128",
        "conv3-256 conv3-256",
        "conv3-512 conv3-512",
        "conv3-512 conv3-512",
    ),
    "B": (
        "conv3-64 conv3-64",
        "conv3-128 conv3-128",
        "conv3-256 conv3-256",
        "conv3-512 conv3-512",
        "conv3-512 conv3-512",
    ),
    "C": (
        "conv3-64 conv3-64",
        "conv3-128 conv3-128",
        "conv3-256 conv3-256 conv1-256",
        "conv3-512 conv3-512 conv1-512",
        "conv3-512 conv3-512 conv1-512",
    ),
    "D": (
        "conv3-64 conv3-64",
        "conv3-128 conv3-128",
        "conv3-256 conv3-256 conv3-256",
        "conv3-512 conv3-512 conv3-512",
        "conv3-512 conv3-512 conv3-512",
    ),
    "E": (
        "conv3-64 conv3-64",
        "conv3-128 conv3-128",
        "conv3-256 conv3-256 conv3-256 conv3-256",
        "conv3-512 conv3-512 conv3-512 conv3-512",
        "conv3-512 conv3-512 conv3-512 conv3-512",
    ),
}


class VGG(Module):
    """VGG in one of the six configurations of the lecture's table.

    ========= =========== =========== =========== =========== =========== ===========
    output    A           A-LRN       B           C           D           E
    ========= =========== =========== =========== =========== =========== ===========
    224x224   64          64 LRN      64 x2       64 x2       64 x2       64 x2
    112x112   128         128         128 x2      128 x2      128 x2      128 x2
    56x56     256 x2      256 x2      256 x2      256 x2, 1x1 256 x3      256 x4
    28x28     512 x2      512 x2      512 x2      512 x2, 1x1 512 x3      512 x4
    14x14     512 x2      512 x2      512 x2      512 x2, 1x1 512 x3      512 x4
    layers    11          11          13          16          16          19
    weights   132,863,336 132,863,336 133,047,848 133,638,952 138,357,544 143,667,240
    ========= =========== =========== =========== =========== =========== ===========

    Numbers are filters of 3x3 at stride 1 with padding 1, so that only the maxima of 2x2 behind
    each line shrink the maps; "1x1" is one more layer of as many filters of a single pixel, and LRN
    AlexNet's normalisation.  ReLU follows each convolution.  The 7x7 that are left after five
    lines go through fully connected layers of 4096, 4096 and as many units as there are classes.
    Layers are counted with these three, weights for 1000 classes without batch norm.

    Parts are `features`, `avgpool` (averages to 7x7, whatever the size of the picture) and
    `classifier`, numbered as in torchvision, which has A, B, D and E as vgg11, 13, 16 and 19.

    Args:
        configuration: "A", "A-LRN", "B", "C", "D" or "E".
        batch_norm: whether batch norm stands between each convolution and its ReLU.
        classes: how many kinds to tell apart.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        dropout: which part of the first two fully connected layers is switched off while training.

    Raises:
        ValueError: no such configuration.
    """

    def __init__(
        self,
        configuration: str = "D",
        batch_norm: bool = False,
        classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if configuration not in CONFIGURATIONS:
            raise ValueError(
                f"VGG: configuration must be one of {', '.join(CONFIGURATIONS)}, got "
                f"{configuration!r}"
            )
        self.configuration = configuration
        self.in_channels = in_channels
        with init.without_drawing():
            self.features = _features(CONFIGURATIONS[configuration], in_channels, batch_norm)
            self.avgpool = AdaptiveAvgPool2d((7, 7))
            self.flatten = Flatten()
            self.classifier = Sequential(
                Linear(512 * 7 * 7, 4096),
                ReLU(),
                Dropout(dropout),
                Linear(4096, 4096),
                ReLU(),
                Dropout(dropout),
                Linear(4096, classes),
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, of a scale that lets even 19 layers learn from the start.

        He and others, 2015, for the convolutions, normal with deviation 0.01 for the classifier,
        biases 0, as torchvision.  The paper drew all with 0.01, and had to begin A with that before
        its layers could begin the deeper ones.
        """
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Linear):
                init.normal_(module.weight, 0.0, 0.01)
            if isinstance(module, (Conv2d, Linear)) and module.bias is not None:
                init.zeros_(module.bias)

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, in_channels, H, W)`, at least 32x32.

        Raises:
            ValueError: pictures of other axes or channels, or too small.
        """
        check_pictures("VGG", x, self.in_channels, smallest=32)
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


def _features(stages: tuple[str, ...], channels: int, batch_norm: bool) -> Sequential:
    """The convolutional part, from one column of the table."""
    layers: list[Module] = []
    for stage in stages:
        for word in stage.split():
            if word == "LRN":
                layers.append(response_norm())
                continue
            size, width = (int(number) for number in word.removeprefix("conv").split("-"))
            layers.append(Conv2d(channels, width, size, padding=size // 2))
            if batch_norm:
                layers.append(BatchNorm2d(width))
            layers.append(ReLU())
            channels = width
        layers.append(MaxPool2d(2, stride=2))
    return Sequential(*layers)


def vgg11(classes: int = 1000, **settings: Any) -> VGG:
    """Configuration A, with 132,863,336 parameters; settings as for `VGG`."""
    return VGG("A", classes=classes, **settings)


def vgg11_bn(classes: int = 1000, **settings: Any) -> VGG:
    """Configuration A with batch norm; settings as for `VGG`."""
    return VGG("A", batch_norm=True, classes=classes, **settings)


def vgg13(classes: int = 1000, **settings: Any) -> VGG:
    """Configuration B, with 133,047,848 parameters; settings as for `VGG`."""
    return VGG("B", classes=classes, **settings)


def vgg13_bn(classes: int = 1000, **settings: Any) -> VGG:
    """Configuration B with batch norm; settings as for `VGG`."""
    return VGG("B", batch_norm=True, classes=classes, **settings)


def vgg16(classes: int = 1000, **settings: Any) -> VGG:
    """Configuration D, with 138,357,544 parameters; settings as for `VGG`."""
    return VGG("D", classes=classes, **settings)


def vgg16_bn(classes: int = 1000, **settings: Any) -> VGG:
    """Configuration D with batch norm; settings as for `VGG`."""
    return VGG("D", batch_norm=True, classes=classes, **settings)


def vgg19(classes: int = 1000, **settings: Any) -> VGG:
    """Configuration E, with 143,667,240 parameters; settings as for `VGG`."""
    return VGG("E", classes=classes, **settings)


def vgg19_bn(classes: int = 1000, **settings: Any) -> VGG:
    """Configuration E with batch norm; settings as for `VGG`."""
    return VGG("E", batch_norm=True, classes=classes, **settings)
