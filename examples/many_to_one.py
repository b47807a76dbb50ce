"""Many to one: a recurrent network reads a sequence to its end, and then says what it was.

Two tasks: which digit a picture of MNIST shows, read row by row as a sequence of 28 (above 97 %
right); and whether a sentence of a small language with "not", "but" and "although" is good or bad,
where the same words in another order can mean the opposite.  Each takes some minutes on one core;
`--quick` reads few small digits and sentences.  Ends in a table and a JSON file.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import minigrad
import minigrad_nn as nn
from minigrad_nn.data import MNIST, ArrayDataset, Digits, Loader, Sentiments
from minigrad_nn.train import Checkpoint, LearningRate, ProgressBar, evaluate, fit


class Rows(nn.Module):
    """Pictures (N, 1, H, W) as sequences of H rows; the last state decides."""

    def __init__(self, width, hidden, kind=nn.RNN):
        super().__init__()
        self.rnn = kind(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x):
        outputs, _ = self.rnn(x.reshape(len(x), *x.shape[2:]))
        return self.head(outputs[:, -1])


class Reader(nn.Module):
    """Sentences (N, T) of numbered words, 0 behind their ends; the state at the end decides."""

    def __init__(self, words, hidden):
        super().__init__()
        self.embedding = nn.Embedding(words, 16)
        self.rnn = nn.GRU(16, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2)

    def forward(self, sentences):
        numbers = sentences.numpy()
        _, last = self.rnn(self.embedding(numbers), lengths=(numbers > 0).sum(axis=1))
        return self.head(last[0])


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--only", choices=("rows", "sentiment"))
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("many_to_one"), help="a folder")
for flag in ("--resume", "--quick"):
    parser.add_argument(flag, action="store_true")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)


def rows():
    """Network, data, change of a batch, epochs and learning rate."""
    source, epochs = (Digits, 8) if given.quick else (MNIST, 12)
    model = Rows(8, 64) if given.quick else Rows(28, 128)
    return model, source("train"), source("test"), source.normalize(), epochs, 0.002


def sentiment():
    """The same for sentences."""
    count, epochs = (1000, 3) if given.quick else (10_000, 8)
    parts = Sentiments("train", count)[:], Sentiments("test", count // 5)[:]
    train, test = (ArrayDataset(words, labels) for words, _, labels in parts)
    return Reader(len(Sentiments("test", 1).vocabulary), 64), train, test, None, epochs, 0.005


file = given.out / "many_to_one.json"
record = json.loads(file.read_text()) if file.exists() else {}
for name, prepare in (("rows", rows), ("sentiment", sentiment)):
    if given.only not in (None, name):
        continue
    minigrad.random.manual_seed(given.seed)
    model, train, test, change, epochs, lr = prepare()
    loader = Loader(train, 100, shuffle=True, seed=given.seed, transform=change)
    optimizer = nn.optim.Adam(model.parameters(), lr=lr)
    rate = nn.schedule.OneCycleLR(optimizer, lr, epochs * len(loader), cycle_momentum=False)
    path = given.out / f"{name}-{given.seed}.safetensors"
    resume = path if given.resume and path.exists() else None
    callbacks = [LearningRate(rate, every="batch"), ProgressBar(), Checkpoint(path)]
    run = fit(model, loader, optimizer, epochs, clip_norm=1.0, callbacks=callbacks, resume=resume)
    accuracy = evaluate(model, Loader(test, 500, transform=change))["accuracy"]
    about = dict(seed=given.seed, command=" ".join(sys.argv), date=str(datetime.date.today()))
    record[name] = dict(accuracy=accuracy, epochs=epochs, seconds=round(run.seconds), **about)
    file.write_text(json.dumps(record, indent=1))

table = Table("what is read", "test accuracy %", "epochs", "seconds", title="many to one")
for name, found in record.items():
    about = str(found["epochs"]), str(found["seconds"])
    table.add_row(name, f"{100 * found['accuracy']:.2f}", *about)
Console().print(table)
