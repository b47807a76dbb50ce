"""How long it takes from the start of a process to the end of LeNet-5's first training step.

    python benchmarks/startup.py [--turns N] [--alone] [--threads N] [--json FILE]

Ours from an empty cache of kernels, which compiles them all, and from a full one; PyTorch's own
start beside them.  Each is a fresh process with the same step (batch 128, forward, loss, backward,
SGD with momentum); the peers take turns, and the table has the median of each, for ours also the
slowest kernels to compile.  Needs the extra `peers` but with `--alone`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from common import about, environment, parser, write

PEERS = ("minigrad, empty cache", "minigrad, full cache", "torch")


def work(peer: str) -> None:
    """The process of one peer: a step, and what took how long on standard output."""
    inputs = np.random.default_rng(0).standard_normal((128, 1, 28, 28), dtype=np.float32)
    labels = np.arange(128) % 10
    found = torch_step(inputs, labels) if peer == "torch" else minigrad_step(inputs, labels)
    print(json.dumps(found), flush=True)


def minigrad_step(inputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The first step of ours; seconds by kernel, for those that are not there at once."""
    import minigrad
    import minigrad_nn as nn
    from minigrad_nn import functional as F
    from minigrad_nn import kernels, models
    from minigrad_nn.kernels.cpu import compile as compiling

    seconds: dict[str, float] = {}
    real = compiling.Kernel.__call__

    def timed(self: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = real(self, *arguments)
        name, took = self.__name__, time.perf_counter() - start
        seconds[name] = max(seconds.get(name, 0.0), took)
        return result

    compiling.Kernel.__call__ = timed  # type: ignore[method-assign]
    model = models.LeNet5()
    optimizer = nn.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    with kernels.reuse_memory():  # as `train.fit` does
        loss = F.cross_entropy(model(minigrad.tensor(inputs)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return seconds


def torch_step(inputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The first step of PyTorch's."""
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten()),
        *(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    loss = nn.functional.cross_entropy(model(torch.from_numpy(inputs)), torch.from_numpy(labels))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {}


def start(peer: str, cache: str, threads: int) -> tuple[float, dict[str, float]]:
    """Seconds of one fresh process, and of its kernels."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, "--work", peer],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(threads), "MINIGRAD_CACHE_DIR": cache},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()  # when the step is done, not when the process is
        seconds = time.perf_counter() - begin
    if not line:
        raise SystemExit(f"the process of {peer} ended without a step")
    return seconds, json.loads(line)


def measure(peers: list[str], turns: int, threads: int) -> dict[str, Any]:
    """Medians of each peer, and the kernels that took longest to compile."""
    seconds: dict[str, list[float]] = {peer: [] for peer in peers}
    kernels: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as full:
        start(PEERS[1], full, threads)  # fills the cache
        for turn in range(turns):
            for peer in sorted(peers, key=lambda peer: (peers.index(peer) + turn) % len(peers)):
                with tempfile.TemporaryDirectory() as empty:
                    cache = empty if peer == PEERS[0] else full
                    took, found = start(peer, cache, threads)
                seconds[peer].append(took)
                if peer == PEERS[0]:
                    kernels = found
    slowest = sorted(kernels.items(), key=lambda pair: -pair[1])
    return {
        "seconds": {peer: round(statistics.median(v), 3) for peer, v in seconds.items()},
        "kernels": {name: round(took, 3) for name, took in slowest if took > 0.05},
    }


def main() -> None:
    """Measure, print a table, and write JSON."""
    options = parser(__doc__, turns=3)
    options.add_argument("--alone", action="store_true", help="without PyTorch")
    options.add_argument("--work", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work:
        work(given.work)
        return
    peers = list(PEERS[:2] if given.alone else PEERS)
    found = measure(peers, given.turns, given.threads)
    print(f"start to the end of LeNet-5's first step, {given.threads} threads, {given.turns} turns")
    for peer, seconds in found["seconds"].items():
        print(f"{peer:24} {seconds:7.2f} s")
    print("compiled, of the last empty cache:")
    for name, seconds in found["kernels"].items():
        print(f"  {name:22} {seconds:7.2f} s")
    write(given.json, about(threads=given.threads, turns=given.turns), found)


if __name__ == "__main__":
    main()
