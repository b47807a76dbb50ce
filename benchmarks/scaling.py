"""How time grows with batch, picture, channels and sequence, beside PyTorch: a log-log picture.

    python benchmarks/scaling.py [--turns N] [--alone] [--quick] [--threads N] [--json FILE]
                                 [--picture FILE]

A training step's work on one layer, forward and both gradients, in float32: a 3x3 convolution of 64
to 64 channels on 16 pictures of 32x32, of which one size after the other is varied, and the vanilla
RNN of 256 units on 32 sequences.  The peers take turns, each in a process of its own; a point is
the median over the turns.  Needs the extra `bench` but with `--alone`.
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
from collections.abc import Callable
from typing import Any

import numpy as np

from common import about, environment, parser, write

PEERS = ("minigrad", "torch")
# What is varied, over which sizes.
SWEEPS = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "picture": (4, 8, 16, 32, 64, 128),
    "channels": (4, 8, 16, 32, 64, 128, 256),
    "sequence": (1, 4, 16, 64, 256),
}
UNITS, STREAMS = 256, 32
# Seconds that a turn takes at least.
TURN = 0.1


def shapes(sweep: str, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the input and of the weights."""
    if sweep == "sequence":
        return (size, STREAMS, UNITS), (UNITS, UNITS)
    batch, picture, channels = 16, 32, 64
    if sweep == "batch":
        batch = size
    elif sweep == "picture":
        picture = size
    else:
        channels = size
    return (batch, channels, picture, picture), (channels, channels, 3, 3)


def operations(sweep: str, size: int) -> float:
    """Multiplications and additions, forward and back."""
    x, w = shapes(sweep, size)
    if sweep == "sequence":
        return 3 * 2.0 * 2 * size * STREAMS * UNITS * UNITS
    return 3 * 2.0 * math.prod(x) * math.prod(w[1:]) / x[1] * w[0]


def minigrad_case(sweep: str, x: np.ndarray, w: np.ndarray) -> Callable[[], None]:
    """Forward and backward by ours."""
    import minigrad
    import minigrad_nn as nn
    from minigrad_nn import functional as F

    given = minigrad.tensor(x, requires_grad=True)
    layer = nn.RNN(UNITS, UNITS) if sweep == "sequence" else None
    weight = minigrad.tensor(w, requires_grad=True)
    g: list[Any] = []

    def step() -> None:
        y = F.conv2d(given, weight, padding=1) if layer is None else layer(given)[0]
        if not g:
            g.append(np.ones(y.shape, np.float32))
        y.backward(g[0])
        for leaf in (given, weight, *(layer.parameters() if layer else ())):
            leaf.zero_grad()

    return step


def torch_case(sweep: str, x: np.ndarray, w: np.ndarray) -> Callable[[], None]:
    """Forward and backward by PyTorch."""
    import torch

    given, weight = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    layer = torch.nn.RNN(UNITS, UNITS) if sweep == "sequence" else None
    g: list[Any] = []

    def step() -> None:
        conv2d = torch.nn.functional.conv2d
        y = conv2d(given, weight, padding=1) if layer is None else layer(given)[0]
        if not g:
            g.append(torch.ones_like(y))
        y.backward(g[0])
        for leaf in (given, weight, *(layer.parameters() if layer else ())):
            leaf.grad = None

    return step


def work(peer: str) -> None:
    """The process of one peer: a line names a case, the seconds of its step come back."""
    if peer == "torch":
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    cases: dict[tuple[str, int], tuple[Callable[[], None], int]] = {}
    for line in sys.stdin:
        sweep, size = json.loads(line)
        if (sweep, size) not in cases:
            rng = np.random.default_rng(0)
            x, w = (rng.standard_normal(s, dtype=np.float32) for s in shapes(sweep, size))
            step = (minigrad_case if peer == "minigrad" else torch_case)(sweep, x, w * 0.01)
            for _ in range(2):
                step()
            start = time.perf_counter()
            step()
            times = max(1, round(TURN / (time.perf_counter() - start)))
            cases[sweep, size] = step, times
        step, times = cases[sweep, size]
        start = time.perf_counter()
        for _ in range(times):
            step()
        print((time.perf_counter() - start) / times, flush=True)


def begin(peer: str, threads: int) -> subprocess.Popen[str]:
    """Start the process of a peer."""
    return subprocess.Popen(
        [sys.executable, __file__, "--work", peer],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(threads),
    )


def ask(process: subprocess.Popen[str], sweep: str, size: int) -> float:
    """Seconds of one turn."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps([sweep, size]) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def measure(peers: tuple[str, ...], turns: int, threads: int, quick: bool) -> dict[str, Any]:
    """Median seconds of each peer by sweep, in the order of its sizes."""
    processes = {peer: begin(peer, threads) for peer in peers}
    found: dict[str, Any] = {}
    for sweep, all_sizes in SWEEPS.items():
        sizes = all_sizes[:3] if quick else all_sizes
        rows: dict[str, list[float]] = {peer: [] for peer in peers}
        for size in sizes:
            seconds: dict[str, list[float]] = {peer: [] for peer in peers}
            for turn in range(turns):
                for peer in peers if turn % 2 else peers[::-1]:
                    seconds[peer].append(ask(processes[peer], sweep, size))
            for peer in peers:
                rows[peer].append(statistics.median(seconds[peer]))
            rate = operations(sweep, size) / rows["minigrad"][-1] / 1e9
            times = "   ".join(f"{peer} {1e3 * rows[peer][-1]:9.3f} ms" for peer in peers)
            print(f"{sweep:9} {size:4}   {times}   ours {rate:6.1f} GF/s", flush=True)
        found[sweep] = {"sizes": list(sizes), "seconds": rows}
    for process in processes.values():
        process.communicate()
    return found


def draw(found: dict[str, Any], path: str) -> None:
    """The log-log picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), layout="constrained")
    for axes, (sweep, rows) in zip(figure.subplots(2, 2).flat, found.items(), strict=True):
        for peer, seconds in rows["seconds"].items():
            style = "o-" if peer == "minigrad" else "s--"
            axes.loglog(rows["sizes"], [1e3 * s for s in seconds], style, label=peer)
        axes.set_xticks(rows["sizes"], [str(size) for size in rows["sizes"]])
        axes.minorticks_off()
        axes.set_xlabel(sweep)
        axes.set_ylabel("milliseconds")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("Forward and backward of a 3x3 convolution, and of the RNN (sequence)")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print a table, draw, and write JSON."""
    options = parser(__doc__, turns=7)
    options.add_argument("--alone", action="store_true", help="without PyTorch")
    options.add_argument("--quick", action="store_true", help="three sizes of each")
    options.add_argument("--picture")
    options.add_argument("--work", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work == "minigrad":
        from minigrad_nn.kernels import reuse_memory

        with reuse_memory():  # as `train.fit` does
            work(given.work)
        return
    if given.work:
        work(given.work)
        return
    peers = PEERS[:1] if given.alone else PEERS
    found = measure(peers, given.turns, given.threads, given.quick)
    if given.picture:
        draw(found, given.picture)
    write(given.json, about(threads=given.threads, turns=given.turns), {"sweeps": found})


if __name__ == "__main__":
    main()
