"""ResNet-20 beside a plain network of the same depth, on 10,000 colour pictures of ten classes.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2016, section 4.2, on the
JPEG folder of CIFAR-10 (a fifth of its pictures).  Each network takes about half an hour on one
core; `--resume` goes on where a run was cut off.  `--quick` shows it on few pictures.  Ends in a
table, `cifar_resnet.json` and a picture of how both learn.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import minigrad
import minigrad_nn as nn
from minigrad_nn.data import CIFAR10JPEG, ArrayDataset, Digits, Loader, Normalize, augment
from minigrad_nn.train import Checkpoint, LearningRate, ProgressBar, fit

NETWORKS = {"resnet20": nn.models.resnet20, "plain20": nn.models.plain20}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
parser.add_argument("--epochs", type=int, default=60)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("cifar_resnet"), help="a folder")
for flag in ("--resume", "--quick"):
    parser.add_argument(flag, action="store_true")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
if given.quick:
    given.epochs = 2
    train, test = (
        ArrayDataset(augment.resize(x, 32).repeat(3, axis=1), y)
        for x, y in (Digits("train")[:256], Digits("test")[:128])
    )
    normalize = Normalize((0.3,) * 3, (0.3,) * 3)
else:
    train, test = CIFAR10JPEG("train"), CIFAR10JPEG("test")
    normalize = CIFAR10JPEG.normalize()
# Crops of pictures that have 4 more pixels at each side, and mirror images, as in the paper.
change = augment.Compose(
    augment.RandomCrop(32, padding=4), augment.RandomHorizontalFlip(), normalize
)


def train_network(name):
    """The history of a network's training."""
    minigrad.random.manual_seed(given.seed)
    model = NETWORKS[name]()
    loader = Loader(train, 64, shuffle=True, seed=given.seed, drop_last=True, transform=change)
    optimizer = nn.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    steps = given.epochs * len(loader)
    rate = nn.schedule.OneCycleLR(optimizer, 0.1, steps, cycle_momentum=False)
    path = given.out / f"{name}-{given.seed}.safetensors"
    callbacks = [LearningRate(rate, every="batch"), ProgressBar(), Checkpoint(path)]
    print(f"{name}, {sum(p.size for p in model.parameters()):,} parameters", flush=True)
    return fit(
        model,
        loader,
        optimizer,
        given.epochs,
        validation={"test": Loader(test, 500, transform=normalize)},
        callbacks=callbacks,
        resume=path if given.resume and path.exists() else None,
    )


file = given.out / "cifar_resnet.json"
for name in given.only:
    run = train_network(name)
    record = json.loads(file.read_text()) if file.exists() else {}
    record[name] = dict(
        accuracy=run.history[-1]["test_accuracy"], seed=given.seed, epochs=given.epochs,
        seconds=round(run.seconds), command=" ".join(sys.argv), date=str(datetime.date.today()),
        history=[[row["accuracy"], row["test_accuracy"]] for row in run.history],
    )  # fmt: skip
    file.write_text(json.dumps(record))

figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
axes = figure.subplots()
axes.set(xlabel="epoch", ylabel="share read right", title="with shortcuts, and without")
table = Table("network", "test accuracy %", "epochs", "seconds", title="CIFAR-10, 10,000 pictures")
for (name, found), color in zip(record.items(), ("C0", "C1"), strict=False):
    learned, tested = zip(*found["history"], strict=True)
    axes.plot(range(1, len(tested) + 1), tested, color=color, label=f"{name}, test")
    axes.plot(range(1, len(tested) + 1), learned, ":", color=color, label=f"{name}, training")
    epochs, seconds = str(found["epochs"]), str(found["seconds"])
    table.add_row(name, f"{100 * found['accuracy']:.2f}", epochs, seconds)
axes.legend()
figure.savefig(given.out / "cifar_resnet.png")
Console().print(table)
