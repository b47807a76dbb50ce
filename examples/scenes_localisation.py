"""One digit among fragments of others: which one is it, and where is it?

A network with two ends: ten logits for the class, and four numbers for the box, both from what is
seen at the one place that it looks at.  Prints how often
the class is right and how well boxes overlap, and draws `scenes_localisation.png`: true boxes in
white, found ones in green, or in red where the class is wrong or the overlap below one half.
"""

import argparse
import time

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.data import Loader, Scenes
from minigrad_nn.metrics import accuracy, paired_box_iou

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()
TRAIN, TEST, BATCH, SIZE = (512, 96, 32, 64) if given.quick else (48_000, 2_000, 32, 64)


def block(inputs, outputs, pool=False):
    """A convolution that is normalised, and before it half the size if asked for."""
    parts = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    parts += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*([nn.MaxPool2d(2)] if pool else []), *parts)


class Localiser(nn.Module):
    """Looks for the digit, then answers both questions from what is seen there."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            block(1, 16), block(16, 32, pool=True), block(32, 64, pool=True),
            block(64, 64, pool=True), block(64, 64),
        )  # fmt: skip
        self.look = nn.Conv2d(64, 1, 1)
        self.what = nn.Linear(64, 10)
        self.where = nn.Linear(64, 4)
        rows, columns = (np.indices((8, 8), np.float32).reshape(2, -1) + 0.5) / 8
        self.centres = np.stack([columns, rows] * 2, axis=1)  # of cells, both corners

    def forward(self, x):
        maps = self.features(x)  # (N, 64, 8, 8)
        looked = F.softmax(self.look(maps).reshape(len(x), -1), axis=1)  # (N, 64 cells)
        seen = (maps.reshape(len(x), 64, -1) * looked[:, None]).sum(axis=2)  # (N, 64 features)
        return self.what(seen), looked @ self.centres + self.where(seen)


minigrad.random.manual_seed(given.seed)
options = {"size": SIZE, "digits": (1, 1), "sides": (14, 36), "clutter": 8, "noise": 0.05}
train = Loader(Scenes("train", TRAIN, seed=given.seed, **options), BATCH)  # no scene comes twice
pictures, classes, boxes = Scenes("test", TEST, seed=given.seed, **options)[:]
model = Localiser()
optimizer = nn.optim.Adam(model.parameters())
schedule = nn.schedule.OneCycleLR(optimizer, max_lr=0.003, total_steps=len(train))
started = time.process_time()

for step, (inputs, digits, frames) in enumerate(train):
    what, where = model(minigrad.tensor(inputs))
    loss = F.cross_entropy(what, digits[:, 0])
    loss = loss + 10.0 * F.smooth_l1_loss(where, frames[:, 0] / SIZE, beta=0.1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % (len(train) // 8) == 0:
        print(f"step {step:5}: loss {loss.item():.3f}", flush=True)

model.eval()
with minigrad.no_grad():
    parts = [model(minigrad.tensor(pictures[i : i + BATCH])) for i in range(0, TEST, BATCH)]
what, where = (np.concatenate([part[k].numpy() for part in parts]) for k in (0, 1))
where, classes, boxes = where * SIZE, classes[:, 0], boxes[:, 0]
iou = paired_box_iou(where, boxes)
right = what.argmax(1) == classes
print(f"class right                  {accuracy(what, classes):.4f}")
print(f"mean overlap of boxes (IoU)  {iou.mean():.4f}")
print(f"overlap above one half       {(iou > 0.5).mean():.4f}")
print(f"both right                   {(right & (iou > 0.5)).mean():.4f}")
print(f"{TRAIN} scenes seen, {TEST} tested, {time.process_time() - started:.0f} s of one core")

figure = Figure(figsize=(10, 4.3), dpi=90, layout="constrained", facecolor="black")
for i, axes in enumerate(figure.subplots(3, 8).flat):
    axes.imshow(pictures[i, 0], cmap="gray", vmin=0, vmax=1)
    good = right[i] and iou[i] > 0.5
    for (x0, y0, x1, y1), color in ((boxes[i], "white"), (where[i], "lime" if good else "red")):
        frame = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color=color)
        axes.add_patch(frame)
    axes.set_title(f"{what[i].argmax()}", color=color, fontsize=9, pad=2)
    axes.axis("off")
figure.savefig("scenes_localisation.png")
