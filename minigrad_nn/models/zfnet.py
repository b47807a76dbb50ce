"""ZFNet: AlexNet after its filters had been looked at, with a finer first layer.

Source: M. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks", 2014,
figure 3.
"""

from __future__ import annotations

from typing import Any

from .. import init
from ..chaining import chain
from ..layers import Conv2d, Dropout, Linear, MaxPool2d, ReLU
from ..module import Module
from .alexnet import response_norm
from .pictures import check_pictures

__all__ = ["ZFNet"]

PICTURE = 224
"""Side of the pictures, as in the paper."""


class ZFNet(Module):
    """ZFNet: what the lecture changes of AlexNet, in the sizes of figure 3 of the paper.

    ====== ========================================= ================== ==========
    layer  what it does                              output             parameters
    ====== ========================================= ================== ==========
    input                                            (N, 3, 224, 224)
    conv1  96 filters of 7x7 at stride 2, padding 1  (N, 96, 110, 110)  14,208
    pool1  maxima of 3x3 at stride 2, rounding up    (N, 96, 55, 55)
    norm1  divides by the activity of 5 channels     (N, 96, 55, 55)
    conv2  256 filters of 5x5 at stride 2            (N, 256, 26, 26)   614,656
    pool2  maxima of 3x3 at stride 2, rounding up    (N, 256, 13, 13)
    norm2  divides by the activity of 5 channels     (N, 256, 13, 13)
    conv3  512 filters of 3x3, padding 1             (N, 512, 13, 13)   1,180,160
    conv4  1024 filters of 3x3, padding 1            (N, 1024, 13, 13)  4,719,616
    conv5  512 filters of 3x3, padding 1             (N, 512, 13, 13)   4,719,104
    pool3  maxima of 3x3 at stride 2                 (N, 512, 6, 6)
    fc6    fully connected                           (N, 4096)          75,501,568
    fc7    fully connected                           (N, 4096)          16,781,312
    fc8    fully connected: the class scores         (N, 1000)          4,097,000
    ====== ========================================= ================== ==========

    That is 107,627,624 parameters.  The lecture says what changes: conv1 from 11x11 at stride 4
    to 7x7 at stride 2, and the widths of conv3, conv4 and conv5 from 384, 384, 256 to 512, 1024,
    512.  It does not mention conv2, whose stride is 2 here as in the paper's figure: conv1 now
    leaves twice the detail, and with stride 1, AlexNet's, conv3 to conv5 would see 27x27 instead
    of 13x13 and fc6 would have 4.7 times as many weights.  To the paper the wider layers are one
    of its experiments; `widths=(384, 384, 256)` is the network of its figure, of 62,357,608
    parameters.

    Args:
        classes: how many kinds to tell apart.
        in_channels: of the pictures: 3 for colour, 1 for grey.
        widths: how many filters conv3, conv4 and conv5 have.
        dropout: which part of fc6 and fc7 is switched off while training.

    Raises:
        ValueError: not three widths.
    """

    def __init__(
        self,
        classes: int = 1000,
        in_channels: int = 3,
        widths: tuple[int, int, int] = (512, 1024, 512),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if len(widths) != 3:
            raise ValueError(
                f"ZFNet: widths must be three numbers, of conv3, conv4 and conv5, got {widths}"
            )
        self.in_channels = in_channels
        third, fourth, fifth = widths
        with init.without_drawing():
            self.conv1 = Conv2d(in_channels, 96, 7, stride=2, padding=1)
            self.pool1 = MaxPool2d(3, stride=2, ceil_mode=True)
            self.norm1 = response_norm()
            self.conv2 = Conv2d(96, 256, 5, stride=2)
            self.pool2 = MaxPool2d(3, stride=2, ceil_mode=True)
            self.norm2 = response_norm()
            self.conv3 = Conv2d(256, third, 3, padding=1)
            self.conv4 = Conv2d(third, fourth, 3, padding=1)
            self.conv5 = Conv2d(fourth, fifth, 3, padding=1)
            self.pool3 = MaxPool2d(3, stride=2)
            self.fc6 = Linear(fifth * 6 * 6, 4096)
            self.fc7 = Linear(4096, 4096)
            self.fc8 = Linear(4096, classes)
        self.relu = ReLU()
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights of the paper's scale: normal with deviation 0.01, and biases 0."""
        for module in self.modules():
            if isinstance(module, (Conv2d, Linear)):
                init.normal_(module.weight, 0.0, 0.01)
                if module.bias is not None:
                    init.zeros_(module.bias)

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of pictures `(N, in_channels, 224, 224)`.

        Raises:
            ValueError: pictures of another shape.
        """
        check_pictures("ZFNet", x, self.in_channels)
        if x.shape[2:] != (PICTURE, PICTURE):
            raise ValueError(
                f"ZFNet: pictures must be (N, {self.in_channels}, {PICTURE}, {PICTURE}), got "
                f"shape {x.shape}: crop or scale them"
            )
        x = chain(x, self.conv1, self.relu, self.pool1, self.norm1)
        x = chain(x, self.conv2, self.relu, self.pool2, self.norm2)
        x = chain(x, self.conv3, self.relu, self.conv4, self.relu)
        x = chain(x, self.conv5, self.relu, self.pool3)
        x = x.reshape(x.shape[0], self.fc6.in_features)
        x = self.dropout(self.relu(self.fc6(x)))
        x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)
