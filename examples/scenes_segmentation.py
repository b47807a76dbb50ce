"""The class of every pixel: four networks that each find their own way back to fine outlines.

An FCN that has only its coarsest map, one that adds finer maps on the way up, a SegNet that
remembers where its maxima stood, and a U-Net that keeps everything.  Prints a table of their mean
overlap (IoU) over ten digits and the background, and draws `scenes_segmentation.png`.
"""

import argparse
import time

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.data import BACKGROUND, Loader, Scenes
from minigrad_nn.metrics import region_iou
from minigrad_nn.models import UNet, fcn_small, segnet_small

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()
TRAIN, TEST, BATCH, CLASSES = (*((128, 32) if given.quick else (24_000, 1_000)), 16, BACKGROUND + 1)
NETWORKS = {
    "FCN, last map": lambda: fcn_small(CLASSES, in_channels=1, stride=16),
    "FCN, all maps": lambda: fcn_small(CLASSES, in_channels=1),
    "SegNet": lambda: segnet_small(CLASSES, in_channels=1),
    "U-Net": lambda: UNet(1, CLASSES, channels=(16, 32, 64, 64), depth=1),
}
options = {"digits": (1, 4), "sides": (16, 28), "clutter": 6, "noise": 0.1, "seed": given.seed}
options["targets"] = ("class_map",)
# Nine pixels of ten are background: counted in full, they teach a net to see nothing else.
WEIGHT = np.array([1.0] * BACKGROUND + [0.2], np.float32)
train = Loader(Scenes("train", TRAIN, **options), BATCH)  # no scene comes twice
pictures, truth = Scenes("test", TEST, **options)[:]


def trained(network):
    """A network after its training."""
    minigrad.random.manual_seed(given.seed)
    model = network()
    optimizer = nn.optim.Adam(model.parameters())
    schedule = nn.schedule.OneCycleLR(optimizer, max_lr=0.004, total_steps=len(train))
    for step, (inputs, class_map) in enumerate(train):
        loss = F.cross_entropy(model(minigrad.tensor(inputs)), class_map, weight=WEIGHT)
        optimizer.zero_grad()
        loss.backward()
        nn.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % (len(train) // 4) == 0:
            print(f"  step {step:4}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def classes_of(model):
    """The likeliest class of each pixel of all test pictures."""
    with minigrad.no_grad():
        parts = [pictures[i : i + 100] for i in range(0, TEST, 100)]
        return np.concatenate([model(minigrad.tensor(p)).numpy().argmax(1) for p in parts])


table = Table("network", "parameters", "mean IoU", "digits only", "pixels right", "seconds")
maps = {}
for name, network in NETWORKS.items():
    print(name)
    started = time.process_time()
    model = trained(network)
    maps[name] = found = classes_of(model)
    iou = region_iou(found, truth, CLASSES)
    numbers = np.nanmean(iou), np.nanmean(iou[:BACKGROUND]), (found == truth).mean()
    seconds = time.process_time() - started
    weights = sum(p.size for p in model.parameters())
    table.add_row(name, f"{weights:,}", *(f"{n:.4f}" for n in numbers), f"{seconds:.0f}")
Console().print(table)
print(f"each has seen {TRAIN} scenes; {TEST} tested; seconds are those of one core")

colors = np.append(colormaps["tab10"](np.arange(10))[:, :3], [[0.0, 0.0, 0.0]], axis=0)
rows = {"picture": pictures[:, 0], **maps, "truth": truth}
figure = Figure(figsize=(9.5, 7.4), dpi=90, layout="constrained", facecolor="black")
for row, (name, images) in zip(figure.subplots(len(rows), 8), rows.items(), strict=True):
    for axes, image in zip(row, images, strict=False):
        axes.imshow(image if image.dtype.kind == "f" else colors[image], "gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, color="white", fontsize=9)
figure.savefig("scenes_segmentation.png")
