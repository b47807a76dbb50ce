"""One to many: a recurrent network invents first names, letter by letter, from a start token.

It learns from a list of 29,494 names that has no labels.  A few minutes on one core; `--quick`
learns forty names for some seconds.  Ends in the loss on names that it never saw, in nats a letter,
a table of names that are in no list, and a JSON file.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

from rich.columns import Columns
from rich.console import Console

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.data import Lines, Loader, Names

FEW = """ada alan albert alice anna carl clara david edsger emmy ernst eva frances grace hedy ida
isaac jean john julia karen kurt leonhard lise marie mary max nina noether otto paul pierre rosalind
sofia sonja srinivasa stephen thomas vera werner"""

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--temperature", type=float, default=0.8)
parser.add_argument("--out", type=Path, default=Path("names"), help="a folder")
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
if given.quick:
    train = test = Lines(FEW.split())
    hidden, epochs = 32, 60
else:
    train, test = Names("train+validation"), Names("test")
    hidden, epochs = 192, 15

minigrad.random.manual_seed(given.seed)
letters = train.vocabulary
model = nn.models.CharRNN(len(letters), hidden, embedding=32, batch_first=True)
loader = Loader(train, 64, shuffle=True, seed=given.seed)
optimizer = nn.optim.Adam(model.parameters(), lr=0.003)
schedule = nn.schedule.OneCycleLR(optimizer, 0.003, epochs * len(loader), cycle_momentum=False)


def loss_of(inputs, targets):
    """Mean cross-entropy of the letters and ends of names; padding (-100) is left out."""
    logits, _ = model(inputs)
    return F.cross_entropy(logits.reshape(-1, len(letters)), targets.ravel())


def test_loss():
    """The mean over all letters of names that were not learned."""
    total = count = 0
    with minigrad.no_grad():
        for inputs, targets in Loader(test, 256):
            letters_here = (targets >= 0).sum()
            total += loss_of(inputs, targets).item() * letters_here
            count += letters_here
    return float(total / count)


started = time.perf_counter()
for epoch in range(epochs):
    for inputs, targets in loader:
        loss = loss_of(inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    if not given.quick or epoch % 20 == 19:
        print(f"epoch {epoch + 1}: test {test_loss():.3f} nats a letter", flush=True)
seconds = time.perf_counter() - started

known, new = {*train.texts, *test.texts}, {}
generator = minigrad.random.Generator(given.seed)
stop = letters.number("<end>")
for _ in range(400):
    text, _ = model.generate(
        [letters.number("<start>")], 20, given.temperature, generator, stop=stop
    )
    name = letters.decode(text)
    if name and name not in known:
        new[name] = None
nats = test_loss()
Console().print(Columns(list(new)[:60], equal=True, title="names that are in no list"))
print(f"test: {nats:.3f} nats a letter")
record = dict(
    nats=nats, names=list(new)[:60], hidden=hidden, epochs=epochs, seed=given.seed,
    seconds=round(seconds), command=" ".join(sys.argv), date=str(datetime.date.today()),
)  # fmt: skip
(given.out / "names.json").write_text(json.dumps(record))
