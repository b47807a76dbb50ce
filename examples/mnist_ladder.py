"""The ladder of the lecture on MNIST, from one layer to seven deep networks: hours, or `--quick`.

`--only` some steps; `--resume` after a cut; `--validate` on training pictures that were kept back.
"""

import argparse
import functools
import json
import sys
from datetime import date
from pathlib import Path

import numpy as np

import minigrad
import minigrad_nn as nn
from minigrad_nn.data import MNIST, ArrayDataset, Digits, Loader, Subset, augment
from minigrad_nn.ensemble import moved
from minigrad_nn.train import Checkpoint, LearningRate, ProgressBar, evaluate, fit


def mlp():
    layers = [nn.Flatten(), nn.Dropout(0.1)]
    for given in (784, 512, 512):
        layers += nn.Linear(given, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.4)
    return nn.Sequential(*layers, nn.Linear(512, 10))


def deep():  # pictures of 28x28 become maps of 12x12, 10x10, 8x8, 4x4 and 2x2
    def conv(given, made, size, stride=1):
        layers = nn.Conv2d(given, made, size, stride, bias=False), nn.BatchNorm2d(made), nn.ReLU()
        return nn.Sequential(*layers)

    first = conv(1, 24, 5, 2), conv(24, 48, 3), conv(48, 64, 3), nn.AvgPool2d(2)
    return nn.Sequential(*first, conv(64, 96, 3), nn.Flatten(), nn.Linear(96 * 4, 10))


flip, shift = augment.RandomHorizontalFlip(), augment.RandomShift(1.0)
affine = augment.RandomAffine(8, translate=(0.05, 0.05), scale=(0.92, 1.08), shear=6)
distort = augment.Distortions(affine, augment.ElasticDistortion(alpha=16, sigma=4))
adam = functools.partial(nn.optim.Adam, lr=0.002)
sgd = functools.partial(nn.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
STEPS = {  # by name: the lecture's accuracy, network, epochs, optimiser, changes of the pictures
    "softmax": (90.23, lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 20, adam),
    "mlp": (98.0, mlp, 15, functools.partial(nn.optim.Adam, lr=0.003)),
    "lenet5": (98.85, nn.models.LeNet5, 10, adam, shift),
    "flipped": (98.85, nn.models.LeNet5, 10, adam, flip, shift),
    **dict.fromkeys(("deep", "ensemble", "looks"), (99.38, deep, 12, sgd, distort)),
}
MOVES = [moved(down, right) for down in (0, 1, -1) for right in (0, 1, -1)]

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
parser.add_argument("--out", type=Path, default="mnist_ladder", help="a folder")
for flag in ("--resume", "--validate", "--quick"):
    parser.add_argument(flag, action="store_true")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
source, members, seeds = (Digits, range(2), [0]) if given.quick else (MNIST, range(7), given.seeds)
train, test = source("train"), source("test")
if given.quick:
    train, test = (ArrayDataset(augment.resize(x, 28), y) for x, y in (train[:], test[:]))
if given.validate:
    train, test = Subset(train, np.arange(50_000)), Subset(train, np.arange(50_000, 60_000))


@functools.cache
def trained(name, seed):
    """The network of a step after its training, and the seconds that it took."""
    _, network, epochs, optimizer, *changes = STEPS[name]
    epochs = 2 if given.quick else epochs
    change = augment.Compose(*changes, source.normalize())
    loader = Loader(train, 128, shuffle=True, seed=seed, drop_last=True, transform=change)
    minigrad.random.manual_seed(seed)
    model, path = network(), given.out / f"{name}-{seed}.safetensors"
    opt, batches = optimizer(model.parameters()), epochs * len(loader)
    rate = nn.schedule.OneCycleLR(opt, opt.defaults["lr"], batches, cycle_momentum=False)
    callbacks = [LearningRate(rate, every="batch"), ProgressBar(), Checkpoint(path)]
    resume = path if given.resume and path.exists() else None
    return model, fit(model, loader, opt, epochs, callbacks=callbacks, resume=resume).seconds


file, command = given.out / "ladder.json", " ".join(sys.argv)
record = json.loads(file.read_text()) if file.exists() else {}
for name in given.only:
    for seed in ["all"] if name in ("ensemble", "looks") else seeds:
        which = [("deep", i) for i in members] if seed == "all" else [(name, seed)]
        models, seconds = zip(*(trained(*one) for one in which), strict=True)
        looks = MOVES[: 9 if name == "looks" else 1]
        together = nn.TestTimeAugmentation(nn.Ensemble(models), looks)
        about = evaluate(together, Loader(test, 500, transform=source.normalize()))
        about |= dict(seconds=round(sum(seconds)), command=command, date=str(date.today()))
        record.setdefault(name, {})[str(seed)] = about
        file.write_text(json.dumps(record, indent=1))
print("step      lecture %   median  seconds  each")
for name, runs in record.items():
    found, seconds = (np.array([run[k] for run in runs.values()]) for k in ("accuracy", "seconds"))
    rest = f"{100 * np.median(found):9.2f}{np.median(seconds):9.0f}"
    print(f"{name:10}{STEPS[name][0]:9}{rest} ", *np.round(100 * found, 2))
