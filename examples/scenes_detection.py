"""Any number of digits, half hidden by one another: what is there, and where?

Each cell of a grid says whether a digit is centred near it, where exactly, how large and which; of
finds that overlap the best one stays.  Prints mAP and draws `scenes_detection.png`: found boxes in
the colour of their digit, each with its score.
"""

import argparse
import time

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import minigrad
import minigrad_nn as nn
from minigrad_nn.data import Loader, Scenes
from minigrad_nn.metrics import detection_ap, mean_detection_ap
from minigrad_nn.models import GridDetector

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()
BATCH = 32
TRAIN, TEST = (512, 64) if given.quick else (64_000, 2_000)


def block(inputs, outputs, pool=False):
    """A convolution that is normalised, and before it half the size if asked for."""
    parts = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    parts += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*([nn.MaxPool2d(2)] if pool else []), *parts)


def detector():
    """Pictures (N, 1, 64, 64) become 8x8 cells, each of which sees 46x46 pixels."""
    body = nn.Sequential(
        block(1, 16), block(16, 32, pool=True), block(32, 64, pool=True),
        block(64, 64, pool=True), block(64, 64), block(64, 64),
    )  # fmt: skip
    return GridDetector(body, channels=64, classes=10, stride=8, anchor=20.0)


minigrad.random.manual_seed(given.seed)
options = {"size": 64, "digits": (1, 5), "sides": (16, 28), "clutter": 3, "noise": 0.05}
train = Loader(Scenes("train", TRAIN, seed=given.seed, **options), BATCH)  # no scene comes twice
test = Loader(Scenes("test", TEST, seed=given.seed, **options), BATCH)
model = detector()
optimizer = nn.optim.Adam(model.parameters())
schedule = nn.schedule.OneCycleLR(optimizer, max_lr=0.003, total_steps=len(train))
started = time.process_time()

for step, (pictures, classes, boxes) in enumerate(train):
    loss = model.loss(model(minigrad.tensor(pictures)), boxes, classes)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % (len(train) // 8) == 0:
        print(f"step {step:5}: loss {loss.item():.3f}", flush=True)

model.eval()
shown, found, truths = [], [], []
with minigrad.no_grad():
    for pictures, classes, boxes in test:
        found += model.detect(model(minigrad.tensor(pictures)))
        truths += [(b[c >= 0], c[c >= 0]) for b, c in zip(boxes, classes, strict=True)]
        shown += list(pictures[: 18 - len(shown)])

precisions = detection_ap(found, truths, classes=10)
told = np.concatenate([scores for _, scores, _ in found]) > 0.5
print("digit  ", *(f"{digit:6}" for digit in range(10)))
print("AP@0.5 ", *(f"{value:6.3f}" for value in precisions))
print(f"mAP@0.5       {precisions.mean():.4f}")
print(f"mAP@0.5:0.95  {mean_detection_ap(found, truths, 10, np.arange(0.5, 0.96, 0.05)):.4f}")
print(f"{told.sum()} finds with a score above 0.5, {sum(len(b) for b, _ in truths)} digits")
print(f"{TRAIN} scenes seen, {TEST} tested, {time.process_time() - started:.0f} s of one core")

figure = Figure(figsize=(10, 5.1), dpi=90, layout="constrained", facecolor="black")
for picture, (boxes, scores, classes), axes in zip(
    shown, found, figure.subplots(3, 6).flat, strict=False
):
    axes.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
    for (x0, y0, x1, y1), score, digit in zip(boxes, scores, classes, strict=True):
        if score > 0.5:
            color = colormaps["Set3"](digit)
            frame = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color=color)
            axes.add_patch(frame)
            axes.text(x0, y0 - 1.5, f"{digit} {100 * score:.0f}%", color=color, fontsize=7)
    axes.axis("off")
figure.savefig("scenes_detection.png")
