"""LeNet-5 on 1,797 handwritten digits: network, loop, test, and a picture of what it gets wrong.

Everything is written out here; `minigrad_nn.models.LeNet5` and `minigrad_nn.train.fit` are the same
with more care.  The picture is `lenet5_digits.png` (needs matplotlib, extra `plot`).
"""

import numpy as np
from matplotlib.figure import Figure

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.data import Digits, Loader

EPOCHS = 15


class LeNet5(nn.Module):
    """Figure 2 of LeCun, Bottou, Bengio and Haffner, 1998, with a softmax at its end."""

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.s4 = nn.AvgPool2d(2)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, 10)

    def forward(self, x):
        x = x.repeat(4, axis=2).repeat(4, axis=3)  # (N, 1, 8, 8) -> (N, 1, 32, 32)
        x = self.s2(self.c1(x).tanh())  # (N, 6, 14, 14)
        x = self.s4(self.c3(x).tanh())  # (N, 16, 5, 5)
        x = self.c5(x).tanh().reshape(-1, 120)
        return self.output(self.f6(x).tanh())


minigrad.random.manual_seed(0)
train, test = Digits("train"), Digits("test")
normalize = Digits.normalize()
model = LeNet5()
loader = Loader(train, batch_size=32, shuffle=True, seed=0, transform=normalize)
optimizer = nn.optim.Adam(model.parameters(), lr=0.003)
schedule = nn.schedule.CosineAnnealingLR(optimizer, EPOCHS)

for epoch in range(EPOCHS):
    total = 0.0
    for pictures, labels in loader:
        loss = F.cross_entropy(model(minigrad.tensor(pictures)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    schedule.step()
    print(f"epoch {epoch + 1:2}: loss {total / len(train):.4f}")

pictures, labels = test[np.arange(len(test))]
with minigrad.no_grad():
    predicted = model(minigrad.tensor(normalize.pictures(pictures))).numpy().argmax(axis=1)
wrong = np.flatnonzero(predicted != labels)[:10]
print(f"test accuracy {(predicted == labels).mean():.4f}")

figure = Figure(figsize=(9, 2.2), dpi=110, layout="constrained")
figure.suptitle(f"{(predicted != labels).sum()} of {len(labels)} digits read wrong")
for axes, i in zip(figure.subplots(1, max(2, len(wrong))), wrong, strict=False):
    axes.imshow(pictures[i, 0], cmap="gray_r")
    axes.set_title(f"{labels[i]}, read as {predicted[i]}", fontsize=8)
for axes in figure.axes:
    axes.axis("off")
figure.savefig("lenet5_digits.png")
