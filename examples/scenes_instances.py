"""Digits that touch and hide one another, taken apart pixel by pixel.

The network says three things of each pixel: its class, whether a digit has its centre there, and
the way to the centre of its own digit.  Pixels that point to one centre are one digit.  Prints the
mask AP with and without those votes, and draws `scenes_instances.png`: pictures, the ways of the
pixels (the direction is the hue, the length the brightness), found digits, and true ones.
"""

import argparse
import time

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

import minigrad
import minigrad_nn as nn
from minigrad_nn.data import BACKGROUND, Loader, Scenes
from minigrad_nn.metrics import mask_iou, mean_detection_ap
from minigrad_nn.models import UNet, group_votes, vote_targets, voting_loss

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()
TRAIN, TEST, BATCH = (256, 48, 16) if given.quick else (32_000, 1_000, 16)

minigrad.random.manual_seed(given.seed)
options = {"digits": (2, 5), "sides": (16, 28), "hidden": 0.3, "noise": 0.05, "seed": given.seed}
options["targets"] = ("classes", "class_map", "instance_map")
train = Loader(Scenes("train", TRAIN, **options), BATCH)  # no scene comes twice
test = Loader(Scenes("test", TEST, **options), BATCH)
model = UNet(1, BACKGROUND + 1 + 3, channels=(16, 32, 64, 64), depth=1)
optimizer = nn.optim.Adam(model.parameters())
schedule = nn.schedule.OneCycleLR(optimizer, max_lr=0.004, total_steps=len(train))
started = time.process_time()
for step, (pictures, _, class_map, instance_map) in enumerate(train):
    answers = model(minigrad.tensor(pictures))
    loss = voting_loss(answers, class_map, vote_targets(instance_map))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % (len(train) // 8) == 0:
        print(f"step {step:5}: loss {loss.item():.3f}", flush=True)

model.eval()
found, alone, truths, shown = [], [], [], []
for pictures, classes, class_map, instance_map in test:
    with minigrad.no_grad():
        answers = model(minigrad.tensor(pictures)).numpy()
    found += group_votes(answers)
    alone += group_votes(answers, unit=0.0)  # each pixel points to itself
    masks = instance_map[:, None] == np.arange(classes.shape[1])[:, None, None]
    truths += [(m[c >= 0], c[c >= 0]) for m, c in zip(masks, classes, strict=True)]
    shown += list(zip(pictures[:, 0], answers[:, -2:], class_map, strict=True))
print(f"mask AP@0.5                  {mean_detection_ap(found, truths, 10, 0.5, mask_iou):.4f}")
print(f"mask AP@0.75                 {mean_detection_ap(found, truths, 10, 0.75, mask_iou):.4f}")
print(f"mask AP@0.75 without votes   {mean_detection_ap(alone, truths, 10, 0.75, mask_iou):.4f}")
print(f"{TRAIN} scenes seen, {TEST} tested, {time.process_time() - started:.0f} s of one core")

figure = Figure(figsize=(10, 5.1), dpi=90, layout="constrained", facecolor="black")
for axes, (picture, ways, class_map), mine, true in zip(
    figure.subplots(4, 8).T, shown, found, truths, strict=False
):
    hue = np.arctan2(ways[0], ways[1]) / (2 * np.pi) % 1.0
    length = np.clip(2.0 * np.hypot(*ways), 0.0, 1.0) * (class_map != BACKGROUND)
    axes[0].imshow(picture, cmap="gray", vmin=0, vmax=1)
    axes[1].imshow(hsv_to_rgb(np.stack([hue, np.ones_like(hue), length], axis=-1)))
    for ax, masks, classes in ((axes[2], mine[0], mine[2]), (axes[3], *true)):
        colors = colormaps["Set2"](np.arange(len(masks)))[:, :3]
        ax.imshow(np.einsum("khw,kc->hwc", masks.astype(float), colors))
        for mask, digit, color in zip(masks, classes, colors, strict=True):
            y, x = np.argwhere(mask).min(0)
            ax.text(x, y - 1, f"{digit}", color=color, fontsize=8)
    for ax in axes:
        ax.axis("off")
figure.savefig("scenes_instances.png")
