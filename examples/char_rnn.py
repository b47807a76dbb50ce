"""A plain recurrent network learns to write like Shakespeare, a character at a time.

The lecture's h[t] = tanh(W_hh h[t-1] + W_xh x[t]), y[t] = W_hy h[t], on a million characters; the
last tenth of the text is for the test.  Gradients go back 100 characters, the state goes on.  Half
an hour on one core; `--resume` goes on where a run was cut off, `--quick` reads a few lines for
some seconds.  Ends in the loss in nats a character (below 1.65), a sample, and a JSON file.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.data import Shakespeare, Text
from minigrad_nn.io import load_checkpoint, save_checkpoint

LINES = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--hidden", type=int, default=512)
parser.add_argument("--kind", choices=("rnn", "lstm", "gru"), default="rnn")
parser.add_argument("--epochs", type=int, default=16)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("char_rnn"), help="a folder")
for flag in ("--resume", "--quick"):
    parser.add_argument(flag, action="store_true")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)
if given.quick:
    given.hidden, given.epochs, lr, batch = 64, 30, 0.01, (4, 20)
    train = test = Text(LINES)
else:
    lr, batch = 0.001, (50, 100)
    train, test = Shakespeare("train+validation"), Shakespeare("test")

minigrad.random.manual_seed(given.seed)
model = nn.models.CharRNN(
    len(train.vocabulary), given.hidden, kind=given.kind, embedding=64, dropout=0.1
)
streams = train.streams(*batch)
optimizer = nn.optim.Adam(model.parameters(), lr=lr)
schedule = nn.schedule.OneCycleLR(
    optimizer, lr, given.epochs * len(streams), pct_start=0.1, cycle_momentum=False
)


def loss_of(logits, targets):
    """Mean cross-entropy of all characters of a batch."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[2]), targets.ravel())


def test_loss():
    """Mean loss of the test text in nats a character, read from its beginning to its end."""
    total, state = 0.0, None
    model.eval()
    with minigrad.no_grad():
        for inputs, targets in test.streams(1, 500):
            logits, state = model(inputs, state)
            total += loss_of(logits, targets).item() * len(inputs)
    model.train()
    return total / (len(test) - 1)


path, history, seconds = given.out / "char_rnn.safetensors", [], 0.0
parts = dict(model=model, optimizer=optimizer, schedule=schedule, streams=streams)
if given.resume and path.exists():
    found = load_checkpoint(path, **parts)
    history, seconds = found["history"], found["seconds"]
for epoch in range(len(history), given.epochs):
    started, state, learned = time.perf_counter(), None, 0.0
    for inputs, targets in streams:
        logits, state = model(inputs, nn.detached(state))
        loss = loss_of(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        learned += loss.item() / len(streams)
    history.append([learned, test_loss()])
    seconds += time.perf_counter() - started
    print(f"epoch {epoch + 1}: training {learned:.3f}, test {history[-1][1]:.3f}", flush=True)
    save_checkpoint(path, **parts, history=history, seconds=seconds)

start = train.vocabulary.encode("T" if given.quick else "\n")
text, _ = model.generate(start, 400, 0.7, minigrad.random.Generator(given.seed))
print(f"\n{train.vocabulary.decode(text)}\n\ntest: {history[-1][1]:.3f} nats a character")
record = dict(
    nats=history[-1][1], history=history, kind=given.kind, hidden=given.hidden, seed=given.seed,
    epochs=given.epochs, seconds=round(seconds), sample=train.vocabulary.decode(text),
    command=" ".join(sys.argv), date=str(datetime.date.today()),
)  # fmt: skip
(given.out / "char_rnn.json").write_text(json.dumps(record))
