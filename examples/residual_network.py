"""A deep residual network as a picture that can be opened: ResNet-50 in twenty boxes.

The blocks are those of He and others, "Deep residual learning for image recognition", 2015.  Writes
`resnet50.svg`, a poster, and `resnet50.html`, in which boxes open and close and the colour can say
multiply-adds, parameters, bytes or measured time.
"""

import minigrad
import minigrad_nn as nn
from minigrad_nn.inspect import overview


class Bottleneck(nn.Module):
    """Narrow, look around, widen; and add what came in."""

    def __init__(self, given, middle, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(given, middle, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, 4 * middle, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * middle)
        self.relu = nn.ReLU()
        self.project = None
        if given != 4 * middle:
            self.project = nn.Sequential(
                nn.Conv2d(given, 4 * middle, 1, stride=stride, bias=False),
                nn.BatchNorm2d(4 * middle),
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.project is None else self.project(x)))


class ResNet50(nn.Module):
    """Sixteen such blocks in four stages, each half as large as the last."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        given = 64
        for stage, depth in enumerate((3, 4, 6, 3)):
            blocks = []
            for i in range(depth):
                blocks.append(Bottleneck(given, 64 * 2**stage, 2 if stage and not i else 1))
                given = 256 * 2**stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(given, 1000)

    def forward(self, x):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(axis=(2, 3)))


seen = overview(ResNet50(), minigrad.zeros((1, 3, 224, 224)), title="ResNet-50", passes=1)
stages = [f"layer{i}" for i in (1, 2, 3, 4)]
print(seen.save("resnet50.svg", opened=[*stages, "layer2.0", "layer2.0.project"]))
print(seen.save("resnet50.html"))
print(f"{seen.root.parameters:,} parameters, {seen.root.multiply_adds:,} multiply-adds")
