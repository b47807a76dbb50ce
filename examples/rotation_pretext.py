"""Learning without labels: which way up is a picture?  Then 50 labels a class go further.

S. Gidaris, P. Singh and N. Komodakis, "Unsupervised representation learning by predicting image
rotations", 2018.  A small residual network first learns to tell by how many quarters each of the
10,000 pictures of CIFAR-10's JPEG folder was turned; no label is needed for that.  Then it learns
the ten classes from 50 pictures each, beside the same network that starts from nothing.  A quarter
of an hour on one core; `--quick` shows it on small digits.  Ends in a table and a JSON file.
"""

import argparse
import datetime
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import minigrad
import minigrad_nn as nn
from minigrad_nn import data
from minigrad_nn.data import Loader, augment
from minigrad_nn.train import LearningRate, evaluate, fit
from minigrad_nn.transfer import layerwise_groups, replace_head

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the labels")
parser.add_argument("--depth", type=int, default=14, help="layers of the network, 6n + 2")
parser.add_argument("--out", type=Path, default=Path("rotation_pretext"), help="a folder")
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
if given.quick:
    given.depth, given.seeds, labels, pretext_epochs, epochs = 8, [0], 5, 2, 5
    train, test = (
        data.ArrayDataset(augment.resize(x, 16).repeat(3, axis=1), y)
        for x, y in (data.Digits("train")[:600], data.Digits("test")[:])
    )
    normalize, change = data.Normalize((0.3,) * 3, (0.3,) * 3), augment.RandomShift(1.0)
else:
    labels, pretext_epochs, epochs = 50, 30, 60
    train, test = data.CIFAR10JPEG("train"), data.CIFAR10JPEG("test")
    normalize = data.CIFAR10JPEG.normalize()
    change = augment.Compose(augment.RandomCrop(32, padding=4), augment.RandomHorizontalFlip())


def turn(batch, generator):
    """Each picture turned by a random number of quarters, which becomes its label."""
    quarters = generator.integers(len(batch[0]), 0, 4)
    pairs = zip(batch[0], quarters, strict=True)
    return np.stack([np.rot90(x, k, (1, 2)) for x, k in pairs]), quarters


def learn(model, samples, epochs, groups, lr, *changes):
    """Train a model with rates by layer that rise to `lr`, and fall to 0."""
    transform = augment.Compose(change, *changes, normalize)
    loader = Loader(samples, 64, shuffle=True, seed=0, transform=transform)
    optimizer = nn.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=5e-4)
    rates = [group["lr"] for group in optimizer.param_groups]
    rate = nn.schedule.OneCycleLR(optimizer, rates, epochs * len(loader), cycle_momentum=False)
    return fit(model, loader, optimizer, epochs, callbacks=[LearningRate(rate, every="batch")])


started = time.perf_counter()
minigrad.random.manual_seed(0)
turned = nn.models.CifarResNet(given.depth, classes=4)
run = learn(turned, train, pretext_epochs, turned.parameters(), 0.1, turn)
print(f"which way up: {100 * run.history[-1]['accuracy']:.1f} % told right", flush=True)

found = {"from nothing": [], "after the rotations": []}
for seed in given.seeds:
    few = data.labels_per_class(train, labels, seed=seed)
    for start, values in found.items():
        minigrad.random.manual_seed(seed)
        model = nn.models.CifarResNet(given.depth, classes=4)
        if start != "from nothing":
            model.load_state_dict(turned.state_dict())
        replace_head(model, 10)
        # What was learned changes less, and the less, the earlier its layer comes.
        decay = 1.0 if start == "from nothing" else 0.6
        learn(model, few, epochs, layerwise_groups(model, 0.1, decay), 0.1)
        values.append(evaluate(model, Loader(test, 500, transform=normalize))["accuracy"])
        print(f"seed {seed}, {start}: {100 * values[-1]:.1f} %", flush=True)

table = Table("start", *(f"seed {s}" for s in given.seeds), "mean", title="test accuracy %")
for start, values in found.items():
    table.add_row(start, *(f"{100 * v:.1f}" for v in [*values, statistics.mean(values)]))
Console().print(table)
record = dict(
    labels=labels, accuracy=found, seeds=given.seeds, depth=given.depth,
    told=run.history[-1]["accuracy"], seconds=round(time.perf_counter() - started),
    command=" ".join(sys.argv), date=str(datetime.date.today()),
)  # fmt: skip
(given.out / "rotation_pretext.json").write_text(json.dumps(record))
