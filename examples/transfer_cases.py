"""The lecture's three cases of transfer learning: who knows five classes learns five more.

A small residual network learns five classes of CIFAR-10's JPEG folder from 1,000 pictures each.  It
then moves to the other five, with 20, 100 or 500 pictures each: from nothing, and by the cases
tiny (a new head only), small (also the last convolutions) and large (all of it).  A quarter of an
hour on one core; `--quick` shows it on small digits.  Ends in a table and a JSON file.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

import minigrad
import minigrad_nn as nn
from minigrad_nn import data
from minigrad_nn.data import Loader, augment
from minigrad_nn.train import LearningRate, evaluate, fit
from minigrad_nn.transfer import transfer

KNOWN, NEW, CASES = range(5), range(5, 10), ("from nothing", "tiny", "small", "large")

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--depth", type=int, default=14, help="layers of the network, 6n + 2")
parser.add_argument("--out", type=Path, default=Path("transfer_cases"), help="a folder")
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
if given.quick:
    given.depth, sizes, first_epochs, steps = 8, (5, 20), 2, 10
    train, test = (
        data.ArrayDataset(augment.resize(x, 16).repeat(3, axis=1), y)
        for x, y in (data.Digits("train")[:600], data.Digits("test")[:])
    )
    normalize, change = data.Normalize((0.3,) * 3, (0.3,) * 3), augment.RandomShift(1.0)
else:
    sizes, first_epochs, steps = (20, 100, 500), 30, 600
    train, test = data.CIFAR10JPEG("train"), data.CIFAR10JPEG("test")
    normalize = data.CIFAR10JPEG.normalize()
    change = augment.Compose(augment.RandomCrop(32, padding=4), augment.RandomHorizontalFlip())


def learn(model, samples, epochs, lr):
    """Train what of a model is not frozen."""
    both = augment.Compose(change, normalize)
    loader = Loader(samples, 64, shuffle=True, seed=given.seed, transform=both)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = nn.optim.SGD(learning, lr=lr, momentum=0.9, weight_decay=5e-4)
    rate = nn.schedule.OneCycleLR(optimizer, lr, epochs * len(loader), cycle_momentum=False)
    fit(model, loader, optimizer, epochs, callbacks=[LearningRate(rate, every="batch")])


def right(model, classes):
    """The share of the test pictures of some classes that are read right."""
    loader = Loader(data.only_classes(test, classes), 500, transform=normalize)
    return evaluate(model, loader)["accuracy"]


started = time.perf_counter()
minigrad.random.manual_seed(given.seed)
teacher = nn.models.CifarResNet(given.depth, classes=len(KNOWN))
learn(teacher, data.only_classes(train, KNOWN), first_epochs, 0.1)
print(f"the five classes it learned first: {100 * right(teacher, KNOWN):.1f} % read right")

found = {}
for size in sizes:
    few = data.labels_per_class(data.only_classes(train, NEW), size, seed=given.seed)
    epochs = -(-steps // -(-len(few) // 64))  # as many steps for each size
    for case in CASES:
        minigrad.random.manual_seed(given.seed + 1)
        model = nn.models.CifarResNet(given.depth, classes=len(KNOWN))
        if case == "from nothing":
            nn.transfer.replace_head(model, len(NEW))
        else:
            model.load_state_dict(teacher.state_dict())
            transfer(model, len(NEW), case=case, last=2)
        learn(model, few, epochs, lr=0.1 if case in ("from nothing", "tiny") else 0.02)
        found.setdefault(case, []).append(right(model, NEW))
        print(f"{size} labels a class, {case}: {100 * found[case][-1]:.1f} %", flush=True)

table = Table("case", *(f"{size} labels a class" for size in sizes), title="test accuracy %")
for case, values in found.items():
    table.add_row(case, *(f"{100 * value:.1f}" for value in values))
Console().print(table)
record = dict(
    sizes=sizes, accuracy=found, first=right(teacher, KNOWN), seed=given.seed, depth=given.depth,
    seconds=round(time.perf_counter() - started), command=" ".join(sys.argv),
    date=str(datetime.date.today()),
)  # fmt: skip
(given.out / "transfer_cases.json").write_text(json.dumps(record))
