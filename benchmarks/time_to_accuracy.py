"""How long LeNet-5 takes to reach 99.0 % on MNIST's test pictures, beside PyTorch.

    python benchmarks/time_to_accuracy.py [--seeds N ...] [--goal F] [--epochs N] [--samples N]
                                          [--alone] [--threads N] [--json FILE]

Both begin with the same weights and see the same batches in the same order: batches of 128, SGD
with momentum 0.9, weight decay 5e-4 and a learning rate that falls from 0.1 along a cosine.  Each
epoch ends with all test pictures.  Seconds are those of training and testing, without the reading
of files and with the loading of kernels from a full cache; the two take turns, each in a process of
its own.  Needs the extra `peers` but with `--alone`, and MNIST.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from common import about, environment, parser, write

BATCH, RATE, MOMENTUM, DECAY = 128, 0.1, 0.9, 5e-4
PEERS = ("minigrad", "torch")
# What learns from a batch at a learning rate, and what gives the classes of pictures.
Learner = tuple[Callable[[np.ndarray, np.ndarray, float], None], Callable[[np.ndarray], np.ndarray]]


def digits(split: str, samples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Normalised pictures `(N, 1, 28, 28)` and their classes."""
    from minigrad_nn.data import MNIST

    pictures, labels = MNIST(split)[:samples]
    return np.asarray(MNIST.normalize()(pictures), np.float32), np.asarray(labels, np.int64)


def weights(seed: int) -> dict[str, np.ndarray]:
    """LeNet-5's first weights, by name."""
    import minigrad
    from minigrad_nn import models

    minigrad.random.manual_seed(seed)
    return dict(models.LeNet5().state_dict())


def batches(
    pictures: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """An epoch of whole batches, shuffled."""
    order = rng.permutation(len(labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        some = order[start : start + BATCH]
        yield pictures[some], labels[some]


def minigrad_learner(start: dict[str, np.ndarray]) -> Learner:
    """Ours."""
    import minigrad
    import minigrad_nn as nn
    from minigrad_nn import functional as F
    from minigrad_nn import models

    model = models.LeNet5()
    model.load_state_dict(start)
    optimizer = nn.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)

    def learn(x: np.ndarray, y: np.ndarray, rate: float) -> None:
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(model(minigrad.tensor(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def classify(x: np.ndarray) -> np.ndarray:
        with minigrad.no_grad():
            return np.asarray(model(minigrad.tensor(x)).numpy().argmax(1))

    return learn, classify


def torch_learner(start: dict[str, np.ndarray]) -> Learner:
    """PyTorch's."""
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten()),
        *(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )
    values = (torch.from_numpy(value.copy()) for value in start.values())
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)

    def learn(x: np.ndarray, y: np.ndarray, rate: float) -> None:
        optimizer.param_groups[0]["lr"] = rate
        loss = nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def classify(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(x)).argmax(1).numpy())

    return learn, classify


def work(peer: str, seed: int, goal: float, epochs: int, samples: int | None) -> None:
    """The process of one peer: trains until the goal is reached, and prints what it took."""
    pictures, labels = digits("train", samples)
    asked, truth = digits("test")
    start = weights(seed)
    make = minigrad_learner if peer == "minigrad" else torch_learner
    begin = time.perf_counter()
    learn, classify = make(start)
    rng, step, steps = np.random.default_rng(seed), 0, epochs * (len(labels) // BATCH)
    accuracies: list[float] = []
    while len(accuracies) < epochs and max(accuracies, default=0.0) < goal:
        for x, y in batches(pictures, labels, rng):
            learn(x, y, RATE * (1 + math.cos(math.pi * step / steps)) / 2)
            step += 1
        classes = [classify(asked[i : i + 1000]) for i in range(0, len(asked), 1000)]
        accuracies.append(float((np.concatenate(classes) == truth).mean()))
    seconds = time.perf_counter() - begin
    reached = accuracies[-1] >= goal
    print(json.dumps({"seconds": seconds, "reached": reached, "accuracies": accuracies}))


def run(peer: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One training, in a process of its own."""
    asked = [peer, str(seed), str(given.goal), str(given.epochs), str(given.samples or 0)]
    done = subprocess.run(
        [sys.executable, __file__, "--work", *asked],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment(given.threads),
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure, print a table, and write JSON."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--goal", type=float, default=0.99)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--samples", type=int, help="pictures to learn from; all by default")
    options.add_argument("--alone", action="store_true", help="without PyTorch")
    options.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work:
        peer, seed, goal, epochs, samples = given.work
        if peer == "minigrad":
            from minigrad_nn.kernels import reuse_memory

            with reuse_memory():  # as `train.fit` does
                work(peer, int(seed), float(goal), int(epochs), int(samples) or None)
        else:
            work(peer, int(seed), float(goal), int(epochs), int(samples) or None)
        return
    peers = PEERS[:1] if given.alone else PEERS
    found: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
    print(f"LeNet-5 on MNIST to {given.goal:.1%} of test pictures, {given.threads} threads")
    for turn, seed in enumerate(given.seeds):
        for peer in peers if turn % 2 else peers[::-1]:
            one = run(peer, seed, given)
            found[peer].append({"seed": seed, **one})
            told = "" if one["reached"] else ", and the goal was not reached"
            print(
                f"{peer:10} seed {seed}: {one['seconds']:7.2f} s, {len(one['accuracies'])} epochs, "
                f"{max(one['accuracies']):.2%}{told}",
                flush=True,
            )
    ratios = []
    if not given.alone:
        pairs = zip(found["torch"], found["minigrad"], strict=True)
        ratios = [theirs["seconds"] / ours["seconds"] for theirs, ours in pairs]
        print(f"ratio, theirs / ours: {statistics.median(ratios):.2f}")
    head = about(threads=given.threads, goal=given.goal)
    write(given.json, head, {"ratios": ratios, "runs": found})


if __name__ == "__main__":
    main()
