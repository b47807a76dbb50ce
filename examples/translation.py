"""Many to many: an encoder reads a text, a decoder writes another, letter by letter.

Two tasks: words of letters written backwards, and dates as people write them turned into ISO 8601
("Sat, 3 May 1980" into 1980-05-03), which only counts if every letter is right (above 95 %).  The
decoder looks back at what the encoder read by attention; the picture shows where it looked.  Each
takes some minutes on one core; `--quick` learns for some seconds.  Ends in a table, a picture and a
JSON file.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.data import Dates, Loader, Reversals

TASKS = {"reversal": Reversals, "dates": Dates}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
parser.add_argument("--kind", choices=("rnn", "lstm", "gru"), default="gru")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("translation"), help="a folder")
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
count, epochs = (400, 1) if given.quick else (10_000, 10)


def learn(name):
    """A trained network and the seconds that it took."""
    started = time.perf_counter()
    minigrad.random.manual_seed(given.seed)
    pairs = TASKS[name]("train", count)
    sizes = len(pairs.source_vocabulary), len(pairs.target_vocabulary)
    model = nn.models.Seq2Seq(
        *sizes, hidden=96, embedding=32, kind=given.kind, attention="additive"
    )
    loader = Loader(pairs, 64, shuffle=True, seed=given.seed)
    optimizer = nn.optim.Adam(model.parameters(), lr=0.004)
    rate = nn.schedule.OneCycleLR(optimizer, 0.004, epochs * len(loader), cycle_momentum=False)
    for epoch in range(epochs):
        total = 0.0
        for sources, lengths, words, targets in loader:
            logits = model(sources, words, lengths)
            loss = F.cross_entropy(logits.reshape(-1, sizes[1]), targets.ravel())
            optimizer.zero_grad()
            loss.backward()
            nn.optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate.step()
            total += loss.item() / len(loader)
        print(f"{name}, epoch {epoch + 1}: loss {total:.4f}", flush=True)
    return model, time.perf_counter() - started


def write(model, pairs, index):
    """What a model writes for some samples, as texts; and where it looked."""
    sources, lengths, _, _ = pairs[index]
    sentences = model.decode(sources, lengths, length=20)
    return [pairs.target_vocabulary.decode(s.words) for s in sentences], sentences


file = given.out / "translation.json"
record = json.loads(file.read_text()) if file.exists() else {}
figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
table = Table("task", "exact match %", "seconds", "an example", title="encoder and decoder")
for name, axes in zip(
    given.only, figure.subplots(1, len(given.only), squeeze=False)[0], strict=True
):
    model, seconds = learn(name)
    test = TASKS[name]("test", count // 10)
    texts, sentences = write(model, test, slice(None))
    right = sum(a == b for a, b in zip(texts, test.targets, strict=True)) / len(texts)
    record[name] = dict(
        exact=right, kind=given.kind, seed=given.seed, seconds=round(seconds), samples=len(texts),
        command=" ".join(sys.argv), date=str(datetime.date.today()),
    )  # fmt: skip
    file.write_text(json.dumps(record, indent=1))
    table.add_row(name, f"{100 * right:.1f}", f"{seconds:.0f}", f"{test.sources[0]} → {texts[0]}")
    looked = sentences[0].attention[: len(texts[0]), : len(test.sources[0])]
    axes.imshow(looked, cmap="gray_r", vmin=0, vmax=1)
    axes.set(title=name, xlabel="read", ylabel="written")
    axes.set_xticks(range(len(test.sources[0])), list(test.sources[0]))
    axes.set_yticks(range(len(texts[0])), list(texts[0]))
figure.savefig(given.out / "translation.png")
Console().print(table)
