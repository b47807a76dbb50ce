"""Networks built of layers, to be looked at: residual blocks, and a recurrent one."""

import minigrad
import minigrad_nn as nn


class Bottleneck(nn.Module):
    """ResNet's block of 1x1, 3x3 and 1x1 convolutions (He and others, 2015)."""

    def __init__(self, given, middle, stride=1):
        super().__init__()
        gives = 4 * middle
        self.conv1 = nn.Conv2d(given, middle, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, gives, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(gives)
        self.relu = nn.ReLU()
        self.project = None
        if given != gives or stride != 1:
            self.project = nn.Sequential(
                nn.Conv2d(given, gives, 1, stride=stride, bias=False), nn.BatchNorm2d(gives)
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.project is None else self.project(x)))


class ResNet(nn.Module):
    """ResNet-50 with the depths (3, 4, 6, 3) and a width of 64."""

    def __init__(self, depths=(3, 4, 6, 3), width=64, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        given = width
        self.stages = len(depths)
        for i, depth in enumerate(depths):
            middle = width * 2**i
            blocks = []
            for j in range(depth):
                blocks.append(Bottleneck(given, middle, stride=2 if j == 0 and i else 1))
                given = 4 * middle
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(given, classes)

    def forward(self, x):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean(axis=(2, 3)))


class Recurrent(nn.Module):
    """h = tanh(Whh h + Wxh x), and y = Why h of the last one."""

    def __init__(self):
        super().__init__()
        self.wxh = nn.Linear(3, 8)
        self.whh = nn.Linear(8, 8)
        self.why = nn.Linear(8, 2)

    def forward(self, x):
        h = minigrad.zeros((x.shape[0], 8))
        for t in range(x.shape[1]):
            h = minigrad.tanh(self.wxh(x[:, t]) + self.whh(h))
        return self.why(h)
